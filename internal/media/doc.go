// Package media tells one live image from the next.
//
// An ISO 9660 image carries its own identity in its primary volume descriptor,
// sector 16: a volume identifier and a creation date. The same 2048 bytes are
// read from wherever the image is, a web server, a file, the drive of the node
// that runs it, and compared. What a BMC says it has mounted is never enough
// (a truncated image mounts fine), so Identify also compares the size that the
// descriptor claims with what the server would send.
package media
