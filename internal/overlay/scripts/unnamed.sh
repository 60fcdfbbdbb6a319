# unnamed: the files that programs have open and nobody can name any more, each
# ended by NUL, then an empty name, then the mounts. No archive can hold them.
export LC_ALL=C

find /proc/[0-9]*/fd -lname '* (deleted)' -printf '%l\0' 2>/dev/null | sort -zu
printf '\0'
cat /proc/self/mountinfo
