package report

import (
	"strings"
	"unicode/utf8"

	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// Options say how text is laid out.
type Options struct {
	Color bool
	// Width is the terminal's; longer lines are broken. 0: lines are not broken.
	Width int
	// Verbose gives every node a block of its own, with everything that is known.
	Verbose bool
	// FoldNames writes a list of node names as ranges: x3000c0s[3-9]b0n0. Without
	// it names are separated by commas.
	FoldNames func([]string) string
}

func (o Options) fold(names []string) string {
	if o.FoldNames == nil || len(names) == 0 {
		return strings.Join(names, ",")
	}
	return o.FoldNames(names)
}

// A color is an SGR parameter of ECMA-48.
type color string

const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	bold   color = "1"
	alarm  color = "1;31"
	dim    color = "2"
)

func (o Options) paint(c color, s string) string {
	if !o.Color || s == "" {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}

// effect is how an effect is shown: what destroys is to be seen from afar.
func (o Options) effect(e plan.Effect, width int) string {
	switch e {
	case plan.Destroys:
		return o.paint(alarm, pad("DESTROYS", width))
	case plan.Disrupts:
		return o.paint(yellow, pad("disrupts", width))
	case plan.Safe:
	}
	return o.paint(dim, pad(string(e), width))
}

func pad(s string, width int) string {
	if n := width - visible(s); n > 0 {
		return s + strings.Repeat(" ", n)
	}
	return s
}

// visible counts the characters that a terminal shows of s, SGR sequences of
// our own left out.
func visible(s string) int {
	n := utf8.RuneCountInString(s)
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return n
		}
		end := strings.IndexByte(s[i:], 'm')
		if end < 0 {
			return n
		}
		n -= end + 1
		s = s[i+end+1:]
	}
}

// A page collects lines.
type page struct {
	Options
	b strings.Builder
}

// line adds a line, broken at Width; what does not fit goes on under indent.
func (p *page) line(indent int, text string) {
	for _, l := range wrap(text, indent, p.Width) {
		p.b.WriteString(strings.TrimRight(l, " "))
		p.b.WriteByte('\n')
	}
}

func (p *page) blank() { p.b.WriteByte('\n') }

// narrowest is the width below which lines are left to the terminal to break.
const narrowest = 40

// wrap breaks text into lines of at most width characters, after a space or a
// comma; lines after the first are indented. A longer word is left whole, for
// names and URLs are copied from here.
func wrap(text string, indent, width int) []string {
	if width < narrowest || visible(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range breakable(text) {
		if line != "" && visible(line)+visible(strings.TrimRight(word, " ")) > width && strings.TrimSpace(line) != "" {
			lines = append(lines, line)
			line = strings.Repeat(" ", indent) + strings.TrimLeft(word, " ")
			continue
		}
		line += word
	}
	return append(lines, line)
}

// breakable cuts text after each space and each comma outside brackets.
func breakable(text string) []string {
	var words []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '[':
			if i == 0 || text[i-1] != '\x1b' {
				depth++
			}
		case ']':
			depth = max(0, depth-1)
		case ' ', ',':
			if text[i] == ' ' {
				depth = 0
			}
			if depth == 0 {
				words = append(words, text[start:i+1])
				start = i + 1
			}
		}
	}
	return append(words, text[start:])
}

// DiffLine paints a line of a unified difference.
func (o Options) DiffLine(line string) string {
	switch {
	case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		return o.paint(bold, line)
	case strings.HasPrefix(line, "+"):
		return o.paint(green, line)
	case strings.HasPrefix(line, "-"):
		return o.paint(red, line)
	case strings.HasPrefix(line, "@@"):
		return o.paint(dim, line)
	}
	return line
}
