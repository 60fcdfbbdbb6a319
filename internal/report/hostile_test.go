package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// hostile is what a BMC might say to whoever reads along: clear the screen, set
// the title, turn the text around, begin a line of its own, carry a password.
const hostile = "\x1b[2J\x1b]0;owned\x07\u009b31m\u202egnp\u2066\u200b\r\nx3000c0s1b0n0  in sync\x00\x7f\xff http://root:hunter2@10.0.0.1/a.iso?X-Sig=hunter2&n=1"

// everywhere puts the string wherever a BMC, a node or an error could.
func everywhere(s string) plan.Plan {
	err := &bmc.Error{Op: s, Kind: bmc.Kind(s), Hint: s, Err: errors.New(s)}
	facts := plan.Facts{
		BMC: bmc.State{
			ID:    bmc.Identity{Vendor: s, Product: s, Model: s, Firmware: s},
			Power: bmc.Power(s),
			Media: bmc.Media{Slot: s, Image: s, ImageName: s, Inserted: true},
			Boot:  bmc.BootOverride{Target: s, Enabled: s},
		},
		Host: plan.HostLive{BootID: s, Volume: site.Volume{ID: s, Created: s}, Upper: s, Restored: s},
	}
	n := plan.NodePlan{
		Node: "n1", State: plan.Change, Facts: facts,
		Drift: []plan.Drift{{Field: s, Want: s, Got: s, At: site.Pos(s)}},
		Steps: []plan.Step{
			{Action: plan.EjectMedia{Slot: s, Image: s}, Because: s},
			{Action: plan.InsertMedia{Image: s, URL: s}},
			{Action: plan.RestoreOverlay{From: s}, Because: s},
		},
		Notes: []string{s},
	}
	blocked, silent := n, n
	blocked.Node, blocked.State, blocked.Err = "n2", plan.Blocked, err
	silent.Node, silent.State, silent.Err = "n3", plan.Failed, err
	silent.Facts.Host = plan.HostSilent{Err: errors.New(s)}
	return plan.Plan{Site: s, Digest: s, At: observedAt, Nodes: []plan.NodePlan{n, blocked, silent}}
}

// outputs is everything that the package writes of a plan.
func outputs(t *testing.T, p plan.Plan) map[string][]byte {
	t.Helper()
	res := apply.Result{Plan: p}
	var run []apply.Event
	for _, n := range p.Nodes {
		r := apply.NodeResult{Node: n.Node, Steps: ran(n, 3, nil), After: n}
		if n.Err != nil {
			r.Err, r.Steps = n.Err, ran(n, 1, n.Err)
			run = append(run, apply.Event{Node: n.Node, Phase: apply.Failed, Detail: n.Err.Op, Err: n.Err})
		}
		res.Nodes = append(res.Nodes, r)
		run = append(run, apply.Event{Node: n.Node, Step: 1, Of: 1, Action: n.Steps[0].Action, Phase: apply.Started, Detail: n.Notes[0]})
	}
	o, v := report.Options{Width: 80}, report.Options{Verbose: true}
	writers := map[string]func(*bytes.Buffer) error{
		"plan":          func(b *bytes.Buffer) error { return report.PlanText(b, p, o) },
		"plan -v":       func(b *bytes.Buffer) error { return report.PlanText(b, p, v) },
		"plan json":     func(b *bytes.Buffer) error { return report.PlanJSON(b, p) },
		"result":        func(b *bytes.Buffer) error { return report.ResultText(b, res, o) },
		"result -v":     func(b *bytes.Buffer) error { return report.ResultText(b, res, v) },
		"result json":   func(b *bytes.Buffer) error { return report.ResultJSON(b, res) },
		"status":        func(b *bytes.Buffer) error { return report.StatusText(b, p, o) },
		"status json":   func(b *bytes.Buffer) error { return report.StatusJSON(b, p) },
		"progress":      func(b *bytes.Buffer) error { b.Write(progress(report.ProgressOptions{Verbose: true}, run)); return nil },
		"progress json": func(b *bytes.Buffer) error { b.Write(progress(report.ProgressOptions{JSON: true}, run)); return nil },
	}
	out := make(map[string][]byte)
	for name, write := range writers {
		out[name] = render(t, write)
	}
	return out
}

func TestNothingObeyableIsWritten(t *testing.T) {
	for name, out := range outputs(t, everywhere(hostile)) {
		for i, r := range string(out) {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s: writes %U at byte %d: %q", name, r, i, out[max(0, i-20):min(len(out), i+20)])
				break
			}
		}
		if bytes.Contains(out, []byte("\nx3000c0s1b0n0")) {
			t.Errorf("%s: lets a BMC begin a line:\n%s", name, out)
		}
	}
}

func TestNoSecretIsWritten(t *testing.T) {
	for name, out := range outputs(t, everywhere(hostile)) {
		if bytes.Contains(out, []byte("hunter2")) {
			t.Errorf("%s: writes a secret:\n%s", name, out)
		}
	}
}

// A credential is hidden also where the text is cut off in the middle of it.
func TestNoSecretIsCutOpen(t *testing.T) {
	for name, out := range outputs(t, everywhere(strings.Repeat("a", 490)+" http://root:hunter2@h/")) {
		if bytes.Contains(out, []byte(":hunt")) {
			t.Errorf("%s: writes a part of a secret:\n%s", name, out)
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	for name, out := range outputs(t, everywhere(strings.Repeat("a", 1<<13))) {
		if strings.HasSuffix(name, " json") {
			continue // a document is whole
		}
		if len(out) > 48<<10 {
			t.Errorf("%s: %d bytes", name, len(out))
		}
	}
}

// Escaping is for terminals; what a program reads is what was said.
func TestJSONKeepsWhatWasSaid(t *testing.T) {
	said := "\x1b[2J\u009b\u202e\U000e0001\x7f\n\t\"\\ é 漢"
	p := smallPlan()
	p.Nodes[0].Notes = []string{said}
	var d report.Document
	if err := json.Unmarshal(planJSON(t, p), &d); err != nil {
		t.Fatal(err)
	}
	if got := d.Nodes[0].Notes[0]; got != said {
		t.Errorf("read %q, want %q", got, said)
	}
}

func TestA200NodePlanFitsAScreen(t *testing.T) {
	text := string(planText(t, largePlan(), report.Options{FoldNames: foldNames, Width: 120}))
	if lines := strings.Count(text, "\n"); lines > 40 {
		t.Errorf("%d lines, want at most 40:\n%s", lines, text)
	}
}

func TestLinesKeepToTheWidth(t *testing.T) {
	for width := 60; width < 140; width += 7 {
		text := string(planText(t, largePlan(), report.Options{FoldNames: foldNames, Width: width}))
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if n := len([]rune(line)); n > width && strings.Count(strings.TrimSpace(line), " ") > 1 {
				t.Errorf("width %d: a line of %d: %q", width, n, line)
			}
		}
	}
}

// Names folded into ranges are broken between ranges, never within one.
func TestLongListsAreBroken(t *testing.T) {
	folded := "x[3000-3001]c0s[1-9]b0n0,y[1,3,5]z"
	p := smallPlan()
	o := report.Options{Width: 60, FoldNames: func(names []string) string {
		return strings.Repeat(folded+",", 5) + fmt.Sprint(len(names))
	}}
	for line := range strings.Lines(string(planText(t, p, o))) {
		if strings.Count(line, "[") != strings.Count(line, "]") {
			t.Errorf("a range is broken: %q", line)
		}
	}
}
