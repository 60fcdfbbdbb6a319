package overlay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// An assembly is the archive of a backup while it is put together from parts:
// what an earlier backup has already, what the node sends, and what it sends
// again because it changed meanwhile. A member of a name that was written
// before takes its place, as it does for any tar.
type assembly struct {
	out   io.Writer // the tar archive
	lists lister    // of what was deleted and made anew
	tally tally
	// names holds the part that each name was last written from.
	names map[nameKey]partNumber
	part  partNumber
	// links holds the hard links to each name that has some: whoever reads one
	// of them again has to read all.
	links   map[string][]string
	written int64
}

type partNumber uint8

// has reports whether a member of that name was written.
func (a *assembly) has(name string) bool { _, ok := a.names[keyOf(name)]; return ok }

// A lister is told of every member that is written.
type lister interface{ list(m member) error }

func newAssembly(out io.Writer, lists lister) *assembly {
	return &assembly{out: out, lists: lists, names: make(map[nameKey]partNumber), links: make(map[string][]string)}
}

// fate is what becomes of a member of a part.
type fate int

const (
	keep fate = iota
	drop
	// seal keeps a directory that was renamed, and marks it as one that shows
	// nothing of the layers below: all that it shows is in the archive.
	seal
)

// add writes those members of a part that choose keeps. It returns once the
// part has ended well.
func (a *assembly) add(part io.Reader, choose func(m member) fate) error {
	a.part++
	in := newArchive(part)
	for {
		m, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch choose(m) {
		case drop:
			continue
		case seal:
			in.head = sealed(in.head)
			m.xattrs.redirect, m.xattrs.opaque = false, true
		case keep:
		}
		if err := a.write(in, m); err != nil {
			return err
		}
	}
}

func (a *assembly) write(in *archive, m member) error {
	if err := a.put(in.head); err != nil {
		return err
	}
	if err := in.body(writerFunc(func(p []byte) (int, error) { return len(p), a.put(p) })); err != nil {
		return err
	}
	if m.kind == typeHardLink {
		a.links[m.link] = append(a.links[m.link], m.name)
	}
	a.names[keyOf(m.name)] = a.part
	a.tally.add(m)
	return a.lists.list(m)
}

func (a *assembly) put(p []byte) error {
	n, err := a.out.Write(p)
	a.written += int64(n)
	return err
}

// finish writes the closing blocks, and fills the last record as tar does.
func (a *assembly) finish() error {
	end := recordBytes - a.written%recordBytes
	if end < 2*blockBytes {
		end += recordBytes
	}
	for ; end > 0; end -= recordBytes {
		if err := a.put(zeroRecord[:min(end, recordBytes)]); err != nil {
			return err
		}
	}
	return nil
}

// sealed rewrites the blocks before a directory's data, of which there is none:
// without overlayfs's redirect, and opaque.
func sealed(head []byte) []byte {
	own := head[len(head)-blockBytes:]
	extended := slices.Clone(head[:blockBytes])
	size, _ := number(extended[124:136]) // parsed before
	var records []byte
	for data := head[blockBytes : blockBytes+size]; len(data) > 0; {
		digits, _, _ := strings.Cut(string(data[:min(len(data), 20)]), " ")
		n, _ := strconv.Atoi(digits)
		if n <= 0 || n > len(data) { // parsed before
			break
		}
		if !strings.Contains(string(data[:n]), " SCHILY.xattr.trusted.overlay.") {
			records = append(records, data[:n]...)
		}
		data = data[n:]
	}
	records = append(records, "41 SCHILY.xattr.trusted.overlay.opaque=y\n"...)
	copy(extended[124:136], fmt.Sprintf("%011o\x00", len(records)))
	setChecksum(extended)
	padding := (blockBytes - len(records)%blockBytes) % blockBytes
	return slices.Concat(extended, records, zeroRecord[:padding], own)
}
