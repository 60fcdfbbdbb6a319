package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var code = regexp.MustCompile("`([^`]+)`")

// firstCells gives the code words in the first cell of every row of a page's
// tables, with the rest of the row.
func firstCells(page string) map[string]string {
	rows := make(map[string]string)
	for line := range strings.Lines(page) {
		cells := strings.SplitN(line, "|", 3)
		if len(cells) < 3 || strings.TrimSpace(cells[0]) != "" {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			rows[m[1]] = cells[2]
		}
	}
	return rows
}

// ownImports reads which of our packages each may import.
func ownImports(t *testing.T) map[string][]string {
	t.Helper()
	allowed := make(map[string][]string)
	_, table, found := strings.Cut(read(t, "docs/architecture.md"), "may import")
	if !found {
		t.Fatal("docs/architecture.md has no table of what packages may import")
	}
	for name, row := range firstCells(table) {
		cells := strings.Split(strings.TrimSpace(row), "|")
		last := cells[len(cells)-2]
		may := []string{strings.TrimSpace(last)}
		for _, m := range code.FindAllStringSubmatch(last, -1) {
			may = append(may, m[1])
		}
		allowed[name] = may
	}
	return allowed
}

// directRequirements lists the modules that go.mod requires for our own sake.
func directRequirements(gomod string) []string {
	var mods []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require)?\s+(\S+\.\S+/?\S*) v\S+$`).FindAllStringSubmatch(gomod, -1) {
		mods = append(mods, m[1])
	}
	return mods
}

// listed compares what is there with what a page lists.
func listed(page string, there, onPage []string) []string {
	var broken []string
	for _, name := range there {
		if !slices.Contains(onPage, name) {
			broken = append(broken, fmt.Sprintf("%s does not list %s", page, name))
		}
	}
	for _, name := range onPage {
		if !slices.Contains(there, name) {
			broken = append(broken, fmt.Sprintf("%s lists %s, which is not there", page, name))
		}
	}
	slices.Sort(broken)
	return broken
}

func TestDependenciesPage(t *testing.T) {
	mods := directRequirements(read(t, "go.mod"))
	if len(mods) < 5 {
		t.Fatalf("only %q were found in go.mod", mods)
	}
	var onPage []string
	for name := range firstCells(read(t, "docs/dependencies.md")) {
		onPage = append(onPage, name)
	}
	report(t, listed("docs/dependencies.md", mods, onPage))
}

// linters reads which linters the configuration enables.
func linters(t *testing.T, config string) []string {
	t.Helper()
	var c struct {
		Linters struct {
			Default string
			Enable  []string
		}
	}
	if err := yaml.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	if c.Linters.Default != "none" {
		t.Errorf("linters.default is %q, so a new version could enable linters that nobody decided on", c.Linters.Default)
	}
	return c.Linters.Enable
}

// decided reads from the page which linters are enabled, and which are not.
func decided(page string) (on, off []string) {
	for name, row := range firstCells(page) {
		switch decision, _, _ := strings.Cut(strings.TrimSpace(row), " "); decision {
		case "on":
			on = append(on, name)
		case "off":
			off = append(off, name)
		}
	}
	return on, off
}

func TestLintPage(t *testing.T) {
	on, off := decided(read(t, "docs/lint.md"))
	if len(on) == 0 || len(off) == 0 {
		t.Fatalf("docs/lint.md has %d linters on and %d off", len(on), len(off))
	}
	report(t, listed("docs/lint.md", linters(t, read(t, ".golangci.yml")), on))
}

func TestPageRulesCanFail(t *testing.T) {
	const gomod = "module m\n\ngo 1.26.0\n\nrequire (\n\ta.org/b v1.0.0\n\tgithub.com/c/d/v2 v2.0.0\n)\n\nrequire e.org/f v0.1.0\n\nrequire (\n\tg.org/h v1.0.0 // indirect\n)\n"
	if got, want := directRequirements(gomod), []string{"a.org/b", "github.com/c/d/v2", "e.org/f"}; !slices.Equal(got, want) {
		t.Errorf("direct requirements %q, want %q", got, want)
	}
	var onPage []string
	for name := range firstCells("| module | for |\n| --- | --- |\n| `a.org/b` | `x` |\n| `z.org` | y |\n\nand `q`\n") {
		onPage = append(onPage, name)
	}
	wantBroken(t, listed("p.md", directRequirements(gomod), onPage),
		"p.md does not list e.org/f", "p.md does not list github.com/c/d/v2", "p.md lists z.org, which is not there")
	on, off := decided("| `a` | on | why |\n| `b`, `c` | off | why |\n")
	if !slices.Equal(on, []string{"a"}) || len(off) != 2 {
		t.Errorf("decided on %q and off %q", on, off)
	}
}
