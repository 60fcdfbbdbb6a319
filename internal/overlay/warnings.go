package overlay

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a line of stderr; the rest of a longer one is left out.
const maxLine = 1024

// messages collects what tar and rm say on stderr, a line each.
type messages struct {
	kept     []string
	total    int
	shrank   int // files whose end tar filled with zeros
	line     []byte
	overlong bool
}

// Write takes part of stderr; it never fails.
func (m *messages) Write(p []byte) (int, error) {
	rest := p
	for {
		line, more, found := bytes.Cut(rest, []byte("\n"))
		room := max(0, maxLine-len(m.line))
		m.line = append(m.line, line[:min(len(line), room)]...)
		// What decides may stand at the end of an overlong line.
		m.overlong = m.overlong || len(line) > room
		if !found {
			return len(p), nil
		}
		m.flush()
		rest = more
	}
}

// flush notes a line, unless it says nothing: tar's last one, and that xargs
// finds no /dev/null for its children's input in the merged view, where devtmpfs
// is not mounted; it then closes their input, which does as well.
func (m *messages) flush() {
	line := Printable(string(m.line))
	overlong := m.overlong
	m.line, m.overlong = m.line[:0], false
	line = strings.TrimPrefix(line, "tar: ")
	if line == "" || strings.HasPrefix(line, "Exiting with failure status") ||
		strings.HasPrefix(line, "xargs: ") && strings.Contains(line, "/dev/null") {
		return
	}
	// An overlong line has an overlong name in it, so what it says of the file
	// is not known: take it for the worst.
	if strings.Contains(line, "File shrank by") || overlong {
		m.shrank++
	}
	m.total++
	if len(m.kept) < MaxWarnings-1 {
		m.kept = append(m.kept, line)
	}
}

// warnings returns what was kept, and how much more there was.
func (m *messages) warnings() []string {
	if len(m.line) > 0 {
		m.flush()
	}
	list := append([]string{}, m.kept...)
	if more := m.total - len(m.kept); more > 0 {
		list = append(list, fmt.Sprintf("… and %d more", more))
	}
	return list
}

// Printable replaces what a terminal might act upon, and what is no UTF-8, with
// question marks, and trims the space around.
func Printable(s string) string {
	clean := strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t':
			return ' '
		case c == utf8.RuneError || !unicode.IsPrint(c):
			return '?'
		}
		return c
	}, s)
	return strings.TrimSpace(clean)
}
