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
func unescapeName(s string) string { return decode(s, `abfnrtv\ :`, "\a\b\f\n\r\t\v\\ :") }

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
