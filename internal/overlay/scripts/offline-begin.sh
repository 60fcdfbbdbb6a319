# offline-begin BOOT DIR ID: makes DIR, or empties it of what a restore that was
# cut off left in it, and marks it as being restored.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
if [ ! -e "$2" ] && [ ! -L "$2" ]; then
	mkdir -m 755 -- "$2" || exit 73
fi
if [ -L "$2" ] || [ ! -d "$2" ]; then exit 74; fi
marker=$2/.livecd-sync-restoring
if [ ! -e "$marker" ]; then
	[ -z "$(ls -A "$2")" ] || exit 74
fi
printf '%s\n' "$3" >"$marker" || exit 73
exec find "$2" -mindepth 1 -maxdepth 1 ! -name .livecd-sync-restoring -exec rm -rf --one-file-system -- {} +
