# xattrs: the extended attributes of each of the names on stdin, each ended by
# NUL, as getfattr dumps them.
export LC_ALL=C

exec xargs -0 -r -n 500 getfattr --absolute-names -h -d -m - -e hex --
