# list: what the merged view has under each of the names on stdin, each ended by
# NUL. Names that are not there are left out, and told on stderr.
export LC_ALL=C

exec xargs -0 -n 1000 stat --printf='%f %u %g %s %t %T %.9Y %n\0' --
