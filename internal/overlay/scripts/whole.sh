# whole RECURSION [PATTERN]...: what is under the names on stdin, each ended by NUL,
# as the merged view has it, as a tar archive. RECURSION is --recursion or
# --no-recursion. Where a layer holds only part of a file or directory, this is how
# to have all of it.
export LC_ALL=C

recursion=$1
shift
for pattern; do
	shift
	set -- "$@" "--exclude=$pattern"
done
exec tar cf - --format=posix --xattrs --xattrs-include='*' --acls --numeric-owner \
	--sparse --one-file-system --quoting-style=escape --ignore-failed-read --null \
	"$recursion" "$@" -T -
