package report_test

import (
	"bytes"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

func planText(t *testing.T, p plan.Plan, o report.Options) []byte {
	t.Helper()
	return render(t, func(b *bytes.Buffer) error { return report.PlanText(b, p, o) })
}

func TestPlanText(t *testing.T) {
	lost := smallPlan()
	lost.Nodes[1].Steps = lost.Nodes[1].Steps[1:]
	lost.Nodes[2].Facts.Host, lost.Nodes[2].Steps = plan.HostSilent{}, lost.Nodes[2].Steps[1:]
	tests := map[string]struct {
		plan plan.Plan
		opts report.Options
	}{
		"small.txt":     {smallPlan(), report.Options{FoldNames: foldNames, Width: 100}},
		"plain.txt":     {smallPlan(), report.Options{}},
		"color.txt":     {smallPlan(), report.Options{FoldNames: foldNames, Color: true, Width: 80}},
		"verbose.txt":   {smallPlan(), report.Options{FoldNames: foldNames, Verbose: true}},
		"large.txt":     {largePlan(), report.Options{FoldNames: foldNames, Width: 120}},
		"lost.txt":      {lost, report.Options{FoldNames: foldNames}},
		"all-good.txt":  {plan.Plan{Site: "redbird", Nodes: []plan.NodePlan{inSync("n1", plan.ProofNode)}}, report.Options{}},
		"no-nodes.txt":  {plan.Plan{Site: "redbird"}, report.Options{}},
		"one-error.txt": {plan.Plan{Site: "redbird", Nodes: []plan.NodePlan{unreachable("n1", "10.0.0.1")}}, report.Options{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { golden(t, "plan-"+name, planText(t, tt.plan, tt.opts)) })
	}
}
