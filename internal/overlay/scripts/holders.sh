# holders: files that are deleted and that processes still have open, mapped or
# as their directory: records "LINK NAME (deleted)", each ended by NUL, an empty
# one, and lines of maps, each after its file's name. Writes nothing.
export LC_ALL=C

find /proc/[0-9]*/fd /proc/[0-9]*/cwd -maxdepth 1 -lname '* (deleted)' -printf '%p %l\0' 2>/dev/null
printf '\0'
grep -sH ' (deleted)$' /proc/[0-9]*/maps
exit 0
