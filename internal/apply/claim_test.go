package apply

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A testClaim is a claim that a test decides about.
type testClaim struct {
	stale          bool
	lost           chan struct{}
	start, refused error
	refuse         string // the action before which it is refused

	mu       sync.Mutex
	asked    []string
	released int
}

func (c *testClaim) Fresh() bool           { return !c.stale }
func (c *testClaim) Lost() <-chan struct{} { return c.lost }
func (c *testClaim) Release(NodeResult)    { c.released++ }

func (c *testClaim) Start(context.Context, plan.NodePlan) error { return c.start }

func (c *testClaim) Harm(_ context.Context, np plan.NodePlan, a plan.Action) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, a.Name())
	if np.Facts.BMC.Power == "" {
		return errors.New("nothing was seen of the node")
	}
	if a.Name() == c.refuse {
		return c.refused
	}
	return nil
}

func (w *world) claimed(c *testClaim, err error) *Runner {
	r := w.runner()
	r.Claim = func(context.Context, site.Node) (Claim, error) {
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	return r
}

func wrote(w *world) bool {
	return slices.ContainsFunc(w.Machine.Requests(), func(q bmcsim.Request) bool { return q.Method != http.MethodGet })
}

// The claim is asked before each step that harms, and given back once.
func TestClaim(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	c := &testClaim{}
	if res := w.claimed(c, nil).Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]; !res.Converged {
		t.Fatal(res.Err)
	}
	if got := strings.Join(c.asked, " "); got != "power-off eject-media power-on" || c.released != 1 {
		t.Errorf("asked before %s; released %d times", got, c.released)
	}
}

func TestNoClaim(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	busy := &bmc.Error{Kind: bmc.KindBusy, Err: errors.New("somebody has it"), Hint: "wait"}
	res := w.claimed(nil, busy).Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
	if !errors.Is(res.Err, busy) || res.After.State != plan.Blocked || wrote(w) || len(w.Taken) > 0 {
		t.Errorf("%+v", res)
	}
}

// A refusal keeps the rest of the node's steps from being done, and what was
// refused is told.
func TestRefused(t *testing.T) {
	no := &bmc.Error{Kind: bmc.KindCancelled, Err: errors.New("not now"), Hint: "later"}
	for refuse, boots := range map[string]int{"": 0, "power-off": 0, "power-on": 0} {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
		w.Write("precious", "kept")
		c := &testClaim{refuse: refuse, refused: no}
		if refuse == "" {
			c.start = no
		}
		res := w.claimed(c, nil).Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
		if !errors.Is(res.Err, no) || res.Converged || w.Machine.Stats().Boots != boots {
			t.Errorf("%s: %+v", refuse, res)
		}
		if refuse == "" && (wrote(w) || len(w.Taken) > 0) {
			t.Error("it was begun")
		}
		w.mustConverge() // what was cut off is continued
		if w.Read("precious") != "kept" {
			t.Errorf("%s: the overlay is lost", refuse)
		}
	}
}

// A lost claim ends the node as a stop does: at a safe point.
func TestLostClaim(t *testing.T) {
	for _, at := range []string{"insert-media", "await-boot"} {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
		c := &testClaim{lost: make(chan struct{})}
		r := w.claimed(c, nil)
		r.Emit = func(e Event) {
			if e.Phase == Started && e.Action.Name() == at {
				close(c.lost)
			}
		}
		res := r.Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
		if bmc.KindOf(res.Err) != bmc.KindCancelled || c.released != 1 {
			t.Errorf("%s: %+v", at, res)
		}
		if at == "insert-media" && (w.Machine.Stats().Boots != 0 || w.Machine.Mounted() != applytest.NewImage) {
			t.Errorf("after %s: %+v", at, w.Machine.Stats())
		}
		w.mustConverge()
	}
}

// Where somebody else may have been at it, the node is looked at before anything
// is done.
func TestStaleClaim(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*world)
		err       bmc.Kind
		converged bool
	}{
		"nothing happened": {func(*world) {}, "", true},
		"it was done":      {(*world).mustConverge, "", true},
		"it is another":    {func(w *world) { w.Machine.SetPower(bmc.PowerOff) }, bmc.KindCancelled, false},
	} {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
		p := w.Plan(nil)
		c.meanwhile(w)
		boots := w.Machine.Stats().Boots
		w.Machine.ForgetRequests()
		res := w.claimed(&testClaim{stale: true}, nil).Run(t.Context(), nil, w.Site(), p).Nodes[0]
		if res.Converged != c.converged || (res.Err != nil && bmc.KindOf(res.Err) != c.err) {
			t.Errorf("%s: %+v", name, res)
		}
		if name != "nothing happened" && (wrote(w) || w.Machine.Stats().Boots != boots) {
			t.Errorf("%s: it wrote", name)
		}
	}
}
