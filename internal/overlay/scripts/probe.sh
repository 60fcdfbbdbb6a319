# probe: what a node says of itself, in sections. Writes nothing.
export LC_ALL=C
set -f

section() { printf '== %s\n' "$1"; }

section boot-id
cat /proc/sys/kernel/random/boot_id
section kernel
cat /proc/sys/kernel/osrelease
section machine
uname -m
section cmdline
cat /proc/cmdline
section mountinfo
cat /proc/self/mountinfo
section clock
printf '%s %s\n' "$(date +%s)" "$(cat /proc/uptime)"
section parameters
for name in metacopy redirect_dir index; do
	if [ -r "/sys/module/overlay/parameters/$name" ]; then
		printf '%s ' "$name"
		cat "/sys/module/overlay/parameters/$name"
	fi
done
section uid
id -u
section tar
tar --version 2>/dev/null
section zstd
command -v zstd
section restored
if [ -r /run/livecd-sync/restored ]; then cat /run/livecd-sync/restored; fi
section restoring
if [ -r /run/livecd-sync/restoring ]; then cat /run/livecd-sync/restoring; fi

# The primary volume descriptor is sector 16 of the medium (ECMA-119 8.4). The
# first candidate that can be read is it: what is mounted as iso9660 by name and
# by number, what root=live: names, then the drives.
descriptor() {
	[ -e "$2" ] || return 1
	hex=$(dd if="$2" bs=2048 skip=16 count=1 2>/dev/null | od -An -v -tx1)
	[ -n "$hex" ] || return 1
	section medium
	printf '%s %s\n%s\n' "$1" "$2" "$hex"
}

mounted() {
	while read -r skip skip number skip skip rest; do
		case " $rest" in
		*' - iso9660 '*) ;;
		*) continue ;;
		esac
		source=${rest#*- iso9660 }
		descriptor mounted "${source%% *}" && return
		descriptor mounted "/dev/block/$number" && return
	done </proc/self/mountinfo
	return 1
}

unmounted() {
	read -r line </proc/cmdline
	for word in $line; do
		case $word in
		root=live:CDLABEL=*) descriptor label "/dev/disk/by-label/${word#root=live:CDLABEL=}" && return ;;
		root=live:LABEL=*) descriptor label "/dev/disk/by-label/${word#root=live:LABEL=}" && return ;;
		root=live:/dev/*) descriptor drive "${word#root=live:}" && return ;;
		esac
	done
	for drive in /dev/sr0 /dev/sr1 /dev/sr2 /dev/sr3; do
		descriptor drive "$drive" && return
	done
}

mounted || unmounted
exit 0
