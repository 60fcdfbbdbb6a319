# put: the file on stdin becomes $name in the merged view, if it is what $sum
# says, with $mode, $owner and $mtime. It is there whole or not at all.
export LC_ALL=C

mkdir -p -- "${name%/*}" || exit 71
new=${name%/*}/.livecd-sync.$$
trap 'rm -f -- "$new"' EXIT
trap 'exit 71' HUP INT TERM PIPE
cat >"$new" || exit 71
[ "$(sha256sum <"$new")" = "$sum  -" ] || exit 72
chown "$owner" "$new" && chmod "$mode" "$new" && touch -d "@$mtime" "$new" || exit 71
mv -f -- "$new" "$name" || exit 71
