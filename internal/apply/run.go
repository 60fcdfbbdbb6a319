package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Overlays backs overlays up and restores them, and keeps the note that a run
// leaves before it ends what a node runs. Its errors are of type *bmc.Error.
type Overlays interface {
	// Backup returns the ID of a verified backup. It tells progress how it goes,
	// in words.
	Backup(ctx context.Context, n site.Node, purpose plan.Purpose, progress func(string)) (id string, err error)
	// Restore returns, in words, what was restored.
	Restore(ctx context.Context, n site.Node, id string, progress func(string)) (report string, err error)
	// Repopulate fetches what a backup that was restored left out, and returns, in
	// words, what came of it. That a file cannot be had is no error.
	Repopulate(ctx context.Context, n site.Node, id string, progress func(string)) (report string, err error)
	SetReboot(ctx context.Context, n site.Node, r plan.Reboot) error
	ClearReboot(ctx context.Context, n site.Node) error
}

// A Runner runs plans. Its fields are not changed once Run was called.
type Runner struct {
	// Dial connects to a node's BMC, for the whole of the node's run.
	Dial func(ctx context.Context, n site.Node) (bmc.Client, error)
	// Host asks the node itself what it runs.
	Host func(ctx context.Context, n site.Node) (plan.Host, error)
	// Login does the node's first login, for at most the given time, and says in
	// words what was done. nil: there is no way to.
	Login func(ctx context.Context, n site.Node, within time.Duration, progress func(string)) (string, error)
	// Beside completes what a BMC said with what the node and its store say.
	Beside   func(ctx context.Context, s *site.Site, n site.Node, state bmc.State) plan.Facts
	Overlays Overlays
	// Claim makes the run the only one who changes the node. It is called before
	// the node's first step; its error, a *bmc.Error, makes the node blocked. nil:
	// nobody else is there.
	Claim  func(ctx context.Context, n site.Node) (Claim, error)
	Images map[string]plan.ImageFacts
	// Accept names the nodes whose overlay may be lost.
	Accept map[string]bool
	Clock  bmc.Clock
	Timing Timing
	// Jobs is how many nodes are worked on at once; 0 means 64.
	Jobs int
	// MaxDown is how many nodes may be down at once; 0 means no limit.
	MaxDown int
	// MaxFail is after how many failed nodes no further node is started; 0 means
	// never.
	MaxFail int
	// Emit is told what happens, one event at a time. It may be nil.
	Emit func(Event)

	emit sync.Mutex
}

const defaultJobs = 64

// Run runs p, which was made of s. Closing stop lets running steps come to a
// safe point and starts no other; ending ctx ends everything at once. Every
// node of p is in the result.
func (r *Runner) Run(ctx context.Context, stop <-chan struct{}, s *site.Site, p plan.Plan) Result {
	run := &run{Runner: r, site: s, timing: r.Timing.orDefaults(), stop: stop}
	run.full, run.noMore = context.WithCancel(context.Background())
	defer run.noMore()
	if r.MaxDown > 0 {
		run.down = semaphore.NewWeighted(int64(r.MaxDown))
	}
	res := Result{Plan: p, Nodes: make([]NodeResult, len(p.Nodes))}
	var g errgroup.Group
	if g.SetLimit(r.Jobs); r.Jobs <= 0 {
		g.SetLimit(defaultJobs)
	}
	nodes := make(map[string]site.Node, len(s.Nodes))
	for _, n := range s.Nodes {
		nodes[n.Name] = n
	}
	for i, np := range p.Nodes {
		g.Go(func() error {
			res.Nodes[i] = run.node(ctx, nodes[np.Node], np)
			if res.Nodes[i].Err != nil && np.Err == nil && len(np.Steps) > 0 {
				run.countFailure()
			}
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failed node is a result
	return res
}

// A run is one call of Run.
type run struct {
	*Runner
	site   *site.Site
	timing Timing
	down   *semaphore.Weighted // nil: any number may be down
	failed atomic.Int64
	// lost counts the places among the nodes that may be down which nodes that
	// failed keep; full ends when none is left.
	lost   atomic.Int64
	full   context.Context //nolint:containedctx // a signal to whoever waits for a place
	noMore context.CancelFunc

	stop <-chan struct{} // closed when no further step shall be started
}

var (
	errStopped = errors.New("stopped before this")
	errTooMany = errors.New("not started: too many nodes had failed")
	errAllDown = errors.New("not started: as many nodes as may be down at once have failed and may still be down")
)

func (r *run) stopped(ctx context.Context) bool {
	select {
	case <-r.stop:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func (r *run) stayedDown() {
	if r.lost.Add(1) >= int64(r.MaxDown) {
		r.noMore()
	}
}

func (r *run) countFailure() { r.failed.Add(1) }

func (r *run) tooManyFailed() bool {
	return r.MaxFail > 0 && r.failed.Load() >= int64(r.MaxFail)
}

// interruptible returns a context that ends at stop too, and when the claim is
// lost, for steps that may be left at any moment.
func (w *work) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done, lost := make(chan struct{}), w.lost()
	go func() {
		select {
		case <-w.stop:
			cancel(errStopped)
		case <-lost:
			cancel(errLost)
		case <-done:
		}
	}()
	return ctx, func() { close(done); cancel(nil) }
}

func (r *run) tell(e Event) {
	if r.Emit == nil {
		return
	}
	e.At = r.Clock.Now()
	r.emit.Lock()
	defer r.emit.Unlock()
	r.Emit(e)
}

// node runs one node's plan.
func (r *run) node(ctx context.Context, n site.Node, np plan.NodePlan) NodeResult {
	res := NodeResult{Node: np.Node, Steps: make([]StepResult, len(np.Steps)), After: np}
	for i := range res.Steps {
		res.Steps[i].Outcome = OutcomeSkipped
	}
	switch {
	case np.Err != nil:
		res.Err = np.Err
		return res
	case len(np.Steps) == 0:
		res.Converged = true
		if err := r.tidyAlone(ctx, n, np.Facts); err != nil {
			res.Err, res.Converged = err, false
			r.tell(Event{Node: np.Node, Phase: Failed, Err: err})
		}
		return res
	case r.stopped(ctx):
		res.Err = cancelled(errStopped)
	case r.tooManyFailed():
		res.Err = cancelled(errTooMany)
	}
	if res.Err != nil {
		r.tell(Event{Node: np.Node, Phase: Skipped, Err: res.Err})
		return res
	}
	w := &work{run: r, node: n, plan: np, host: np.Facts.Host}
	defer func() { w.close(ctx, res) }()
	if err := w.takeClaim(ctx); err != nil {
		res.refuse(err)
		r.tell(Event{Node: np.Node, Phase: Skipped, Err: err})
		return res
	}
	if res.Err = w.stillFits(ctx, &res); res.Converged {
		return res
	}
	if res.Err == nil {
		res.Err = w.steps(ctx, res.Steps)
	}
	w.conclude(ctx, &res)
	return res
}

// conclude observes the node a last time and says whether it converged.
func (w *work) conclude(ctx context.Context, res *NodeResult) {
	if res.Err == nil || w.worthALook(res.Err) {
		w.look(ctx, res)
	}
	switch {
	case res.Err != nil:
		w.tell(Event{Node: w.node.Name, Phase: Failed, Err: res.Err})
	case !res.Converged && w.plan.Partial:
		w.tell(Event{Node: w.node.Name, Phase: Done, Detail: "the rest of what it needs is left"})
	case !res.Converged:
		res.Err = stillToDo(res.After)
		w.tell(Event{Node: w.node.Name, Phase: Failed, Err: res.Err})
	default:
		w.tell(Event{Node: w.node.Name, Phase: Done})
	}
}

func (w *work) look(ctx context.Context, res *NodeResult) {
	facts, err := w.observe(ctx)
	if err != nil {
		if res.Err == nil {
			res.Err = err
		}
		res.After.Facts = plan.Facts{Err: err, Host: plan.HostUnknown{}}
		return
	}
	res.After = w.replan(facts)
	res.Converged = res.Err == nil && nothingLeft(res.After)
	w.converged = res.Converged
	if res.Converged {
		res.Err = w.tidy(ctx, w.node, facts)
	}
}

// nothingLeft reports whether a node is as wanted. A backup that has become due
// with the boot is no part of what this run was for.
func nothingLeft(np plan.NodePlan) bool {
	if np.State == plan.InSync {
		return true
	}
	for _, s := range np.Steps {
		if b, ok := s.Action.(plan.BackupOverlay); !ok || b.Purpose != plan.Due {
			return false
		}
	}
	return np.State == plan.Change
}

// worthALook reports whether, after err, the BMC is likely to answer at all.
func (*work) worthALook(err error) bool {
	switch bmc.KindOf(err) {
	case bmc.KindUnreachable, bmc.KindAuth, bmc.KindTLS:
		return false
	default:
		return true
	}
}

// tidy removes the note of a run that was cut off, once nothing it speaks of is
// left to do.
func (r *run) tidy(ctx context.Context, n site.Node, f plan.Facts) error {
	note := f.Overlay.Reboot
	if note == nil {
		return nil
	}
	h, live := f.Host.(plan.HostLive)
	paid := live && (note.Restore == "" || h.BootID == note.BootID || h.Restored != "")
	if paid || note.Image == site.NoImage && f.BMC.Power == bmc.PowerOn {
		return r.Overlays.ClearReboot(ctx, n)
	}
	return nil
}

func stillToDo(np plan.NodePlan) error {
	if np.Err != nil {
		return np.Err
	}
	names := make([]string, 0, len(np.Steps))
	for _, s := range np.Steps {
		names = append(names, s.Action.Name())
	}
	return &bmc.Error{
		Kind: bmc.KindProtocol, Err: fmt.Errorf("every step was done, and yet there is left to do: %v", names),
		Hint: "look at `livecd-sync plan -w " + np.Node + "`; the BMC may not show what it was told",
	}
}

func cancelled(err error) *bmc.Error {
	return &bmc.Error{Kind: bmc.KindCancelled, Err: err, Hint: "run apply again: it continues from what it finds"}
}
