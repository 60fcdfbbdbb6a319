package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// An ending is how a node ended a run.
type ending int

// The endings, in the order in which they are told: what somebody has to look
// at comes first.
const (
	failed ending = iota
	blocked
	stopped // the run ended, or the node was no longer as planned, before its steps were done
	pending // no error, and yet something is left to do
	converged
	untouched // was in sync, and still is
)

// ResultText writes what became of a plan for people.
func ResultText(w io.Writer, r apply.Result, o Options) error {
	t := newTally(r)
	pg := &page{Options: o}
	pg.line(4, o.paint(bold, clean(r.Plan.Site))+": "+t.counts())
	for _, b := range t.blocks(o) {
		pg.resultBlock(t, b)
	}
	_, err := io.WriteString(w, pg.b.String())
	return err
}

// A tally has the results by node, and each node's plan as it stands after the
// run.
type tally struct {
	results map[string]apply.NodeResult
	nodes   []plan.NodePlan
}

func newTally(r apply.Result) tally {
	t := tally{results: make(map[string]apply.NodeResult, len(r.Nodes))}
	for _, n := range r.Nodes {
		t.results[n.Node] = n
	}
	for _, n := range r.Plan.Nodes {
		if after := t.results[n.Node].After; after.Node != "" {
			after.Steps = n.Steps // what is told is what was done, not what would come next
			n = after
		}
		t.nodes = append(t.nodes, n)
	}
	return t
}

func (t tally) ending(n plan.NodePlan) ending {
	r := t.results[n.Node]
	switch {
	case n.State == plan.Blocked:
		return blocked
	case r.Err != nil && bmc.KindOf(r.Err) == bmc.KindCancelled:
		return stopped
	case r.Err != nil || n.State == plan.Failed:
		return failed
	case r.Converged && len(n.Steps) == 0:
		return untouched
	case r.Converged:
		return converged
	}
	return pending
}

func (t tally) counts() string {
	var n [untouched + 1]int
	for _, node := range t.nodes {
		n[t.ending(node)]++
	}
	switch len(t.nodes) {
	case 0:
		return "no nodes"
	case n[untouched]:
		return count(len(t.nodes)) + ", all in sync already"
	}
	return count(len(t.nodes)) + ": " + counts(
		number{n[converged], "converged"}, number{n[untouched], "in sync already"}, number{n[pending], "still to change"},
		number{n[stopped], "stopped"}, number{n[blocked], "blocked"}, number{n[failed], "failed"})
}

func (t tally) blocks(o Options) []block {
	bs := blocks(t.nodes, func(n plan.NodePlan) string {
		if o.Verbose {
			return n.Node
		}
		return t.key(n)
	})
	slices.SortStableFunc(bs, func(a, b block) int { return int(t.ending(a.nodes[0])) - int(t.ending(b.nodes[0])) })
	return bs
}

// key is equal for nodes of which the same can be told.
func (t tally) key(n plan.NodePlan) string {
	key := fmt.Sprintf("%d\n", t.ending(n))
	if err := t.err(n); err != nil {
		key += errorKey(err, ownOf(n)) + "\n" + strings.Join(t.stepsBy(n, apply.OutcomeFailed), ",") +
			"\n" + strings.Join(t.stepsBy(n, apply.OutcomeDone), ",") + "\n" + strings.Join(t.stepsBy(n, apply.OutcomeSkipped), ",")
	}
	return key
}

// err is why the node is not as it should be, nil for one that is.
func (t tally) err(n plan.NodePlan) error {
	switch t.ending(n) {
	case untouched, converged, pending:
		return nil
	case failed, blocked, stopped:
	}
	if err := t.results[n.Node].Err; err != nil {
		return err
	}
	if n.Err != nil {
		return n.Err
	}
	return errUntold
}

// stepsBy names the node's steps that ended so.
func (t tally) stepsBy(n plan.NodePlan, o apply.Outcome) []string {
	var names []string
	for i, s := range n.Steps {
		outcome := apply.OutcomeSkipped
		if rs := t.results[n.Node].Steps; i < len(rs) {
			outcome = rs[i].Outcome
		}
		if outcome == o {
			names = append(names, s.Action.Name())
		}
	}
	return names
}

func (p *page) resultBlock(t tally, b block) {
	p.blank()
	n := b.nodes[0]
	switch t.ending(n) {
	case failed:
		p.head(p.paint(red, "✗"), b, p.paint(red, "failed")+where(t, n))
	case blocked:
		p.head(p.paint(yellow, "!"), b, p.paint(yellow, "blocked")+where(t, n))
	case stopped:
		p.head(p.paint(yellow, "!"), b, p.paint(yellow, "stopped")+where(t, n))
	case pending:
		p.head(p.paint(yellow, "~"), b, p.paint(yellow, "still to change"))
	case converged:
		p.inSync("converged", b)
	case untouched:
		p.inSync("in sync already", b)
	}
	if t.err(n) != nil {
		p.errorLines(b, t.err)
		p.whatWasDone(t, n)
	}
	if end := t.ending(n); p.Verbose || end < converged {
		p.nowLines(b)
	}
	p.notes(b.nodes)
}

// where names the step that failed, and the kind of the error.
func where(t tally, n plan.NodePlan) string {
	kind := " (" + clean(string(bmc.KindOf(t.err(n)))) + ")"
	if names := t.stepsBy(n, apply.OutcomeFailed); len(names) > 0 {
		return " at " + names[0] + kind
	}
	return kind
}

// whatWasDone says how far the steps came.
func (p *page) whatWasDone(t tally, n plan.NodePlan) {
	if done := t.stepsBy(n, apply.OutcomeDone); len(done) > 0 {
		p.line(10, "    done: "+strings.Join(done, ", "))
	}
	if left := t.stepsBy(n, apply.OutcomeSkipped); len(left) > 0 {
		p.line(14, "    not done: "+strings.Join(left, ", "))
	}
}

// nowLines says how the block's nodes stand, since their steps did not end as
// planned.
func (p *page) nowLines(b block) {
	for _, t := range tellings(b.nodes, func(n plan.NodePlan) []string { return []string{now(n)} }) {
		text := "    now: " + t.text
		if len(t.nodes) < len(b.nodes) {
			text += p.paint(dim, "  ("+p.fold(namesOf(t.nodes))+")")
		}
		p.line(9, text)
	}
}
