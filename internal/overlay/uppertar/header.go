package uppertar

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	blockBytes  = 512
	recordBytes = 20 * blockBytes // archives are padded to whole ones
)

// The type flags of POSIX.1-2001, and of GNU tar's own formats.
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
	typePAX        = 'x'
	typeSparse     = 'S'
	typeLongName   = 'L'
	typeLongLink   = 'K'
)

// The keys of records of a pax extended header that GNU tar and star made up.
const (
	keyXattr      = "SCHILY.xattr."
	keyACL        = "SCHILY.acl.access"
	keyDefaultACL = "SCHILY.acl.default"
	keySparseName = "GNU.sparse.name"
	keySparseSize = "GNU.sparse.realsize"
	keySparseHigh = "GNU.sparse.major"
	keySparseLow  = "GNU.sparse.minor"
)

// A header is what an archive says of one file, besides its extended attributes.
type header struct {
	name         string // a directory's ends in a slash
	kind         byte
	mode         uint32
	uid, gid     uint32
	size         int64 // of what follows in the archive
	realSize     int64 // with holes; used if sparse
	sparse       bool
	mtime        unix.Timespec
	link         string
	major, minor uint32
}

func headerOf(st *unix.Stat_t, name string) header {
	h := header{name: name, mode: st.Mode & 0o7777, uid: st.Uid, gid: st.Gid, mtime: st.Mtim}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.kind = typeFile
	case unix.S_IFDIR:
		h.kind = typeDir
		h.name += "/"
	case unix.S_IFLNK:
		h.kind = typeSymlink
	case unix.S_IFIFO:
		h.kind = typeFifo
	case unix.S_IFCHR:
		h.kind = typeCharDevice
	case unix.S_IFBLK:
		h.kind = typeBlock
	}
	if h.kind == typeCharDevice || h.kind == typeBlock {
		h.major, h.minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return h
}

// appendTo appends the header's blocks. xattrs are records already.
func (h *header) appendTo(b, xattrs []byte) []byte {
	records := h.records(nil)
	records = append(records, xattrs...)
	if len(records) > 0 {
		x := header{name: "./PaxHeaders/" + path.Base(h.name), kind: typePAX, mode: 0o644, size: int64(len(records))}
		b = x.appendBlock(b)
		b = append(b, records...)
		b = appendPadding(b, len(records))
	}
	return h.appendBlock(b)
}

// records appends the pax records for what does not fit into a block of ustar.
func (h *header) records(b []byte) []byte {
	switch {
	case h.sparse:
		b = appendRecord(b, keySparseHigh, "1")
		b = appendRecord(b, keySparseLow, "0")
		b = appendRecord(b, keySparseName, h.name)
		b = appendRecord(b, keySparseSize, strconv.FormatInt(h.realSize, 10))
	case !plain(h.name):
		b = appendRecord(b, "path", h.name)
	}
	if !plain(h.link) {
		b = appendRecord(b, "linkpath", h.link)
	}
	if h.size >= 1<<33 {
		b = appendRecord(b, "size", strconv.FormatInt(h.size, 10))
	}
	if h.uid >= 1<<21 {
		b = appendRecord(b, "uid", strconv.FormatUint(uint64(h.uid), 10))
	}
	if h.gid >= 1<<21 {
		b = appendRecord(b, "gid", strconv.FormatUint(uint64(h.gid), 10))
	}
	if h.mtime.Nsec != 0 || h.mtime.Sec < 0 || h.mtime.Sec >= 1<<33 {
		b = appendRecord(b, "mtime", formatTime(h.mtime))
	}
	return b
}

// plain reports whether a name fits into its field, for any reader.
func plain(name string) bool {
	if len(name) > 100 {
		return false
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	return true
}

// appendBlock appends the header's own block, ustar's.
func (h *header) appendBlock(b []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, blockBytes)...)
	block := b[start:]
	name := h.name
	if h.sparse {
		// A reader that knows no sparse files shall not take it for the file.
		name = "./GNUSparseFile.0/" + path.Base(h.name)
	}
	copy(block[:100], name)
	putOctal(block[100:108], uint64(h.mode))
	putOctal(block[108:116], uint64(h.uid))
	putOctal(block[116:124], uint64(h.gid))
	putOctal(block[124:136], uint64(h.size))
	putOctal(block[136:148], uint64(max(h.mtime.Sec, 0)))
	block[156] = h.kind
	copy(block[157:257], h.link)
	copy(block[257:], "ustar\x0000")
	putOctal(block[329:337], uint64(h.major))
	putOctal(block[337:345], uint64(h.minor))
	copy(block[148:156], "        ")
	var sum uint64
	for _, c := range block {
		sum += uint64(c)
	}
	putOctal(block[148:155], sum)
	return b
}

// putOctal fills a field with a number, or with 0 if it does not fit: a pax
// record has it then.
func putOctal(field []byte, n uint64) {
	digits := len(field) - 1
	if n >= 1<<(3*digits) {
		n = 0
	}
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}

// appendRecord appends "LENGTH KEY=VALUE\n"; the length counts itself.
func appendRecord(b []byte, key, value string) []byte {
	rest := len(key) + len(value) + 3
	size := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(size)) != len(strconv.Itoa(rest)) {
		size = rest + len(strconv.Itoa(size))
	}
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

// appendXattr appends a record for an extended attribute. GNU tar writes %25 and
// %3D for what may not stand in a key.
func appendXattr(b []byte, name, value string) []byte {
	if strings.ContainsAny(name, "%=") {
		name = strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
	}
	return appendRecord(b, keyXattr+name, value)
}

func appendPadding(b []byte, size int) []byte {
	if n := size % blockBytes; n != 0 {
		b = append(b, make([]byte, blockBytes-n)...)
	}
	return b
}

// formatTime writes a time as pax has it: "-1.5" is one and a half seconds
// before 1970, which the kernel has as -2 and 500,000,000.
func formatTime(t unix.Timespec) string {
	sign, sec, nsec := "", uint64(t.Sec), uint64(t.Nsec)
	if t.Sec < 0 {
		sign, sec = "-", uint64(-t.Sec)
		if nsec > 0 {
			sec, nsec = sec-1, 1_000_000_000-nsec
		}
	}
	text := sign + strconv.FormatUint(sec, 10)
	if nsec == 0 {
		return text
	}
	fraction := strconv.FormatUint(1_000_000_000+nsec, 10)[1:]
	return text + "." + strings.TrimRight(fraction, "0")
}
