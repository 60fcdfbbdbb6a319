# put NAME SUM MODE OWNER MTIME: the file on stdin becomes NAME in the merged view,
# if it is what SUM says. It is there whole or not at all.
export LC_ALL=C

name=$1 sum=$2 mode=$3 owner=$4 mtime=$5
mkdir -p -- "${name%/*}" || exit 71
new=${name%/*}/.livecd-sync.$$
trap 'rm -f -- "$new"' EXIT
trap 'exit 71' HUP INT TERM PIPE
cat >"$new" || exit 71
[ "$(sha256sum <"$new")" = "$sum  -" ] || exit 72
chown "$owner" "$new" && chmod "$mode" "$new" && touch -d "@$mtime" "$new" || exit 71
mv -f -- "$new" "$name" || exit 71
