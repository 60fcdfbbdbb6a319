# digest: the SHA-256 of each file named on stdin, names ended by NUL.
export LC_ALL=C

exec xargs -0 -r -n 100 sha256sum -z --
