// Package sim is a simulated site: BMCs, nodes and a web server with live
// images, all on the loopback interface, and all in this process but for nodes
// that are run in QEMU. It is what "livecd-sync sim" runs, for a first try without
// hardware, and what tests talk to.
//
//	site.yaml, secrets/, certs/, iso/   what livecd-sync is pointed at
//	nodes/NAME/upper                    the overlay of a node that runs a live image
//	nodes/NAME/console.sock             the serial console of a node that has one
//	backups/                            the store
//	control.url                         the control API, see below
//
// Each BMC (package bmcsim) has an address, a certificate and a TLS listener of
// its own; each node has an address on which an ssh server listens while the
// node runs an operating system. A node boots what its BMC has mounted: it reads
// the image over HTTP with range requests, from its BMC's address, and is what
// the volume descriptor says. An image that cannot be read leaves it with its
// disk. At each boot the overlay is empty and the host key is new, as with a
// real live system.
//
// # What a node runs
//
// A node with NodeSpec.QEMU is a real machine (package vm), and runs what it
// boots. The others run in this process:
//
// A script that comes over ssh is run by a shell in this process. Names are
// looked up in the node's own file system: / is the overlay (there is nothing
// below it), /run, /proc, /sys, /dev and /tmp are made at each boot. A few
// commands (mount, unshare, chroot, xargs, id …) are simulated, a few (tar,
// find, stat, rm …) are the host's, run with translated names; there are no
// others. Where the kernel has Landlock, the host's commands cannot write
// outside the node's directory, whatever a symbolic link or an archive says.
//
// Everything works for an ordinary user, with two limits that Notes tells of:
// owners and privileged attributes are not restored, and where users may not
// listen on port 80, the only one that Gigabyte BMCs mount images from, the site
// file names a profile for them that allows any.
//
// # Control
//
// Scripts steer a running site over HTTP. control.url holds the API's base URL;
// its path is a secret, so that no other user of the machine can steer.
//
//	GET  nodes                   every node's Status, as a JSON array
//	GET  nodes/NAME              one node's
//	POST nodes/NAME/write        {"path": "etc/motd", "content": "hello\n"}: a file in the overlay
//	POST nodes/NAME/cut          cut the power
//	POST nodes/NAME/disk-boot    power the node off and on again without its CD
//	POST nodes/NAME/behaviour    the fields of a bmcsim.Behaviour to change
//
// A POST answers 204 once done, disk-boot once the node is up; an error is one
// line of text.
package sim
