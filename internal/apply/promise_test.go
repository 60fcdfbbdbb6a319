package apply

import (
	"errors"
	"fmt"
	"testing"
	"time"

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
	r.Run(t.Context(), stop, w.site(), w.plan(nil))
	if w.machine.Power() != bmc.PowerOff {
		t.Fatalf("it was not left off: %s", w.machine.Power())
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
			after: func(w *world) { w.Start(running(oldImage)) },
		},
		"silent and given up, live by now": {
			cfg:    bmcsim.Config{Kind: bmcsim.ILO5, Running: running(oldImage)},
			before: func(w *world) { w.mute = true }, after: func(w *world) { w.mute = false }, accept: true,
		},
		"rebooted since its backup": {
			cfg:    bmcsim.Config{Kind: bmcsim.ILO5, Running: running(oldImage)},
			backup: func(w *world) { w.Start(running(oldImage)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			w.backups["older"], w.taken = map[string]string{"precious": "ancient"}, []string{"older"}
			if c.before != nil {
				c.before(w)
			}
			accept := map[string]bool{"n1": c.accept}
			p := w.plan(accept)
			if c.after != nil {
				c.after(w)
			}
			w.write("precious", "a week's work")
			r := w.runner()
			r.Accept = accept
			if c.backup != nil {
				r.Overlays = afterBackup{w, func() { c.backup(w); w.write("precious", "a week's work") }}
			}
			res := r.Run(t.Context(), nil, w.site(), p).Nodes[0]
			if res.Converged || w.read("precious") != "a week's work" || w.machine.Stats().Boots != 0 {
				t.Errorf("converged %v, err %v, overlay %q, boots %d", res.Converged, res.Err, w.read("precious"), w.machine.Stats().Boots)
			}
		})
	}
}

// A backup that a run which was cut off still owes is not replaced by that of
// another boot.
func TestOwedBackupIsNotForgotten(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(oldImage)})
	w.write("precious", "a week's work")
	cutOff(t, w)
	w.machine.SetMounted(oldImage)
	w.machine.SetPower(bmc.PowerOn)
	w.Start(running(oldImage)) // by hand
	p := w.plan(nil)
	if p.Nodes[0].State != plan.Blocked || p.Nodes[0].Err.Kind != bmc.KindOverlay {
		t.Errorf("state %s, %v", p.Nodes[0].State, p.Nodes[0].Err)
	}
	if w.reboot == nil || w.reboot.Restore != "backup-1" {
		t.Errorf("the note is lost: %+v", w.reboot)
	}
}

// A node that shall have nothing mounted, and was left off by a run that was cut
// off, is switched on again.
func TestNoImageIsFinished(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(oldImage)})
	w.node.Image = site.NoImage
	cutOff(t, w)
	if r := w.apply(); !r.Converged || w.machine.Power() != bmc.PowerOn || w.reboot != nil {
		t.Errorf("converged %v, err %v, power %s, note %+v", r.Converged, r.Err, w.machine.Power(), w.reboot)
	}
}

// A machine that can be switched off but not on is restarted in place.
func TestNoWayToPowerOn(t *testing.T) {
	w := newWorld(t, bmcsim.Config{
		Kind: bmcsim.Generic, Running: running(oldImage), Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceOff", "ForceRestart"}},
	})
	w.mustConverge()
}

// A backup that is due once the node runs is no failure of the boot.
func TestDueBackupIsNoFailure(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, InitialPower: bmc.PowerOff})
	w.node.Overlay.Every = 24 * time.Hour
	if r := w.apply(); !r.Converged {
		t.Errorf("err %v", r.Err)
	}
}

// fleet is several nodes, and a runner over all of them.
func fleet(t *testing.T, count int, b bmcsim.Behaviour) (map[string]*world, *site.Site, plan.Observed, *Runner) {
	t.Helper()
	worlds := map[string]*world{}
	s := &site.Site{Images: map[string]site.Image{"new": {Name: "new", URL: newImage}}}
	o := plan.Observed{At: time.Now(), Nodes: map[string]plan.Facts{}}
	for i := range count {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(oldImage), Behaviour: b})
		w.node.Name = fmt.Sprintf("n%d", i)
		worlds[w.node.Name] = w
		s.Nodes = append(s.Nodes, w.node)
		o.Images = w.images()
		state, err := w.machine.Client().Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		o.Nodes[w.node.Name] = w.beside(t.Context(), nil, w.node, state)
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
		if w.machine.Power() == bmc.PowerOff {
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
