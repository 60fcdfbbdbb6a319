package overlay

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
)

const (
	// readBytes is what is asked of the source at a time.
	readBytes = 256 << 10
	// maxExtended bounds a member's extended headers. An inode's extended
	// attributes come to 64 KiB on most file systems.
	maxExtended = 4 << 20
	recordBytes = 20 * blockBytes // tar pads archives to whole records
)

var zeroRecord [recordBytes]byte

// An archive reads a tar archive member by member and keeps its blocks as they
// are, so that what is passed on is what tar wrote: archive/tar cannot write
// sparse files. It takes only what GNU tar makes of an upper dir and refuses the
// rest, so that tar and it cannot understand an archive differently.
type archive struct {
	source *bufio.Reader
	// head holds the current member's blocks up to its data.
	head []byte
	left int64 // of the current member's data and padding
	buf  []byte
	// records are those of the current member's pax header, nil without one.
	records map[string]string
	// global are the records of global pax headers so far.
	global map[string]string
	// whiteouts holds the names that a hard link may share a whiteout with.
	whiteouts map[string]bool
	// foreign says how the archive was packed; nil: by Backup.
	foreign *layout
}

func newArchive(r io.Reader) *archive {
	return &archive{
		source: bufio.NewReaderSize(r, readBytes), buf: make([]byte, readBytes/2),
		whiteouts: make(map[string]bool),
	}
}

// next returns the next member, past what was not read of the last one. It
// returns io.EOF after the two closing blocks, when nothing but zeros follows.
func (a *archive) next() (member, error) {
	if err := a.body(io.Discard); err != nil {
		return member{}, err
	}
	a.head = a.head[:0]
	ext := extended{}
	for {
		block, err := a.block()
		if err != nil {
			return member{}, err
		}
		if isZero(block) {
			if ext.any() {
				return member{}, archiveError("the archive ends after an extended header")
			}
			return member{}, a.end()
		}
		m, err := parseHeader(block, a.foreign != nil)
		if err != nil {
			return member{}, err
		}
		switch m.kind {
		case typePAX, typeLongName, typeLongLink:
			if err := a.extend(&ext, m); err != nil {
				return member{}, err
			}
		case typeGlobalPAX:
			if err := a.extendAll(ext, m); err != nil {
				return member{}, err
			}
		default:
			return a.complete(m, ext)
		}
	}
}

// extended is what stands before a member's own header.
type extended struct {
	pax                map[string]string
	raw                []byte // what pax was read from
	longName, longLink string
}

func (e extended) any() bool { return e.pax != nil || e.longName != "" || e.longLink != "" }

func (a *archive) extend(ext *extended, h member) error {
	if h.size < 0 || h.size > maxExtended {
		return archiveError("an extended header is too large")
	}
	data, err := a.extendedData(h.size)
	if err != nil {
		return err
	}
	// One of each, and pax or GNU: which of several would count is what
	// implementations differ in.
	switch {
	case h.kind == typePAX && !ext.any():
		ext.raw = data
		ext.pax, err = parsePAX(data)
		return err
	case h.kind == typeLongName && ext.pax == nil && ext.longName == "":
		ext.longName = text(data)
		return nil
	case h.kind == typeLongLink && ext.pax == nil && ext.longLink == "":
		ext.longLink = text(data)
		return nil
	}
	return archiveError("a member has extended headers that contradict each other")
}

// extendAll reads a header for all members from there on. They are given its
// records as their own, so that it is passed on with none of them.
func (a *archive) extendAll(ext extended, h member) error {
	if a.foreign == nil || ext.any() {
		return archiveError("the archive has a global header where none may be")
	}
	var own extended
	h.kind = typePAX
	if err := a.extend(&own, h); err != nil {
		return err
	}
	if a.global == nil {
		a.global = make(map[string]string)
	}
	delete(own.pax, "comment") // as "git archive" writes it; it is about no member
	maps.Copy(a.global, own.pax)
	a.head = a.head[:0]
	return nil
}

// withGlobal adds to what stands before a member what stands before all.
func (a *archive) withGlobal(ext extended) extended {
	if len(a.global) == 0 {
		return ext
	}
	all, raw := maps.Clone(a.global), []byte(nil)
	for _, key := range slices.Sorted(maps.Keys(a.global)) {
		if _, own := ext.pax[key]; !own {
			raw = append(raw, paxRecord(quotePAX.Replace(key), a.global[key])...)
		}
	}
	maps.Copy(all, ext.pax)
	ext.pax, ext.raw = all, append(raw, ext.raw...)
	return ext
}

func (a *archive) extendedData(size int64) ([]byte, error) {
	start := len(a.head)
	for range (size + blockBytes - 1) / blockBytes {
		if _, err := a.block(); err != nil {
			return nil, err
		}
	}
	if len(a.head) > 2*maxExtended {
		return nil, archiveError("an extended header is too large")
	}
	return a.head[start : start+int(size)], nil
}

// complete applies the extended headers to a member's own.
func (a *archive) complete(m member, ext extended) (member, error) {
	at := len(a.head) - blockBytes // of the member's own header
	ext = a.withGlobal(ext)
	a.records = ext.pax
	if ext.longName != "" {
		m.name = ext.longName
	}
	if ext.longLink != "" {
		m.link = ext.longLink
	}
	if err := m.apply(ext.pax); err != nil {
		return member{}, err
	}
	if a.foreign != nil {
		a.foreign.relative(&m)
		a.foreign.made = a.foreign.made || len(a.global) > 0 || isV7(a.head[at:])
	}
	if err := m.finish(); err != nil {
		return member{}, err
	}
	if err := a.takeSize(&m, ext); err != nil {
		return member{}, err
	}
	if a.foreign != nil {
		if err := a.place(&m, ext, at); err != nil {
			return member{}, err
		}
	}
	a.findWhiteout(&m)
	return m, nil
}

// takeSize notes how much data follows, and how large the file is, which is more if
// it has holes.
func (a *archive) takeSize(m *member, ext extended) error {
	a.left = m.size
	if padding := m.size % blockBytes; padding != 0 {
		a.left += blockBytes - padding
	}
	if a.left < m.size {
		return archiveError("a member's size is out of bounds")
	}
	if size, ok := realSize(ext.pax); ok {
		m.size = size
	}
	if m.kind == typeSparse {
		return a.sparseMap(m)
	}
	return nil
}

// sparseMap reads the rest of an old GNU sparse header, which lies in blocks of
// its own before the data.
func (a *archive) sparseMap(m *member) error {
	block := a.head[len(a.head)-blockBytes:]
	size, err := number(block[483:495])
	if err != nil {
		return err
	}
	m.size = size
	more := block[482] != 0
	for more {
		if len(a.head) > 2*maxExtended {
			return archiveError("a sparse file's map is too large")
		}
		if block, err = a.block(); err != nil {
			return err
		}
		more = block[504] != 0
	}
	return nil
}

func (a *archive) findWhiteout(m *member) {
	switch {
	case m.kind == typeCharDevice && m.major == 0 && m.minor == 0,
		m.hasData() && m.size == 0 && m.xattrs.whiteout:
		m.whiteout = true
		a.whiteouts[m.name] = true
	case m.kind == typeHardLink && a.whiteouts[m.link]:
		m.whiteout = true
	}
}

// body passes on what is left of the current member's data, with its padding.
func (a *archive) body(w io.Writer) error {
	for a.left > 0 {
		n, err := a.source.Read(a.buf[:min(int64(len(a.buf)), a.left)])
		if n > 0 {
			a.left -= int64(n)
			if _, err := w.Write(a.buf[:n]); err != nil {
				return err
			}
		}
		if err != nil && a.left > 0 {
			return truncated(err)
		}
	}
	return nil
}

// block reads one block onto head.
func (a *archive) block() ([]byte, error) {
	start := len(a.head)
	a.head = append(a.head, zeroRecord[:blockBytes]...)
	block := a.head[start:]
	if _, err := io.ReadFull(a.source, block); err != nil {
		return nil, truncated(err)
	}
	return block, nil
}

// end reads what follows the first closing block.
func (a *archive) end() error {
	second, err := a.block()
	if err != nil {
		return err
	}
	if !isZero(second) {
		return errTrailing
	}
	for {
		n, err := a.source.Read(a.buf)
		if !isZero(a.buf[:n]) {
			return errTrailing
		}
		if err != nil {
			return err // io.EOF, if all is well
		}
	}
}

func truncated(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTruncated
	}
	return err
}

func isZero(b []byte) bool {
	for len(b) > recordBytes {
		if !bytes.Equal(b[:recordBytes], zeroRecord[:]) {
			return false
		}
		b = b[recordBytes:]
	}
	return bytes.Equal(b, zeroRecord[:len(b)])
}

// A tally counts what an archive holds.
type tally struct {
	counts         Counts
	leansOnLower   bool // metacopy or redirect
	xattrWhiteouts int64
}

func (t *tally) add(m member) {
	t.counts.Entries++
	// Files keep a redirect when all of them was copied up, and it then means nothing.
	t.leansOnLower = t.leansOnLower || m.xattrs.metacopy || m.xattrs.redirect && m.kind == typeDir
	if m.whiteout {
		t.counts.Whiteouts++
		if m.xattrs.whiteout {
			t.xattrWhiteouts++
		}
		return
	}
	switch {
	case m.kind == typeDir:
		t.counts.Directories++
		if m.xattrs.opaque {
			t.counts.Opaque++
		}
	case m.kind == typeSymlink:
		t.counts.Symlinks++
	case m.kind == typeHardLink:
		t.counts.HardLinks++
	case m.hasData():
		t.counts.Files++
	default:
		t.counts.Special++
	}
}
