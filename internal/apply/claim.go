package apply

import (
	"context"
	"errors"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Claim is the right to be the only one who changes a node.
type Claim interface {
	// Fresh reports whether nobody else can have changed the node since it was
	// planned.
	Fresh() bool
	// Lost is closed when another may soon change the node. nil never is.
	Lost() <-chan struct{}
	// Start is asked before the first step of a plan that harms, once there is a
	// place among the nodes that may be down. It may wait.
	Start(ctx context.Context, np plan.NodePlan) error
	// Harm is asked just before each step that is more than safe, after the last
	// look at the node: np.Facts has what the plan was made of, or what was seen
	// since. The error of both, a *bmc.Error, keeps the rest from being done.
	Harm(ctx context.Context, np plan.NodePlan, a plan.Action) error
	// Release gives the node to whoever is next, and is told how the run of it
	// ended.
	Release(res NodeResult)
}

var errLost = errors.New("stopped before this: the node's lock is about to go to another writer")

// takeClaim waits for the claim at most until the run is stopped.
func (w *work) takeClaim(ctx context.Context) error {
	if w.Claim == nil {
		return nil
	}
	ctx, done := w.interruptible(ctx)
	defer done()
	var err error
	w.claim, err = w.Claim(ctx, w.node)
	if err != nil && w.stopped(ctx) {
		return w.stoppedBefore()
	}
	return err
}

func (w *work) lost() <-chan struct{} {
	if w.claim == nil {
		return nil
	}
	return w.claim.Lost()
}

// refuse makes the node blocked, as it is for want of a claim.
func (res *NodeResult) refuse(err error) {
	res.Err = err
	if e, ok := errors.AsType[*bmc.Error](err); ok && e.Kind != bmc.KindCancelled {
		res.After.State, res.After.Err = plan.Blocked, e
	}
}

// stillFits looks at the node again if another may have changed it since it was
// planned. That nothing is left to do is fine.
func (w *work) stillFits(ctx context.Context, res *NodeResult) error {
	if w.claim == nil || w.claim.Fresh() {
		return nil
	}
	facts, err := w.observe(ctx)
	if err != nil {
		return err
	}
	fresh := w.replan(facts)
	if nothingLeft(fresh) && len(fresh.Steps) == 0 {
		res.After, res.Converged = fresh, true
		w.tell(Event{Node: w.node.Name, Phase: Done, Detail: "somebody else has done it meanwhile"})
		return w.tidy(ctx, w.node, facts)
	}
	if !fits(w.plan.Steps, fresh) || savesFirst(fresh) && !savesFirst(w.plan) {
		return noLonger(describe(fresh))
	}
	w.plan.Facts, w.host = facts, facts.Host
	return nil
}

// stopped reports whether no further step of the node is to be started.
func (w *work) stopped(ctx context.Context) bool {
	select {
	case <-w.lost():
		return true
	default:
		return w.run.stopped(ctx)
	}
}

func (w *work) stoppedBefore() error {
	select {
	case <-w.lost():
		return cancelled(errLost)
	default:
		return cancelled(errStopped)
	}
}

// mayStart asks whether a plan that harms may be begun.
func (w *work) mayStart(ctx context.Context) error {
	if w.claim == nil {
		return nil
	}
	ctx, done := w.interruptible(ctx)
	defer done()
	err := w.claim.Start(ctx, w.plan)
	if err != nil && w.stopped(ctx) {
		return w.stoppedBefore()
	}
	return err
}

// harm asks whether the step may be begun, if it is one that harms.
func (w *work) harm(ctx context.Context, a plan.Action) error {
	if w.claim == nil || a.Effect() == plan.Safe {
		return nil
	}
	return w.claim.Harm(ctx, w.plan, a)
}

// tidyAlone is tidy under a claim. While another has the node, the note is his.
func (r *run) tidyAlone(ctx context.Context, n site.Node, f plan.Facts) error {
	if r.Claim == nil || f.Overlay.Reboot == nil {
		return r.tidy(ctx, n, f)
	}
	c, err := r.Claim(ctx, n)
	if err != nil {
		return nil // it is tidied by whoever has it, or next time
	}
	defer c.Release(NodeResult{Node: n.Name, Converged: true})
	if !c.Fresh() {
		return nil
	}
	return r.tidy(ctx, n, f)
}
