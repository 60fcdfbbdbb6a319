# unsaved BOOT UPPER SINCE: the upper dir's files that have changed since SINCE, a
# time in seconds: size and name, a record each, ended by NUL. SINCE may be
# "restored", when the backup that this boot holds was put back, or 0. Reads no
# file.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
[ -d "$2" ] || exit 68
cd "$2" || exit 68
case $3 in
0) set -- ;;
restored) set -- -cnewer /run/livecd-sync/restored ;;
*) set -- -newerct "@$3" ;;
esac
find . -xdev ! -type d "$@" -printf '%s %p\0' 2>/dev/null
exit 0
