# list: what there is under each of the names on stdin, each ended by NUL, and
# the names again with what symbolic links lead to. Names that are not there are
# left out, and told on stderr.
export LC_ALL=C QUOTING_STYLE=literal

exec xargs -0 -r -n 1000 stat --printf='%f %u %g %s %t %T %.9Y %h %d:%i %n\0%N\0' --
