# lower DIR: what the image has below /lab.
set -e
cd "$1"
mkdir -p lab
cd lab
mkdir -p opaque/sub gone-dir/deep kept/a/b renamed/inside held turned-file turned-dir-old acl-dir emptied mounted/under
for f in opaque/old opaque/sub/old gone-dir/deep/f kept/a/b/f renamed/inside/f held/f turned-file/f emptied/f \
	modified chmodded chowned gone-file turned-dir appended replaced linked-lower acl-file mounted/f mounted/under/f; do
	printf 'lower %s\n' "$f" >"$f"
done
ln -s /lab/kept to-kept
ln -s nowhere turned-link
mkdir link-becomes-dir
touch -d '2001-02-03 04:05:06.123456789' kept kept/a modified
chmod 755 . kept
