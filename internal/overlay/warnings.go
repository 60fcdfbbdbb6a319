package overlay

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxLine bounds a line of stderr; the rest of a longer one is left out. tar
// writes a name of PATH_MAX bytes with four characters for each at most.
const maxLine = 20 << 10

// messages collects what tar and rm say on stderr, a line each.
type messages struct {
	kept  []string
	total int
	// What tar names, by what it says of it.
	changed, shrunk, sockets []string
	unknown                  int    // lines that may have said that a file shrank
	ended                    string // what tar ended with, where a pipe hides it
	line                     []byte
	overlong                 bool
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
	raw := tarSays.ReplaceAllString(string(m.line), "")
	line, overlong := Printable(raw), m.overlong
	m.line, m.overlong = m.line[:0], false
	if line == "" || strings.HasPrefix(line, "Exiting with failure status") ||
		strings.HasPrefix(line, "xargs: ") && strings.Contains(line, "/dev/null") {
		return
	}
	switch {
	case overlong: // what it says is not known: take it for the worst
		m.unknown++
	case m.named(raw):
		return
	}
	m.total++
	if len(m.kept) < MaxWarnings-1 {
		m.kept = append(m.kept, line)
	}
}

// tarSays begins tar's lines: its name, by which path it was run.
var tarSays = regexp.MustCompile(`^([^ :]*/)?tar: `)

// shrank is what GNU tar says of a file whose end it filled with zeros.
var shrank = regexp.MustCompile(`: File shrank by [0-9]+ bytes?; padding with zeros$`)

// named notes what tar says of one file, if it says what is looked for.
func (m *messages) named(line string) bool {
	if status, ok := strings.CutPrefix(line, "livecd-sync: tar ended with "); ok {
		m.ended = status
		return true
	}
	if _, what, ok := strings.Cut(line, ": Warning: "); ok && !strings.HasSuffix(what, ": No such file or directory") {
		m.unknown++ // it could not be read, which --ignore-failed-read makes a warning
		return false
	}
	if name, ok := strings.CutSuffix(line, ": file changed as we read it"); ok {
		m.changed = append(m.changed, unescapeName(name))
		return true
	}
	if name, ok := strings.CutSuffix(line, ": socket ignored"); ok {
		m.sockets = append(m.sockets, unescapeName(name))
		return true
	}
	if at := shrank.FindStringIndex(line); at != nil {
		m.shrunk = append(m.shrunk, unescapeName(line[:at[0]]))
		return true
	}
	return false
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
