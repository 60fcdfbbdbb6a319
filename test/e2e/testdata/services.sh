# services MARK: has each service write below /var, and tells what of it is seen
# where everybody looks: a daemon that still writes to a file which was replaced
# is not.
export LC_ALL=C
logger "mark $1"
exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET /%s HTTP/1.0\r\n\r\n' "$1" >&3 && cat <&3 >/dev/null
# A query for MARK.pit.site, in DNS's own form.
printf '\0\1\1\0\0\1\0\0\0\0\0\0%b%s\3pit\4site\0\0\1\0\1' "\\x$(printf %02x ${#1})" "$1" >/dev/udp/127.0.0.1/53
for _ in 1 2 3 4 5 6 7 8 9 10; do
	seen=$(grep -c "mark $1" /var/log/messages) web=$(grep -c "GET /$1 " /var/log/lighttpd/access.log) dns=$(grep -c "query.* $1.pit.site " /var/log/dnsmasq/queries.log)
	[ "$seen" = 1 ] && [ "$web" = 1 ] && [ "$dns" = 1 ] && break
	sleep 1
done
echo "rsyslog $seen lighttpd $web dnsmasq $dns"
