# restart UNIT...: has systemd read its units again and restarts those of the
# named services that run. For each a line: its name, a tab, and what went wrong,
# or nothing.
export LC_ALL=C

systemctl daemon-reload || exit 70
for unit in "$@"; do
	if said=$(timeout 90 systemctl try-restart -- "$unit" 2>&1 </dev/null); then
		said=
	else
		said="systemctl ended with $?: $said"
	fi
	printf '%s\t%s\n' "$unit" "$(printf %s "$said" | tr '\n\t' '  ' | head -c 300)"
done
