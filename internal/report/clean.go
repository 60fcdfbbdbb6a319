package report

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longest is how much of one string from a BMC or node a person is shown.
const longest = 500

// clean makes a string fit to be shown on a terminal: one line, nothing that
// the terminal would obey rather than show, no credentials, and not without
// end. What cannot be shown is written as an escape.
func clean(s string) string {
	if plain(s) {
		return strings.TrimSpace(s)
	}
	s = hideSecrets(s) // first: a URL that is cut off might not be known for one
	var b strings.Builder
	for i, n := 0, 0; i < len(s); n++ {
		if n == longest {
			b.WriteString("…")
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		b.WriteString(shown(r, s[i:i+size]))
		i += size
	}
	return strings.TrimSpace(b.String())
}

// plain reports whether there is nothing to clean, as in most of what is said.
func plain(s string) bool {
	if len(s) > longest || strings.Contains(s, "//") {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// shown is how one rune, whose bytes are raw, is shown.
func shown(r rune, raw string) string {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case r == '\n', r == '\r', r == '\t':
		return " "
	case unicode.IsPrint(r):
		return raw
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	}
	return strings.Trim(strconv.QuoteRuneToASCII(r), "'")
}

var (
	userinfo    = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*:)?//[^/@\s"]+@`)
	secretQuery = regexp.MustCompile(`(?i)([?&][^=&\s]*(?:sig|token|secret|passw|key|credential)[^=&\s]*=)[^&\s"]+`)
)

// hideSecrets takes the user and password, and what a signed URL is signed
// with, out of every URL in s. The schema keeps them out of site files; a BMC
// may echo one that somebody else mounted.
func hideSecrets(s string) string {
	if !strings.Contains(s, "//") {
		return s
	}
	s = userinfo.ReplaceAllString(s, "$1//***@")
	return secretQuery.ReplaceAllString(s, "$1***")
}

// safeJSON writes as escapes what encoding/json leaves as it is and a terminal
// may obey: DEL, the C1 controls, and the characters that reorder or hide text.
// The document's meaning stays the same.
func safeJSON(doc []byte) []byte {
	var b bytes.Buffer
	b.Grow(len(doc))
	for i := 0; i < len(doc); {
		r, size := utf8.DecodeRune(doc[i:])
		if r == '\n' || unicode.IsPrint(r) {
			b.Write(doc[i : i+size])
		} else {
			escapeJSON(&b, r)
		}
		i += size
	}
	return b.Bytes()
}

func escapeJSON(b *bytes.Buffer, r rune) {
	if r > 0xffff {
		r -= 0x10000
		fmt.Fprintf(b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		return
	}
	fmt.Fprintf(b, `\u%04x`, r)
}
