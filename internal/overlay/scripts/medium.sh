# medium BOOT MERGED PATH BODY [ARGUMENT]...: runs BODY by MERGED, which see, with a
# file of the live medium as its input.
export LC_ALL=C

boot=$1 merged=$2 path=$3
shift 3
while read -r skip skip skip skip point rest; do
	case " $rest" in
	*' - iso9660 '*) [ -f "$point/$path" ] && exec sh -c "$merged" livecd-sync "$boot" "$@" <"$point/$path" ;;
	esac
done </proc/self/mountinfo
exit 73
