package report_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

// ran makes the results of a node's steps: done up to the one that failed.
func ran(n plan.NodePlan, done int, err error) []apply.StepResult {
	steps := make([]apply.StepResult, len(n.Steps))
	for i := range steps {
		switch {
		case i < done:
			steps[i] = apply.StepResult{Outcome: apply.OutcomeDone, Took: time.Duration(i+1) * 1234567 * time.Microsecond}
		case i == done && err != nil:
			steps[i] = apply.StepResult{Outcome: apply.OutcomeFailed, Took: time.Second, Err: err}
		default:
			steps[i] = apply.StepResult{Outcome: apply.OutcomeSkipped}
		}
	}
	return steps
}

func noMedia(addr string) error {
	return &bmc.Error{
		Op: "insert media", Kind: bmc.KindMedia, Hint: "see that the BMC reaches the web server",
		Err: errors.New("the BMC at " + addr + " answered: image not found"),
	}
}

// smallResult has a node of every ending.
func smallResult() apply.Result {
	p := plan.Plan{Site: "redbird", Digest: "sha256:3c0b", At: observedAt}
	var r apply.Result
	add := func(n plan.NodePlan, res apply.NodeResult) {
		res.Node = n.Node
		p.Nodes, r.Nodes = append(p.Nodes, n), append(r.Nodes, res)
	}
	add(inSync("ncn-m001", plan.ProofNode), apply.NodeResult{Converged: true, After: inSync("ncn-m001", plan.ProofNode)})
	for _, name := range []string{"n1", "n2"} {
		n := changing(name, "b-"+name)
		add(n, apply.NodeResult{Converged: true, Steps: ran(n, 8, nil), After: inSync(name, plan.ProofBMC)})
	}
	for name, addr := range map[string]string{"n3": "10.0.0.3"} {
		n := changing(name, "b-"+name)
		after := n
		after.Facts.BMC.Power, after.Facts.BMC.Media = bmc.PowerOff, bmc.Media{Slot: "2"}
		after.Facts.Host = plan.HostSilent{Err: errors.New("no route to host")}
		add(n, apply.NodeResult{Steps: ran(n, 3, noMedia(addr)), After: after, Err: noMedia(addr)})
	}
	n4 := changing("n4", "b-n4")
	add(n4, apply.NodeResult{
		Steps: ran(n4, 0, nil), After: n4,
		Err: &bmc.Error{Kind: bmc.KindCancelled, Err: errors.New("stopped before this"), Hint: "run apply again"},
	})
	n5 := dataLoss("n5")
	add(n5, apply.NodeResult{After: n5, Err: n5.Err})
	n6 := unreachable("n6", "10.0.0.6")
	add(n6, apply.NodeResult{After: n6, Err: n6.Err})
	n7 := changing("n7", "b-n7")
	add(n7, apply.NodeResult{Steps: ran(n7, 8, nil), After: n7})
	r.Plan = p
	return r
}

func TestResultText(t *testing.T) {
	allGood := plan.Plan{Site: "redbird", Nodes: []plan.NodePlan{inSync("n1", plan.ProofNode)}}
	tests := map[string]struct {
		result apply.Result
		opts   report.Options
	}{
		"small.txt":    {smallResult(), report.Options{FoldNames: foldNames}},
		"color.txt":    {smallResult(), report.Options{FoldNames: foldNames, Color: true, Width: 80}},
		"verbose.txt":  {smallResult(), report.Options{Verbose: true}},
		"all-good.txt": {apply.Result{Plan: allGood, Nodes: []apply.NodeResult{{Node: "n1", Converged: true}}}, report.Options{}},
		"untold.txt":   {apply.Result{Plan: smallPlan()}, report.Options{}},
		"no-nodes.txt": {apply.Result{Plan: plan.Plan{Site: "redbird"}}, report.Options{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			golden(t, "result-"+name, render(t, func(b *bytes.Buffer) error { return report.ResultText(b, tt.result, tt.opts) }))
		})
	}
}

func TestResultJSON(t *testing.T) {
	golden(t, "result-small.json", render(t, func(b *bytes.Buffer) error { return report.ResultJSON(b, smallResult()) }))
}

// A node that a result does not speak of was not touched.
func TestResultOfAnUnfinishedRun(t *testing.T) {
	d := report.FromResult(apply.Result{Plan: smallPlan()})
	for _, n := range d.Nodes {
		if n.Converged == nil || *n.Converged {
			t.Errorf("%s: converged is %v, want false", n.Name, n.Converged)
		}
		for i, s := range n.Steps {
			if s.Outcome != apply.OutcomeSkipped {
				t.Errorf("%s: step %d is %q, want skipped", n.Name, i+1, s.Outcome)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	p := smallPlan()
	odd := inSync("n-odd", plan.ProofNone)
	odd.Facts.BMC.Power, odd.Facts.BMC.Media = bmc.PowerUnknown, bmc.Media{Inserted: true}
	odd.Facts.Host = plan.HostSilent{Err: errors.New("no route")}
	disk := inSync("n-disk", plan.ProofNone)
	disk.Facts.BMC.Media, disk.Facts.Host = bmc.Media{Access: bmc.AccessDisabled}, plan.HostDisk{BootID: "b"}
	stale := inSync("n-stale", plan.ProofNone)
	stale.Facts.BMC.Media.Inserted, stale.Facts.Host = false, plan.HostLive{BootID: "b"}
	empty := inSync("n-empty", plan.ProofNone)
	empty.Facts.BMC.Media = bmc.Media{Image: "None"}
	p.Nodes = append(p.Nodes, odd, disk, stale, empty)
	golden(t, "status.txt", render(t, func(b *bytes.Buffer) error { return report.StatusText(b, p, report.Options{}) }))
	golden(t, "status-color.txt", render(t, func(b *bytes.Buffer) error { return report.StatusText(b, p, report.Options{Color: true}) }))
	golden(t, "status.json", render(t, func(b *bytes.Buffer) error { return report.StatusJSON(b, p) }))
	golden(t, "status-verbose-plan.txt", planText(t, p, report.Options{Verbose: true}))
}

var errFull = errors.New("no space left on device")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestWriteErrorsAreReturned(t *testing.T) {
	for name, write := range map[string]func() error{
		"PlanText":   func() error { return report.PlanText(fullDisk{}, smallPlan(), report.Options{}) },
		"PlanJSON":   func() error { return report.PlanJSON(fullDisk{}, smallPlan()) },
		"ResultText": func() error { return report.ResultText(fullDisk{}, smallResult(), report.Options{}) },
		"ResultJSON": func() error { return report.ResultJSON(fullDisk{}, smallResult()) },
		"StatusText": func() error { return report.StatusText(fullDisk{}, smallPlan(), report.Options{}) },
		"StatusJSON": func() error { return report.StatusJSON(fullDisk{}, smallPlan()) },
	} {
		if err := write(); !errors.Is(err, errFull) {
			t.Errorf("%s: %v, want %v", name, err, errFull)
		}
	}
}
