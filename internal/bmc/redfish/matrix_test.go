package redfish_test

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmctest"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const (
	page    = "../../../docs/bmcs.md"
	tableAt = "../../../out/conformance.txt"
	// updatePage names the environment's variable with which the page is written.
	updatePage = "UPDATE_DOCS"
)

// refusals are the kinds that no image can be mounted on, with what the plan of a
// node with such a BMC says.
var refusals = map[bmcsim.Kind]struct {
	kind bmc.Kind
	says string
}{
	bmcsim.CrayEX:        {bmc.KindUnsupported, "no virtual media and no boot override"},
	bmcsim.OpenBMCStock:  {bmc.KindUnsupported, "built without virtual media"},
	bmcsim.IDRAC8:        {bmc.KindUnsupported, "cannot mount any"},
	bmcsim.SupermicroX10: {bmc.KindUnsupported, "CfgCD"},
	bmcsim.TSMEarly:      {bmc.KindURL, "says that it mounts by nfs only"},
	bmcsim.IBMC:          {bmc.KindUnsupported, "VmmControl only"},
	bmcsim.HDM:           {bmc.KindUnsupported, "VmmControl only"},
	bmcsim.Inspur:        {bmc.KindURL, "mounts by nfs only"},
	bmcsim.Intel:         {bmc.KindUnsupported, "virtual media are switched off"},
}

// A line is one row of the matrix.
type line struct {
	impl    string
	entry   entry
	row     string // of profiles.cue, as the client chose it
	results map[string][2]int
	parts   map[string]bmctest.Part // by misfortune
	failed  bool
}

// A matrix collects how the suite went.
type matrix struct {
	mu      sync.Mutex
	lines   []line
	refused map[bmcsim.Kind]refused
	want    int
}

// refused is a kind that cannot be used, as a plan tells it.
type refused struct{ row, kind, says, hint string }

func newMatrix() *matrix { return &matrix{refused: map[bmcsim.Kind]refused{}} }

func (m *matrix) add(impl string, e entry, row string, rs []bmctest.Result) {
	l := line{impl: impl, entry: e, row: row, results: map[string][2]int{}}
	for _, r := range rs {
		n := l.results[r.Group]
		if !r.Skipped {
			n[1]++
		}
		if !r.Skipped && !r.Failed {
			n[0]++
		}
		l.results[r.Group] = n
		l.failed = l.failed || r.Failed
		if r.Parts != nil {
			l.parts = r.Parts
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, l)
}

// complete reports whether nothing was left out, as with -run.
func (m *matrix) complete() bool { return len(m.lines) == m.want && len(m.refused) == len(refusals) }

func (m *matrix) sort() {
	slices.SortFunc(m.lines, func(a, b line) int {
		return cmp.Or(
			-cmp.Compare(a.impl, b.impl), cmp.Compare(rank(a.entry.name), rank(b.entry.name)),
			cmp.Compare(a.entry.kind, b.entry.kind), cmp.Compare(a.entry.name, b.entry.name),
		)
	})
}

func rank(name string) int {
	if name == "" {
		return 0
	}
	return 1
}

// table is the matrix as Markdown.
func (m *matrix) table() string {
	m.sort()
	groups := bmctest.Groups()
	var b strings.Builder
	fmt.Fprintf(&b, "| client | machine | behaviour | %s |\n", strings.Join(groups, " | "))
	fmt.Fprintf(&b, "| --- | --- | --- |%s\n", strings.Repeat(" --- |", len(groups)))
	for _, l := range m.lines {
		fmt.Fprintf(&b, "| %s | %s | %s |", l.impl, l.entry.kind, cmp.Or(l.entry.name, "-"))
		for _, g := range groups {
			n := l.results[g]
			cell := "-"
			if n[1] > 0 {
				cell = fmt.Sprintf("%d of %d", n[0], n[1])
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// struck is the table of misfortunes: what each family's writes met.
func (m *matrix) struck() string {
	var b strings.Builder
	var names []string
	for f := range misfortunes {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	fmt.Fprintf(&b, "| machine | %s |\n| --- |%s\n", strings.Join(names, " | "), strings.Repeat(" --- |", len(names)))
	for _, l := range m.lines {
		if l.parts == nil {
			continue
		}
		fmt.Fprintf(&b, "| %s |", l.entry.kind)
		for _, n := range names {
			fmt.Fprintf(&b, " %d of %d |", l.parts[n].Held, l.parts[n].Tried)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// publish writes the table down, and compares the page that has it.
func (m *matrix) publish(t *testing.T) {
	t.Helper()
	if !m.complete() {
		t.Logf("only a part of the matrix was run: %d of %d lines", len(m.lines), m.want)
		return
	}
	got := m.page(profiles(t))
	must(t, os.MkdirAll(filepath.Dir(tableAt), 0o755))
	must(t, os.WriteFile(tableAt, []byte(m.table()+"\n"+m.struck()), 0o644))
	if os.Getenv(updatePage) != "" {
		must(t, os.WriteFile(page, []byte(got), 0o644))
		return
	}
	have, err := os.ReadFile(page)
	must(t, err)
	if string(have) != got {
		t.Errorf("docs/bmcs.md is not what the rows and the conformance suite say (make docs):\n%s", firstDifference(string(have), got))
	}
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range max(len(h), len(w)) {
		a, b := at(h, i), at(w, i)
		if a != b {
			return fmt.Sprintf("line %d\nhas  %s\nwant %s", i+1, a, b)
		}
	}
	return ""
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// planOf is the plan of a node that wants an image and says nothing itself.
func planOf(t testing.TB, st bmc.State, image string) plan.NodePlan {
	t.Helper()
	rows := map[string]bmc.Profile{}
	for _, p := range profiles(t) {
		rows[p.Name] = p
	}
	n := site.Node{Name: "n1", Image: "live", Reset: site.ResetNeeded, Boot: site.Boot{Within: time.Minute}}
	s := &site.Site{Images: map[string]site.Image{"live": {Name: "live", URL: image}}, Nodes: []site.Node{n}}
	f := plan.Facts{BMC: st, Profile: rows[st.ID.Profile], Host: plan.HostUnknown{}}
	return plan.Compute(s, plan.Observed{Nodes: map[string]plan.Facts{"n1": f}}, nil).Nodes[0]
}

func stepsOf(np plan.NodePlan) []string {
	var out []string
	for _, s := range np.Steps {
		out = append(out, s.Action.Name())
	}
	return out
}

// refuse runs a kind that cannot be used, and keeps what its plan says.
func (m *matrix) refuse(t *testing.T, k bmcsim.Kind) {
	t.Helper()
	sim, s := machine(t, bmcsim.Config{Kind: k})
	st := observe(t, open(t, s.config(t)))
	want := refusals[k]
	for _, scheme := range []string{"http", "https"} {
		np := planOf(t, st, scheme+"://192.0.2.1/iso/one.iso")
		if np.State != plan.Failed || np.Err == nil || len(np.Steps) > 0 {
			t.Fatalf("%s: the plan is %s %q, want it to fail", scheme, np.State, stepsOf(np))
		}
		if np.Err.Kind != want.kind || !strings.Contains(np.Err.Error(), want.says) || np.Err.Hint == "" {
			t.Errorf("%s: %s: %v (%s), want %s and %q", scheme, np.Err.Kind, np.Err, np.Err.Hint, want.kind, want.says)
		}
		m.mu.Lock()
		m.refused[k] = refused{st.ID.Profile, string(np.Err.Kind), np.Err.Error(), np.Err.Hint}
		m.mu.Unlock()
	}
	for _, r := range sim.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("finding that out sent %s %s", r.Method, r.Path)
		}
	}
}
