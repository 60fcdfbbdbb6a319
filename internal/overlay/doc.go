// Package overlay backs up, verifies and restores the upper dir of the overlay
// that a running live system keeps its changes in. The overlay lies in the
// node's memory and is the only thing on it that cannot be had again.
//
//   - Probe reads in one session what the node runs and where its upper dir is.
//   - Backup streams the upper dir as a tar archive: nothing is written on the
//     node, and the stream is hashed, compressed and parsed here as it flows. What
//     was stored is read back and compared before it becomes a backup.
//   - Restore checks the stored archive before it touches the node, then goes
//     through the merged view, "/" itself: what was deleted is removed, what was
//     made is extracted, without the whiteouts and without trusted.overlay.*,
//     and everything is listed and compared.
//     What still works with what was replaced is listed. By other methods it
//     fills an upper dir that nothing is mounted from (MethodOffline), or has
//     systemd reboot softly into one (MethodNextRoot). It takes archives that
//     were packed by hand, too.
//
// Restore does not write into the upper dir of a mounted overlay, because the
// kernel leaves that undefined ("Changes to underlying filesystems",
// Documentation/filesystems/overlayfs.rst), and in practice directories that any
// process holds stay as they were: of 22 changes written into the upper dir, 9
// were visible after "mount -o remount /", and new files below /usr could no
// longer be made (ENOTEMPTY).
//
// Scripts do it with the tools of GNU. A node that lacks them, one with busybox
// alone, is sent a program that does the same and is removed again: see tools.go,
// and packages nodeside and uppertar.
//
// A node is reached through Remote, backups are kept in a Store. All errors are
// of type *bmc.Error.
package overlay
