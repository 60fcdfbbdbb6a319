package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/watch"
	"github.com/livecd-sync/livecd-sync/internal/watch/board"
	"github.com/livecd-sync/livecd-sync/internal/watch/policy"
	"github.com/livecd-sync/livecd-sync/internal/writers"
	"github.com/livecd-sync/livecd-sync/internal/writers/etcdwriters"
)

func (a *app) watchCommand() *cobra.Command {
	w := watcher{app: a, board: board.New()}
	c := &cobra.Command{
		Use:   "watch",
		Short: "Plan again whenever the site file changes, and every so often",
		Long: `watch plans when it starts, whenever the site file's content changes, and as often
as watch.every of the site file says, and shows the plan when it is another than
before. While the file is invalid, its errors are shown and the last valid one
stays in force.

What it may do stands in the site file: watch.apply names the kinds of steps that
it may run, watch.within when it may begin what does harm, and watch.maxDown how
many nodes may be down at once. Without them it backs up what is due, and leaves
the rest to ` + "`livecd-sync apply`" + `. --apply allows whatever harms nothing besides, and
--allow-reset all of it.

A node that failed is tried again after a pause that doubles, from 1m to 6h. For what
the site file wants of it, a node is reset once: it is not reset again, not by a
watch that was started anew either, until it has converged or the file wants
something else of it. ` + "`livecd-sync pause`" + ` keeps it from nodes.

Ctrl-C ends it, at a safe point as with apply.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if w.allowReset && !w.apply {
				return fmt.Errorf("--allow-reset means nothing without --apply; give both, or neither")
			}
			return w.run(c.Context())
		},
	}
	c.Flags().DurationVar(&w.every, "every", 0, "how often to look without a change of the file, in place of watch.every")
	c.Flags().BoolVar(&w.apply, "apply", false, "run what harms nothing, besides what watch.apply allows")
	c.Flags().BoolVar(&w.allowReset, "allow-reset", false, "with --apply: run all of it, resets included")
	return c
}

// A watcher is one run of watch.
type watcher struct {
	app               *app
	apply, allowReset bool
	every             time.Duration // 0: as the site file says
	board             *board.Board
	wake              func()            // asks for a round
	told              *etcdwriters.Site // who tells when watchers come and go; nil: nobody yet
	shown             string            // the last plan that was shown
}

func (w *watcher) run(ctx context.Context) error {
	untilStop, done := w.app.untilStop(ctx)
	defer done()
	asked := make(chan struct{}, 1)
	w.wake = func() {
		select {
		case asked <- struct{}{}:
		default: // it is asked for already
		}
	}
	noMore := w.app.onHangUp(w.wake)
	defer noMore()
	return watch.Run(untilStop, watch.Config{
		Path: w.app.siteFile(), Every: cmp.Or(w.every, site.DefaultWatchEvery), Asked: asked,
		// A stop ends the reading at once; what is being applied ends by itself, at
		// a safe point, or with ctx.
		Run: func(reading context.Context, why watch.Reason, also func([]string)) watch.After {
			return w.round(reading, ctx, why, also)
		},
		OnError: w.faulty,
	})
}

// A round is one look, and what follows from it.
type round struct {
	*target
	w        *watcher
	policy   policy.Policy
	attempts map[string]policy.Attempt
	plan     plan.Plan
	places   int           // how many nodes may be down at once, of all watchers; 0: any number
	me       string        // among the watchers
	watchers []string      // of several hosts
	next     time.Duration // until the next round, as far as time alone asks for one; 0: it does not
}

// round plans, and applies what may be applied. What goes wrong is shown, and
// the watch goes on.
func (w *watcher) round(ctx, applying context.Context, why watch.Reason, also func([]string)) (after watch.After) {
	w.board.Began(string(why), w.app.clock.Now())
	r := &round{w: w}
	defer func() {
		after.Next = r.next
		w.board.Ended(w.app.clock.Now(), r.next)
	}()
	if r.target = w.inForce(ctx, also); r.target == nil {
		return after
	}
	defer r.nodes.close()
	after.Every = cmp.Or(w.every, r.site.Watch.Every)
	if err := r.look(ctx); err != nil {
		if ctx.Err() == nil {
			w.app.complain(err)
		}
		return after
	}
	w.show(r.plan, why)
	r.applySome(applying)
	return after
}

// faulty shows what is wrong with the site file, once.
func (w *watcher) faulty(err error) {
	if !w.board.Faulty(err, w.app.clock.Now()) {
		return
	}
	w.app.complain(err)
	if s, _ := w.board.Snapshot(); s.Site != nil {
		w.app.complain(fmt.Errorf("the last valid site file stays in force"))
	}
}

// inForce opens the site file, or else the last that could be; nil if there is
// none. The files that it names are watched before they are read.
func (w *watcher) inForce(ctx context.Context, also func([]string)) *target {
	s, err := w.load()
	if err == nil {
		also(named(s))
		var t *target
		if t, err = w.open(ctx, s); err == nil {
			w.board.InForce(s, w.app.clock.Now())
			return t
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	w.faulty(err)
	last, _ := w.board.Snapshot()
	if last.Site == nil {
		return nil
	}
	t, err := w.open(ctx, last.Site)
	if err != nil {
		w.faulty(err)
		return nil
	}
	return t
}

// load reads the site file. What would never end is not read.
func (w *watcher) load() (*site.Site, error) {
	name := w.app.siteFile()
	if info, err := os.Stat(name); err == nil && !info.IsDir() && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: it is no regular file; put the site file back in its place", name)
	}
	return w.app.load()
}

func (w *watcher) open(ctx context.Context, s *site.Site) (*target, error) {
	t, err := w.app.openSite(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	return t, t.alone("watch")
}

// look plans, and judges what may be done.
func (r *round) look(ctx context.Context) error {
	r.policy = policy.Policy{Watch: r.site.Watch, Safe: r.w.apply, All: r.w.apply && r.w.allowReset}
	r.plan = r.target.plan(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := errors.Join(r.share(ctx), r.readAttempts(ctx)); err != nil {
		return err
	}
	now, verdicts := r.app.clock.Now(), map[string]policy.Verdict{}
	for i, np := range r.plan.Nodes {
		v := r.judge(np, now)
		verdicts[np.Node] = v
		if v.Why != "" {
			r.plan.Nodes[i].Notes = append(np.Notes, "watch: "+v.Why)
		}
	}
	r.w.board.Planned(r.plan, func(np plan.NodePlan, n *board.Node) {
		n.Verdict, n.Attempt, n.Holder = verdicts[np.Node], r.attempts[np.Node], r.seen[np.Node].Holder
		if p, paused := r.pauses[np.Node]; paused {
			n.Paused = &p
		}
	})
	return nil
}

// readAttempts reads what was tried for what the site file wants now. Nodes that
// are as it wants them begin anew.
func (r *round) readAttempts(ctx context.Context) error {
	notes, err := r.shared.All(ctx, writers.Attempts)
	if err != nil {
		return err
	}
	r.attempts = map[string]policy.Attempt{}
	for _, n := range r.site.Nodes {
		note, noted := notes[n.Name]
		if !noted {
			continue
		}
		a, err := readAttempt(note)
		if err != nil { // it shows as what keeps the node back, when the node is claimed
			continue
		}
		a = a.For(policy.WishOf(n, r.site.Images, r.images))
		np, _ := r.plan.Node(n.Name)
		if np.State == plan.InSync && r.seen[n.Name].Holder == nil {
			if err := r.shared.Remove(ctx, writers.Attempts, n.Name); err != nil {
				return err
			}
			continue
		}
		r.attempts[n.Name] = a
	}
	return nil
}

func (r *round) node(name string) site.Node {
	for _, n := range r.site.Nodes {
		if n.Name == name {
			return n
		}
	}
	return site.Node{}
}

// judge says what may be done to a node now.
func (r *round) judge(np plan.NodePlan, now time.Time) policy.Verdict {
	if _, paused := r.pauses[np.Node]; paused {
		return policy.Verdict{} // which the plan says already
	}
	if other := r.others(np.Node); other != "" {
		if np.State != plan.Change {
			return policy.Verdict{}
		}
		return policy.Verdict{Why: "the watcher " + other + " looks after it"}
	}
	v := r.policy.Judge(r.node(np.Node), np, r.attempts[np.Node], now)
	r.after(v.Again)
	return v
}

// after asks for another round after so long.
func (r *round) after(d time.Duration) {
	if d > 0 && (r.next == 0 || d < r.next) {
		r.next = d
	}
}

// show prints the plan if it says something else than the last one.
func (w *watcher) show(p plan.Plan, why watch.Reason) {
	var b strings.Builder
	if err := report.PlanText(&b, p, w.app.textOptions()); err != nil {
		w.app.complain(err)
		return
	}
	if b.String() == w.shown {
		return
	}
	w.shown = b.String()
	if w.app.json() {
		if err := report.PlanJSON(w.app.out, p); err != nil {
			w.app.complain(err)
		}
		return
	}
	fmt.Fprintf(w.app.out, "%s  %s\n%s", w.app.clock.Now().UTC().Format(time.RFC3339), why, w.shown)
}

// some are the nodes' plans that may be run, and how many nodes of them may be
// down at once.
func (r *round) some() (plan.Plan, int) {
	some, s := r.plan, []plan.NodePlan{}
	snapshot, _ := r.w.board.Snapshot()
	running := map[string]bool{}
	for _, np := range r.plan.Nodes {
		if run := snapshot.Nodes[np.Node].Verdict.Run; run != nil {
			s, running[np.Node] = append(s, *run), true
		}
	}
	places := r.site.Watch.MaxDown
	if places > 0 {
		for node, a := range r.attempts {
			if a.Down() && !running[node] && r.seen[node].Holder == nil { // who is being worked on has a place
				places--
			}
		}
	}
	some.Nodes = nil
	for _, np := range s {
		if r.site.Watch.MaxDown > 0 && places <= 0 && policy.Harms(np) {
			continue
		}
		some.Nodes = append(some.Nodes, np)
	}
	if len(some.Nodes) < len(s) {
		r.app.complain(fmt.Errorf("%s not begun: as many nodes as watch.maxDown allows were reset and did not converge",
			count(len(s)-len(some.Nodes), "node")))
	}
	return some, max(places, 0)
}

func (r *round) applySome(ctx context.Context) {
	some, places := r.some()
	if len(some.Nodes) == 0 {
		return
	}
	runner := r.runner(some)
	runner.MaxDown, r.places = places, places
	runner.Claim = func(ctx context.Context, n site.Node) (apply.Claim, error) { return r.claimUnder(ctx, n, r) }
	progress := runner.Emit
	runner.Emit = func(e apply.Event) {
		r.w.board.Event(e)
		if progress != nil {
			progress(e)
		}
	}
	res := runner.Run(ctx, r.app.stop, r.site, some)
	now := r.app.clock.Now()
	r.w.board.Done(res, now)
	for _, n := range res.Nodes {
		if n.Err != nil {
			r.after(policy.Patience(1)) // the longer it fails, the more rounds pass it over
		}
		for _, s := range n.Steps {
			if s.Outcome == apply.OutcomeDone {
				r.after(time.Millisecond) // what was done is worth a look at what is left
			}
		}
	}
	if err := r.app.showResult(res, true); err != nil {
		if _, failed := err.(status); !failed { //nolint:errorlint // status is never wrapped
			r.app.complain(err)
		}
	}
}

// May looks, under the node's lock, whether it was paused meanwhile.
func (r *round) May(ctx context.Context, n site.Node) error {
	pauses, err := writers.Pauses(ctx, r.shared, r.app.clock.Now())
	if err != nil {
		return err
	}
	if p, paused := pauses[n.Name]; paused {
		return pausedError(n.Name, p)
	}
	return nil
}

// Start looks whether the window is still open once there is a place for the
// node.
func (r *round) Start(ctx context.Context, _ plan.NodePlan) (writers.Lock, error) {
	place, err := r.place(ctx)
	if err != nil {
		return nil, err
	}
	if in := r.policy.Within; in != nil && !in.Contains(r.app.clock.Now()) {
		return place, &bmc.Error{
			Kind: bmc.KindCancelled, Err: errors.New("not begun: it is no longer within " + in.String()),
			Hint: "wait until it is, or run `livecd-sync apply`",
		}
	}
	return place, nil
}

// place waits for a place among the nodes that the watchers together may have
// down; nil where this is the only watcher.
func (r *round) place(ctx context.Context) (writers.Lock, error) {
	if r.shared.etcd == nil || r.places == 0 {
		return nil, nil
	}
	for {
		if l, err := r.shared.etcd.Place(ctx, r.places); l != nil || err != nil {
			return l, err
		}
		if err := r.app.clock.Sleep(ctx, time.Second); err != nil {
			return nil, &bmc.Error{Kind: bmc.KindCancelled, Err: errInterrupted, Hint: "the next watch goes on from what it finds"}
		}
	}
}

// share finds out which of the watchers each node belongs to.
func (r *round) share(ctx context.Context) error {
	if r.shared.etcd == nil {
		return nil
	}
	var err error
	r.me, r.watchers, err = r.shared.etcd.Join(ctx)
	if err != nil {
		r.after(r.site.Lock.Lease)
		return err
	}
	if r.w.told != r.shared.etcd {
		r.w.told = r.shared.etcd
		go r.shared.etcd.Changes(r.w.wake) //nolint:contextcheck // it goes on after the round
	}
	return nil
}

// others is who else looks after the node; "" where it is this watch.
func (r *round) others(node string) string {
	if owner := etcdwriters.Owner(node, r.watchers); owner != r.me {
		return owner
	}
	return ""
}

// named are the files that a site file names and that change what is planned:
// certificates, images, secrets.
func named(s *site.Site) []string {
	var files []string
	add := func(tls site.TLS, secrets ...site.SecretRef) {
		files = append(files, tls.CA, tls.Pins)
		for _, ref := range secrets {
			files = append(files, ref.File)
		}
	}
	for _, n := range s.Nodes {
		add(n.BMC.TLS, n.BMC.Password)
		if n.SSH != nil {
			add(site.TLS{}, n.SSH.Password)
		}
		if n.Login != nil {
			add(site.TLS{}, n.Login.Password, n.Login.Initial)
		}
	}
	for _, st := range s.Stores {
		if st.S3 != nil {
			add(st.S3.TLS)
		}
		for _, ref := range st.Secrets() {
			add(site.TLS{}, ref)
		}
	}
	for _, img := range s.Images {
		files = append(files, img.File, img.Release)
	}
	slices.Sort(files)
	return slices.DeleteFunc(slices.Compact(files), func(name string) bool { return name == "" })
}
