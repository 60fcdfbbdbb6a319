// Package uppertar does on a node what GNU tar does for a backup and a restore,
// for nodes that have no GNU tar: busybox's loses extended attributes, ACLs,
// sparse files, large user IDs and nanoseconds without a word.
//
//   - Write makes an archive of an upper dir that means what GNU tar's does with
//     --format=posix --xattrs --xattrs-include='*' --acls --numeric-owner
//     --sparse --one-file-system. Names tells what would be in it.
//   - Extract puts such an archive below a directory, with all of that.
//   - Clear and List are what the scripts of package overlay do with rm and stat.
//
// Below a directory is meant in earnest: a name is resolved by the kernel with
// RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS (openat2(2)), or step by step without
// following links where the kernel is older than 5.6.
//
// Messages are GNU tar's, so that who reads them needs not know who wrote them:
// one line each, names escaped as with --quoting-style=escape. What could not be
// done is told and counted in an Outcome, and the work goes on; an error is
// returned only where it cannot.
//
// The package imports the standard library and golang.org/x/sys/unix alone, for
// it is sent to nodes as part of a small program.
package uppertar
