#!/bin/sh
# The user that the service runs as. It has to be there before the files that it
# owns, and it stays when the package goes, as its backups do.
set -e
if ! getent passwd livecd-sync >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/livecd-sync --no-create-home \
		--shell /usr/sbin/nologin --comment 'live ISOs and overlays of nodes' livecd-sync
fi
