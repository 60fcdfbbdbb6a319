package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

func planJSON(t *testing.T, p plan.Plan) []byte {
	t.Helper()
	return render(t, func(b *bytes.Buffer) error { return report.PlanJSON(b, p) })
}

func TestPlanJSON(t *testing.T) {
	golden(t, "plan-small.json", planJSON(t, smallPlan()))
}

func TestPlanJSONHasNoNull(t *testing.T) {
	for name, p := range map[string]plan.Plan{"no nodes": {Site: "redbird"}, "small": smallPlan()} {
		if doc := planJSON(t, p); bytes.Contains(doc, []byte("null")) {
			t.Errorf("%s: the document holds null:\n%s", name, doc)
		}
	}
}

func TestReadPlanReadsWhatPlanJSONWrites(t *testing.T) {
	for name, p := range map[string]plan.Plan{
		"no nodes": {Site: "redbird", Digest: "sha256:3c0b", At: observedAt},
		"small":    smallPlan(),
		"large":    largePlan(),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := report.ReadPlan(bytes.NewReader(planJSON(t, p)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(report.FromPlan(p), got); diff != "" {
				t.Errorf("read back (-written +read):\n%s", diff)
			}
			if stale := got.Stale(p); stale != nil {
				t.Errorf("stale against the plan it was made from: %q", stale)
			}
		})
	}
}

func TestReadPlanRefuses(t *testing.T) {
	good := string(planJSON(t, smallPlan()))
	tests := map[string]struct{ doc, want string }{
		"nothing":          {"", "it is empty"},
		"no JSON":          {"site: redbird", "line 1: invalid character"},
		"half a document":  {good[:len(good)/2], "it ends too early"},
		"no version":       {`{"site": "redbird"}`, `no "version"`},
		"version 2":        {strings.Replace(good, `"version": 1`, `"version": 2`, 1), "of version 2, and this livecd-sync reads version 1"},
		"version 1.0":      {strings.Replace(good, `"version": 1`, `"version": 1.0`, 1), "of version 1.0"},
		"a word":           {strings.Replace(good, `"version": 1`, `"version": "one"`, 1), "not a JSON document"},
		"an unknown name":  {strings.Replace(good, `"site"`, `"comment": "", "site"`, 1), `unknown field "comment"`},
		"a wrong type":     {strings.Replace(good, `"state": "change"`, `"state": 3`, 1), "line"},
		"more":             {good + "{}", "something follows"},
		"an unknown state": {strings.Replace(good, `"state": "change"`, `"state": "great"`, 1), `node x3000c0s3b0n0: state "great" is unknown`},
		"an action":        {strings.Replace(good, `"action": "power-off"`, `"action": "explode"`, 1), `step 2: action "explode" is unknown`},
		"an effect":        {strings.Replace(good, `"effect": "destroys"`, `"effect": "safe"`, 1), `power-off has the effect "destroys", not "safe"`},
		"a summary":        {strings.Replace(good, `"inSync": 2`, `"inSync": 3`, 1), "does not add up"},
		"no site":          {strings.Replace(good, `"site": "redbird"`, `"site": ""`, 1), "of which site file"},
		"a node twice":     {strings.Replace(good, "x3000c0s4b0n0", "x3000c0s3b0n0", 1), "node x3000c0s3b0n0 is there twice"},
		"a nameless node":  {strings.Replace(good, `"name": "ncn-m001"`, `"name": ""`, 1), "node 1 has no name"},
		"a result":         {strings.Replace(good, `"proof": "node"`, `"proof": "node", "converged": true`, 1), "it is no plan"},
		"an outcome":       {strings.Replace(good, `"because": "its media`, `"outcome": "done", "because": "its media`, 1), "has an outcome"},
		"a silent failure": {strings.Replace(good, `"state": "change"`, `"state": "failed"`, 1), "it is failed and has no error"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := report.ReadPlan(strings.NewReader(tt.doc))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadPlan: %v, want an error that says %q", err, tt.want)
			}
			if bmc.HintOf(err) == "" {
				t.Errorf("%v: has no hint", err)
			}
		})
	}
}

func TestReadPlanPassesOnReadErrors(t *testing.T) {
	want := errors.New("no such disk")
	if _, err := report.ReadPlan(brokenReader{want}); !errors.Is(err, want) {
		t.Errorf("ReadPlan: %v, want %v", err, want)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func TestStale(t *testing.T) {
	doc := report.FromPlan(smallPlan())
	tests := map[string]struct {
		change func(*plan.Plan)
		want   []string
	}{
		"the same": {func(*plan.Plan) {}, nil},
		"later":    {func(p *plan.Plan) { p.At = p.At.Add(1e12) }, nil},
		"reasons":  {func(p *plan.Plan) { p.Nodes[1].Steps[0].Because = "so" }, nil},
		"a file":   {func(p *plan.Plan) { p.Digest = "sha256:77" }, []string{"the site file has changed since the plan was made"}},
		"a site":   {func(p *plan.Plan) { p.Site = "bluebird" }, []string{"it is a plan for the site redbird, and the site file is that of bluebird"}},
		"fewer steps": {func(p *plan.Plan) { p.Nodes[1].Steps = p.Nodes[1].Steps[6:] }, []string{
			"x3000c0s3b0n0: it now needs await-boot, restore-overlay, and the plan says " +
				"backup-overlay, power-off, eject-media, insert-media, set-boot-once, power-on, await-boot, restore-overlay",
		}},
		"other arguments": {func(p *plan.Plan) { p.Nodes[1].Steps[3].Action = plan.InsertMedia{Image: "pit-1.8"} }, []string{
			"x3000c0s3b0n0: it now needs " + allSteps + ", and the plan says " + allSteps,
		}},
		"a node less": {func(p *plan.Plan) { p.Nodes = p.Nodes[1:] }, []string{"ncn-m001: it is no longer among the nodes"}},
		"now in need": {func(p *plan.Plan) { p.Nodes[0] = changing("ncn-m001", "b"); p.Nodes[0].Steps = p.Nodes[0].Steps[:1] }, []string{
			"ncn-m001: it now needs backup-overlay, and the plan says nothing (in-sync)",
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := smallPlan()
			tt.change(&now)
			if diff := cmp.Diff(tt.want, doc.Stale(now)); diff != "" {
				t.Errorf("Stale (-want +got):\n%s", diff)
			}
		})
	}
}

const allSteps = "backup-overlay, power-off, eject-media, insert-media, set-boot-once, power-on, await-boot, restore-overlay"

func TestNames(t *testing.T) {
	want := []string{"ncn-m001", "x3000c0s3b0n0", "x3000c0s4b0n0", "x3000c0s11b0n0", "x3000c0s12b0n0", "x3000c0s13b0n0"}
	if diff := cmp.Diff(want, report.FromPlan(smallPlan()).Names()); diff != "" {
		t.Error(diff)
	}
}

// TestEveryActionIsKnown walks the closed set of actions in package plan's
// source: ReadPlan has to know each, and a struct that has fields has arguments.
func TestEveryActionIsKnown(t *testing.T) {
	known := make(map[string]bool)
	for _, a := range report.KnownActions() {
		known[reflect.TypeOf(a).Name()] = true
	}
	for name := range actionTypes(t) {
		if !known[name] {
			t.Errorf("package report does not know the action plan.%s", name)
		}
	}
}

func TestEveryFieldOfAnActionIsAnArgument(t *testing.T) {
	written := 0
	for _, n := range actionTypes(t) {
		written += n
	}
	if got := len(report.AllArguments()); got != written {
		t.Errorf("the actions have %d fields, and report's arguments tell %d of them", written, got)
	}
}

// actionTypes finds the types of package plan that have a method action, with
// the number of their fields.
func actionTypes(t *testing.T) map[string]int {
	t.Helper()
	actions, fields := make(map[string]int), make(map[string]int)
	files, err := filepath.Glob("../plan/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of package plan: %v", err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok {
					fields[n.Name.Name] = s.Fields.NumFields()
				}
			case *ast.FuncDecl:
				if n.Recv != nil && n.Name.Name == "action" {
					actions[n.Recv.List[0].Type.(*ast.Ident).Name] = 0
				}
			}
			return true
		})
	}
	for name := range actions {
		actions[name] = fields[name]
	}
	return actions
}

// TestDocExample keeps docs/json.md true: its examples are documents.
func TestDocExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := jsonBlocks(string(page))
	if len(examples) != 2 {
		t.Fatalf("docs/json.md has %d examples, want a plan and a result", len(examples))
	}
	if _, err := report.ReadPlan(strings.NewReader(examples[0])); err != nil {
		t.Errorf("the first example is no plan: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(examples[1]))
	dec.DisallowUnknownFields()
	var d report.Document
	if err := dec.Decode(&d); err != nil {
		t.Errorf("the second example is no document: %v", err)
	}
	for _, word := range []string{"backup-overlay", "in-sync", "data-loss", "withinSeconds"} {
		if !strings.Contains(string(page), word) {
			t.Errorf("docs/json.md does not tell of %s", word)
		}
	}
}

// TestDocTellsEveryName keeps docs/json.md complete.
func TestDocTellsEveryName(t *testing.T) {
	page, err := os.ReadFile("../../docs/json.md")
	if err != nil {
		t.Fatal(err)
	}
	names := report.FieldNames()
	if !slices.Contains(names, "withinSeconds") {
		t.Fatalf("field names %q are not those of the document", names)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") && !strings.Contains(string(page), "."+name+"`") {
			t.Errorf("docs/json.md does not describe %q", name)
		}
	}
}

func jsonBlocks(page string) []string {
	var blocks []string
	for {
		_, after, found := strings.Cut(page, "```json\n")
		if !found {
			return blocks
		}
		block, rest, _ := strings.Cut(after, "```")
		blocks, page = append(blocks, block), rest
	}
}
