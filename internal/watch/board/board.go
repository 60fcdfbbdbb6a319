// Package board keeps what a watch knows, for whoever shows it: which site file is
// in force and what is wrong with a newer one, how each node stands, what may be
// done to it and what keeps it back, and how the last run went.
//
// A watch writes on the board; everybody else takes snapshots, and is told when
// there is another. Nothing on it is a secret.
package board

import (
	"maps"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/watch/policy"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

// A Snapshot is what a watch knew at one time. It is not changed once it was
// made, and must not be by whoever reads it.
type Snapshot struct {
	// Site is the last valid site file, which is in force; nil: there was none yet.
	Site *site.Site
	// Loaded is when Site was read first.
	Loaded time.Time
	// Fault is what keeps the site file from being in force; nil: it is.
	Fault *Fault
	// Plan is the last plan, whole.
	Plan plan.Plan
	// Nodes has every node of Plan, by name.
	Nodes map[string]Node
	Run   Run
	// Version is another one in each snapshot, and grows.
	Version uint64
}

// A Fault is what is wrong with the site file, or with what it needs.
type Fault struct {
	Err   error     // says file, line and column where there are such
	Since time.Time // when it was seen first
}

// A Node is what a watch knows of one node.
type Node struct {
	Plan     plan.NodePlan
	Planned  time.Time
	Verdict  policy.Verdict
	Attempt  policy.Attempt    // zero: nothing was tried for what is wanted now
	Paused   *writers.Pause    // nil: it is not
	Holder   *writers.Holder   // who works on it; nil: nobody else
	Mine     bool              // it is this watch that works on the site's share with this node
	Progress *apply.Event      // the last event of a run that is under way; nil: there is none
	Last     *apply.NodeResult // of the last run that worked on it; nil: none did
	Ended    time.Time         // when that run ended
}

// A Run is one round of a watch: a look, and what followed from it.
type Run struct {
	Number  int
	Why     string
	Began   time.Time
	Ended   time.Time     // zero: it is under way
	Applied bool          // something was done, or tried
	Next    time.Duration // after Ended, at the latest
}

// A Board is safe for concurrent use.
type Board struct {
	mu      sync.Mutex
	now     Snapshot
	changed chan struct{} // closed when there is another snapshot
}

// New is an empty board.
func New() *Board { return &Board{changed: make(chan struct{})} }

// Snapshot is what is known now, and a channel that is closed when that is no
// longer so.
func (b *Board) Snapshot() (Snapshot, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.now
	s.Nodes = maps.Clone(s.Nodes)
	return s, b.changed
}

func (b *Board) write(change func(*Snapshot)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.now)
	b.now.Version++
	close(b.changed)
	b.changed = make(chan struct{})
}

// Began writes that a round has begun.
func (b *Board) Began(why string, at time.Time) {
	b.write(func(s *Snapshot) { s.Run = Run{Number: s.Run.Number + 1, Why: why, Began: at} })
}

// Ended writes that the round is over.
func (b *Board) Ended(at time.Time, next time.Duration) {
	b.write(func(s *Snapshot) { s.Run.Ended, s.Run.Next = at, next })
}

// InForce writes which site file is in force from now on.
func (b *Board) InForce(site *site.Site, at time.Time) {
	b.write(func(s *Snapshot) {
		if s.Site == nil || s.Site.Digest != site.Digest {
			s.Loaded = at
		}
		s.Site, s.Fault = site, nil
	})
}

// Faulty writes what is wrong with the site file, and reports whether that is
// news.
func (b *Board) Faulty(err error, at time.Time) (news bool) {
	b.write(func(s *Snapshot) {
		if s.Fault != nil && s.Fault.Err.Error() == err.Error() {
			return
		}
		s.Fault, news = &Fault{Err: err, Since: at}, true
	})
	return news
}

// Planned writes a plan down, and of each of its nodes what judge makes of it.
func (b *Board) Planned(p plan.Plan, judge func(plan.NodePlan, *Node)) {
	b.write(func(s *Snapshot) {
		nodes := make(map[string]Node, len(p.Nodes))
		for _, np := range p.Nodes {
			n := s.Nodes[np.Node]
			n = Node{Plan: np, Planned: p.At, Last: n.Last, Ended: n.Ended}
			judge(np, &n)
			nodes[np.Node] = n
		}
		s.Plan, s.Nodes = p, nodes
	})
}

// Event writes how far a run is.
func (b *Board) Event(e apply.Event) {
	b.write(func(s *Snapshot) {
		n, known := s.Nodes[e.Node]
		if !known {
			return
		}
		n.Progress = &e
		s.Nodes = maps.Clone(s.Nodes)
		s.Nodes[e.Node] = n
		s.Run.Applied = true
	})
}

// Done writes how a run ended.
func (b *Board) Done(res apply.Result, at time.Time) {
	b.write(func(s *Snapshot) {
		s.Nodes = maps.Clone(s.Nodes)
		for _, r := range res.Nodes {
			n := s.Nodes[r.Node]
			n.Progress, n.Last, n.Ended, n.Plan = nil, &r, at, r.After
			s.Nodes[r.Node] = n
		}
	})
}
