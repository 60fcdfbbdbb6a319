# medium BOOT MERGED BODY PATH: runs BODY by MERGED, which see, with a file of the
# live medium as its input.
export LC_ALL=C

while read -r skip skip skip skip point rest; do
	case " $rest" in
	*' - iso9660 '*) [ -f "$point/$4" ] && exec sh -c "$2" livecd-sync "$1" "$3" <"$point/$4" ;;
	esac
done </proc/self/mountinfo
exit 73
