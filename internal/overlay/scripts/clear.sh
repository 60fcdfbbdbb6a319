# clear: makes way for an archive in the merged view. Each record on stdin is a
# letter, a name and "//", ended by NUL, parents before children:
#   x  goes, whatever it is: deleted, or about to be made anew
#   d  goes unless it is a directory
#   f  goes if it is a directory
# xargs takes what is left for a record when the connection is cut. No name has
# "//" in it, so a record that ends that way is whole: ./var must not go because
# ./var/lib/gone was to.
export LC_ALL=C

exec xargs -0 -n 500 sh -c '
for record; do
	shift
	case $record in
	*//) name=${record#?} name=${name%//} ;;
	*) exit 64 ;;
	esac
	case $record in
	x*) ;;
	d*) [ -L "$name" ] || { [ -e "$name" ] && [ ! -d "$name" ]; } || continue ;;
	f*) [ -d "$name" ] && [ ! -L "$name" ] || continue ;;
	*) exit 64 ;;
	esac
	set -- "$@" "$name"
done
[ $# = 0 ] || exec rm -rf --one-file-system -- "$@"' livecd-sync
