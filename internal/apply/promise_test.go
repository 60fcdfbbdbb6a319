package apply

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// cutOff runs the node's plan and stops it during power-off, so that the machine
// is left off.
func cutOff(t *testing.T, w *world) {
	t.Helper()
	stop := make(chan struct{})
	r := w.runner()
	r.Emit = func(e Event) {
		if e.Phase == Started && e.Action != nil && e.Action.Name() == "power-off" {
			close(stop)
		}
	}
	r.Run(t.Context(), stop, w.Site(), w.Plan(nil))
	if w.Machine.Power() != bmc.PowerOff {
		t.Fatalf("it was not left off: %s", w.Machine.Power())
	}
}

// What runs by the time it is a node's turn is not ended unless this very run
// has backed that very boot up.
func TestEndsOnlyWhatItSaved(t *testing.T) {
	for name, c := range map[string]struct {
		cfg    bmcsim.Config
		before func(*world)
		after  func(*world) // between the plan and its run
		backup func(*world) // right after the backup
		accept bool
	}{
		"planned from its disk, live by now": {
			cfg:   bmcsim.Config{Kind: bmcsim.ILO5},
			after: func(w *world) { w.Start(running(applytest.OldImage)) },
		},
		"silent and given up, live by now": {
			cfg:    bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)},
			before: func(w *world) { w.SetMute(true) }, after: func(w *world) { w.SetMute(false) }, accept: true,
		},
		"rebooted since its backup": {
			cfg:    bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)},
			backup: func(w *world) { w.Start(running(applytest.OldImage)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			w.Backups["older"], w.Taken = map[string]string{"precious": "ancient"}, []string{"older"}
			if c.before != nil {
				c.before(w)
			}
			accept := map[string]bool{"n1": c.accept}
			p := w.Plan(accept)
			if c.after != nil {
				c.after(w)
			}
			w.Write("precious", "a week's work")
			r := w.runner()
			r.Accept = accept
			if c.backup != nil {
				r.Overlays = afterBackup{w, func() { c.backup(w); w.Write("precious", "a week's work") }}
			}
			res := r.Run(t.Context(), nil, w.Site(), p).Nodes[0]
			if res.Converged || w.Read("precious") != "a week's work" || w.Machine.Stats().Boots != 0 {
				t.Errorf("converged %v, err %v, overlay %q, boots %d", res.Converged, res.Err, w.Read("precious"), w.Machine.Stats().Boots)
			}
		})
	}
}

// A backup that a run which was cut off still owes is not replaced by that of
// another boot.
func TestOwedBackupIsNotForgotten(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	w.Write("precious", "a week's work")
	cutOff(t, w)
	w.Machine.SetMounted(applytest.OldImage)
	w.Machine.SetPower(bmc.PowerOn)
	w.Start(running(applytest.OldImage)) // by hand
	p := w.Plan(nil)
	if p.Nodes[0].State != plan.Blocked || p.Nodes[0].Err.Kind != bmc.KindOverlay {
		t.Errorf("state %s, %v", p.Nodes[0].State, p.Nodes[0].Err)
	}
	if w.Note == nil || w.Note.Restore != "backup-1" {
		t.Errorf("the note is lost: %+v", w.Note)
	}
}

// A node that shall have nothing mounted, and was left off by a run that was cut
// off, is switched on again.
func TestNoImageIsFinished(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	w.Node.Image = site.NoImage
	cutOff(t, w)
	if r := w.apply(); !r.Converged || w.Machine.Power() != bmc.PowerOn || w.Note != nil {
		t.Errorf("converged %v, err %v, power %s, note %+v", r.Converged, r.Err, w.Machine.Power(), w.Note)
	}
}

// A machine that can be switched off but not on is restarted in place.
func TestNoWayToPowerOn(t *testing.T) {
	w := newWorld(t, bmcsim.Config{
		Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceOff", "ForceRestart"}},
	})
	w.mustConverge()
}

// A backup that is due once the node runs is no failure of the boot.
func TestDueBackupIsNoFailure(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, InitialPower: bmc.PowerOff})
	w.Node.Overlay.Every = 24 * time.Hour
	if r := w.apply(); !r.Converged {
		t.Errorf("err %v", r.Err)
	}
}

// fleet is several nodes, and a runner over all of them.
func fleet(t *testing.T, count int, b bmcsim.Behaviour) (map[string]*world, *site.Site, plan.Observed, *Runner) {
	t.Helper()
	worlds := map[string]*world{}
	s := &site.Site{Images: map[string]site.Image{"new": {Name: "new", URL: applytest.NewImage}}}
	o := plan.Observed{At: time.Now(), Nodes: map[string]plan.Facts{}}
	for i := range count {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Behaviour: b})
		w.Node.Name = fmt.Sprintf("n%d", i)
		worlds[w.Node.Name] = w
		s.Nodes = append(s.Nodes, w.Node)
		o.Images = w.Images()
		state, err := w.Machine.Client().Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.Nodes[w.Node.Name] = w.Beside(t.Context(), nil, w.Node, state)
	}
	return worlds, s, o, fleetRunner(worlds, o)
}

// Nodes that failed and are still down keep their place.
func TestBatchCountsWhatStaysDown(t *testing.T) {
	worlds, s, o, r := fleet(t, 5, bmcsim.Behaviour{NoLicence: true})
	r.MaxDown = 1
	res := r.Run(t.Context(), nil, s, plan.Compute(s, o, nil))
	off := 0
	for _, w := range worlds {
		if w.Machine.Power() == bmc.PowerOff {
			off++
		}
	}
	if off != 1 {
		t.Errorf("%d machines are off, 1 was allowed", off)
	}
	for _, n := range res.Nodes {
		if n.Err == nil {
			t.Errorf("%s has no error", n.Node)
		}
	}
}

// A node that could not be reached at all is not one that failed in the run.
func TestMaxFailCountsTheRun(t *testing.T) {
	_, s, o, r := fleet(t, 3, bmcsim.Behaviour{})
	f := o.Nodes["n0"]
	f.Err = &bmc.Error{Kind: bmc.KindUnreachable, Err: errors.New("refused"), Hint: "look"}
	o.Nodes["n0"] = f
	r.MaxFail, r.Jobs = 1, 1
	for _, n := range r.Run(t.Context(), nil, s, plan.Compute(s, o, nil)).Nodes {
		if n.Converged != (n.Node != "n0") {
			t.Errorf("%s: converged %v, %v", n.Node, n.Converged, n.Err)
		}
	}
}
