package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// work is one node being worked on.
type work struct {
	*run
	node   site.Node
	plan   plan.NodePlan
	claim  Claim      // nil: nobody else is there
	client bmc.Client // nil until the first use
	host   plan.Host  // before anything was ended
	backup string     // the backup this run made, or ""
	// started: this run has started the machine, so whatever answers from now on
	// is a new boot.
	started   bool
	inserted  bool         // this run has mounted the image
	gaveUp    bool         // no backup could be made, and that was accepted
	converged bool         // looked at again, and nothing was left to do
	left      *plan.Reboot // the note that this run has left, or nil
	armed     bool         // this run has set the boot override
	holds     bool         // a place among the nodes that may be down
	step      int          // of the step that is running, from 0
	atRisk    bool         // the check before the first disruptive step is done
	asked     time.Time    // when the BMC was last asked during await-boot
	inPost    bool         // the BMC has shown the firmware at work since the start
	usedSince time.Time    // since when it shows an override that the boot should have used up
	bootEnds  time.Time    // until when a boot that is not seen yet may take; zero: none
	lostSince time.Time    // since when it shows that the boot is lost; zero: it does not
	seen      *bmc.State   // by the check just before the step that runs, or nil
	back      readBack     // what this run's own writes showed last
}

func (w *work) bmc(ctx context.Context) (bmc.Client, error) {
	if w.client != nil {
		return w.client, nil
	}
	c, err := w.Dial(ctx, w.node)
	if err != nil {
		return nil, err
	}
	w.client = c
	return c, nil
}

func (w *work) close(ctx context.Context, res NodeResult) {
	switch {
	case w.holds && w.atRisk && !w.converged:
		w.stayedDown() // it may be off: its place is not free
	case w.holds:
		w.down.Release(1)
	}
	if w.claim != nil {
		defer w.claim.Release(res)
	}
	if w.client != nil {
		// A session that could not be ended times out on the BMC; nothing that was
		// done depends on it.
		_ = w.client.Close(ctx)
	}
}

// A readBack is what the BMC showed when this run's writes were read back.
type readBack struct {
	media time.Time  // when the slot was read
	state *bmc.State // with that slot, or nil
	at    time.Time  // when the system was read
}

// justNow is for how long what was read back counts as what is.
const justNow = 2 * time.Second

// observe reads the BMC, then the node and its store.
func (w *work) observe(ctx context.Context) (plan.Facts, error) {
	s, err := w.state(ctx)
	if err != nil {
		return plan.Facts{}, err
	}
	return w.Beside(ctx, w.site, w.node, s), nil
}

// lastLook observes before the first harm. It does not ask the BMC for what it
// has just told.
func (w *work) lastLook(ctx context.Context) (plan.Facts, error) {
	b, now := w.back, w.Clock.Now()
	if b.state == nil || now.Sub(b.media) >= justNow || now.Sub(b.at) >= justNow {
		return w.observe(ctx)
	}
	return w.Beside(ctx, w.site, w.node, *b.state), nil
}

func (w *work) state(ctx context.Context) (bmc.State, error) {
	c, err := w.bmc(ctx)
	if err != nil {
		return bmc.State{}, err
	}
	return c.Observe(ctx)
}

func (w *work) replan(f plan.Facts) plan.NodePlan {
	one := *w.site
	one.Nodes = []site.Node{w.node}
	o := plan.Observed{At: w.Clock.Now(), Nodes: map[string]plan.Facts{w.node.Name: f}, Images: w.Images}
	return plan.Compute(&one, o, w.Accept).Nodes[0]
}

// steps runs the node's steps in order and stops at the first that fails.
func (w *work) steps(ctx context.Context, results []StepResult) error {
	// The place is taken before the backup, so that little can change between the
	// backup and the end of what was backed up.
	if w.harms() {
		if err := w.takePlace(ctx); err != nil {
			return err
		}
		if err := w.mayStart(ctx); err != nil {
			return err
		}
	}
	for i, s := range w.plan.Steps {
		w.step = i
		if w.stopped(ctx) {
			return w.stoppedBefore()
		}
		if err := w.beforeHarm(ctx, s.Action); err != nil {
			results[i] = StepResult{Outcome: OutcomeFailed, Err: err}
			return err
		}
		if err := w.harm(ctx, s.Action); err != nil {
			return err
		}
		begun := w.Clock.Now()
		w.event(Started, "", nil)
		detail, err := w.do(ctx, s.Action)
		w.seen = nil
		results[i] = StepResult{Outcome: OutcomeDone, Took: w.Clock.Now().Sub(begun), Err: err}
		if err != nil {
			results[i].Outcome = OutcomeFailed
			w.event(Failed, "", err)
			return err
		}
		w.event(Done, detail, nil)
	}
	return nil
}

func (w *work) event(p Phase, detail string, err error) {
	w.tell(Event{
		Node: w.node.Name, Step: w.step + 1, Of: len(w.plan.Steps),
		Action: w.plan.Steps[w.step].Action, Phase: p, Detail: detail, Err: err,
	})
}

// beforeHarm stands between the plan and the first step that harms: it waits
// for a place among the nodes that may be down, looks again, and leaves the note.
func (w *work) beforeHarm(ctx context.Context, a plan.Action) error {
	if w.atRisk || a.Effect() == plan.Safe {
		return nil
	}
	facts, err := w.lastLook(ctx)
	if err != nil {
		return err
	}
	fresh := w.replan(facts)
	switch {
	case !fits(w.plan.Steps[w.step:], fresh):
		return noLonger(describe(fresh))
	case savesFirst(fresh) && !w.saved(facts):
		return noLonger("it runs a boot that this run has not backed up")
	}
	w.host, w.seen, w.plan.Facts = facts.Host, &facts.BMC, facts
	w.atRisk = true
	return w.leaveNote(ctx, facts)
}

func noLonger(why string) error {
	return &bmc.Error{
		Kind: bmc.KindCancelled, Err: fmt.Errorf("it is no longer as it was planned: %s; nothing was reset", why),
		Hint: "plan again",
	}
}

// savesFirst reports whether the plan would back up what it ends.
func savesFirst(np plan.NodePlan) bool {
	for _, s := range np.Steps {
		if b, ok := s.Action.(plan.BackupOverlay); ok && b.Purpose == plan.ForReset {
			return true
		}
	}
	return false
}

// saved reports whether the boot that runs is the one that this run backed up,
// or whose loss was accepted.
func (w *work) saved(f plan.Facts) bool {
	h, live := f.Host.(plan.HostLive)
	if w.backup == "" {
		return w.gaveUp
	}
	return live && f.Overlay.Latest != nil && f.Overlay.Latest.ID == w.backup && f.Overlay.Latest.BootID == h.BootID
}

// harms reports whether a step of the plan is more than safe.
func (w *work) harms() bool {
	for _, s := range w.plan.Steps {
		if s.Action.Effect() != plan.Safe {
			return true
		}
	}
	return false
}

func (w *work) takePlace(ctx context.Context) error {
	if w.down == nil || w.holds {
		return nil
	}
	ctx, done := w.interruptible(ctx)
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	unwatch := context.AfterFunc(w.full, cancel) //nolint:contextcheck // it is the run that has no place left, not the node
	defer unwatch()
	err := w.down.Acquire(ctx, 1)
	switch {
	case w.full.Err() != nil:
		return cancelled(errAllDown)
	case err != nil || w.stopped(ctx):
		return cancelled(errStopped)
	}
	w.holds = true
	if w.tooManyFailed() {
		return cancelled(errTooMany)
	}
	return nil
}

// leaveNote writes down, before the running boot is ended, what the next run
// has to know if this one is cut off.
func (w *work) leaveNote(ctx context.Context, f plan.Facts) error {
	if !w.node.OverlayManaged() || !w.boots() {
		return nil
	}
	r := plan.Reboot{At: w.Clock.Now(), Image: w.node.Image, Backup: w.backup, Restore: w.restoreID()}
	switch h := f.Host.(type) {
	case plan.HostLive:
		r.BootID = h.BootID
	case plan.HostDisk:
		r.BootID = h.BootID
	case plan.HostSilent, plan.HostLocked, plan.HostUnknown:
	}
	if old := f.Overlay.Reboot; r.Backup == "" && old != nil && !old.Started && f.BMC.Power != bmc.PowerOff {
		r.At, r.Backup, r.BootID = old.At, old.Backup, old.BootID // still the boot that the cut-off run had saved
	}
	w.left = &r
	err := w.Overlays.SetReboot(ctx, w.node, r)
	if err != nil && w.Accept[w.node.Name] {
		w.event(Progress, "no note could be left in the store: "+err.Error(), nil)
		return nil
	}
	return err
}

// boots reports whether the plan starts the machine.
func (w *work) boots() bool {
	for _, s := range w.plan.Steps {
		switch s.Action.(type) {
		case plan.PowerOn, plan.Reset:
			return true
		case plan.AwaitBoot, plan.Login, plan.BackupOverlay, plan.ClearBoot, plan.EjectMedia, plan.EnableMedia, plan.InsertMedia,
			plan.PowerOff, plan.RestoreOverlay, plan.Repopulate, plan.SetBootOnce:
		}
	}
	return false
}

// starting writes down that the machine is about to be started: from then on
// the note no longer stands for a boot that was saved.
func (w *work) starting(ctx context.Context) error {
	w.started = true
	if w.left == nil {
		return nil
	}
	w.left.Started = true
	err := w.Overlays.SetReboot(ctx, w.node, *w.left)
	if w.Accept[w.node.Name] {
		return nil
	}
	return err
}

// restoreID is the backup that the plan's restore means, "" for none.
func (w *work) restoreID() string {
	for _, s := range w.plan.Steps {
		if r, ok := s.Action.(plan.RestoreOverlay); ok {
			if r.From != "" {
				return r.From
			}
			return w.backup
		}
	}
	return ""
}

// fits reports whether what a fresh look asks for is the rest of the plan. The
// backup is left out of the comparison: this run has made it, and a fresh plan
// would always begin with another.
func fits(rest []plan.Step, fresh plan.NodePlan) bool {
	a, b := essence(rest), essence(fresh.Steps)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func essence(steps []plan.Step) []plan.Action {
	var out []plan.Action
	for _, s := range steps {
		switch a := s.Action.(type) {
		case plan.BackupOverlay:
		case plan.EjectMedia:
			out = append(out, plan.EjectMedia{Slot: a.Slot}) // however the BMC spells the image
		case plan.RestoreOverlay:
			out = append(out, plan.RestoreOverlay{}) // another backup may have become the latest
		case plan.Repopulate:
			out = append(out, plan.Repopulate{})
		default:
			out = append(out, s.Action)
		}
	}
	return out
}

func describe(np plan.NodePlan) string {
	switch {
	case np.Err != nil:
		return np.Err.Error()
	case len(np.Steps) == 0:
		return "there is nothing left to do"
	}
	names := make([]string, 0, len(np.Steps))
	for _, s := range np.Steps {
		names = append(names, s.Action.Name())
	}
	return fmt.Sprintf("it now needs %v", names)
}

// A notYet is what a look returns while what it waits for is not there: it says
// what is there instead.
type notYet string

func (e notYet) Error() string { return string(e) }

// until looks, first after lag, then with growing pauses, until the look
// succeeds, for at most limit. A look's error other than a notYet ends the wait,
// unless the BMC was busy or silent: that may pass. The error is a *bmc.Error.
func (w *work) until(ctx context.Context, lag, limit time.Duration, look func(context.Context) error) error {
	deadline := w.Clock.Now().Add(limit)
	pause := max(lag*8/5, w.timing.PollFirst)
	if lag > 0 {
		if err := w.Clock.Sleep(ctx, lag); err != nil {
			return interrupted(err)
		}
	}
	for {
		err := look(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return interrupted(err)
		case err == nil || !passes(err):
			return err
		}
		if !w.Clock.Now().Add(pause).Before(deadline) {
			return err
		}
		if w.Clock.Sleep(ctx, pause) != nil {
			return interrupted(err)
		}
		pause = min(pause*8/5, w.timing.PollMost)
	}
}

// interrupted is the end of a wait whose context ended.
func interrupted(last error) error {
	return cancelled(fmt.Errorf("interrupted while it was waited for: %w", last))
}

func isNotYet(err error) bool { _, ok := errors.AsType[notYet](err); return ok }

// passes reports whether what made a look fail may pass by itself.
func passes(err error) bool {
	if isNotYet(err) {
		return true
	}
	switch bmc.KindOf(err) {
	case bmc.KindBusy, bmc.KindTimeout, bmc.KindUnreachable:
		return true
	default:
		return false
	}
}
