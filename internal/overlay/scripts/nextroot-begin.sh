# nextroot-begin BOOT BASE: makes BASE/rw and BASE/work, without what a restore
# that was cut off left there and below /run/nextroot.
export LC_ALL=C

[ "$(id -u)" = 0 ] || exit 65
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || exit 66
while grep -q ' /run/nextroot [^-]* - overlay ' /proc/self/mountinfo; do
	umount /run/nextroot || exit 73
done
rm -rf --one-file-system -- "$2" || exit 73
mkdir -m 700 -- "$2" || exit 73
mkdir -m 755 -- "$2/rw" "$2/work" || exit 73
