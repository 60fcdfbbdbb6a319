// Package observe reads a site: each node's BMC, the node itself, its store,
// and the images that are wanted, many nodes at a time. It can only read: what
// it is handed cannot change anything.
package observe

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// An Observer reads nodes by the funcs it is handed. Its methods may be called
// from several goroutines at once.
type Observer struct {
	// BMC reads a node's BMC, over a connection of its own.
	BMC func(ctx context.Context, n site.Node) (bmc.State, error)
	// Host asks the node itself; the error says why it did not answer.
	Host func(ctx context.Context, n site.Node) (plan.Host, error)
	// Overlay reads what the node's store holds.
	Overlay func(ctx context.Context, s *site.Site, n site.Node) plan.OverlayFacts
	// Image reads an image's identity.
	Image    func(ctx context.Context, img site.Image) (site.Volume, error)
	Profiles map[string]bmc.Profile
	Clock    bmc.Clock
	// Jobs is how many nodes are read at once; 0 means 64.
	Jobs int
	// Timeout bounds the reading of one node; 0 means two minutes.
	Timeout time.Duration
}

const (
	defaultJobs    = 64
	defaultTimeout = 2 * time.Minute
)

// Run reads every node of s and every image that one of them shall run.
// It always returns; what could not be read is in the facts.
func (o *Observer) Run(ctx context.Context, s *site.Site) plan.Observed {
	out := plan.Observed{Nodes: make(map[string]plan.Facts, len(s.Nodes))}
	images := make(chan map[string]plan.ImageFacts, 1)
	go func() { images <- o.images(ctx, s) }()

	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(orDefault(o.Jobs, defaultJobs))
	for _, n := range s.Nodes {
		g.Go(func() error {
			f := o.Node(ctx, s, n)
			mu.Lock()
			defer mu.Unlock()
			out.Nodes[n.Name] = f
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failure is a fact
	out.Images = <-images
	out.At = o.Clock.Now()
	return out
}

// Node reads one node: its BMC, then, where the BMC answered, the node itself
// and its store.
func (o *Observer) Node(ctx context.Context, s *site.Site, n site.Node) plan.Facts {
	ctx, cancel := context.WithTimeout(ctx, orDefault(o.Timeout, defaultTimeout))
	defer cancel()
	state, err := o.BMC(ctx, n)
	if err != nil {
		return plan.Facts{Err: err, Host: plan.HostUnknown{}}
	}
	return o.Beside(ctx, s, n, state)
}

// Beside completes what a BMC said with what the node itself and its store say.
func (o *Observer) Beside(ctx context.Context, s *site.Site, n site.Node, state bmc.State) plan.Facts {
	f := plan.Facts{BMC: state, Profile: o.Profiles[state.ID.Profile], Host: o.host(ctx, n, state)}
	if n.OverlayManaged() {
		f.Overlay = o.Overlay(ctx, s, n)
	}
	return f
}

func (o *Observer) host(ctx context.Context, n site.Node, state bmc.State) plan.Host {
	switch {
	case n.SSH == nil:
		return plan.HostUnknown{}
	case state.Power == bmc.PowerOff:
		return plan.HostSilent{Err: errOff}
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(o.Timeout, defaultTimeout))
	defer cancel()
	h, err := o.Host(ctx, n)
	if err != nil {
		return plan.HostSilent{Err: err}
	}
	return h
}

var errOff = &bmc.Error{Kind: bmc.KindSSH, Err: errSwitchedOff, Hint: "power it on"}

// images reads the images that the nodes shall run.
func (o *Observer) images(ctx context.Context, s *site.Site) map[string]plan.ImageFacts {
	ctx, cancel := context.WithTimeout(ctx, orDefault(o.Timeout, defaultTimeout))
	defer cancel()
	out := make(map[string]plan.ImageFacts)
	for _, n := range s.Nodes {
		if _, known := out[n.Image]; known || n.Image == "" || n.Image == site.NoImage {
			continue
		}
		v, err := o.Image(ctx, s.Images[n.Image])
		out[n.Image] = plan.ImageFacts{Volume: v, Err: err}
	}
	return out
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

var errSwitchedOff = errors.New("it is switched off")
