package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

// lockFlags adds --lock-wait to a command that changes nodes.
func (a *app) lockFlags(c *cobra.Command) {
	c.Flags().DurationVar(&a.lockWait, "lock-wait", 0, "how long to wait for a node that another livecd-sync works on")
}

// locks are those of the site's nodes, taken in the name of the command.
func (a *app) locks(s *site.Site, command string) (writers.Locks, error) {
	dir := a.stateDir("locks")
	if dir == "" {
		return nil, fmt.Errorf("there is no place to keep locks in; set HOME or XDG_STATE_HOME to the same for all that change this site, with absolute paths")
	}
	return &writers.Files{Dir: filepath.Join(dir, s.Name), Me: writers.Me(command), Clock: a.clock, Wait: a.lockWait}, nil
}

// alone makes the command, from now on, the only writer of each node that it
// works on.
func (t *target) alone(command string) error {
	locks, err := t.app.locks(t.site, command)
	if err != nil {
		return err
	}
	t.locks = locks
	return nil
}

// look sees who holds the nodes' locks, for Fresh later, and notes it in the
// plan. That it cannot be seen shows when a lock is taken.
func (t *target) look(ctx context.Context) map[string]writers.Seen {
	locks := t.locks
	if locks == nil {
		var err error
		if locks, err = t.app.locks(t.site, ""); err != nil {
			return nil
		}
	}
	seen, err := locks.Look(ctx, t.site.NodeNames())
	if err != nil {
		t.log.Warn().Err(err).Msg("it cannot be seen who works on the nodes")
		return nil
	}
	return seen
}

// noteHolders says in the plan who works on which node.
func noteHolders(p *plan.Plan, seen map[string]writers.Seen) {
	for i, n := range p.Nodes {
		if h := seen[n.Node].Holder; h != nil {
			p.Nodes[i].Notes = append(p.Nodes[i].Notes, "it is worked on by "+h.String())
		}
	}
}

// claim takes the node for a run of a plan.
func (t *target) claim(ctx context.Context, n site.Node) (apply.Claim, error) {
	l, err := t.locks.Lock(ctx, n.Name)
	if err != nil {
		return nil, err
	}
	seen, looked := t.seen[n.Name]
	return &claim{lock: l, fresh: looked && l.Fresh(seen), log: func(err error) {
		t.log.Warn().Str("node", n.Name).Err(err).Msg("its lock could not be given back in order")
	}}, nil
}

// A claim is a node's lock, for a run of a plan.
type claim struct {
	lock  writers.Lock
	fresh bool
	log   func(error)
}

func (c *claim) Fresh() bool                                { return c.fresh }
func (c *claim) Lost() <-chan struct{}                      { return c.lock.Lost() }
func (c *claim) Start(context.Context, plan.NodePlan) error { return nil }

func (c *claim) Harm(ctx context.Context, _ plan.NodePlan, _ plan.Action) error {
	return c.lock.Check(ctx)
}

func (c *claim) Release() {
	if err := c.lock.Unlock(); err != nil {
		c.log(err)
	}
}

// locked is f, for one node, under the node's lock.
func (t *target) locked(f eachFunc) eachFunc {
	return func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		waiting, done := t.app.untilStop(ctx)
		l, err := t.locks.Lock(waiting, n.Name)
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
