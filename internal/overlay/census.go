package overlay

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// errUnsafe is what add refuses.
var errUnsafe = errors.New("a member lies below a symbolic link")

// A census is what has to be known of an archive as a whole before any member is
// acted upon. Names are kept as hashes, so that it takes some 40 bytes a member;
// that two names share one of 64 bits does not happen.
type census struct {
	seed     maphash.Seed
	n        int64
	last     map[uint64]int64 // the last member of each name
	deleted  map[uint64]bool  // names whose last member is a whiteout
	links    map[uint64]bool  // names whose last member is a symbolic link
	replaced map[int64]uint64 // members that are not the last of their name
	xattrs   bool             // some member has extended attributes
	tooLong  int              // names that no system call takes
}

func newCensus() *census {
	return &census{
		seed: maphash.MakeSeed(), last: make(map[uint64]int64), deleted: make(map[uint64]bool),
		links: make(map[uint64]bool), replaced: make(map[int64]uint64),
	}
}

// add counts a member. It refuses one that lies below a symbolic link of the same
// archive: no file system that was packed has such names, and what extracts them
// may follow the link.
func (c *census) add(a *archive, m member) error {
	for key := range a.records {
		c.xattrs = c.xattrs || strings.HasPrefix(key, xattrRecord)
	}
	for _, name := range []string{m.name, m.link} {
		if (m.kind == typeHardLink || name == m.name) && c.belowLink(name) {
			return fmt.Errorf("%w: %q", errUnsafe, m.name)
		}
	}
	h := maphash.String(c.seed, m.name)
	if before, ok := c.last[h]; ok {
		c.replaced[before] = h
	} else if len(m.name) > maxName {
		c.tooLong++
	}
	c.last[h] = c.n
	c.n++
	set(c.deleted, h, m.whiteout)
	set(c.links, h, m.kind == typeSymlink || m.kind == typeHardLink && c.links[maphash.String(c.seed, m.link)])
	return nil
}

func set(names map[uint64]bool, h uint64, is bool) {
	if is {
		names[h] = true
	} else {
		delete(names, h)
	}
}

func (c *census) belowLink(name string) bool {
	if len(c.links) == 0 {
		return false
	}
	for i, b := range []byte(name) {
		if b == '/' && c.links[maphash.String(c.seed, name[:i])] {
			return true
		}
	}
	return false
}

// fates says of each member that a later one of its name replaces whether that is
// a whiteout.
func (c *census) fates() map[int64]bool {
	fates := make(map[int64]bool, len(c.replaced))
	for i, h := range c.replaced {
		fates[i] = c.deleted[h]
	}
	return fates
}
