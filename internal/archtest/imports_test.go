package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// planIsPure: the planner does no I/O, keeps no log and knows no other module.
// It cannot be asked whether it reaches os, which fmt imports.
func planIsPure(pic picture) []string {
	p := pic[module+"/internal/plan"]
	impure := func(path string) bool {
		if slices.Contains([]string{"net", "net/http", "os/exec", "os/signal", "log", "log/slog"}, path) {
			return true
		}
		return !pic[path].Standard && ownPath(path) == ""
	}
	var broken []string
	for _, d := range p.reaches(impure) {
		broken = append(broken, fmt.Sprintf("internal/plan reaches %s: the planner is pure; hand it facts instead", d))
	}
	for _, d := range p.imports(within("os", "io", "sync")) {
		broken = append(broken, fmt.Sprintf("internal/plan imports %s: the planner does no I/O and starts nothing", d))
	}
	return broken
}

// standardOnly: the vocabularies depend on nobody, so that everybody can use
// them.
func standardOnly(pic picture) []string {
	var broken []string
	for _, name := range []string{"internal/bmc", "internal/site"} {
		foreign := func(path string) bool {
			return !pic[path].Standard && path != module+"/internal/bmc"
		}
		for _, d := range pic[module+"/"+name].reaches(foreign) {
			broken = append(broken, fmt.Sprintf("%s reaches %s: it imports the standard library only", name, d))
		}
	}
	return broken
}

// sent are the packages of the program that is sent to nodes.
var sent = []string{"internal/overlay/uppertar", "internal/overlay/nodeside/main"}

// smallOnNodes: what is sent to a node for every command stays small, and has
// nothing in it that could speak to others.
func smallOnNodes(pic picture) []string {
	var broken []string
	for _, name := range sent {
		heavy := func(path string) bool {
			if slices.Contains([]string{"net", "os/exec", "encoding/json", "regexp", "text/template"}, path) {
				return true
			}
			return !pic[path].Standard && !within("golang.org/x/sys/unix")(path) && !slices.Contains(sent, ownPath(path))
		}
		for _, d := range pic[module+"/"+name].reaches(heavy) {
			broken = append(broken, fmt.Sprintf("%s reaches %s: it is sent to nodes and stays small", name, d))
		}
	}
	return broken
}

// A keeper is who alone may import a module or package.
type keeper struct {
	what string
	who  []string
}

var keepers = []keeper{
	{"github.com/stmcginnis/gofish", []string{"internal/bmc/redfish"}},
	{"cuelang.org/go", []string{"internal/site/siteload"}},
	{"golang.org/x/crypto/ssh", []string{"internal/overlay/sshremote", "internal/sim", "internal/console/consoletest"}},
	{"filippo.io/age", []string{"internal/overlay/store"}},
	{"github.com/minio/minio-go", []string{"internal/overlay/store"}},
	{"github.com/coreos/go-systemd", []string{"internal/media/imageserver"}},
	{"github.com/pkg/sftp", []string{"internal/overlay/store"}},
	{"go.etcd.io", []string{"internal/writers/etcdwriters"}},
	{"go.uber.org/zap", []string{"internal/writers/etcdwriters"}},
	{"github.com/gofrs/flock", []string{"internal/writers"}},
	{"github.com/fsnotify/fsnotify", []string{"internal/watch"}},
	{"mvdan.cc/sh/v3", []string{"internal/sim"}},
}

// keptAtTheEdge: what might be replaced one day, or must not spread, is known in
// one place.
func keptAtTheEdge(pic picture) []string {
	var broken []string
	for _, p := range pic.ours() {
		for _, k := range keepers {
			if slices.Contains(k.who, p.own()) {
				continue
			}
			for _, d := range p.imports(within(k.what)) {
				broken = append(broken, fmt.Sprintf("%s imports %s: only %s may", p.own(), d, strings.Join(k.who, " and ")))
			}
		}
	}
	return broken
}

// A stranger is a package that must not know others, however indirectly.
type stranger struct {
	who string
	of  []string
	why string
}

var strangers = []stranger{
	{"internal/bmc/bmcsim", []string{"internal/bmc/redfish"}, "a mistake that both make would cancel out"},
	{"internal/bmc/redfish", []string{"internal/bmc/bmcsim"}, "a mistake that both make would cancel out"},
	{"internal/apply", []string{"internal/bmc/redfish", "internal/overlay/sshremote"}, "it is handed funcs"},
	{"internal/observe", []string{"internal/bmc/redfish", "internal/overlay/sshremote"}, "it is handed funcs"},
	{"internal/report", []string{"internal/bmc/redfish", "internal/overlay/sshremote"}, "it shows what it is handed"},
	{"internal/site", []string{"internal/site/siteload"}, "the desired state does not know how it is read"},
	{"internal/watch", []string{"internal/plan", "internal/apply", "internal/site"}, "it knows nothing of what is run"},
}

func strangersStay(pic picture) []string {
	var broken []string
	for _, s := range strangers {
		for _, other := range s.of {
			if slices.Contains(pic[module+"/"+s.who].Deps, module+"/"+other) {
				broken = append(broken, fmt.Sprintf("%s reaches %s: %s", s.who, other, s.why))
			}
		}
	}
	return broken
}

// nobodyImportsCmd: cmd joins the packages, and nothing is below it.
func nobodyImportsCmd(pic picture) []string {
	var broken []string
	for _, p := range pic.ours() {
		for _, d := range p.imports(within(module + "/cmd")) {
			broken = append(broken, fmt.Sprintf("%s imports %s: nothing imports cmd", p.own(), ownPath(d)))
		}
	}
	return broken
}

// namedForWhatTheyDo: a package called util is about nothing, and grows.
func namedForWhatTheyDo(pic picture) []string {
	var broken []string
	for _, p := range pic.ours() {
		for _, name := range append(strings.Split(p.own(), "/"), p.Name) {
			switch strings.TrimSuffix(name, "s") {
			case "util", "common", "type", "helper", "manager", "misc":
				broken = append(broken, fmt.Sprintf("%s: no package is called %s; name it for what it does", p.own(), name))
			}
		}
	}
	return slices.Compact(broken)
}

// documented: every package says what it is for.
func documented(pic picture) []string {
	var broken []string
	for _, p := range pic.ours() {
		switch {
		case p.Doc == "":
			broken = append(broken, fmt.Sprintf("%s has no doc comment", p.own()))
		case p.Name != "main" && !strings.HasPrefix(p.Doc, "Package "+p.Name+" "):
			broken = append(broken, fmt.Sprintf("%s: its doc comment does not begin with \"Package %s \"", p.own(), p.Name))
		}
	}
	return broken
}

// asThePageSays: a package imports only those of ours that docs/architecture.md
// lists for it. allowed has the page's rows.
func asThePageSays(pic picture, allowed map[string][]string) []string {
	var broken []string
	for _, p := range pic.ours() {
		may, listed := allowed[p.own()]
		if !listed {
			broken = append(broken, fmt.Sprintf("%s is not among the packages of docs/architecture.md", p.own()))
			continue
		}
		if slices.Contains(may, "everything") {
			continue
		}
		for _, d := range p.imports(within(module)) {
			if !slices.ContainsFunc(may, func(name string) bool { return named(ownPath(d), name) }) {
				broken = append(broken, fmt.Sprintf("%s imports %s, which docs/architecture.md does not list for it", p.own(), ownPath(d)))
			}
		}
	}
	return broken
}

// named reports whether the page may call the package so: "bmc", "bmc/redfish",
// "redfish".
func named(own, name string) bool {
	return own == name || strings.TrimPrefix(own, "internal/") == name || path.Base(own) == name
}

func TestImports(t *testing.T) {
	rules := map[string]func(picture) []string{
		"the planner is pure":                 planIsPure,
		"vocabularies stand alone":            standardOnly,
		"what is sent to nodes is small":      smallOnNodes,
		"what is kept at the edge":            keptAtTheEdge,
		"strangers stay strangers":            strangersStay,
		"nothing imports cmd":                 nobodyImportsCmd,
		"packages are named for what they do": namedForWhatTheyDo,
		"packages are documented":             documented,
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) { report(t, rule(look(t))) })
	}
	t.Run("docs/architecture.md", func(t *testing.T) {
		report(t, asThePageSays(look(t), ownImports(t)))
	})
}

// The rules name packages; a name that no package has would never be broken.
func TestRulesNameWhatIsThere(t *testing.T) {
	pic := look(t)
	names := append([]string{"internal/plan", "internal/bmc", "internal/site"}, sent...)
	for _, k := range keepers {
		names = append(names, k.who...)
	}
	for _, s := range strangers {
		names = append(append(names, s.who), s.of...)
	}
	for _, name := range names {
		if _, ok := pic[module+"/"+name]; !ok {
			t.Errorf("a rule is about %s, which is not there", name)
		}
	}
	for _, k := range keepers {
		if !slices.ContainsFunc(pic.ours(), func(p pkg) bool { return len(p.imports(within(k.what))) > 0 }) {
			t.Errorf("a rule is about %s, which nobody imports", k.what)
		}
	}
}

// made is a picture of the packages given, in which each dependency is direct.
func made(ps ...pkg) picture {
	pic := picture{"os": {ImportPath: "os", Standard: true}, "fmt": {ImportPath: "fmt", Standard: true}, "net": {ImportPath: "net", Standard: true}}
	for _, p := range ps {
		p.ImportPath = module + "/" + p.ImportPath
		p.Name = path.Base(p.ImportPath)
		p.Deps = append(p.Deps, p.Imports...)
		pic[p.ImportPath] = p
	}
	return pic
}

func TestImportRulesCanFail(t *testing.T) {
	const own = module + "/internal/"
	p := func(name string, imports ...string) pkg { return pkg{ImportPath: name, Imports: imports} }
	wantBroken(t, planIsPure(made(p("internal/plan", "fmt", own+"bmc", "os", "net", "github.com/rs/zerolog"))),
		"internal/plan reaches github.com/rs/zerolog", "internal/plan reaches net", "internal/plan imports os")
	wantBroken(t, planIsPure(made(pkg{ImportPath: "internal/plan", Deps: []string{"os", "net"}})), "internal/plan reaches net")
	wantBroken(t, standardOnly(made(p("internal/bmc", "fmt", "golang.org/x/sync"), p("internal/site", "net", own+"bmc", own+"plan"))),
		"internal/bmc reaches golang.org/x/sync", "internal/site reaches "+own+"plan")
	wantBroken(t, smallOnNodes(made(p("internal/overlay/uppertar", "fmt", "golang.org/x/sys/unix", "net", own+"bmc"))),
		"uppertar reaches "+own+"bmc", "uppertar reaches net")
	wantBroken(t, keptAtTheEdge(made(
		p("internal/bmc/redfish", "github.com/stmcginnis/gofish/schemas"), p("internal/sim", "golang.org/x/crypto/ssh"),
		p("internal/overlay", "golang.org/x/crypto/ssh/agent", "cuelang.org/go"))),
		"internal/overlay imports cuelang.org/go: only internal/site/siteload may",
		"internal/overlay imports golang.org/x/crypto/ssh/agent: only internal/overlay/sshremote and internal/sim and internal/console/consoletest may")
	wantBroken(t, strangersStay(made(
		p("internal/bmc/bmcsim", own+"bmc/redfish"), pkg{ImportPath: "internal/apply", Deps: []string{own + "overlay/sshremote"}},
		p("internal/bmc/redfish", own+"bmc"))),
		"internal/bmc/bmcsim reaches internal/bmc/redfish", "internal/apply reaches internal/overlay/sshremote: it is handed funcs")
	wantBroken(t, nobodyImportsCmd(made(p("internal/sim", module+"/cmd/livecd-sync"))), "internal/sim imports cmd/livecd-sync")
	wantBroken(t, namedForWhatTheyDo(made(p("internal/utils"), p("internal/common/x"), p("internal/site"))),
		"internal/common/x: no package is called common", "internal/utils: no package is called utils")
	wantBroken(t, documented(made(pkg{ImportPath: "internal/a"}, pkg{ImportPath: "internal/b", Doc: "B is."}, pkg{ImportPath: "internal/c", Doc: "Package c is."})),
		"internal/a has no doc comment", `internal/b: its doc comment does not begin with "Package b "`)
	wantBroken(t, asThePageSays(made(p("internal/a", own+"b", own+"c/d", "fmt"), p("internal/new"), p("cmd/x", own+"a")),
		map[string][]string{"internal/a": {"b"}, "cmd/x": {"everything"}}),
		"internal/a imports internal/c/d, which docs/architecture.md does not list", "internal/new is not among the packages")
}
