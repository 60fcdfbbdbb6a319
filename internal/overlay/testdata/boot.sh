# boot DIR PORT: a live system as far as an overlay goes, in namespaces of its
# own. DIR holds lower (the image's own tree, over the machine's), authorized,
# hostkey, cmdline, bootid and medium. SSHD is a further line for sshd.
set -e
dir=$1 port=$2

mount -t tmpfs tmpfs /run
mkdir -p /run/overlay/overlayfs /run/sshd /run/root
if [ "$UPPER_FS" = ext4 ]; then
	truncate -s 512M /run/upper.img
	mkfs.ext4 -q /run/upper.img
	mount -o loop /run/upper.img /run/overlay/overlayfs
fi
mkdir -p /run/overlay/overlayfs/rw /run/overlay/overlayfs/work
# Layers may not lie within each other, and this one is on "/"; and the node has
# to see them by the names that mountinfo has.
cp -a "$dir/lower" /run/lower
mkdir /run/base
mount --bind / /run/base
cp "$dir/authorized" /run/sshd/authorized
cp "$dir/hostkey" /run/sshd/hostkey
chmod 600 /run/sshd/hostkey
cat >/run/sshd/config <<END
ListenAddress 127.0.0.1
Port $port
HostKey /run/sshd/hostkey
AuthorizedKeysFile /run/sshd/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
PidFile none
$SSHD
END

mount -t overlay overlay \
	-o "lowerdir=/run/lower:/run/base,upperdir=/run/overlay/overlayfs/rw,workdir=/run/overlay/overlayfs/work${OPTIONS:+,$OPTIONS}" /run/root
root=/run/root
mount -t proc proc $root/proc
mount --bind "$dir/cmdline" $root/proc/cmdline
mount --bind "$dir/bootid" $root/proc/sys/kernel/random/boot_id
mount --rbind /sys $root/sys
mount -t tmpfs tmpfs $root/dev
mknod -m 666 $root/dev/null c 1 3
mknod -m 666 $root/dev/zero c 1 5
mknod -m 666 $root/dev/urandom c 1 9
mkdir -p $root/dev/disk/by-label
cp "$dir/medium" $root/dev/disk/by-label/LAB
mount -t tmpfs tmpfs $root/root # whatever root's shell does at login
mount --rbind /run $root/run
exec chroot $root /usr/sbin/sshd -D -e -f /run/sshd/config
