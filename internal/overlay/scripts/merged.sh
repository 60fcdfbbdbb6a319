# merged BOOT BODY [ARGUMENT]...: runs BODY with the overlay's merged view as its
# root, and nothing else: what is mounted on the running system is neither reached
# nor unmounted, and no symbolic link leads out.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
root=/run/livecd-sync/root body=$2
shift 2
umask 077
mkdir -p "$root" || exit 69

# A namespace of its own still holds copies of all mounts, so the kernel goes on
# refusing to remove a directory on which something is mounted.
if unshare -m true 2>/dev/null; then
	exec unshare -m sh -c 'mount --bind / "$1" || exit 69
exec chroot "$@"' livecd-sync "$root" sh -c "$body" livecd-sync "$@"
fi

mount --bind / "$root" || exit 69
trap 'umount "$root"' EXIT
chroot "$root" sh -c "$body" livecd-sync "$@"
