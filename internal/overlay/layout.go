package overlay

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A layout says where in an archive that Backup did not make the upper dir lies.
// Members are handed on under their names in the upper dir, with headers to
// match; those beside it are marked.
type layout struct {
	prefix string // clean and without "./": "run/overlayfs/rw"; "": the names are bare
	// made is set when the current member's own names cannot be passed on.
	made bool
}

// relative takes the slashes off that tar -P leaves at the beginning of names, and
// makes directories of what older tars mean as such: files with a slash at the end.
func (l *layout) relative(m *member) {
	name, link := m.name, m.link
	m.name = strings.TrimLeft(name, "/")
	if m.kind == typeHardLink {
		m.link = strings.TrimLeft(link, "/")
	}
	l.made = m.name != name || m.link != link
	if m.name == "" && name != "" {
		m.name = "."
	}
	switch m.kind {
	case typeFile, typeOldFile:
		if strings.HasSuffix(name, "/") {
			m.kind, l.made = typeDir, true
		}
	}
}

// inside returns a clean name as it is below the prefix.
func (l *layout) inside(name string) (string, bool) {
	if l.prefix == "" {
		return name, true
	}
	rest, ok := strings.CutPrefix(name, "./"+l.prefix)
	switch {
	case ok && rest == "":
		return ".", true
	case ok && rest[0] == '/':
		return "." + rest, true
	}
	return name, false
}

// around reports whether a member outside the prefix is a directory that leads
// to it, or belongs to the work dir next to it, neither of which an overlay's
// contents are.
func (l *layout) around(m member) (ancestor, work bool) {
	name := strings.TrimPrefix(m.name, "./")
	if m.kind == typeDir && (name == "." || strings.HasPrefix(l.prefix, name+"/")) {
		return true, false
	}
	parent := l.prefix[:strings.LastIndex("/"+l.prefix, "/")]
	for _, dir := range []string{"work", "ovlwork"} {
		if w := parent + dir; name == w || strings.HasPrefix(name, w+"/") {
			return false, true
		}
	}
	return false, false
}

// place gives a member its name in the upper dir, and blocks that say so.
func (a *archive) place(m *member, ext extended, at int) error {
	name, ok := a.foreign.inside(m.name)
	if !ok {
		m.outside = true
		return nil
	}
	made := a.foreign.made || name != m.name
	m.name = name
	if m.kind == typeHardLink {
		if m.link, ok = a.foreign.inside(m.link); !ok {
			return fmt.Errorf("%w: %q", archiveError("a hard link leads out of the upper dir"), m.name)
		}
	}
	if made {
		a.head = rename(*m, ext, a.head[at:])
	}
	return nil
}

// Offsets and lengths within a tar header (POSIX.1-2001 ustar).
const (
	nameBytes  = 100
	checksumAt = 148
	linkAt     = 157
	magicAt    = 257
	prefixAt   = 345
	prefixEnd  = 500
)

// toUSTAR makes a header of the tar before POSIX one of POSIX: what it did not
// write lies where POSIX has more fields.
func toUSTAR(header []byte) {
	clear(header[magicAt:blockBytes])
	copy(header[magicAt:], "ustar\x0000")
	setChecksum(header)
}

// rename makes a member's blocks up to its data anew, from its own header and
// what follows that, under the names that m has. Numbers, xattrs and the maps of
// sparse files stay as they were written.
func rename(m member, ext extended, old []byte) []byte {
	header, rest := bytes.Clone(old[:blockBytes]), old[blockBytes:]
	if isV7(header) {
		toUSTAR(header)
	}
	if m.kind == typeDir { // which older tars tell by a slash alone
		header[156] = typeDir
	}
	posix := header[262] == 0
	long := len(m.name) > nameBytes || len(m.link) > nameBytes
	var head []byte
	switch {
	case ext.pax != nil, posix && long:
		head = paxHeader(m, ext.raw)
	case long: // GNU
		if len(m.name) > nameBytes {
			head = append(head, longHeader(typeLongName, m.name)...)
		}
		if len(m.link) > nameBytes {
			head = append(head, longHeader(typeLongLink, m.link)...)
		}
	}
	setText(header[:nameBytes], m.name)
	if posix {
		clear(header[prefixAt:prefixEnd])
	}
	if m.kind == typeHardLink || m.kind == typeSymlink {
		setText(header[linkAt:linkAt+nameBytes], m.link)
	}
	setChecksum(header)
	return slices.Concat(head, header, rest)
}

func setText(field []byte, s string) {
	clear(field)
	copy(field, s)
}

func setChecksum(header []byte) {
	copy(header[checksumAt:], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[checksumAt:], fmt.Sprintf("%06o\x00 ", sum))
}

// extendedHeader makes a header and the data that it describes, padded.
func extendedHeader(kind byte, name, magic string, data []byte) []byte {
	header := make([]byte, blockBytes)
	copy(header, name)
	copy(header[100:], "0000644\x000000000\x000000000\x00")
	copy(header[124:], fmt.Sprintf("%011o\x0000000000000\x00", len(data)))
	header[156] = kind
	copy(header[257:], magic)
	setChecksum(header)
	padding := -len(data) & (blockBytes - 1)
	return slices.Concat(header, data, make([]byte, padding))
}

func longHeader(kind byte, name string) []byte {
	return extendedHeader(kind, "././@LongLink", "ustar  \x00", []byte(name+"\x00"))
}

// paxHeader keeps the records as they were written, but for the names.
func paxHeader(m member, records []byte) []byte {
	var data []byte
	key := "path"
	for len(records) > 0 { // parsePAX has found them well formed
		digits, _, _ := bytes.Cut(records, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if err != nil || n <= 0 || n > len(records) {
			break
		}
		switch name, _, _ := strings.Cut(string(records[len(digits)+1:n]), "="); name {
		case "GNU.sparse.name": // "path" is then that of a directory for tars that know no sparse files
			key = name
		case "path", "linkpath":
		default:
			data = append(data, records[:n]...)
		}
		records = records[n:]
	}
	data = append(data, paxRecord(key, m.name)...)
	if m.kind == typeHardLink || m.kind == typeSymlink {
		data = append(data, paxRecord("linkpath", m.link)...)
	}
	return extendedHeader(typePAX, "./PaxHeaders/renamed", "ustar\x0000", data)
}

// paxRecord writes "LENGTH KEY=VALUE\n", whose length counts its own digits.
func paxRecord(key, value string) string {
	body := " " + key + "=" + value + "\n"
	n := len(body) + 1
	for len(strconv.Itoa(n))+len(body) != n {
		n++
	}
	return strconv.Itoa(n) + body
}
