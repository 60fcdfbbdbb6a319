package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A reaper ends a run right after its nth write has left, as a kill would: the
// write acts, its answer is never seen, and nothing that comes after acts.
type reaper struct {
	*world
	cancel context.CancelFunc

	mu   sync.Mutex
	left int
	dead bool
}

var errKilled = errors.New("the process is dead")

// write lets f act unless the process is dead, and kills it when its time has
// come.
func (r *reaper) do(f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		return errKilled
	}
	err := f()
	if r.left--; r.left == 0 {
		r.dead = true
		r.cancel()
		return errKilled
	}
	return err
}

func (r *reaper) Backup(ctx context.Context, n site.Node, p plan.Purpose, tell func(string)) (id string, err error) {
	err = r.do(func() error { id, err = r.world.Backup(ctx, n, p, tell); return err })
	return id, err
}

func (r *reaper) Restore(ctx context.Context, n site.Node, from string, tell func(string)) (s string, err error) {
	err = r.do(func() error { s, err = r.world.Restore(ctx, n, from, tell); return err })
	return s, err
}

func (r *reaper) Repopulate(ctx context.Context, n site.Node, from string, tell func(string)) (s string, err error) {
	err = r.do(func() error { s, err = r.world.Repopulate(ctx, n, from, tell); return err })
	return s, err
}

func (r *reaper) SetReboot(ctx context.Context, n site.Node, note plan.Reboot) error {
	return r.do(func() error { return r.world.SetReboot(ctx, n, note) })
}

func (r *reaper) ClearReboot(ctx context.Context, n site.Node) error {
	return r.do(func() error { return r.world.ClearReboot(ctx, n) })
}

type reaped struct {
	bmc.Client
	*reaper
}

func (c reaped) EnableMedia(ctx context.Context) error {
	return c.do(func() error { return c.Client.EnableMedia(ctx) })
}

func (c reaped) InsertMedia(ctx context.Context, image string) error {
	return c.do(func() error { return c.Client.InsertMedia(ctx, image) })
}

func (c reaped) EjectMedia(ctx context.Context) error {
	return c.do(func() error { return c.Client.EjectMedia(ctx) })
}

func (c reaped) SetBootOnce(ctx context.Context) error {
	return c.do(func() error { return c.Client.SetBootOnce(ctx) })
}

func (c reaped) Reset(ctx context.Context, k bmc.ResetKind) error {
	return c.do(func() error { return c.Client.Reset(ctx, k) })
}

// Killed right after any of its writes, and started again, a run converges with
// one start of the machine and the overlay as it was.
func TestKilledAfterEveryWrite(t *testing.T) {
	for name, cfg := range map[string]bmcsim.Config{
		"iLO":                 {Kind: bmcsim.ILO5, Running: running(applytest.OldImage)},
		"iLO, off":            {Kind: bmcsim.ILO5, InitialPower: bmc.PowerOff},
		"iLO, lagging":        {Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{PowerLags: true, EjectLags: true, InsertLags: true, PowerTransitions: true}},
		"Gigabyte":            {Kind: bmcsim.Gigabyte, Running: running(applytest.OldImage)},
		"Gigabyte, its disk":  {Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Reported(bmcsim.Gigabyte)},
		"restarts in place":   {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceRestart"}}},
		"keeps ejected names": {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{EjectKeepsName: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				if !killedAfter(t, cfg, n) {
					if n < 4 {
						t.Fatalf("only %d writes were seen", n-1)
					}
					return
				}
			}
		})
	}
}

// killedAfter kills a run after its nth write, if it has so many, and lets
// another one finish.
func killedAfter(t *testing.T, cfg bmcsim.Config, n int) (killed bool) {
	t.Helper()
	w := newWorld(t, cfg)
	w.Node.Overlay.Repopulate = map[string]site.Source{"*.squashfs": {URL: "http://10.1.1.1/big/"}}
	w.Write("precious", "a week's work")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reap := &reaper{world: w, cancel: cancel, left: n}
	r := w.runner()
	r.Overlays = reap
	r.Dial = func(context.Context, site.Node) (bmc.Client, error) { return reaped{w.Machine.Client(), reap}, nil }
	r.Run(ctx, nil, w.Site(), w.Plan(nil))

	what := fmt.Sprintf("killed after write %d", n)
	for run := 0; ; run++ {
		res := w.apply()
		if res.Converged {
			break
		}
		if run == 2 {
			t.Errorf("%s: not converged: %v", what, res.Err)
			break
		}
	}
	if got := w.Read("precious"); cfg.Running.Image != "" && got != "a week's work" {
		t.Errorf("%s: the overlay was lost", what)
	}
	if len(w.Taken) > 0 && len(w.Repopulated) == 0 {
		t.Errorf("%s: what the backup left out was not fetched", what)
	}
	if s := w.Machine.Stats(); s.Boots != 1 {
		t.Errorf("%s: it was started %d times", what, s.Boots)
	}
	if w.Note != nil {
		t.Errorf("%s: the note was left behind: %+v", what, w.Note)
	}
	return reap.dead
}
