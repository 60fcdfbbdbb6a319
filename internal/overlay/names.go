package overlay

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escape writes a name of any bytes as text: what is not printable UTF-8 as
// \ooo, a backslash as \\. Names in a manifest are written so.
func escape(name string) string {
	var b strings.Builder
	for len(name) > 0 {
		c, n := utf8.DecodeRuneInString(name)
		switch {
		case c == '\\':
			b.WriteString(`\\`)
		case c == utf8.RuneError && n == 1, !unicode.IsPrint(c):
			for _, octet := range []byte(name[:n]) {
				fmt.Fprintf(&b, `\%03o`, octet)
			}
		default:
			b.WriteString(name[:n])
		}
		name = name[n:]
	}
	return b.String()
}

// unescapeName reads what escape wrote, and what GNU tar writes with
// --quoting-style=escape, which has letters for some controls.
func unescapeName(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	const letters, controls = `abfnrtv\ :`, "\a\b\f\n\r\t\v\\ :"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := octal(s[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		if s[i] == '\\' && i+1 < len(s) {
			if at := strings.IndexByte(letters, s[i+1]); at >= 0 {
				b.WriteByte(controls[at])
				i++
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// A nameKey stands for a name where there may be millions: 128 bits of its
// SHA-256, so that no two names have the same.
type nameKey [16]byte

func keyOf(name string) nameKey {
	sum := sha256.Sum256([]byte(name))
	return nameKey(sum[:16])
}

// A nameSet holds names. Its nil value is empty and cannot be added to.
type nameSet map[nameKey]struct{}

func (s nameSet) add(name string)      { s[keyOf(name)] = struct{}{} }
func (s nameSet) has(name string) bool { _, ok := s[keyOf(name)]; return ok }
