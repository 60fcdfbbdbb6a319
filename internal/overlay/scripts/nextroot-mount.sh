# nextroot-mount BOOT OPTIONS: mounts a second overlay where systemd looks for
# the root to reboot into.
export LC_ALL=C

[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
mkdir -p /run/nextroot || exit 70
mount -t overlay -o "$2" livecd-sync /run/nextroot || exit 69
