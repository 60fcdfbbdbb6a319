# digests: the SHA-256 of each of the files on stdin, each ended by NUL.
export LC_ALL=C

exec xargs -0 -n 200 sha256sum --zero --
