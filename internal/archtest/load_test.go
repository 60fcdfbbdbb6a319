package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/livecd-sync/livecd-sync"

// root is the module's directory, from this one.
const root = "../.."

// A pkg is a package as `go list` tells of it.
type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string // directly, tests left out
	Deps       []string // through any number of packages
	Standard   bool
}

// own is the package's path within the module, "" for packages of others.
func (p pkg) own() string { return ownPath(p.ImportPath) }

func ownPath(importPath string) string {
	rel, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return ""
	}
	return rel
}

// A picture is the module's packages and all that they reach.
type picture map[string]pkg

// ours gives the module's own packages, by path.
func (pic picture) ours() []pkg {
	var ps []pkg
	for _, p := range pic {
		if p.own() != "" {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, func(a, b pkg) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return ps
}

// reaches lists what the package depends on, however indirectly.
func (p pkg) reaches(yes func(importPath string) bool) []string {
	return those(p.Deps, yes)
}

// imports lists what the package imports itself.
func (p pkg) imports(yes func(importPath string) bool) []string {
	return those(p.Imports, yes)
}

func those(paths []string, yes func(string) bool) []string {
	var found []string
	for _, d := range paths {
		if yes(d) {
			found = append(found, d)
		}
	}
	slices.Sort(found)
	return found
}

// within reports whether an import path is prefix, or below it.
func within(prefixes ...string) func(string) bool {
	return func(path string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool {
			return path == prefix || strings.HasPrefix(path, prefix+"/")
		})
	}
}

var load = sync.OnceValues(func() (picture, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,Deps,Standard", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(err, errors.New(stderr.String()))
	}
	pic := make(picture)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pic, nil
		} else if err != nil {
			return nil, err
		}
		pic[p.ImportPath] = p
	}
})

// look gives the module as it is.
func look(t *testing.T) picture {
	t.Helper()
	pic, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if len(pic.ours()) < 10 {
		t.Fatalf("only %d packages were found", len(pic.ours()))
	}
	return pic
}

// A source is one parsed file.
type source struct {
	name string // within the module
	fset *token.FileSet
	file *ast.File
}

// at is where the node stands: file:line:column.
func (s source) at(n ast.Node) string {
	pos := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d:%d", s.name, pos.Line, pos.Column)
}

func parse(t *testing.T, name string, text any) source {
	t.Helper()
	fset := token.NewFileSet()
	path := filepath.Join(root, name)
	if text != nil {
		path = name
	}
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{name: name, fset: fset, file: file}
}

// sources parses the package's files, tests left out.
func (p pkg) sources(t *testing.T) []source {
	t.Helper()
	var out []source
	for _, f := range p.GoFiles {
		out = append(out, parse(t, filepath.Join(p.own(), f), nil))
	}
	return out
}

// report fails the test with each sentence.
func report(t *testing.T, broken []string) {
	t.Helper()
	for _, b := range broken {
		t.Error(b)
	}
}

// wantBroken makes sure that a rule finds what breaks it, and nothing else.
func wantBroken(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("the rule finds %d places, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		return
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("the rule says %q, which lacks %q", got[i], want[i])
		}
	}
}
