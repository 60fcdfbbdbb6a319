package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
)

const blockBytes = 512

// The type flags of tar that an overlay's archive may hold (POSIX.1-2001 ustar
// and pax, and GNU tar's own).
const (
	typeFile       = '0'
	typeOldFile    = '\x00'
	typeHardLink   = '1'
	typeSymlink    = '2'
	typeCharDevice = '3'
	typeBlock      = '4'
	typeDir        = '5'
	typeFifo       = '6'
	typeContiguous = '7'
	typeSparse     = 'S' // GNU, with its map in the header
	typePAX        = 'x'
	typeGlobalPAX  = 'g' // for all members from there on
	typeLongName   = 'L' // GNU
	typeLongLink   = 'K' // GNU
)

// A member is one entry of an archive, with its extended headers applied.
type member struct {
	name   string // clean and relative: "." or "./etc/hosts"
	kind   byte   // a type flag; never an extended header's
	mode   uint32 // permission bits, 07777
	uid    int64
	gid    int64
	size   int64 // of the file, holes included
	mtime  timestamp
	link   string // of a hard link: clean as name is; of a symlink: as it is
	major  int64
	minor  int64
	xattrs overlayXattrs

	// whiteout marks what was deleted: a character device 0:0, a hard link to
	// one (the kernel shares one inode among whiteouts), or an empty file with
	// the xattr trusted.overlay.whiteout.
	whiteout bool

	// outside marks what an archive that Backup did not make holds besides the
	// upper dir; its name is then that in the archive.
	outside bool
}

// overlayXattrs are the extended attributes of overlayfs that change what a
// member means (Documentation/filesystems/overlayfs.rst).
type overlayXattrs struct {
	opaque, metacopy, redirect, whiteout bool
}

// decimal writes the time as one number, as pax and GNU date do.
func (t timestamp) decimal() string {
	if t.sec >= 0 || t.nsec == 0 {
		return fmt.Sprintf("%d.%09d", t.sec, t.nsec)
	}
	return fmt.Sprintf("-%d.%09d", -t.sec-1, 1_000_000_000-t.nsec)
}

// timestamp is a point in time as tar has it: any number of seconds before or
// after 1970, and 0 to 999,999,999 nanoseconds after that.
type timestamp struct {
	sec  int64
	nsec int64
}

// archiveError says what is wrong with an archive.
type archiveError string

func (e archiveError) Error() string { return string(e) }

var (
	errTruncated = archiveError("the archive ends before its two closing blocks")
	errTrailing  = archiveError("the archive goes on after its closing blocks")
)

// isV7 reports whether a header block is of the tar before POSIX, which has no
// magic.
func isV7(b []byte) bool { return !bytes.HasPrefix(b[magicAt:], []byte("ustar")) }

// parseHeader reads a header block by itself. v7 takes those of the tar before
// POSIX, too.
func parseHeader(b []byte, v7 bool) (member, error) {
	if isV7(b) {
		// GNU tar writes directories of this format as ustar's, too. A device would
		// have no number, and be taken for a whiteout.
		if !v7 || b[0] == 0 || !strings.ContainsRune("\x00"+"0125", rune(b[156])) || !checksumMatches(b) {
			return member{}, archiveError("a block that should be a tar header is none")
		}
		b = bytes.Clone(b)
		toUSTAR(b)
	}
	if !checksumMatches(b) {
		return member{}, archiveError("a tar header's checksum does not match")
	}
	m := member{kind: b[156], name: text(b[:100]), link: text(b[157:257])}
	if b[262] == 0 { // POSIX; in GNU's headers other fields lie there
		if prefix := text(b[345:500]); prefix != "" {
			m.name = prefix + "/" + m.name
		}
	}
	return m, m.takeNumbers(b)
}

// takeNumbers reads the numbers of a header block.
func (m *member) takeNumbers(b []byte) error {
	var mode int64
	for _, f := range []struct {
		field []byte
		into  *int64
	}{
		{b[100:108], &mode},
		{b[108:116], &m.uid},
		{b[116:124], &m.gid},
		{b[124:136], &m.size},
		{b[136:148], &m.mtime.sec},
		{b[329:337], &m.major},
		{b[337:345], &m.minor},
	} {
		var err error
		if *f.into, err = number(f.field); err != nil {
			return err
		}
	}
	m.mode = uint32(mode & 0o7777)
	return nil
}

func checksumMatches(b []byte) bool {
	want, err := number(b[148:156])
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, c := range b[:blockBytes] {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c)) // of old implementations
	}
	return want == unsigned || want == signed
}

// text reads a NUL-terminated field.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// number reads an octal field, or one in base 256 when its first bit is set.
func number(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		return base256(b)
	}
	digits := strings.Trim(text(b), " ")
	if digits == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(digits, 8, 63)
	if err != nil {
		return 0, archiveError("a tar header holds a number that is none")
	}
	return int64(n), nil
}

func base256(b []byte) (int64, error) {
	negative := b[0]&0x40 != 0
	var n uint64
	for i, c := range b {
		if i == 0 {
			c &= 0x7f
		}
		if negative {
			c = ^c
			if i == 0 {
				c &= 0x7f
			}
		}
		if n > 1<<55-1 {
			return 0, archiveError("a tar header holds a number that is too large")
		}
		n = n<<8 | uint64(c)
	}
	if negative {
		return -int64(n) - 1, nil
	}
	return int64(n), nil
}

// apply puts the records of a pax extended header onto the member.
func (m *member) apply(records map[string]string) error {
	var err error
	for key, into := range map[string]*int64{
		"uid": &m.uid, "gid": &m.gid, "size": &m.size,
	} {
		if value, ok := records[key]; ok {
			if *into, err = strconv.ParseInt(value, 10, 64); err != nil {
				return archiveError("a pax header holds a " + key + " that is no number")
			}
		}
	}
	if value, ok := records["mtime"]; ok {
		if m.mtime, err = parseTimestamp(value); err != nil {
			return archiveError("a pax header holds an mtime that is none")
		}
	}
	for _, key := range []string{"path", "GNU.sparse.name"} { // the second wins, as in GNU tar
		if value, ok := records[key]; ok {
			m.name = value
		}
	}
	if value, ok := records["linkpath"]; ok {
		m.link = value
	}
	m.xattrs = readXattrs(records)
	return nil
}

// realSize returns the size of a sparse file, holes included.
func realSize(records map[string]string) (int64, bool) {
	for _, key := range []string{"GNU.sparse.realsize", "GNU.sparse.size"} {
		if n, err := strconv.ParseInt(records[key], 10, 64); err == nil && n >= 0 {
			return n, true
		}
	}
	return 0, false
}

func readXattrs(records map[string]string) overlayXattrs {
	const prefix = "SCHILY.xattr.trusted.overlay."
	_, metacopy := records[prefix+"metacopy"]
	_, redirect := records[prefix+"redirect"]
	_, whiteout := records[prefix+"whiteout"]
	return overlayXattrs{
		opaque:   records[prefix+"opaque"] == "y",
		metacopy: metacopy, redirect: redirect, whiteout: whiteout,
	}
}

// parsePAX reads "LENGTH KEY=VALUE\n" records; the last of a key counts.
func parsePAX(b []byte) (map[string]string, error) {
	records := make(map[string]string)
	for len(b) > 0 {
		digits, _, found := bytes.Cut(b, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if !found || err != nil || n <= len(digits)+1 || n > len(b) || b[n-1] != '\n' {
			return nil, archiveError("a pax header is damaged")
		}
		key, value, found := bytes.Cut(b[len(digits)+1:n-1], []byte("="))
		if !found || len(key) == 0 {
			return nil, archiveError("a pax header is damaged")
		}
		// GNU tar writes %25 and %3D for what may not stand in a key.
		records[unquotePAX.Replace(string(key))] = string(value)
		b = b[n:]
	}
	return records, nil
}

var (
	unquotePAX = strings.NewReplacer("%3D", "=", "%25", "%")
	quotePAX   = strings.NewReplacer("=", "%3D", "%", "%25")
)

// parseTimestamp reads seconds with a fraction: "-1.5" is one and a half
// seconds before 1970.
func parseTimestamp(s string) (timestamp, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	sec, err := strconv.ParseInt(whole, 10, 62)
	if err != nil || sec < 0 || strings.HasPrefix(whole, "+") {
		return timestamp{}, errors.New("not a time")
	}
	fraction = (fraction + "000000000")[:9]
	nsec, err := strconv.ParseUint(fraction, 10, 32)
	if err != nil {
		return timestamp{}, errors.New("not a time")
	}
	t := timestamp{sec: sec, nsec: int64(nsec)}
	if !negative {
		return t, nil
	}
	t.sec = -t.sec
	if t.nsec > 0 {
		t.sec, t.nsec = t.sec-1, 1_000_000_000-t.nsec
	}
	return t, nil
}

// finish checks a member with all its headers applied, and cleans its names.
func (m *member) finish() error {
	slash := strings.HasSuffix(m.name, "/")
	name, err := cleanName(m.name)
	if err != nil {
		return err
	}
	m.name = name
	switch m.kind {
	case typeFile, typeOldFile, typeContiguous, typeSparse:
		if slash { // old tars meant a directory
			return fmt.Errorf("%w: %q", archiveError("a file's name ends in a slash"), name)
		}
	case typeHardLink:
		if m.link, err = cleanName(m.link); err != nil {
			return err
		}
	case typeSymlink, typeCharDevice, typeBlock, typeDir, typeFifo:
	default:
		return fmt.Errorf("%w: %q at %q", archiveError("a member has a type that no overlay has"), m.kind, name)
	}
	if !m.hasData() && m.size != 0 {
		return fmt.Errorf("%w: %q", archiveError("a member that cannot have data has some"), name)
	}
	if m.size < 0 {
		return fmt.Errorf("%w: %q", archiveError("a member's size is negative"), name)
	}
	return nil
}

func (m *member) hasData() bool {
	switch m.kind {
	case typeFile, typeOldFile, typeContiguous, typeSparse:
		return true
	}
	return false
}

// cleanName refuses what could lead out of the directory of extraction.
func cleanName(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: %q", archiveError("a member's name is not relative"), name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: %q", archiveError("a member's name leads out of the archive"), name)
		}
	}
	if clean := path.Clean(name); clean != "." {
		return "./" + clean, nil
	}
	return ".", nil
}
