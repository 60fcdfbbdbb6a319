# inside BOOT ROOT BODY: runs BODY with a mounted file system as its root.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
exec chroot "$2" sh -c "$3" livecd-sync
