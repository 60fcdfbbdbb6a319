# nextroot-switch BOOT ID UPPER: notes that the overlay with UPPER holds the
# backup, which is so once it is the root, and has systemd reboot into it.
export LC_ALL=C

[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
umask 077
mkdir -p /run/livecd-sync || exit 70
printf '%s %s %s\n' "$2" "$1" "$3" >/run/livecd-sync/restored.next || exit 70
before=
if [ -e /run/livecd-sync/restored ]; then before=$(cat /run/livecd-sync/restored); fi
mv -f /run/livecd-sync/restored.next /run/livecd-sync/restored || exit 70
systemctl --no-block soft-reboot && exit 0
rm -f /run/livecd-sync/restored
if [ "$before" ]; then printf '%s\n' "$before" >/run/livecd-sync/restored; fi
exit 75
