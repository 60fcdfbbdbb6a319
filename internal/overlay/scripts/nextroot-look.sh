# nextroot-look UPPER: whether the node can make a second root and reboot into
# it without its kernel. Writes nothing.
export LC_ALL=C

section() { printf '== %s\n' "$1"; }

section systemd
systemctl --version 2>/dev/null
section manager
if [ -d /run/systemd/system ]; then echo yes; fi
# What is mounted here has to be seen by the first process.
section namespaces
readlink /proc/self/ns/mnt /proc/1/ns/mnt
section mountinfo
cat /proc/self/mountinfo
section nextroot
if [ -L /run/nextroot ]; then
	echo link
elif [ -d /run/nextroot ]; then
	ls -A /run/nextroot | head -n 1
elif [ -e /run/nextroot ]; then
	echo file
fi
section place
cd -P "$1/.." || exit 0
# A soft reboot leaves /run as it is, and unmounts what is mounted below it (seen
# with systemd 254): an upper dir there could not be backed up afterwards.
case $(pwd -P) in
/run/*) [ "$(stat -c %d .)" = "$(stat -c %d /run)" ] || cd /run ;;
esac
pwd -P && stat -f --printf='%a %S\n' .
exit 0
