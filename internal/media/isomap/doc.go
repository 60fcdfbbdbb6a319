// Package isomap tells where in a live ISO its boot loader, kernel, initial RAM
// disk and root file system lie, and, from the parts of the ISO that were read,
// how far a boot from it has come.
//
// It reads the boot catalogue (El Torito 2.0) and the directories (ECMA-119,
// with the names of Rock Ridge where there are some), a few hundred kilobytes at
// most, and looks at the first bytes of the large files: what a file is called
// differs between distributions, what a kernel or a squashfs begins with does not.
package isomap
