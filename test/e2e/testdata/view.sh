# view: everything that change.sh made or changed, as the node sees it: types,
# modes, owners, times, links, contents, extended attributes and ACLs.
export LC_ALL=C
cd /
set -- lab usr/bin/lab-new usr/lib/lab-dir etc/lab-new etc/site var/www
find "$@" -type d -printf '%p %y %m %U:%G %T@\n' | sort
find "$@" ! -type d -printf '%p %y %m %U:%G %T@ %s %n %l\n' | sort
find "$@" -type f -size -100M -print0 | sort -z | xargs -0 sha256sum
find "$@" -type f -size +100M -print0 | sort -z | xargs -0 stat -c '%n %s %b'
getfattr -R -h -d -m - -e hex -- "$@" 2>&1 | grep -v '^security\.selinux'
getfacl -R -n -p -- "$@" 2>&1
