package isomap

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Kind says what a part of an image is for.
type Kind string

// The kinds of parts, in the order in which a boot reads them.
const (
	BootLoader Kind = "boot loader"
	Kernel     Kind = "kernel"
	Initrd     Kind = "initrd"
	Root       Kind = "root file system"
)

// A Part is a piece of an image that a boot reads.
type Part struct {
	Kind Kind
	Name string // the path in the image, or "" for what has none
	Span
}

// A Map is where the parts of an image lie. The zero Map knows of none.
type Map struct {
	Size  int64
	Parts []Part // by where they begin
}

// Of are the pieces that have the kind.
func (m Map) Of(kinds ...Kind) []Span {
	var all Spans
	for _, p := range m.Parts {
		if slices.Contains(kinds, p.Kind) {
			all.Add(p.From, p.To)
		}
	}
	return all
}

const sector = 2048

var errNotISO = errors.New("it is no ISO 9660 image")

// Read reads an image's map. The error says that the image's descriptors or
// directories cannot be read; what can be, is in the map all the same. Directories
// that lead in circles, and files outside the image, are left out.
func Read(r io.ReaderAt, size int64) (Map, error) {
	t := tree{r: r, size: size}
	m := Map{Size: size}
	root, catalogue, err := t.descriptors()
	if err != nil {
		return m, err
	}
	err = t.walk(root)
	boot := t.bootImages(catalogue)
	for _, f := range t.files {
		if k := t.kind(f); k != "" {
			m.Parts = append(m.Parts, Part{k, f.name, f.span})
		}
	}
	m.Parts = append(m.Parts, boot...)
	if len(m.Of(Root)) == 0 {
		m.Parts = append(m.Parts, t.mostOfIt()...)
	}
	slices.SortFunc(m.Parts, func(a, b Part) int { return cmp.Compare(a.From, b.From) })
	return m, err
}

// A tree is an image whose directories are being read.
type tree struct {
	r     io.ReaderAt
	size  int64
	files []file
}

type file struct {
	name string
	span Span
}

// What is read of an image at most.
const (
	maxDescriptors = 32
	maxDirectories = 4096
	maxDirectory   = 4 << 20 // bytes
	maxFiles       = 100_000
	maxDepth       = 32
)

func (t *tree) read(at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at+n > t.size {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	if _, err := t.r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// descriptors finds the root directory (ECMA-119 8.4.18) and the sector of the
// boot catalogue (El Torito 2.0), 0 for none.
func (t *tree) descriptors() (root file, catalogue int64, err error) {
	found := false
	for i := range int64(maxDescriptors) {
		b, err := t.read((16+i)*sector, sector)
		if err != nil || string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && !found:
			found = true
			root = file{name: "/", span: extent(b[156:])}
		case b[0] == 0 && bytes.HasPrefix(b[7:], []byte("EL TORITO SPECIFICATION")):
			catalogue = int64(binary.LittleEndian.Uint32(b[0x47:]))
		}
	}
	if !found {
		return file{}, 0, errNotISO
	}
	return root, catalogue, nil
}

// extent is where the file of a directory record lies (ECMA-119 9.1).
func extent(record []byte) Span {
	at := int64(binary.LittleEndian.Uint32(record[2:])) * sector
	return Span{at, at + int64(binary.LittleEndian.Uint32(record[10:]))}
}

// walk reads the directories, a level at a time.
func (t *tree) walk(root file) error {
	seen := map[int64]bool{root.span.From: true}
	level := []file{root}
	var failed error
	for depth := 0; len(level) > 0 && depth < maxDepth; depth++ {
		var next []file
		for _, dir := range level {
			below, err := t.list(dir)
			failed = cmp.Or(failed, err)
			for _, d := range below {
				if !seen[d.span.From] && len(seen) < maxDirectories {
					seen[d.span.From] = true
					next = append(next, d)
				}
			}
		}
		level = next
	}
	return failed
}

// list reads one directory: its files are noted, its directories returned.
func (t *tree) list(dir file) (below []file, err error) {
	b, err := t.read(dir.span.From, min(dir.span.To-dir.span.From, maxDirectory))
	if err != nil {
		return nil, fmt.Errorf("directory %s: %w", dir.name, err)
	}
	goesOn := false // the last record was a piece of a file whose rest follows
	for at := 0; at+33 < len(b); {
		n := int(b[at])
		if n == 0 { // records do not cross sectors
			at = (at/sector + 1) * sector
			continue
		}
		if at+n > len(b) || n < 34 || 33+int(b[at+32]) > n {
			return below, fmt.Errorf("directory %s: a record is broken", dir.name)
		}
		record := b[at : at+n]
		at += n
		name := recordName(record)
		if name == "" {
			continue
		}
		f := file{name: path.Join(dir.name, name), span: extent(record)}
		switch {
		case f.span.To > t.size:
		case record[25]&2 != 0:
			below = append(below, f)
		case goesOn && t.files[len(t.files)-1].span.To == f.span.From:
			t.files[len(t.files)-1].span.To = f.span.To
		case len(t.files) < maxFiles:
			t.files = append(t.files, f)
		}
		goesOn = record[25]&0x80 != 0 && len(t.files) > 0
	}
	return below, nil
}

// recordName is the name that Rock Ridge gives, else that of ECMA-119 without its
// version; "" for the directory itself and the one above it.
func recordName(record []byte) string {
	n := int(record[32])
	own := record[33 : 33+n]
	if n == 1 && own[0] <= 1 {
		return ""
	}
	var rock []byte
	for use := record[min(len(record), 33+n+(n+1)%2):]; len(use) >= 5; {
		l := int(use[2])
		if l < 5 || l > len(use) {
			break
		}
		if string(use[:2]) == "NM" {
			rock = append(rock, use[5:l]...)
		}
		use = use[l:]
	}
	if len(rock) > 0 {
		return printable(string(rock))
	}
	name, _, _ := strings.Cut(string(own), ";")
	return printable(strings.TrimSuffix(name, "."))
}

// printable keeps an image's own names from being paths or driving terminals.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '/' || r == 0x7f || r == 0xfffd {
			return '_'
		}
		return r
	}, s)
}

// bootImages are what the boot catalogue lists (El Torito 2.1 to 2.4).
func (t *tree) bootImages(catalogue int64) []Part {
	b, err := t.read(catalogue*sector, sector)
	if catalogue == 0 || err != nil || b[0] != 1 || b[0x1e] != 0x55 {
		return nil
	}
	var parts []Part
	for at := 32; at+32 <= len(b); at += 32 {
		e := b[at : at+32]
		if e[0] != 0x88 { // a header of a section, an extension, or something that does not boot
			if e[0] == 0 && at > 32 {
				break
			}
			continue
		}
		from := int64(binary.LittleEndian.Uint32(e[8:])) * sector
		s := Span{from, from + max(sector, 512*int64(binary.LittleEndian.Uint16(e[6:])))}
		// What it says of the size is often what the firmware loads first only.
		for _, f := range t.files {
			if f.span.From == from {
				s.To = max(s.To, f.span.To)
			}
		}
		if s.To <= t.size {
			parts = append(parts, Part{Kind: BootLoader, Span: s})
		}
	}
	return parts
}

// A file that is smaller is a setting, or a module, and not what a boot waits for.
const worthALook = 64 << 10

// kind tells what a file is for: by what it begins with, else by its name.
func (t *tree) kind(f file) Kind {
	if f.span.To-f.span.From < worthALook {
		return ""
	}
	lower := strings.ToLower(f.name)
	base := path.Base(lower)
	head, err := t.read(f.span.From, sector)
	switch {
	case err != nil:
		return ""
	case isRoot(head):
		return Root
	case string(head[0x202:0x206]) == "HdrS", string(head[56:60]) == "ARM\x64" && !strings.HasSuffix(base, ".efi"):
		return Kernel
	case strings.HasPrefix(base, "initrd"), strings.HasPrefix(base, "initramfs"), bytes.HasPrefix(head, []byte("070701")):
		return Initrd
	case strings.HasPrefix(base, "vmlinuz"), strings.HasPrefix(base, "bzimage"):
		return Kernel
	}
	for _, dir := range []string{"/efi/", "/boot/grub", "/isolinux/", "/syslinux/", "/loader/"} {
		if strings.HasPrefix(lower, dir) {
			return BootLoader
		}
	}
	return ""
}

// isRoot recognizes the file systems that live images run from: squashfs 4.0,
// EROFS, and ext2 to ext4.
func isRoot(head []byte) bool {
	return string(head[:4]) == "hsqs" ||
		binary.LittleEndian.Uint32(head[1024:]) == 0xe0f5e1e2 ||
		binary.LittleEndian.Uint16(head[1080:]) == 0xef53
}

// mostOfIt is the file that makes up more than half of the image, if there is
// one: what else should it be than what runs in the end.
func (t *tree) mostOfIt() []Part {
	for _, f := range t.files {
		if f.span.To-f.span.From > t.size/2 {
			return []Part{{Root, f.name, f.span}}
		}
	}
	return nil
}
