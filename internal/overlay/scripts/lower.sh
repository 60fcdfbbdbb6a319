# lower LOWER: which of the names on stdin, each ended by NUL, are directories in
# a layer of the image; each is written back with its NUL.
export LC_ALL=C

cd "$1" || exit 71
exec xargs -0 -n 500 sh -c '
for name; do
	if [ -d "$name" ] && [ ! -L "$name" ]; then printf "%s\0" "$name"; fi
done' livecd-sync
