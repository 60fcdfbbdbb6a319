# begin BOOT ID UPPER: notes on the node, before anything of it is changed, which
# backup its running overlay is about to receive. The note goes when the restore
# is complete, or with the boot.
export LC_ALL=C

[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
umask 077
mkdir -p /run/livecd-sync || exit 70
printf '%s %s %s\n' "$2" "$1" "$3" >/run/livecd-sync/restoring.new || exit 70
mv -f /run/livecd-sync/restoring.new /run/livecd-sync/restoring || exit 70
rm -f /run/livecd-sync/restored || exit 70
