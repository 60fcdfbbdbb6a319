#!/usr/bin/env bash
# install.sh DEB DIR: installs the package into a root directory, runs it there,
# upgrades, removes and purges it. The root is this machine's, read-only, with
# what is written kept in memory; nothing of it stays. It has namespaces of its
# own for mounts, networks and processes.
set -euo pipefail
exec 2>&1
deb=$1 dir=$2
trap 'echo "it went wrong at line $LINENO: $BASH_COMMAND"' ERR

mount -t tmpfs none "$dir"
mkdir "$dir"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
root=$dir/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/run" # no systemd runs here
mount -t tmpfs none "$root/tmp" && chmod 1777 "$root/tmp"
ip link set lo up
# A machine that has it installed is no scratch root.
rm -rf "$root"/{etc,var/lib,usr/share}/livecd-sync

as_root() { chroot "$root" "$@"; }
as_user() { chroot --userspec=livecd-sync:livecd-sync "$root" env -i HOME=/var/lib/livecd-sync PATH=/usr/bin:/bin "$@"; }
is() { # FILE, mode and owner
	test "$(as_root stat -c '%a %U:%G' "$1")" = "$2" || { echo "$1 is $(as_root stat -c '%a %U:%G' "$1"), not $2"; return 1; }
}

echo "== install"
dpkg --root="$root" -i "$deb"
is /etc/livecd-sync/site.yaml '600 livecd-sync:livecd-sync'
is /etc/livecd-sync/credentials '700 root:root'
is /var/lib/livecd-sync '700 livecd-sync:livecd-sync'
test "$(as_root getent passwd livecd-sync | cut -d: -f6-)" = /var/lib/livecd-sync:/usr/sbin/nologin

echo "== the unit"
test -z "$(as_root systemd-analyze verify livecd-sync.service 2>&1)" || { as_root systemd-analyze verify livecd-sync.service; exit 1; }
as_root systemd-analyze security --offline=true --threshold=20 livecd-sync.service >"$dir/security" || { tail -n 1 "$dir/security"; exit 1; }
tail -n 1 "$dir/security"

echo "== man pages and completions"
as_root man --warnings -l /usr/share/man/man1/livecd-sync-apply.1.gz 2>&1 >/dev/null | tee "$dir/warnings"
test ! -s "$dir/warnings"
for command in $(as_user livecd-sync --help | sed -n '/^Available Commands/,/^$/s/^  \([a-z-]*\) .*/\1/p' | grep -vx help); do
	test -f "$root/usr/share/man/man1/livecd-sync-$command.1.gz" || { echo "$command has no page"; exit 1; }
done
as_root bash -c 'source /usr/share/bash-completion/completions/livecd-sync && complete -p livecd-sync'

echo "== run"
as_user livecd-sync version
as_user livecd-sync validate # the example, where it lies by default
cd /
# Not by as_user: the signal below has to reach the program, not a shell.
chroot --userspec=livecd-sync:livecd-sync "$root" env -i HOME=/var/lib/livecd-sync \
	/usr/bin/livecd-sync sim --dir /tmp/site --ilo 1 --gigabyte 1 >"$dir/sim" 2>&1 &
sim=$!
for _ in $(seq 300); do
	grep -q 'Ctrl-C ends it' "$dir/sim" && break
	kill -0 $sim || { cat "$dir/sim"; exit 1; }
	sleep 0.1
done
as_user livecd-sync apply -y -q -w n002 -f /tmp/site/site.yaml
as_user livecd-sync plan --detailed-exitcode -w n002 -f /tmp/site/site.yaml
kill -TERM $sim
wait $sim || true

echo "== upgrade: a site file that was changed stays"
as_root sed -i 's/^site: redbird/site: bluebird/' /etc/livecd-sync/site.yaml
as_root mkdir -p /var/lib/livecd-sync/backups/n1
dpkg --root="$root" --force-confold -i "$deb"
grep -q '^site: bluebird' "$root/etc/livecd-sync/site.yaml"
is /etc/livecd-sync/site.yaml '600 livecd-sync:livecd-sync'

echo "== remove and purge: backups stay, and whose they are"
dpkg --root="$root" -r livecd-sync
test ! -e "$root/usr/bin/livecd-sync"
grep -q '^site: bluebird' "$root/etc/livecd-sync/site.yaml"
dpkg --root="$root" -P livecd-sync
test ! -e "$root/etc/livecd-sync/site.yaml"
test -d "$root/var/lib/livecd-sync/backups/n1"
as_root getent passwd livecd-sync >/dev/null
echo "all steps done"
