package noderange

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MaxNames is how many names one expression may expand to.
const MaxNames = 65536

// An Error says what is wrong with an expression, and where.
type Error struct {
	Expr    string
	Column  int // of the first wrong character of Expr, counted in bytes from 1
	Message string
	Hint    string // what to write instead
}

// Error gives the expression, the column, what is wrong and what to write.
func (e *Error) Error() string {
	return fmt.Sprintf("node range %s, column %d: %s; %s", quote(e.Expr), e.Column, e.Message, e.Hint)
}

// quote quotes an expression for an error, and shortens a very long one.
func quote(expr string) string {
	if len(expr) > 80 {
		expr = strings.ToValidUTF8(expr[:77], "") + "…"
	}
	return strconv.Quote(expr)
}

// Expand returns the names that expr stands for, each once, in the order in
// which they are first named; of several ranges in one name the rightmost runs
// fastest. Names are parted by commas or blanks. A group is an error here: see
// ExpandGroups. The errors are of type *Error.
func Expand(expr string) ([]string, error) {
	return ExpandGroups(expr, func(string) ([]string, error) {
		return nil, fmt.Errorf("a group cannot be used here; write the names of its nodes")
	})
}

// ExpandGroups is Expand where "@name" stands for the nodes that group returns
// for name. An error of group becomes the message of the *Error; its text may
// hold a hint after "; ".
func ExpandGroups(expr string, group func(name string) ([]string, error)) ([]string, error) {
	set := newNameSet(expr)
	for _, it := range items(expr) {
		if it.text == "" {
			return nil, &Error{expr, it.at + 1, "a name is missing", "write one name or range between two commas"}
		}
		names, err := it.expand(expr, group)
		if err != nil {
			return nil, err
		}
		if err := set.add(names, it.at); err != nil {
			return nil, err
		}
	}
	return set.names, nil
}

// nameSet collects names, each once.
type nameSet struct {
	expr  string
	names []string
	seen  map[string]bool
}

func newNameSet(expr string) *nameSet { return &nameSet{expr: expr, seen: map[string]bool{}} }

func (s *nameSet) add(names []string, at int) error {
	for _, n := range names {
		if s.seen[n] {
			continue
		}
		if len(s.names) == MaxNames {
			return tooMany(s.expr, at)
		}
		s.seen[n] = true
		s.names = append(s.names, n)
	}
	return nil
}

func tooMany(expr string, at int) *Error {
	return &Error{expr, at + 1, fmt.Sprintf("this expands to more than %d names", MaxNames), "write smaller ranges"}
}

// item is one name, range or group of an expression, and its offset in it.
type item struct {
	text string
	at   int
}

func (it item) expand(expr string, group func(string) ([]string, error)) ([]string, error) {
	name, isGroup := strings.CutPrefix(it.text, "@")
	if !isGroup {
		p, err := parse(expr, it)
		if err != nil {
			return nil, err
		}
		return p.expand(expr, it.at)
	}
	names, err := group(name)
	if err != nil {
		message, hint, _ := strings.Cut(err.Error(), "; ")
		return nil, &Error{expr, it.at + 1, message, hint}
	}
	return names, nil
}

// items splits an expression at the commas and blanks outside of brackets. An
// expression without any item has one that is empty.
func items(expr string) []item {
	var out []item
	start, depth := 0, 0
	owed := true // an item has to come: at the start and after a comma
	end := func(i int, comma bool) {
		if start < i || (owed && comma) {
			out = append(out, item{expr[start:i], start})
			owed = false
		}
		owed = owed || comma
		start = i + 1
	}
	for i := range len(expr) {
		switch c := expr[i]; {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth > 0:
		case c == ',':
			end(i, true)
		case c == ' ', c == '\t', c == '\n', c == '\r':
			end(i, false)
		}
	}
	if start < len(expr) || owed {
		out = append(out, item{expr[start:], start})
	}
	return out
}

var valueRange = regexp.MustCompile(`\[[0-9][0-9,/-]*\]`)

// HasRange reports whether value holds a range. Brackets around anything but
// digits, commas, dashes and slashes are not one: "[2001:db8::1]" is an address.
func HasRange(value string) bool {
	return strings.IndexByte(value, '[') >= 0 && valueRange.MatchString(value)
}

// ExpandName expands one name, which may hold ranges but no comma, blank or
// group. The names are in the order of the ranges. The errors are of type *Error.
func ExpandName(name string) ([]string, error) {
	its := items(name)
	if len(its) != 1 || its[0].text != name || name == "" {
		return nil, &Error{name, 1, "this is not one name", "write one name, with ranges in it if need be"}
	}
	p, err := parse(name, its[0])
	if err != nil {
		return nil, err
	}
	return p.expand(name, 0)
}

// ExpandValue expands the ranges in a value that goes with a node, such as an
// address or a path; what is around them may be any text. The errors are of
// type *Error.
func ExpandValue(value string) ([]string, error) {
	var p pattern
	end := 0
	for _, m := range valueRange.FindAllStringIndex(value, -1) {
		r, err := parseRange(value, m[0]+1, m[1]-1)
		if err != nil {
			return nil, err
		}
		p = append(p, part{text: value[end:m[0]]}, r)
		end = m[1]
	}
	return append(p, part{text: value[end:]}).expand(value, 0)
}
