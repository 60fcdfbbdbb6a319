# backup BOOT UPPER [PATTERN]...: the upper dir as a tar archive on stdout, as
# long as the node still runs the boot that was probed. Writes nothing.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
case $(tar --version 2>/dev/null) in
*'GNU tar'*) ;;
*) exit 67 ;;
esac
[ -d "$2" ] || exit 68
upper=$2
shift 2
for pattern; do
	shift
	set -- "$@" "--exclude=$pattern"
done

polite=
if nice -n 10 true 2>/dev/null; then polite='nice -n 10'; fi
if ionice -c 2 -n 7 true 2>/dev/null; then polite="ionice -c 2 -n 7 $polite"; fi

# --format=posix keeps nanoseconds and extended attributes; without
# --xattrs-include tar leaves out trusted.overlay.opaque, and what was deleted
# comes back. --selinux is left out on purpose: it would store the label a
# second time, with a NUL at its end.
exec $polite tar cf - --format=posix --xattrs --xattrs-include='*' --acls \
	--numeric-owner --sparse --one-file-system "$@" -C "$upper" .
