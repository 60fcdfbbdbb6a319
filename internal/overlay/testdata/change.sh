# change: what an administrator and his system do to /lab, every kind of it.
set -e
export LC_ALL=C
cd /lab

# deletions
rm -rf opaque && mkdir opaque && echo new >opaque/new && mkdir opaque/fresh
rm -rf gone-dir gone-file
rm emptied/f
mv renamed moved
rm -rf mounted && mkdir mounted && echo new >mounted/new

# types
rm -rf turned-file && echo file >turned-file
rm turned-dir && mkdir turned-dir && echo in >turned-dir/f
rm turned-link && mkdir turned-link && echo in >turned-link/f
rm to-kept && ln -s /etc to-kept
rmdir link-becomes-dir && mkdir link-becomes-dir && echo in >link-becomes-dir/f

# content and metadata
echo modified >modified
echo more >>appended
chmod 600 chmodded
chown 4000000000:3999999999 chowned
echo swapped >replaced.new && mv replaced.new replaced
touch -d '1969-12-31 23:59:58.5' modified
touch -d '2038-01-19 03:14:08.000000001' appended
mkdir sealed && echo s >sealed/f && chmod 555 sealed && touch -d '2020-01-01 00:00:00.987654321' sealed
printf '#!/bin/sh\n' >setuid && chmod 6755 setuid
cp /bin/true capable && setcap cap_net_raw,cap_net_admin=ep capable
setfacl -m u:1234:rw,g:4321:r,m:rw acl-file
setfacl -m u:1234:rwx acl-dir && setfacl -d -m u:1234:rx,o::- acl-dir
echo x >xattrs
setfattr -n user.note -v 'a value' xattrs
setfattr -n trusted.note -v 0x00ff0a3d xattrs
setfattr -n security.note -v 0x0102 xattrs
setfattr -n trusted.note -v dir acl-dir
setfattr -n user.empty xattrs

# links, sparse, special
echo one >link-1 && ln link-1 link-2 && ln link-1 opaque/link-3
ln linked-lower linked-lower-2
truncate -s 64M sparse && printf end | dd of=sparse bs=1 seek=33554432 conv=notrunc 2>/dev/null
truncate -s 5G huge && printf middle | dd of=huge bs=1 seek=4294967296 conv=notrunc 2>/dev/null
truncate -s 1M hole
mkfifo fifo && mknod device c 1 3 && mknod disk b 7 9 && chmod 640 device
ln -s ../../../etc/passwd up && ln -s /absolute/target absolute && ln -s gone dangling
touch -h -d '2010-10-10 10:10:10.101010101' dangling

# names
mkdir 'odd names' && cd 'odd names'
echo 1 >'a b' && echo 2 >-rf && echo 3 >"$(printf 'new\nline')" && echo 4 >"$(printf 'latin\351')"
echo 5 >"$(printf '%0255d' 0)" && echo 6 >'*' && echo 7 >'back\slash' && echo 8 >"quote'\"" && echo 9 >'...' && echo 10 >'xargs {} %n'
mkdir ' ' && echo 11 >' /x'
deep=.
for i in 1 2 3 4 5 6 7 8 9 10; do
	deep=$deep/$(printf '%0100d' "$i")
done
mkdir -p "$deep" && echo deep >"$deep/f"

# far from /lab, where everything is held by running programs
echo new >/usr/bin/lab-new
mkdir -p /usr/lib/lab-dir && echo new >/usr/lib/lab-dir/f
echo new >/etc/lab-new
