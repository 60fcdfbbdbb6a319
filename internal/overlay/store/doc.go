// Package store keeps backups: in a directory of this machine, or one mounted on
// it (file://), in a directory of an sftp server (sftp://), or in a bucket of an
// S3 server (s3://). storetest says what each has to do. What they hold looks the
// same:
//
//	NODE/.lock                            held while a backup of NODE is written, restored or removed
//	NODE/20261123T050000Z/overlay.tar.zst a verified backup
//	NODE/20261123T050000Z/deleted.lst
//	NODE/20261123T050000Z/opaque.lst
//	NODE/20261123T050000Z/manifest.json
//	NODE/20261123T050000Z/…               what else the draft was given
//	NODE/reboot@SITE.json                 a reset has begun, and is not done with
//	NODE/verified@SITE.json               when which backup was last found whole
//
// In a directory of this machine a backup that is being written is NODE/.new-ID,
// and is renamed once every file is on stable storage. All access goes through an
// os.Root: neither a name nor a symbolic link leads out of the store. The lock is
// the kernel's (flock), which frees it when its holder dies.
//
// On a server a backup is there if its manifest is, which is written last and
// removed first; names are checked here, and where links lead is the server's
// affair. The lock is a file that expires (see lock). The two kinds of lock know
// nothing of each other: what writes to one directory both ways must not do so
// at one time.
//
// Where the site file names recipients, a store is wrapped in one that encrypts
// (see sealed): overlay.tar.zst is then overlay.tar.zst.age, and so on.
//
// Files are readable by their owner only, since an overlay holds /etc/shadow. A
// backup whose manifest names another site does not exist, nor do its notes.
package store
