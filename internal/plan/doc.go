// Package plan compares what a site file wants with what BMCs and nodes say
// now, and lists for each node the steps that would make the two agree.
//
// It is pure: no I/O, no clock, no log, no goroutine. Compute is total; what
// could not be read is a fact like any other, and becomes a failed node.
//
// For each node, in this order (vendors.md 5 argues for it):
//
//  1. A node proven to run the wanted image is done; its media is left alone.
//  2. backup-overlay, when a later step would end a running live image.
//  3. power-off. With the host off, every intermediate state of media and boot
//     override names its own next step; with it on, "nothing armed" could mean
//     not yet or already used. iLO also refuses boot changes during POST.
//  4. enable-media, eject-media, insert-media, set-boot-once, clear-boot.
//  5. power-on, then await-boot until the node is seen running the image.
//  6. restore-overlay, when the boot was ours.
//
// What is unknown leads to waiting or to a question, never to a reset.
// docs/planning.md has the cases as a table, and a test walks it.
package plan
