# below BOOT DIR BODY: runs BODY in a directory that is no part of the running
# system.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
cd "$2" || exit 73
exec sh -c "$3" livecd-sync
