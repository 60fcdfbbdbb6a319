package noderange

import (
	"fmt"
	"strconv"
	"strings"
)

// maxDigits is how long a number in a range may be: it has to fit an int.
const maxDigits = 15

// pattern is a name in its parts: text, and ranges between.
type pattern []part

// part is either text or a range, which is a list of spans.
type part struct {
	text  string
	spans []span
}

// span is the numbers from first to last by step, written with at least width
// digits.
type span struct{ first, last, step, width int }

func (s span) count() int { return (s.last-s.first)/s.step + 1 }

func (p part) count() int {
	if p.spans == nil {
		return 1
	}
	n := 0
	for _, s := range p.spans {
		if n += s.count(); n > MaxNames {
			return MaxNames + 1
		}
	}
	return n
}

// parse reads one name of expr.
func parse(expr string, it item) (pattern, error) {
	var p pattern
	s := it.text
	for i := 0; i < len(s); {
		if s[i] == '[' {
			end := strings.IndexByte(s[i:], ']')
			if end < 0 {
				return nil, &Error{expr, it.at + i + 1, "this bracket is not closed", "write ] after the range"}
			}
			r, err := parseRange(expr, it.at+i+1, it.at+i+end)
			if err != nil {
				return nil, err
			}
			p = append(p, r)
			i += end + 1
			continue
		}
		start := i
		for i < len(s) && isNameByte(s[i]) {
			i++
		}
		if start == i {
			return nil, badByte(expr, it.at+i)
		}
		p = append(p, part{text: s[start:i]})
	}
	return p, nil
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

func badByte(expr string, at int) *Error {
	c := []rune(expr[at:])[0]
	hint := "write letters, digits, dots, dashes and underscores, and ranges such as [1-9]"
	switch c {
	case '!', '&', '^':
		hint = "write the nodes to leave out after -x"
	case '*', '?':
		hint = "write a range such as [1-9] or a group such as @compute"
	case ']':
		hint = "write [ before the range"
	}
	return &Error{expr, at + 1, fmt.Sprintf("%q cannot be in a node's name", c), hint}
}

// parseRange reads the inside of a pair of brackets, expr[from:to].
func parseRange(expr string, from, to int) (part, error) {
	var p part
	for {
		end := to
		if i := strings.IndexByte(expr[from:to], ','); i >= 0 {
			end = from + i
		}
		s, err := parseSpan(expr, from, end)
		if err != nil {
			return part{}, err
		}
		p.spans = append(p.spans, s)
		if end == to {
			return p, nil
		}
		from = end + 1
	}
}

// parseSpan reads "3", "3-9" or "3-9/2", expr[from:to].
func parseSpan(expr string, from, to int) (span, error) {
	s := span{step: 1}
	first, at, err := number(expr, from, to)
	if err != nil {
		return s, err
	}
	s.first, s.last = first, first
	if expr[from] == '0' {
		s.width = at - from
	}
	if at < to && expr[at] == '-' {
		start := at + 1
		if s.last, at, err = number(expr, start, to); err != nil {
			return s, err
		}
		if err := s.check(expr, start, at); err != nil {
			return s, err
		}
		if at < to && expr[at] == '/' {
			start = at + 1
			if s.step, at, err = number(expr, start, to); err != nil {
				return s, err
			}
			if s.step == 0 {
				return s, &Error{expr, start + 1, "a step of 0 never gets anywhere", "write a step of 1 or more"}
			}
		}
	}
	if at < to {
		return s, &Error{expr, at + 1, fmt.Sprintf("%q does not belong in a range", expr[at]), "write ranges such as [3-9], [1,4-6] or [0-8/2]"}
	}
	return s, nil
}

// check looks at the upper end of a span, expr[from:to].
func (s span) check(expr string, from, to int) error {
	if s.last < s.first {
		return &Error{expr, from + 1, fmt.Sprintf("the range ends at %d, before its start at %d", s.last, s.first), fmt.Sprintf("write %d-%d", s.last, s.first)}
	}
	if s.width > 1 && to-from != s.width {
		return &Error{expr, from + 1, fmt.Sprintf("%s has not as many digits as the start of the range, which is padded with zeros", expr[from:to]), "write both ends with the same number of digits"}
	}
	return nil
}

// number reads the digits at expr[from:], and returns where they end.
func number(expr string, from, to int) (n, end int, err error) {
	end = from
	for end < to && expr[end] >= '0' && expr[end] <= '9' {
		end++
	}
	switch {
	case end == from:
		return 0, 0, &Error{expr, from + 1, "a number is missing", "write ranges such as [3-9], [1,4-6] or [0-8/2]"}
	case end-from > maxDigits:
		return 0, 0, &Error{expr, from + 1, fmt.Sprintf("this number has more than %d digits", maxDigits), "write smaller numbers"}
	}
	n, err = strconv.Atoi(expr[from:end])
	return n, end, err
}

// expand writes the names out.
func (p pattern) expand(expr string, at int) ([]string, error) {
	total := 1
	for _, q := range p {
		if total *= q.count(); total > MaxNames {
			return nil, tooMany(expr, at)
		}
	}
	names := append(make([]string, 0, total), "")
	for _, q := range p {
		names = q.appendTo(names)
	}
	return names, nil
}

// appendTo returns each name with each of the part's values after it.
func (p part) appendTo(names []string) []string {
	if p.spans == nil {
		for i := range names {
			names[i] += p.text
		}
		return names
	}
	longer := make([]string, 0, len(names)*p.count())
	for _, name := range names {
		for _, s := range p.spans {
			for n := s.first; n <= s.last; n += s.step {
				longer = append(longer, name+pad(n, s.width))
			}
		}
	}
	return longer
}

func pad(n, width int) string {
	s := strconv.Itoa(n)
	if len(s) < width {
		s = strings.Repeat("0", width-len(s)) + s
	}
	return s
}
