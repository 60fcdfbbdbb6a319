#!/bin/sh
# deb says "remove", rpm how many versions stay; an upgrade stops nothing.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now livecd-sync.service
	fi
	;;
esac
