# push NAME MACHINE SIZE VERB [ARGUMENT]...: runs a program for that MACHINE whose
# SIZE bytes come first on stdin, in a directory that only root may enter, and
# removes both. After it come zeros for a head that reads ahead, and then what the
# program itself reads. It needs sh, uname, mkdir, head, wc, chmod and rm.
export LC_ALL=C

umask 077
name=$1 machine=$2 size=$3
shift 3

# A shell takes a program that the kernel does not for a script.
if [ "$(uname -m)" != "$machine" ]; then
	printf 'it is for %s, and the machine is %s\n' "$machine" "$(uname -m)" >&2
	exit 82
fi

# A program runs from where a script does: not from what is mounted noexec.
runs() { printf '#!/bin/sh\n' >"$1" && chmod 700 "$1" && "$1" </dev/null; }

tried=
for parent in /run /dev/shm /tmp /var/tmp; do
	d=$parent/$name
	if ! mkdir "$d" 2>/dev/null; then
		tried="$tried, $parent (cannot be written to)"
		continue
	fi
	trap 'rm -rf "$d"' EXIT
	trap 'exit 81' HUP INT PIPE TERM
	if runs "$d/t" 2>/dev/null; then
		head -c "$size" >"$d/h" && chmod 700 "$d/h" && [ "$(wc -c <"$d/h")" -eq "$size" ] || exit 83
		"$d/h" check </dev/null || exit 82
		"$d/h" "$@"
		exit
	fi
	rm -rf "$d"
	tried="$tried, $parent (runs no programs)"
done
printf 'tried %s\n' "${tried#, }" >&2
exit 81
