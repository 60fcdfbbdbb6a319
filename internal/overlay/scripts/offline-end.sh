# offline-end BOOT PART DIR: what was restored into PART is complete: it becomes
# DIR, if that is another name, and loses its mark.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
sync -f "$2" 2>/dev/null || sync
if [ "$2" != "$3" ]; then
	if [ -e "$3" ] || [ -L "$3" ]; then exit 74; fi
	mv -T -- "$2" "$3" || exit 73
fi
# Removing the mark must not change the directory's time, which was restored.
umask 077
mkdir -p /run/livecd-sync || exit 70
touch -r "$3" /run/livecd-sync/time || exit 70
rm -f -- "$3/.livecd-sync-restoring" || exit 73
touch -r /run/livecd-sync/time -- "$3" || exit 73
rm -f /run/livecd-sync/time
sync -f "$3" 2>/dev/null || sync
