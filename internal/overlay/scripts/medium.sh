# medium BOOT MERGED PATH BODY [ARGUMENT]...: runs BODY by MERGED, which see, with a
# file of the live medium as its input.
export LC_ALL=C

boot=$1 merged=$2 path=$3
shift 3

# A space in a path is \040 in mountinfo, and so on (proc_pid_mountinfo(5)).
plain() {
	case $1 in
	*\\*) printf '%b' "$(printf %s "$1" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')" ;;
	*) printf %s "$1" ;;
	esac
}

while read -r skip skip skip skip point rest; do
	case " $rest" in
	*' - iso9660 '*)
		point=$(plain "$point")
		[ -f "$point/$path" ] && exec sh -c "$merged" livecd-sync "$boot" "$@" <"$point/$path"
		;;
	esac
done </proc/self/mountinfo
exit 73
