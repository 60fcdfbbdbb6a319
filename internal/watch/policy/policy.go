package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Policy is what a watch may do.
type Policy struct {
	site.Watch
	// Safe: every step that harms nothing, too.
	Safe bool
	// All: every step.
	All bool
}

// A Verdict is what a watch may do to one node now.
type Verdict struct {
	// Run is what may be run; nil: nothing.
	Run *plan.NodePlan
	// Why says why nothing, or not all, may be run; "" where nothing is kept back.
	Why string
	// Again is when to judge again, as far as time alone changes the verdict.
	Again time.Duration
}

// Judge says what may be done to n, of which np was planned, at now.
func (p Policy) Judge(n site.Node, np plan.NodePlan, a Attempt, now time.Time) Verdict {
	if np.State != plan.Change {
		return Verdict{}
	}
	v := p.judge(np, a, now)
	if due, ok := p.dueBackup(n, np, now); v.Run == nil && ok && a.Wait(now) == 0 {
		v.Run = &due
	}
	return v
}

func (p Policy) judge(np plan.NodePlan, a Attempt, now time.Time) Verdict {
	var not []string
	for _, s := range np.Steps {
		if !p.mayRun(s.Action) && !slices.Contains(not, s.Action.Name()) {
			not = append(not, s.Action.Name())
		}
	}
	if len(not) > 0 {
		return Verdict{Why: "left to `livecd-sync apply`: a watch may not " + strings.Join(not, ", ") + " here"}
	}
	for _, s := range np.Steps {
		if err := a.Forbids(s.Action, np.Facts); err != nil {
			return Verdict{Why: "left to `livecd-sync apply`: " + err.Error()}
		}
	}
	if wait := a.Wait(now); wait > 0 {
		return Verdict{Why: fmt.Sprintf("it is tried again at %s, for it has failed (%d in a row): %s", now.Add(wait).UTC().Format(time.RFC3339), a.Failures, a.Error), Again: wait}
	}
	if Harms(np) && p.Within != nil && !p.Within.Contains(now) {
		opens := p.Within.Next(now)
		return Verdict{Why: "it waits for " + p.Within.String(), Again: opens.Sub(now)}
	}
	return Verdict{Run: &np}
}

func (p Policy) mayRun(a plan.Action) bool {
	return p.All || p.Safe && a.Effect() == plan.Safe || p.MayRun(a.Name())
}

// Harms reports whether a step of the plan is more than safe.
func Harms(np plan.NodePlan) bool {
	return slices.ContainsFunc(np.Steps, func(s plan.Step) bool { return s.Action.Effect() != plan.Safe })
}

// dueBackup is the backup alone, where one is due and the rest of the plan has to
// wait.
func (p Policy) dueBackup(n site.Node, np plan.NodePlan, now time.Time) (plan.NodePlan, bool) {
	if len(np.Steps) == 0 || !p.mayRun(plan.BackupOverlay{}) {
		return np, false
	}
	first := np.Steps[0]
	b, is := first.Action.(plan.BackupOverlay)
	if !is {
		return np, false
	}
	if b.Purpose != plan.Due {
		latest := np.Facts.Overlay.Latest
		if n.Overlay == nil || n.Overlay.Every <= 0 || latest != nil && now.Sub(latest.At) < n.Overlay.Every {
			return np, false
		}
		first = plan.Step{Action: plan.BackupOverlay{Purpose: plan.Due, Store: b.Store}, Because: "one is due every " + n.Overlay.Every.String()}
	}
	np.Steps, np.Partial = []plan.Step{first}, true
	return np, true
}
