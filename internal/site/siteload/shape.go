package siteload

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"
)

// tests is everything that the schema asks of a text, a key or a number. Two
// texts that answer all of it alike are alike to the schema, wherever they
// stand; so are two numbers. Two nodes of alike keys with alike values have the
// same shape, and are valid, or wrong in the same places, together.
//
// newTests refuses a schema that asks anything else, or that compares one part
// of a node with another.
type tests struct {
	labels   map[string]uint64 // the keys that the schema names
	words    map[string]uint64
	patterns []*regexp.Regexp
	bounds   []int64 // sorted

	// collecting:
	seen map[string]bool // patterns
	err  error
}

// newTests collects the tests from the schema's text.
func newTests(source string) (*tests, error) {
	file, err := parser.ParseFile("site.cue", source)
	if err != nil {
		return nil, err
	}
	t := &tests{labels: map[string]uint64{}, words: map[string]uint64{}, seen: map[string]bool{}}
	for _, d := range file.Decls {
		ast.Walk(d, t.collect, nil)
	}
	slices.Sort(t.bounds)
	t.bounds = slices.Compact(t.bounds)
	if len(t.patterns) > 64 {
		t.fail("has more than 64 regular expressions", nil)
	}
	return t, t.err
}

func (t *tests) fail(what string, n ast.Node) {
	if t.err != nil {
		return
	}
	t.err = fmt.Errorf("%s, which siteload does not know how to tell values apart by", what)
	if n != nil {
		t.err = fmt.Errorf("line %d: %w", n.Pos().Line(), t.err)
	}
}

// plainIdents are the identifiers besides definitions that hold no value of the
// file.
var plainIdents = []string{"string", "int", "bool", "_", "matchN"}

// collect is called for each node of the schema's syntax, and tells whether to
// go on inside of it.
func (t *tests) collect(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.Field:
		if n.Alias != nil {
			t.fail("has an alias", n)
		}
		t.label(n.Label)
		ast.Walk(n.Value, t.collect, nil)
		return false
	case *ast.CallExpr:
		return t.call(n)
	case *ast.UnaryExpr:
		return t.unary(n)
	case *ast.BinaryExpr:
		if n.Op != token.AND && n.Op != token.OR {
			t.fail("has the operator "+n.Op.String(), n)
		}
	case *ast.BasicLit:
		t.literal(n)
	case *ast.Ident:
		if !strings.HasPrefix(n.Name, "#") && !slices.Contains(plainIdents, n.Name) {
			t.fail("refers to "+n.Name, n)
		}
	case *ast.Package:
		return false
	case *ast.StructLit, *ast.ListLit, *ast.Ellipsis, *ast.ParenExpr, *ast.EmbedDecl,
		*ast.CommentGroup, *ast.Comment:
	default:
		t.fail(fmt.Sprintf("has a %T", n), n)
	}
	return true
}

// label notes a key, or the test of a pattern constraint.
func (t *tests) label(l ast.Label) {
	if pattern, ok := l.(*ast.ListLit); ok {
		ast.Walk(pattern, t.collect, nil)
		return
	}
	name, _, err := ast.LabelName(l)
	if err != nil {
		t.fail("has a key that is computed", l)
		return
	}
	if _, ok := t.labels[name]; !ok {
		t.labels[name] = uint64(len(t.labels))
	}
}

// call passes over the two builtins that test nothing by themselves.
func (t *tests) call(n *ast.CallExpr) bool {
	switch name, _ := n.Fun.(*ast.Ident); {
	case name != nil && name.Name == "error":
		return false // its text is for people
	case name != nil && name.Name == "matchN":
		return true
	}
	t.fail("calls a function", n)
	return false
}

func (t *tests) unary(n *ast.UnaryExpr) bool {
	lit, ok := n.X.(*ast.BasicLit)
	if !ok {
		t.fail("tests against something computed", n)
		return false
	}
	switch n.Op {
	case token.MAT, token.NMAT:
		t.pattern(lit)
		return false
	case token.NEQ:
		return true
	case token.GEQ, token.LEQ, token.GTR, token.LSS:
		if lit.Kind == token.STRING {
			t.fail("compares texts by their order", n)
		}
		return true
	default:
		t.fail("has the operator "+n.Op.String(), n)
		return false
	}
}

func (t *tests) pattern(lit *ast.BasicLit) {
	text, err := literal.Unquote(lit.Value)
	if err != nil || t.seen[text] {
		return
	}
	re, err := regexp.Compile(text)
	if err != nil {
		t.fail("has a regular expression that Go does not know", lit)
		return
	}
	t.seen[text] = true
	t.patterns = append(t.patterns, re)
}

func (t *tests) literal(lit *ast.BasicLit) {
	switch lit.Kind {
	case token.STRING:
		if text, err := literal.Unquote(lit.Value); err == nil {
			t.words[text] = uint64(len(t.words)) + 1
		}
	case token.INT:
		n, err := strconv.ParseInt(lit.Value, 10, 64)
		if err != nil {
			t.fail("has a number that is not plain", lit)
		}
		t.bounds = append(t.bounds, n)
	case token.TRUE, token.FALSE, token.NULL:
	default:
		t.fail("has a literal of kind "+lit.Kind.String(), lit)
	}
}

// A shaper writes shapes of values. It remembers the answers for each text, and
// is for one file and one goroutine.
type shaper struct {
	*tests
	answers map[string]uint64 // a text to the number of its class
	classes map[[2]uint64]uint64
}

func newShaper(t *tests) *shaper {
	return &shaper{tests: t, answers: map[string]uint64{}, classes: map[[2]uint64]uint64{}}
}

// class numbers the texts: alike ones have one number.
func (s *shaper) class(text string) uint64 {
	if n, ok := s.answers[text]; ok {
		return n
	}
	answer := [2]uint64{0: s.words[text]}
	for i, re := range s.patterns {
		if re.MatchString(text) {
			answer[1] |= 1 << i
		}
	}
	n, ok := s.classes[answer]
	if !ok {
		n = uint64(len(s.classes))
		s.classes[answer] = n
	}
	s.answers[text] = n
	return n
}

// appendKey writes the shape of a key: itself, if the schema names it.
func (s *shaper) appendKey(b []byte, key string) []byte {
	if n, ok := s.labels[key]; ok {
		return binary.AppendUvarint(append(b, 'k'), n)
	}
	return binary.AppendUvarint(append(b, 'o'), s.class(key))
}

// appendValue writes the shape of a value, so that two values have the same
// bytes only if they are the same to the schema.
func (s *shaper) appendValue(b []byte, v *value) []byte {
	if v.bad {
		return append(b, '?')
	}
	switch v.kind {
	case null:
		return append(b, '0')
	case boolean:
		return append(b, v.text[0])
	case integer:
		return binary.AppendUvarint(append(b, 'i'), s.region(v.text))
	case float:
		return append(b, '.')
	case text:
		return binary.AppendUvarint(append(b, 's'), s.class(v.text))
	case list:
		b = append(b, '[')
		for _, m := range v.members {
			b = s.appendValue(b, m)
		}
		return append(b, ']')
	default:
		b = append(b, '{')
		for _, m := range v.members {
			b = s.appendValue(s.appendKey(b, m.key), m)
		}
		return append(b, '}')
	}
}

// region says where an integer lies among the bounds: on one or between two.
func (s *shaper) region(digits string) uint64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil { // too long; ParseInt gives the nearest
		if n > 0 {
			return uint64(2*len(s.bounds)) + 1
		}
		return 0
	}
	i, on := slices.BinarySearch(s.bounds, n)
	if on {
		return uint64(2*i) + 2
	}
	return uint64(2*i) + 1
}
