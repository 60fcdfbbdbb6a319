package uppertar

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// The extended attributes that hold POSIX ACLs, in the kernel's own form
// (include/uapi/linux/posix_acl_xattr.h): a version, then entries of a tag,
// permissions and an ID, little-endian.
const (
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"

	aclVersion = 2
	aclHead    = 4
	aclEntry   = 8
	aclNobody  = 0xffffffff // the ID where there is none
)

// A tag says whom an entry is about. The order is the kernel's.
type tag struct {
	number uint16
	text   string
	named  bool // has an ID
}

var tags = []tag{
	{0x01, "user", false},
	{0x02, "user", true},
	{0x04, "group", false},
	{0x08, "group", true},
	{0x10, "mask", false},
	{0x20, "other", false},
}

var errACL = errors.New("invalid ACL")

// aclText writes an ACL as GNU tar does with --numeric-owner.
func aclText(raw []byte) (string, error) {
	if len(raw) < aclHead || (len(raw)-aclHead)%aclEntry != 0 || binary.LittleEndian.Uint32(raw) != aclVersion {
		return "", errACL
	}
	var b strings.Builder
	for e := raw[aclHead:]; len(e) > 0; e = e[aclEntry:] {
		number, perm := binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:])
		at := slices.IndexFunc(tags, func(t tag) bool { return t.number == number })
		if at < 0 || perm > 7 {
			return "", errACL
		}
		b.WriteString(tags[at].text + ":")
		if tags[at].named {
			b.WriteString(strconv.FormatUint(uint64(binary.LittleEndian.Uint32(e[4:])), 10))
		}
		b.WriteByte(':')
		for i, c := range []byte("rwx") {
			if perm&(4>>i) == 0 {
				c = '-'
			}
			b.WriteByte(c)
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// parseACL reads what aclText and GNU tar write, and star, which has the ID in a
// fourth field. Entries may be parted by commas, and have a comment.
func parseACL(text string) ([]byte, error) {
	var entries []entry
	for line := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == '\n' || c == ',' }) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := parseEntry(strings.Split(line, ":"))
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return a.tag - b.tag }) // the kernel insists
	raw := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range entries {
		raw = binary.LittleEndian.AppendUint16(raw, tags[e.tag].number)
		raw = binary.LittleEndian.AppendUint16(raw, e.perm)
		raw = binary.LittleEndian.AppendUint32(raw, e.id)
	}
	return raw, nil
}

// An entry is one line of an ACL.
type entry struct {
	tag  int // an index of tags
	perm uint16
	id   uint32
}

func parseEntry(f []string) (entry, error) {
	if len(f) < 3 || len(f) > 4 {
		return entry{}, errACL
	}
	at := slices.IndexFunc(tags, func(t tag) bool {
		return t.named == (f[1] != "") && (f[0] == t.text || f[0] == t.text[:1])
	})
	perm, ok := parsePerm(f[2])
	if at < 0 || !ok {
		return entry{}, errACL
	}
	if !tags[at].named {
		return entry{at, perm, aclNobody}, nil
	}
	id := f[1]
	if len(f) == 4 {
		id = f[3]
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return entry{}, errACL
	}
	return entry{at, perm, uint32(n)}, nil
}

func parsePerm(s string) (perm uint16, ok bool) {
	for _, c := range []byte(s) {
		at := strings.IndexByte("xwr", c)
		if at < 0 && c != '-' {
			return 0, false
		}
		if at >= 0 {
			perm |= 1 << at
		}
	}
	return perm, s != ""
}
