package siteload

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	cueerrors "cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"

	"github.com/livecd-sync/livecd-sync/schema"
)

// batch is how many nodes CUE sees at once: enough to share the cost of
// compiling the schema, few enough to keep its context small.
const batch = 256

// maxPasses bounds how often one batch is checked; each pass finds what the one
// before hid, and four levels of keys need four.
const maxPasses = 40

// check reports what the schema has against the file, and marks it bad.
func (f *file) check(root *value) {
	facts := schemaFacts()
	nodes := root.get("nodes")
	if root.bad || nodes == nil || nodes.bad || nodes.kind != mapping {
		f.report(facts, vet(facts, root, nil, "#Site"))
		return
	}
	f.report(facts, vet(facts, root, nodes, "#Site"))
	groups := groupByShape(facts, nodes)
	for start := 0; start < len(groups); start += batch {
		part := groups[start:min(start+batch, len(groups))]
		sample := &value{kind: mapping, key: "nodes", parent: root}
		for _, g := range part {
			sample.members = append(sample.members, g[0])
		}
		problems := vet(facts, sample, nil, "#Nodes")
		f.report(facts, problems)
		f.reportAlike(facts, part, problems)
	}
}

// groupByShape sorts the nodes into groups of one shape, each in the order of
// the file.
func groupByShape(facts *facts, nodes *value) [][]*value {
	s := newShaper(facts.tests)
	var groups [][]*value
	at := map[string]int{}
	var shape []byte
	for _, n := range nodes.members {
		shape = s.appendValue(s.appendKey(shape[:0], n.key), n)
		i, ok := at[string(shape)]
		if !ok {
			i = len(groups)
			at[string(shape)] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], n)
	}
	return groups
}

// reportAlike says of the other nodes of each group what was said of the first.
func (f *file) reportAlike(facts *facts, groups [][]*value, problems []problem) {
	if len(problems) == 0 {
		return
	}
	of := map[*value][]*value{}
	for _, g := range groups {
		of[g[0]] = g[1:]
	}
	for _, p := range problems {
		first, way := nodeOf(p.at, of)
		for _, other := range of[first] {
			q := p
			q.at = other
			for _, i := range way {
				q.at = q.at.members[i]
			}
			if !q.missing() {
				q.at.bad = true
			}
			f.report(facts, []problem{q})
		}
	}
}

// nodeOf finds the node that v is in, and the way from there to v.
func nodeOf(v *value, of map[*value][]*value) (node *value, way []int) {
	if _, ok := of[v]; ok || v.parent == nil {
		return v, nil
	}
	node, way = nodeOf(v.parent, of)
	return node, append(way, v.index())
}

// A problem is one thing that the schema has against a value.
type problem struct {
	at   *value // for a missing key, the mapping that lacks it
	what fault
	key  string // the missing key
	// want says what should have been there, if the schema has words for it.
	want string
}

func (p problem) missing() bool { return p.what == missingKey }

// fault is how a value offends the schema. Of several at one value, the lowest
// is told.
type fault int

const (
	wrongName  fault = iota // the key is not a good name
	missingKey              // a required key is not there
	unwanted                // the value is not what the schema wants there
	unknownKey              // the schema knows no such key
	wrongKind               // the value is of another kind
	unclear                 // something else, which what is inside may explain
)

// vetting is one check of one tree, in passes.
type vetting struct {
	facts  *facts
	top    *value
	skip   *value // a mapping whose members are left out
	def    string
	found  []problem
	absent []*value // stand-ins for missing keys
	// probed are values that CUE refuses without words from the schema. They are
	// shown to it as null, to hear what the schema wants there.
	probed []*value
	// renamed gives values whose keys are no good names one that is, so that
	// the values are checked all the same.
	renamed map[*value]string
}

// vet checks a tree against a definition of the schema. CUE does not tell all
// there is to tell at once: an unknown key is told only when the rest of its
// struct is right. So what it tells is made good, and it is asked again, until
// it tells nothing new.
func vet(facts *facts, top, skip *value, def string) []problem {
	c := &vetting{facts: facts, top: top, skip: skip, def: def, renamed: map[*value]string{}}
	for range maxPasses {
		errs := c.ask()
		if len(errs) == 0 || !c.learn(errs) {
			break
		}
	}
	c.addSilent()
	return c.found
}

// ask checks the tree as it is now, in a context of its own.
func (c *vetting) ask() []cueerrors.Error {
	ctx := cuecontext.New()
	def := ctx.CompileString(schema.Site).LookupPath(cue.ParsePath(c.def))
	doc := ctx.BuildExpr(c.expr(c.top))
	return cueerrors.Errors(def.Unify(doc).Validate(cue.Concrete(true)))
}

// expr writes a value as CUE.
func (c *vetting) expr(v *value) ast.Expr {
	switch {
	case v.bad:
		return ast.NewIdent("_")
	case slices.Contains(c.probed, v):
		return ast.NewNull()
	case v.kind == mapping:
		return c.structExpr(v)
	case v.kind == list:
		l := &ast.ListLit{}
		for _, m := range v.members {
			l.Elts = append(l.Elts, c.expr(m))
		}
		return l
	case v.kind == boolean:
		return ast.NewBool(v.text == "true")
	case v.kind == integer:
		return intExpr(v.text)
	case v.kind == float:
		return ast.NewLit(token.FLOAT, "0.5") // no float is like another to the schema
	case v.kind == text:
		return ast.NewString(v.text)
	}
	return ast.NewNull()
}

func intExpr(text string) ast.Expr {
	digits, negative := strings.CutPrefix(text, "-")
	lit := ast.NewLit(token.INT, digits)
	if negative {
		return &ast.UnaryExpr{Op: token.SUB, X: lit}
	}
	return lit
}

func (c *vetting) structExpr(v *value) ast.Expr {
	s := &ast.StructLit{}
	p := c.facts.placeOf(v)
	for _, m := range v.members {
		// A bad value stands for anything, but in a mapping by name, and under a
		// key that the schema does not know, it can as well be left out.
		if v == c.skip || m.bad && p != nil && (p.each != nil || p.at[m.key] == nil) {
			continue
		}
		s.Elts = append(s.Elts, &ast.Field{Label: ast.NewStringLabel(c.name(m)), Value: c.expr(m)})
	}
	return s
}

// name is the key under which a value is shown to CUE.
func (c *vetting) name(v *value) string {
	if n, ok := c.renamed[v]; ok {
		return n
	}
	return v.key
}

// rename finds a good name that none of v's siblings has.
func (c *vetting) rename(v *value) {
	for i := 0; ; i++ {
		name := "renamed" + strconv.Itoa(i)
		if c.named(v.parent, name) == nil {
			c.renamed[v] = name
			return
		}
	}
}

// named is the member of v that CUE sees under a name.
func (c *vetting) named(v *value, name string) *value {
	for _, m := range v.members {
		if c.name(m) == name {
			return m
		}
	}
	return nil
}

// learn takes in what CUE says, and tells whether anything of it is new.
func (c *vetting) learn(errs []cueerrors.Error) bool {
	worst := map[*value]problem{}
	var order []*value
	for _, e := range errs {
		p, ok := c.problem(e)
		if !ok {
			continue
		}
		q, told := worst[p.at]
		if !told {
			order = append(order, p.at)
		}
		if !told || p.before(q) {
			worst[p.at] = p
		}
	}
	inside := map[*value]bool{} // values with a problem in them
	for _, v := range order {
		for up := v.parent; up != nil && !inside[up]; up = up.parent {
			inside[up] = true
		}
	}
	for _, v := range order {
		p := worst[v]
		if p.what != wrongName && (inside[v] || c.takeUnknownKeys(v)) {
			continue
		}
		c.take(p)
	}
	return len(order) > 0
}

// takeUnknownKeys tells whether a mapping has keys that the schema does not know,
// and notes them. Where a mapping has more wrong with it, CUE may say no more
// than that the whole of it is.
func (c *vetting) takeUnknownKeys(v *value) bool {
	keys := c.facts.placeOf(v).names()
	found := false
	for _, m := range v.members {
		if len(keys) > 0 && v.kind == mapping && !m.bad && !slices.Contains(keys, m.key) {
			c.take(problem{at: m, what: unknownKey})
			found = true
		}
	}
	return found
}

// before tells which of two problems of one value is told. Where several texts
// of the schema fit, one that says "no" says most.
func (p problem) before(q problem) bool {
	if p.what != q.what {
		return p.what < q.what
	}
	pNo, qNo := strings.HasPrefix(p.want, "no "), strings.HasPrefix(q.want, "no ")
	if pNo != qNo {
		return pNo
	}
	return p.want < q.want
}

// problem makes out what CUE's error is about. It returns false for errors that
// are consequences of what is known already.
func (c *vetting) problem(e cueerrors.Error) (problem, bool) {
	path := e.Path()
	if len(path) > 0 && strings.HasPrefix(path[0], "#") {
		path = path[1:]
	}
	v := c.top
	for i, selector := range path {
		if v.bad {
			return problem{}, false
		}
		m := c.step(v, selector)
		if m == nil {
			if i == len(path)-1 && isMissing(e) {
				return c.lack(v, unquote(selector)), true
			}
			break // inside of a choice: the choice is what is wrong
		}
		v = m
	}
	if v.bad {
		return problem{}, false
	}
	return c.describe(v, e)
}

// step finds a member by CUE's selector.
func (c *vetting) step(v *value, selector string) *value {
	if v.kind == list {
		i, err := strconv.Atoi(selector)
		if err != nil || i >= len(v.members) {
			return nil
		}
		return v.members[i]
	}
	return c.named(v, unquote(selector))
}

func unquote(selector string) string {
	if strings.HasPrefix(selector, `"`) {
		if s, err := literal.Unquote(selector); err == nil {
			return s
		}
	}
	return selector
}

// lack puts an empty value in the place of a missing key. What the schema says
// of that in the next pass says what to write there.
func (c *vetting) lack(v *value, key string) problem {
	m := &value{kind: null, key: key, parent: v, absent: true}
	v.members = append(v.members, m)
	c.absent = append(c.absent, m)
	return problem{at: m, what: missingKey, key: key}
}

func isMissing(e cueerrors.Error) bool {
	return strings.Contains(message(e), "required but not present")
}

// message is what CUE says, without path and places.
func message(e cueerrors.Error) string {
	format, args := e.Msg()
	return fmt.Sprintf(format, args...)
}

func (c *vetting) describe(v *value, e cueerrors.Error) (problem, bool) {
	p := problem{at: v, what: unclear}
	m := message(e)
	if want, ok := strings.CutPrefix(m, "want "); ok {
		p.what, p.want = unwanted, want
	} else if want, ok := strings.CutPrefix(m, "name: want "); ok {
		if c.renamed[v] != "" {
			return p, false
		}
		p.what, p.want = wrongName, want
	} else if strings.Contains(m, "field not allowed") {
		p.what = unknownKey
	} else if strings.Contains(m, "mismatched types") {
		p.what = wrongKind
	} else if strings.Contains(m, "incomplete value") && !v.sound() {
		return p, false // it waits for what stands for anything in it
	}
	return c.choice(p), true
}

// choice lifts a problem that the schema has no words for out of a choice, such
// as a secret's: the choice as a whole does have words.
func (c *vetting) choice(p problem) problem {
	if p.want != "" || p.at.parent == nil {
		return p
	}
	if p.what == unknownKey && len(c.facts.placeOf(p.at.parent).names()) > 0 {
		return p
	}
	for p.at.parent != nil && c.facts.placeOf(p.at) == nil {
		p.at, p.what = p.at.parent, unclear
	}
	return p
}

// take notes a problem and makes it good.
func (c *vetting) take(p problem) {
	v := p.at
	switch {
	case p.what == missingKey:
		return // told with the next pass
	case p.what == wrongName:
		c.rename(v)
	case p.what == unclear && !slices.Contains(c.probed, v) && !v.absent:
		c.probed = append(c.probed, v)
		return
	default:
		v.bad = true
	}
	if v.absent {
		p = problem{at: v.parent, what: missingKey, key: v.key, want: p.want}
	}
	c.found = append(c.found, p)
}

// addSilent notes the missing keys and refused values of which the schema said
// nothing more.
func (c *vetting) addSilent() {
	for _, v := range c.probed {
		if !v.bad {
			v.bad = true
			c.found = append(c.found, problem{at: v, what: unclear})
		}
	}
	for _, m := range c.absent {
		if !m.bad {
			m.bad = true
			c.found = append(c.found, problem{at: m.parent, what: missingKey, key: m.key})
		}
	}
}
