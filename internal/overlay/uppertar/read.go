package uppertar

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxExtended bounds a member's extended headers. An inode's extended attributes
// come to 64 KiB on most file systems.
const maxExtended = 4 << 20

// A damage says what is wrong with an archive.
type damage string

func (d damage) Error() string { return string(d) }

var errTruncated = damage("the archive ends before its two closing blocks")

// A member is one entry of an archive, with its extended headers applied.
type member struct {
	header
	xattrs  []xattr // ACLs are among them
	regions []region
}

// whiteout reports whether a member says that a file of a lower layer is gone
// (Documentation/filesystems/overlayfs.rst).
func (m *member) whiteout() bool {
	if m.kind == typeCharDevice {
		return m.major == 0 && m.minor == 0
	}
	if m.kind != typeFile || m.realSize != 0 {
		return false
	}
	for _, x := range m.xattrs {
		if x.name == overlayPrefix+"whiteout" {
			return true
		}
	}
	return false
}

const overlayPrefix = "trusted.overlay."

// A reader reads an archive that GNU tar or Write made of an upper dir. It
// refuses what implementations understand differently.
type reader struct {
	in   *bufio.Reader
	left int64 // of the current member's data
	pad  int64 // that follows it
}

func newReader(r io.Reader) *reader { return &reader{in: bufio.NewReaderSize(r, copyBytes)} }

// next returns the next member, past what was not read of the last one, and
// io.EOF after the two closing blocks, when nothing but zeros follows.
func (r *reader) next() (*member, error) {
	if err := r.skip(); err != nil {
		return nil, err
	}
	var ext extended
	for {
		block, err := r.block()
		if err != nil {
			return nil, err
		}
		if isZero(block) {
			if ext.any() {
				return nil, damage("the archive ends after an extended header")
			}
			return nil, r.end()
		}
		m, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		switch m.kind {
		case typePAX, typeLongName, typeLongLink:
			err = r.extend(&ext, m)
		default:
			err = r.complete(m, &ext, block)
			return m, err
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *reader) skip() error {
	_, err := io.CopyN(io.Discard, r.in, r.left+r.pad)
	r.left, r.pad = 0, 0
	return truncated(err)
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

func (r *reader) block() ([]byte, error) {
	block := make([]byte, blockBytes)
	_, err := io.ReadFull(r.in, block)
	return block, truncated(err)
}

// end reads what follows the first closing block.
func (r *reader) end() error {
	block, err := r.block()
	if err != nil {
		return err
	}
	for {
		if !isZero(block) {
			return damage("the archive goes on after its closing blocks")
		}
		if _, err := r.in.Peek(1); err != nil {
			return err // io.EOF, if all is well
		}
		block, _ = r.in.Peek(r.in.Buffered())
		_, _ = r.in.Discard(len(block)) // of what is in the buffer, which peeking left as it is
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// extended is what stands before a member's own header.
type extended struct {
	pax                map[string]string
	longName, longLink string
}

func (e *extended) any() bool { return e.pax != nil || e.longName != "" || e.longLink != "" }

func (r *reader) extend(ext *extended, m *member) error {
	if m.size < 0 || m.size > maxExtended {
		return damage("an extended header is too large")
	}
	data := make([]byte, m.size+(blockBytes-m.size%blockBytes)%blockBytes)
	if _, err := io.ReadFull(r.in, data); err != nil {
		return truncated(err)
	}
	data = data[:m.size]
	var err error
	switch {
	case m.kind == typePAX && !ext.any():
		ext.pax, err = parseRecords(data)
		return err
	case m.kind == typeLongName && ext.pax == nil && ext.longName == "":
		ext.longName = text(data)
		return nil
	case m.kind == typeLongLink && ext.pax == nil && ext.longLink == "":
		ext.longLink = text(data)
		return nil
	}
	return damage("a member has extended headers that contradict each other")
}

// text reads a field that ends with NUL.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// parseRecords reads "LENGTH KEY=VALUE\n" records; the last of a key counts.
func parseRecords(b []byte) (map[string]string, error) {
	records := make(map[string]string)
	for len(b) > 0 {
		digits, _, found := bytes.Cut(b, []byte(" "))
		n, err := strconv.Atoi(string(digits))
		if !found || err != nil || n <= len(digits)+1 || n > len(b) || b[n-1] != '\n' {
			return nil, damage("a pax header is damaged")
		}
		key, value, found := bytes.Cut(b[len(digits)+1:n-1], []byte("="))
		if !found || len(key) == 0 {
			return nil, damage("a pax header is damaged")
		}
		records[strings.NewReplacer("%3D", "=", "%25", "%").Replace(string(key))] = string(value)
		b = b[n:]
	}
	return records, nil
}

// parseBlock reads a header block by itself.
func parseBlock(b []byte) (*member, error) {
	if !bytes.HasPrefix(b[257:], []byte("ustar")) {
		return nil, damage("a block that should be a tar header is none")
	}
	m := &member{}
	m.kind, m.name, m.link = b[156], text(b[:100]), text(b[157:257])
	if prefix := text(b[345:500]); b[262] == 0 && prefix != "" { // GNU has other fields there
		m.name = prefix + "/" + m.name
	}
	var mode, uid, gid, major, minor, check int64
	for _, f := range []struct {
		field []byte
		into  *int64
	}{
		{b[100:108], &mode},
		{b[108:116], &uid},
		{b[116:124], &gid},
		{b[124:136], &m.size},
		{b[136:148], &m.mtime.Sec},
		{b[checkAt:checkEnd], &check},
		{b[329:337], &major},
		{b[337:345], &minor},
	} {
		var err error
		if *f.into, err = number(f.field); err != nil {
			return nil, err
		}
	}
	if check != sumOfBlock(b) {
		return nil, damage("a tar header's checksum does not match")
	}
	m.mode = uint32(mode & 0o7777)
	if uid < 0 || gid < 0 || uid > maxID || gid > maxID || major < 0 || major > 1<<12-1 || minor < 0 || minor > 1<<20-1 {
		return nil, damage("a tar header holds an ID or a device number that Linux has not")
	}
	m.uid, m.gid, m.major, m.minor = uint32(uid), uint32(gid), uint32(major), uint32(minor)
	return m, nil
}

// The field of a header's checksum, which counts as spaces in itself.
const (
	checkAt  = 148
	checkEnd = 156
)

func sumOfBlock(b []byte) int64 {
	var sum int64
	for i, c := range b {
		if i >= checkAt && i < checkEnd {
			c = ' '
		}
		sum += int64(c)
	}
	return sum
}

// maxID is the largest user or group ID: the next one says "none".
const maxID = 1<<32 - 2

// number reads an octal field, or one in base 256 when its first bit is set.
func number(b []byte) (int64, error) {
	if b[0]&0x80 == 0 {
		digits := strings.Trim(text(b), " ")
		if digits == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(digits, 8, 63)
		if err != nil {
			return 0, damage("a tar header holds a number that is none")
		}
		return int64(n), nil
	}
	negative := b[0]&0x40 != 0
	var n uint64
	for i, c := range b {
		if negative {
			c = ^c
		}
		if i == 0 {
			c &= 0x3f
		}
		if n >= 1<<55 {
			return 0, damage("a tar header holds a number that is too large")
		}
		n = n<<8 | uint64(c)
	}
	if negative {
		return -int64(n) - 1, nil
	}
	return int64(n), nil
}

// complete applies the extended headers to a member's own, whose block is given.
func (r *reader) complete(m *member, ext *extended, block []byte) error {
	if ext.longName != "" {
		m.name = ext.longName
	}
	if ext.longLink != "" {
		m.link = ext.longLink
	}
	if err := m.apply(ext.pax); err != nil {
		return err
	}
	if err := m.check(); err != nil {
		return err
	}
	r.left, r.pad = m.size, (blockBytes-m.size%blockBytes)%blockBytes
	m.realSize = m.size
	switch {
	case m.kind == typeSparse:
		m.kind = typeFile
		return r.oldMap(m, block)
	case m.kind == typeFile && ext.pax[keySparseHigh] != "":
		return r.sparseMap(m, ext.pax)
	case ext.pax["GNU.sparse.map"] != "" || ext.pax["GNU.sparse.size"] != "" || ext.pax["GNU.sparse.numblocks"] != "":
		return damage("a sparse file is of a format before 1.0")
	}
	m.regions = []region{{0, m.size}}
	return nil
}

// apply puts the records of a pax header onto the member.
func (m *member) apply(records map[string]string) error {
	var err error
	for key, value := range records {
		switch key {
		case "uid":
			m.uid, err = parseID(value)
		case "gid":
			m.gid, err = parseID(value)
		case "size":
			m.size, err = strconv.ParseInt(value, 10, 64)
		case "mtime":
			m.mtime, err = parseTime(value)
		case "path":
			if _, sparse := records[keySparseName]; !sparse { // which counts, as in GNU tar
				m.name = value
			}
		case keySparseName:
			m.name = value
		case "linkpath":
			m.link = value
		}
		if err != nil {
			return damage("a pax header holds a bad " + key)
		}
	}
	m.xattrs = xattrsOf(records)
	return nil
}

func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if n > maxID {
		return 0, unix.EINVAL
	}
	return uint32(n), err
}

// xattrsOf reads extended attributes and ACLs. GNU tar writes an ACL both ways;
// where they contradict each other the text counts, as in GNU tar.
func xattrsOf(records map[string]string) []xattr {
	var all []xattr
	acls := make(map[string]bool)
	for key, name := range map[string]string{keyACL: accessACL, keyDefaultACL: defaultACL} {
		if raw, err := parseACL(records[key]); err == nil && records[key] != "" {
			all = append(all, xattr{name, string(raw)})
			acls[name] = true
		}
	}
	for key, value := range records {
		if name, ok := strings.CutPrefix(key, keyXattr); ok && !acls[name] {
			all = append(all, xattr{name, value})
		}
	}
	return all
}

// parseTime reads seconds with a fraction: see formatTime.
func parseTime(s string) (unix.Timespec, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(digits, ".")
	sec, err := strconv.ParseUint(whole, 10, 62)
	if err != nil {
		return unix.Timespec{}, err
	}
	nsec, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	t := unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
	if negative {
		t.Sec = -t.Sec
		if t.Nsec > 0 {
			t.Sec, t.Nsec = t.Sec-1, 1_000_000_000-t.Nsec
		}
	}
	return t, err
}

// check refuses what no upper dir has, and cleans the names.
func (m *member) check() error {
	slash := strings.HasSuffix(m.name, "/")
	var err error
	if m.name, err = cleanName(m.name); err != nil {
		return damage(err.Error())
	}
	hasData := false
	switch m.kind {
	case typeFile, typeOldFile, typeContiguous, typeSparse:
		hasData = true
		if m.kind != typeSparse {
			m.kind = typeFile
		}
		if slash { // old tars meant a directory
			return damage("a file's name ends in a slash: " + quoteName(m.name))
		}
	case typeHardLink:
		if m.link, err = cleanName(m.link); err != nil {
			return damage(err.Error())
		}
	case typeSymlink, typeCharDevice, typeBlock, typeDir, typeFifo:
	default:
		return damage("a member has a type that no overlay has: " + quoteName(m.name))
	}
	switch {
	case m.size < 0 || m.size > 1<<62:
		return damage("a member's size is out of bounds: " + quoteName(m.name))
	case m.size != 0 && !hasData:
		return damage("a member that cannot have data has some: " + quoteName(m.name))
	case m.name == "." && m.kind != typeDir:
		return damage("the directory itself is something else")
	}
	return nil
}

var errMap = damage("a sparse file's map is damaged")

// sparseMap reads the map of a sparse file of GNU tar's format 1.0.
func (r *reader) sparseMap(m *member, records map[string]string) error {
	if records[keySparseHigh] != "1" || records[keySparseLow] != "0" {
		return damage("a sparse file is of a format other than 1.0")
	}
	size, err := strconv.ParseInt(records[keySparseSize], 10, 63)
	if err != nil || size < 0 {
		return errMap
	}
	m.realSize = size
	before := r.left
	count, err := r.line()
	if err != nil || count > maxRegions {
		return errMap
	}
	for range count {
		at, err := r.line()
		if err != nil {
			return errMap
		}
		n, err := r.line()
		if err != nil {
			return errMap
		}
		m.regions = append(m.regions, region{at, n})
	}
	if n := (before - r.left) % blockBytes; n != 0 {
		if r.left < blockBytes-n {
			return errMap
		}
		if _, err := r.in.Discard(int(blockBytes - n)); err != nil {
			return truncated(err)
		}
		r.left -= blockBytes - n
	}
	return m.checkMap(r.left)
}

// line reads a number of the map, which is part of the member's data.
func (r *reader) line() (int64, error) {
	var n int64
	for digits := 0; ; digits++ {
		if r.left == 0 || digits > 18 {
			return 0, errMap
		}
		c, err := r.in.ReadByte()
		if err != nil {
			return 0, truncated(err)
		}
		r.left--
		switch {
		case c == '\n' && digits > 0:
			return n, nil
		case c < '0' || c > '9':
			return 0, errMap
		}
		n = 10*n + int64(c-'0')
	}
}

// oldMap reads the map of a sparse file of GNU tar's own format: in the header,
// and in blocks of its own before the data.
func (r *reader) oldMap(m *member, block []byte) error {
	var err error
	if m.realSize, err = number(block[483:495]); err != nil || m.realSize < 0 {
		return errMap
	}
	entries, more := block[386:482], block[482] != 0
	for {
		for ; len(entries) >= 24 && entries[0] != 0; entries = entries[24:] {
			at, err1 := number(entries[:12])
			n, err2 := number(entries[12:24])
			if errors.Join(err1, err2) != nil || len(m.regions) == maxRegions {
				return errMap
			}
			m.regions = append(m.regions, region{at, n})
		}
		if !more {
			return m.checkMap(r.left)
		}
		if block, err = r.block(); err != nil {
			return err
		}
		entries, more = block[:504], block[504] != 0
	}
}

// checkMap refuses a map that does not describe the data. A region in the middle
// that does not end with a block is read differently by different programs.
func (m *member) checkMap(data int64) error {
	var end, sum int64
	for i, r := range m.regions {
		switch {
		case r.at < end || r.n < 0 || r.at > m.realSize || r.n > m.realSize-r.at:
			return errMap
		case sum%blockBytes != 0 && r.n > 0:
			return errMap
		case r.n == 0 && i < len(m.regions)-1:
			return errMap
		}
		end, sum = r.at+r.n, sum+r.n
	}
	if sum != data {
		return errMap
	}
	return nil
}
