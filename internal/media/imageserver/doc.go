// Package imageserver serves live images to BMCs, and knows what each has read.
//
// A BMC's firmware is a poor web client: it wants range requests, plain HTTP on
// port 80, a short path of plain letters that is not at the root and ends in
// .iso, and it reads for as long as the node runs (vendors.md 3.2). So every node
// has a directory of its own, and an image's name in it begins with its digest:
//
//	/k3v7ajx2q5mwe4bd/3c0b8f21a94d.iso
//
// The directory is a keyed hash of the node's name. A read is thereby attributed
// to its node, whatever address it comes from, and nobody who knows one node's
// path can guess another's. The digest makes a mount that is left from an older
// image name nothing: it is answered with 404, never with other bytes.
//
// A file is sent by the kernel (sendfile), in pieces. Between them its size and
// time are compared with those it had when its digest was taken, and the
// connection is cut when they are others.
package imageserver
