package siteload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	cueyaml "cuelang.org/go/encoding/yaml"
	"gopkg.in/yaml.v3"

	"github.com/livecd-sync/livecd-sync/schema"
)

// plainCUE is the schema without any of this package's short cuts: its own YAML
// decoder, the whole file in one value.
type plainCUE struct {
	ctx  *cue.Context
	defs cue.Value
}

func newPlainCUE() plainCUE {
	ctx := cuecontext.New()
	return plainCUE{ctx, ctx.CompileString(schema.Site)}
}

func (c plainCUE) accepts(def string, v cue.Value) bool {
	return c.defs.LookupPath(cue.ParsePath(def)).Unify(v).Validate(cue.Concrete(true)) == nil
}

// document is a file's value; false if it is no YAML to CUE.
func (c plainCUE) document(data []byte) (cue.Value, bool) {
	file, err := cueyaml.Extract("site.yaml", data)
	if err != nil {
		return cue.Value{}, false
	}
	return c.ctx.BuildFile(file), true
}

// faultyNodes checks each node by itself.
func (c plainCUE) faultyNodes(doc cue.Value) map[string]bool {
	faulty := map[string]bool{}
	nodes, err := doc.LookupPath(cue.MakePath(cue.Str("nodes"))).Fields()
	if err != nil {
		return faulty
	}
	for nodes.Next() {
		name := nodes.Selector().Unquoted()
		one := c.ctx.CompileString("{}").FillPath(cue.MakePath(cue.Str(name)), nodes.Value())
		if !c.accepts("#Nodes", one) {
			faulty[name] = true
		}
	}
	return faulty
}

// checked is what this package's first two steps make of a file.
func checked(data []byte) (f *file, root *value, readable bool) {
	f = &file{name: "site.yaml"}
	root = f.read(data)
	readable = root != nil && len(f.errs) == 0
	if readable {
		f.check(root)
	}
	return f, root, readable
}

func faultyNodes(f *file, root *value) map[string]bool {
	faulty := map[string]bool{}
	for _, n := range root.get("nodes").items() {
		path := n.path()
		for _, e := range f.errs {
			if rest, ok := strings.CutPrefix(e.Path, path); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
				faulty[n.key] = true
			}
		}
	}
	return faulty
}

// agree compares this package with plain CUE on a file that both can read.
func agree(t *testing.T, c plainCUE, data []byte) {
	t.Helper()
	f, root, readable := checked(data)
	if !readable {
		return
	}
	doc, ok := c.document(data)
	if !ok {
		t.Fatalf("read here, but no YAML to CUE:\n%s", data)
	}
	if fast, plain := len(f.errs) == 0, c.accepts("#Site", doc); fast != plain {
		t.Fatalf("accepted here: %t, by plain CUE: %t\n%v\n%s", fast, plain, f.errs, data)
	}
	if doc.Validate() != nil {
		return // no value at all to CUE, such as .inf
	}
	fast, plain := faultyNodes(f, root), c.faultyNodes(doc)
	if fmt.Sprint(fast) != fmt.Sprint(plain) {
		t.Fatalf("faulty here: %v, to plain CUE: %v\n%v\n%s", fast, plain, f.errs, data)
	}
}

func allFixtures(tb testing.TB) [][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) < 10 {
		tb.Fatal("no fixtures", err)
	}
	var out [][]byte
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}

func TestAgreeOnFixtures(t *testing.T) {
	for _, data := range allFixtures(t) {
		agree(t, newPlainCUE(), data)
	}
}

// TestAgreeOnMutants changes valid files at random, a few places at a time, and
// wants the same verdict on the file and on each node.
func TestAgreeOnMutants(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 50
	}
	rnd := rand.New(rand.NewPCG(7, 11))
	var valid [][]byte
	for _, name := range []string{"everything", "ranges", "product"} {
		data, err := os.ReadFile("testdata/valid/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		valid = append(valid, data)
	}
	var c plainCUE
	for i := range rounds {
		if i%50 == 0 {
			c = newPlainCUE() // its context only grows
		}
		agree(t, c, mutant(t, rnd, valid[i%len(valid)]))
	}
}

// mutant changes one to three places of a file.
func mutant(t *testing.T, rnd *rand.Rand, data []byte) []byte {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	for range 1 + rnd.IntN(3) {
		mutate(rnd, &doc)
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func mutate(rnd *rand.Rand, doc *yaml.Node) {
	var all []*yaml.Node
	var walk func(*yaml.Node)
	walk = func(n *yaml.Node) {
		all = append(all, n)
		for _, c := range n.Content {
			walk(c)
		}
	}
	walk(doc.Content[0])
	n := all[rnd.IntN(len(all))]
	switch other := all[rnd.IntN(len(all))]; rnd.IntN(6) {
	case 0: // take another value of the file
		if other != doc.Content[0] {
			*n = *clone(other)
		}
	case 1: // leave something out
		if k := len(n.Content) / 2 * 2; n.Kind == yaml.MappingNode && k > 0 {
			i := rnd.IntN(k/2) * 2
			n.Content = append(append([]*yaml.Node{}, n.Content[:i]...), n.Content[i+2:]...)
		}
	case 2: // add a key
		if n.Kind == yaml.MappingNode {
			n.Content = append(append([]*yaml.Node{}, n.Content...), scalar(pick(rnd, someKeys)), scalar(pick(rnd, someTexts)))
		}
	default:
		if n.Kind == yaml.ScalarNode {
			*n = *scalar(pick(rnd, someTexts))
		}
	}
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = nil
	for _, m := range n.Content {
		c.Content = append(c.Content, clone(m))
	}
	return &c
}

// scalar is a plain scalar: what it is, is for YAML to say.
func scalar(text string) *yaml.Node {
	var n yaml.Node
	if err := yaml.Unmarshal([]byte(text), &n); err != nil || len(n.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Style: yaml.DoubleQuotedStyle}
	}
	return n.Content[0]
}

func pick(rnd *rand.Rand, from []string) string { return from[rnd.IntN(len(from))] }

var someKeys = []string{"address", "env", "file", "image", "url", "bmc", "zz", "n 1", "x[1-3]", "none", "keep", "''", "insecure"}

var someTexts = []string{
	"", "''", "any", "none", "latest", "needed", "auto", "root", "true", "false", "null", "yes", "0", "1", "-1", "22", "65535",
	"65536", "18446744073709551615", "-9223372036854775808", "9999", "10000", "1.5", "1e3", ".inf", "2026-11-23", "2026-11-23T05:00:00Z", "30m", "1d", "0s", "90", "a b", "a:b", "a/b",
	"/", "/a", "~/a", "~a", "../a", "http://h/a", "https://h", "https://h/", "file:///a", "file://a", "[::1]:443", "'[1-2]'", "'x[1-2]'", "'x[a]'",
	"x@y", "ä", "'a\tb'", "[]", "{}", "[a]", "{env: A}", "{file: a}", "{command: [a, b]}", "{command: []}", "{ca: a}",
	"{insecure: true}", "{insecure: false}", "{url: http://h/a}", "{image: a, file: b}", "{address: a}", "{address: a, auth: basic}",
	strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("0a", 32), "sha256:" + strings.Repeat("0a", 32),
	"SHA256:" + strings.Repeat("A", 43), "livecd-sync/v1",
}

// TestClosed adds a key that nobody knows to each mapping with known keys, and
// wants an error that names it or its mapping.
func TestClosed(t *testing.T) {
	data, err := os.ReadFile("testdata/valid/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := &file{name: "site.yaml"}
	count := countMappings(f.read(data))
	byName := map[string]bool{"images": true, "stores": true, "nodes": true, "overlay.repopulate": true}
	tried := 0
	for i := range count {
		f := &file{name: "site.yaml"}
		root := f.read(data)
		m := nthMapping(root, i)
		if byName[m.path()] || strings.HasSuffix(m.path(), "repopulate") {
			continue
		}
		tried++
		m.members = append(m.members, &value{kind: text, text: "x", key: "zz", parent: m, line: 99, column: 9})
		f.check(root)
		if len(f.errs) == 0 {
			t.Errorf("%s: a key zz is not an error", m.path())
		}
		for _, e := range f.errs {
			if e.Path != m.path() && e.Path != strings.TrimPrefix(m.path()+".zz", ".") {
				t.Errorf("%s: a key zz makes another error: %v", m.path(), e)
			}
		}
	}
	if tried < 30 {
		t.Errorf("only %d mappings tried", tried)
	}
}

func countMappings(v *value) int {
	n := 0
	for nthMapping(v, n) != nil {
		n++
	}
	return n
}

func nthMapping(v *value, n int) *value {
	var found *value
	var walk func(*value)
	walk = func(v *value) {
		if v.kind == mapping {
			if n == 0 {
				found = v
			}
			n--
		}
		for _, m := range v.members {
			walk(m)
		}
	}
	walk(v)
	return found
}

// TestManyShapes has more shapes than CUE sees at once, and faults on both sides
// of the boundary.
func TestManyShapes(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("apiVersion: livecd-sync/v1\nsite: s\nnodes:\n")
	want := map[string]bool{}
	for i := range 3 * batch {
		name, auth := fmt.Sprintf("n%d", i), "basic"
		if i%100 == 7 {
			auth, want[name] = "digest", true
		}
		fmt.Fprintf(&b, "  %s: {bmc: {address: b%d, auth: %s}, groups: [%s], overlay: {exclude: [%s]}}\n",
			name, i, auth, strings.Repeat("g, ", i%28), strings.Repeat("a, ", i/28))
	}
	f, root, _ := checked(b.Bytes())
	if got := faultyNodes(f, root); fmt.Sprint(got) != fmt.Sprint(want) || len(f.errs) != len(want) {
		t.Errorf("faulty: %v\nwant: %v\n%v", got, want, f.errs)
	}
}

// FuzzAgree wants the same verdict of this package and plain CUE on any text.
func FuzzAgree(f *testing.F) {
	for _, data := range allFixtures(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 1<<14 {
			agree(t, newPlainCUE(), data)
		}
	})
}

// TestUnknownTests wants the schema refused when it tests values in a way that
// shapes do not show.
func TestUnknownTests(t *testing.T) {
	for _, tc := range []struct{ source, want string }{
		{`#A: {a: strings.MinRunes(3)}`, "line 1: calls a function, which siteload does not know how to tell values apart by"},
		{`#A: {a: string, b: a}`, "line 1: refers to a, which siteload does not know how to tell values apart by"},
		{`#A: {a: "\(b)"}`, "line 1: has a *ast.Interpolation, which siteload does not know how to tell values apart by"},
		{`#A: {a: b.c}`, "line 1: has a *ast.SelectorExpr, which siteload does not know how to tell values apart by"},
		{`#A: {if true {a: 1}}`, "line 1: has a *ast.Comprehension, which siteload does not know how to tell values apart by"},
		{"#A: {a: 1}\n#B: {let x = 1}", "line 2: has a *ast.LetClause, which siteload does not know how to tell values apart by"},
		{`#A: {a: =~#B}`, "line 1: tests against something computed, which siteload does not know how to tell values apart by"},
		{`#A: {a: <"b"}`, "line 1: compares texts by their order, which siteload does not know how to tell values apart by"},
		{`#A: {a: 1.5}`, "line 1: has a literal of kind FLOAT, which siteload does not know how to tell values apart by"},
		{`#A: {a: 1*2}`, "line 1: has the operator *, which siteload does not know how to tell values apart by"},
		{`#A: {("a"): 1}`, "line 1: has a key that is computed, which siteload does not know how to tell values apart by"},
		{`#A: {a: float}`, "line 1: refers to float, which siteload does not know how to tell values apart by"},
		{"#A: {" + manyPatterns() + "}", "has more than 64 regular expressions, which siteload does not know how to tell values apart by"},
	} {
		_, err := newTests(tc.source)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%.60s\n got %v\nwant %s", tc.source, err, tc.want)
		}
	}
}

func manyPatterns() string {
	var b strings.Builder
	for i := range 65 {
		fmt.Fprintf(&b, "a%d: =~%q\n", i, fmt.Sprint(i))
	}
	return b.String()
}
