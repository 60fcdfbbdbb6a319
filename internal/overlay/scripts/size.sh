# size BOOT UPPER: the KiB that the upper dir takes.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
[ -d "$2" ] || exit 68
du -xsk "$2" 2>/dev/null
exit 0
