# mark BOOT ID UPPER: notes on the node, for as long as it runs, which backup its
# running overlay holds, whole.
export LC_ALL=C

[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
umask 077
mkdir -p /run/livecd-sync || exit 70
printf '%s %s %s\n' "$2" "$1" "$3" >/run/livecd-sync/restored.new || exit 70
mv -f /run/livecd-sync/restored.new /run/livecd-sync/restored || exit 70
rm -f /run/livecd-sync/restoring || exit 70
