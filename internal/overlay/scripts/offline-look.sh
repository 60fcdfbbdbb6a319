# offline-look DIR: what DIR is, the directories that it lies in, and those on
# stdin, each ended by NUL, as far as they are there. Writes nothing.
#   KIND            absent, noparent, empty, full, cut-off, link, other
#   PATH FREE TYPE  of DIR, or of its parent: without symbolic links; bytes; file system
#   DEVICE:INODE PATH ...   of DIR and what it lies in
#   (an empty record)
#   DEVICE:INODE PATH ...   of the directories on stdin
export LC_ALL=C

kind() {
	if [ -L "$1" ]; then
		echo link
	elif [ -d "$1" ] && [ -e "$1/.livecd-sync-restoring" ]; then
		echo cut-off
	elif [ -d "$1" ] && [ -z "$(ls -A "$1")" ]; then
		echo empty
	elif [ -d "$1" ]; then
		echo full
	elif [ -e "$1" ]; then
		echo other
	else
		echo absent
	fi
}

dir=$1
kind=$(kind "$dir")
case $kind in
absent)
	part=$(kind "$dir.livecd-sync")
	case $part in
	link | full | other) kind=part-$part ;;
	esac
	dir=${dir%/*}
	dir=${dir:-/}
	[ -d "$dir" ] || kind=noparent
	;;
link | other) dir=/ ;;
esac
printf '%s\0' "$kind"
[ "$kind" = noparent ] && exit 0
cd -P "$dir" || exit 73
here=$(pwd -P)
printf '%s\0' "$here"
stat -f --printf='%a %S %T\0' -- "$here"
while :; do
	stat --printf='%d:%i %n\0' -- "$here"
	[ "$here" = / ] && break
	here=${here%/*}
	here=${here:-/}
done
printf '\0'
xargs -0 stat -L --printf='%d:%i %n\0' -- 2>/dev/null
exit 0
