# scratch BOOT DIR BODY: runs BODY in an overlay of DIR/rw over nothing, that is
# mounted in a namespace of its own and gone when BODY ends.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
mkdir -p "$2/lower" "$2/work" "$2/merged" || exit 70
exec unshare -m sh -c 'mount -t overlay scratch -o "lowerdir=$1/lower,upperdir=$1/rw,workdir=$1/work" "$1/merged" || exit 69
cd "$1/merged" || exit 69
exec sh -c "$2" livecd-sync' livecd-sync "$2" "$3"
