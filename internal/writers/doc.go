// Package writers gives each node of a site one writer at a time: whoever is
// about to change a node, its BMC or its overlay takes the node's lock first,
// and everybody else is told who has it.
//
//  1. A lock is a file below the state directory, locked with flock(2). The kernel
//     frees it when its holder ends, however that ends; the files stay.
//  2. The file says who holds it, for people. Each holder writes a mark of its own
//     into it, which stays when the lock is free again.
//  3. Who plans looks at the marks first. A mark that is another one when the lock
//     is taken says that somebody else may have changed the node since, and that it
//     has to be looked at again. No clock is compared with another.
//
// Locks of several admin hosts are kept in etcd, by package etcdwriters.
package writers
