# backup BOOT UPPER ZSTD NEWER [PATTERN]...: the upper dir as a tar archive on
# stdout, as long as the node still runs the boot that was probed. ZSTD is "zstd"
# for a compressed one, NEWER a time in seconds for only what has changed since:
# tar then looks at the time of the last change of a file's status, too. Writes
# nothing.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
case $(tar --version 2>/dev/null) in
*'GNU tar'*) ;;
*) exit 67 ;;
esac
[ -d "$2" ] || exit 68
upper=$2 zstd=$3 newer=$4
shift 4
for pattern; do
	shift
	set -- "$@" "--exclude=$pattern"
done
[ -z "$newer" ] || set -- "$@" "--newer=@$newer"

polite=
if nice -n 10 true 2>/dev/null; then polite='nice -n 10'; fi
if ionice -c 2 -n 7 true 2>/dev/null; then polite="ionice -c 2 -n 7 $polite"; fi

# --format=posix keeps nanoseconds and extended attributes; without
# --xattrs-include tar leaves out trusted.overlay.opaque, and what was deleted
# comes back. --selinux is left out on purpose: it would store the label a
# second time, with a NUL at its end.
set -- $polite tar cf - --format=posix --xattrs --xattrs-include='*' --acls \
	--numeric-owner --sparse --one-file-system --quoting-style=escape "$@" -C "$upper" .

[ "$zstd" = zstd ] || exec "$@"

# A pipe has the status of its end. That of tar goes by stderr; if zstd dies,
# what it wrote does not end well.
{
	"$@"
	echo "livecd-sync: tar ended with $?" >&2
} | $polite zstd -1 -q -c
