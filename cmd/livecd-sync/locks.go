package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/watch/policy"
	"github.com/livecd-sync/livecd-sync/internal/writers"
	"github.com/livecd-sync/livecd-sync/internal/writers/etcdwriters"
)

// lockFlags adds --lock-wait to a command that changes nodes.
func (a *app) lockFlags(c *cobra.Command) {
	c.Flags().DurationVar(&a.lockWait, "lock-wait", 0, "how long to wait for a node that another livecd-sync works on")
}

// A sharing is what the writers of a site have in common.
type sharing struct {
	writers.Locks
	writers.Book
	etcd *etcdwriters.Site // nil: they are on this host
}

// share joins the writers of the site, in the name of the command.
func (a *app) share(s *site.Site, command string) (*sharing, error) {
	if s.Lock != nil {
		return a.shareEtcd(s, command)
	}
	locks, notes := a.stateDir("locks"), a.stateDir("nodes")
	if locks == "" {
		return nil, fmt.Errorf("there is no place to keep locks in; set HOME or XDG_STATE_HOME to the same for all that change this site, with absolute paths")
	}
	return &sharing{
		Locks: &writers.Files{Dir: filepath.Join(locks, s.Name), Me: writers.Me(command), Clock: a.clock, Wait: a.lockWait},
		Book:  &writers.FileBook{Dir: filepath.Join(notes, s.Name)},
	}, nil
}

// shareEtcd joins the writers of several hosts. The connection stays for as long as
// the program runs, or until the site file says another.
func (a *app) shareEtcd(s *site.Site, command string) (*sharing, error) {
	l := s.Lock
	config := fmt.Sprintf("%q %q %+v", s.Name, command, *l)
	if a.etcd == nil || a.etcdConfig != config {
		e, err := etcdwriters.New(etcdwriters.Config{
			Endpoints: l.Etcd, CA: l.CA, Cert: l.Cert, Key: l.Key, Lease: l.Lease, Site: s.Name,
			Me: writers.Me(command), Clock: a.clock, Wait: a.lockWait,
		})
		if err != nil {
			return nil, err
		}
		a.etcd, a.etcdConfig = e, config
		a.atEnd = append(a.atEnd, func() { _ = e.Close() }) // what is not given back ends with the lease
	}
	return &sharing{Locks: a.etcd, Book: a.etcd, etcd: a.etcd}, nil
}

// alone makes the command, from now on, the only writer of each node that it
// works on.
func (t *target) alone(command string) error {
	s, err := t.app.share(t.site, command)
	if err != nil {
		return err
	}
	t.shared = s
	return nil
}

// look sees who holds the nodes' locks, for Fresh later, and which are paused.
// What cannot be seen shows when a lock is taken.
func (t *target) look(ctx context.Context) {
	t.seen, t.pauses = nil, nil
	s := t.shared
	if s == nil {
		var err error
		if s, err = t.app.share(t.site, ""); err != nil {
			return
		}
	}
	var err, pausesErr error
	t.seen, err = s.Look(ctx, t.site.NodeNames())
	t.pauses, pausesErr = writers.Pauses(ctx, s, t.app.clock.Now())
	if err := errors.Join(err, pausesErr); err != nil && ctx.Err() == nil {
		t.log.Warn().Err(err).Msg("it cannot be seen who works on the nodes, and which are paused")
	}
}

// noteWriters says in the plan who works on which node, and which are paused.
func (t *target) noteWriters(p *plan.Plan) {
	for i, n := range p.Nodes {
		if h := t.seen[n.Node].Holder; h != nil {
			p.Nodes[i].Notes = append(p.Nodes[i].Notes, "it is worked on by "+h.String())
		}
		if pause, paused := t.pauses[n.Node]; paused {
			p.Nodes[i].Notes = append(p.Nodes[i].Notes, pause.String())
		}
	}
}

// blockPaused blocks the nodes of the plan that are paused.
func (t *target) blockPaused(p *plan.Plan) {
	for i, n := range p.Nodes {
		if pause, paused := t.pauses[n.Node]; paused && n.State == plan.Change {
			p.Nodes[i].State, p.Nodes[i].Steps, p.Nodes[i].Err = plan.Blocked, nil, pausedError(n.Node, pause)
		}
	}
}

func pausedError(node string, p writers.Pause) *bmc.Error {
	return &bmc.Error{
		Kind: bmc.KindBusy, Err: fmt.Errorf("it is %s", p),
		Hint: "`livecd-sync resume " + node + "` ends that; `livecd-sync apply --even-paused` passes over it",
	}
}

// Rules bind who works by himself.
type rules interface {
	// May says why nothing may be done to the node now.
	May(ctx context.Context, n site.Node) error
	// Start says why a plan that harms may not be begun now. It may wait for a place
	// among the nodes that may be down, which is then to be given back; nil: there is
	// none to give back.
	Start(ctx context.Context, np plan.NodePlan) (place writers.Lock, err error)
}

// claim takes the node for a run of a plan by a person.
func (t *target) claim(ctx context.Context, n site.Node) (apply.Claim, error) {
	return t.claimUnder(ctx, n, nil)
}

// claimUnder takes the node for a run of a plan, which rules bind unless they are
// nil.
func (t *target) claimUnder(ctx context.Context, n site.Node, r rules) (apply.Claim, error) {
	l, err := t.shared.Lock(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	seen, looked := t.seen[n.Name]
	c := &claim{t: t, node: n, lock: l, fresh: looked && l.Fresh(seen), rules: r}
	if c.attempt, c.noted, err = t.attempt(ctx, n); err != nil && r == nil {
		err = nil // a person looks for himself
	}
	if err == nil && r != nil {
		err = r.May(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(err, l.Unlock())
	}
	return c, nil
}

// attempt is what was done for what the site file wants of the node now, and
// whether that is noted.
func (t *target) attempt(ctx context.Context, n site.Node) (a policy.Attempt, noted bool, err error) {
	wish := policy.WishOf(n, t.site.Images, t.images)
	note, err := t.shared.Get(ctx, writers.Attempts, n.Name)
	if err != nil || note == nil {
		return policy.Attempt{Wish: wish}, false, err
	}
	if a, err = readAttempt(note); err != nil {
		return policy.Attempt{Wish: wish}, true, err
	}
	return a.For(wish), true, nil
}

func readAttempt(note []byte) (policy.Attempt, error) {
	var a policy.Attempt
	if err := json.Unmarshal(note, &a); err != nil {
		return a, &bmc.Error{
			Op: "read what was tried with the node", Kind: bmc.KindBusy, Err: err,
			Hint: "see how the node stands, and run `livecd-sync apply`, which writes that anew",
		}
	}
	return a, nil
}

// A claim is a node's lock, for a run of a plan, with what is written down of
// it.
type claim struct {
	t       *target
	node    site.Node
	lock    writers.Lock
	fresh   bool
	rules   rules // nil: a person has looked at the plan
	attempt policy.Attempt
	noted   bool
	place   writers.Lock  // among the nodes that may be down; nil: none is needed
	ran     plan.NodePlan // what harms of it was begun
}

func (c *claim) Fresh() bool           { return c.fresh }
func (c *claim) Lost() <-chan struct{} { return c.lock.Lost() }

func (c *claim) Start(ctx context.Context, np plan.NodePlan) error {
	if c.rules == nil {
		return nil
	}
	var err error
	c.place, err = c.rules.Start(ctx, np)
	return err
}

// Harm writes down what is about to be done, for whoever comes after a run that
// is cut off.
func (c *claim) Harm(ctx context.Context, np plan.NodePlan, a plan.Action) error {
	if err := c.lock.Check(ctx); err != nil {
		return err
	}
	if c.rules != nil {
		if err := c.attempt.Forbids(a, np.Facts); err != nil {
			return err
		}
	}
	if a.Effect() != plan.Destroys {
		return nil
	}
	c.attempt, c.ran = c.attempt.Begin(a, np.Facts, c.t.app.clock.Now()), np
	return c.write(ctx)
}

func (c *claim) write(ctx context.Context) error {
	note, err := json.Marshal(c.attempt)
	if err != nil {
		return err
	}
	c.noted = true
	return c.t.shared.Put(ctx, writers.Attempts, c.node.Name, note)
}

func (c *claim) Release(res apply.NodeResult) {
	ctx := context.Background() // whatever ended the run, this is written
	var over bool
	c.attempt, over = c.attempt.End(c.ran, res, c.t.app.clock.Now())
	var err error
	switch {
	case over && c.noted:
		err = c.t.shared.Remove(ctx, writers.Attempts, c.node.Name)
	case !over:
		err = c.write(ctx)
	}
	if c.place != nil {
		err = errors.Join(err, c.place.Unlock())
	}
	if err := errors.Join(err, c.lock.Unlock()); err != nil {
		c.t.log.Warn().Str("node", c.node.Name).Err(err).Msg("it could not be written down in order how its run ended")
	}
}

// locked is f, for one node, under the node's lock.
func (t *target) locked(f eachFunc) eachFunc {
	return func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		waiting, done := t.app.untilStop(ctx)
		l, err := t.shared.Lock(waiting, n.Name)
		done()
		if err != nil {
			return nodeOutcome{Name: n.Name, Error: errorOf(err)}, true
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		over := make(chan struct{})
		defer close(over)
		go func() {
			select {
			case <-l.Lost():
				cancel(errLockLost)
			case <-over:
			}
		}()
		out, counted := f(ctx, n)
		if err := l.Unlock(); err != nil && out.Error == nil {
			out.Warnings = append(out.Warnings, "its lock could not be given back in order: "+err.Error())
		}
		return out, counted
	}
}

var errLockLost = &bmc.Error{
	Kind: bmc.KindCancelled, Err: errors.New("the node's lock is about to go to another writer"), Hint: "run the same command again",
}

// An eachFunc does something to one node; see each.
type eachFunc = func(context.Context, site.Node) (nodeOutcome, bool)
