// Package store keeps backups. Today there is one kind of target: a directory of
// this machine, or one mounted on it, named by a file:// URL:
//
//	NODE/.lock                            held while a backup of NODE is written
//	NODE/.new-20261123T050000Z            a backup that is being written
//	NODE/20261123T050000Z/overlay.tar.zst a verified backup
//	NODE/20261123T050000Z/deleted.lst
//	NODE/20261123T050000Z/opaque.lst
//	NODE/20261123T050000Z/manifest.json
//	NODE/reboot.json                      a reset has begun, and is not done with
//
// Every file is on stable storage before the directory is renamed to its final
// name, so that whatever is listed is whole. All access goes through an os.Root:
// neither a name nor a symbolic link leads out of the store. Files are readable
// by their owner only, since an overlay holds /etc/shadow.
package store
