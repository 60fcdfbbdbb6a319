package apply

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func running(image string) bmcsim.Boot { return bmcsim.Boot{Image: image} }

func TestConverges(t *testing.T) {
	for name, cfg := range map[string]bmcsim.Config{
		"iLO, another image":       {Kind: bmcsim.ILO5, Running: running(applytest.OldImage)},
		"iLO, its disk":            {Kind: bmcsim.ILO5},
		"iLO, off":                 {Kind: bmcsim.ILO5, InitialPower: bmc.PowerOff},
		"iLO as reported":          {Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Behaviour: bmcsim.Reported(bmcsim.ILO5)},
		"Gigabyte, another image":  {Kind: bmcsim.Gigabyte, Running: running(applytest.OldImage)},
		"Gigabyte as reported":     {Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Reported(bmcsim.Gigabyte)},
		"generic":                  {Kind: bmcsim.Generic, Running: running(applytest.OldImage)},
		"answers are lost":         {Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{CloseAfterAction: true}},
		"everything lags":          {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{InsertLags: true, EjectLags: true, PowerLags: true, PowerTransitions: true}},
		"the name stays":           {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{NameNeverClears: true}},
		"the name wants more":      {Kind: bmcsim.Gigabyte, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{EjectKeepsName: true}},
		"iDRAC 9, another image":   {Kind: bmcsim.IDRAC9, Running: running(applytest.OldImage)},
		"XCC, another image":       {Kind: bmcsim.XCC, Running: running(applytest.OldImage)},
		"shutdown is ignored":      {Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{IgnoreShutdown: true}},
		"no power off":             {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceRestart"}}},
		"no graceful shutdown":     {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceOff", "On"}}},
		"the image reads as blank": {Kind: bmcsim.Generic, Running: running(applytest.OldImage), Behaviour: bmcsim.Behaviour{Echo: bmcsim.EchoBlank}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, cfg)
			live := cfg.Running.Image != ""
			w.Write("precious", "a week's work")
			w.mustConverge()
			if got := w.Read("precious"); live && got != "a week's work" {
				t.Errorf("the overlay was lost: %q", got)
			}
			if s := w.Machine.Stats(); s.Boots != 1 || s.MediaBoots != 1 || s.Sessions != 0 {
				t.Errorf("boots: %+v", s)
			}
			if w.Note != nil {
				t.Error("the note of the reboot was left behind")
			}
		})
	}
}

func TestConvergesWithoutSSH(t *testing.T) {
	for _, kind := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.Gigabyte, bmcsim.Generic} {
		for _, boot := range []bmcsim.Boot{{}, running(applytest.OldImage)} {
			w := newWorld(t, bmcsim.Config{Kind: kind, Running: boot})
			w.Node.SSH = nil
			w.mustConverge()
			if s := w.Machine.Stats(); s.Boots != 1 || s.MediaBoots != 1 {
				t.Errorf("%s: %+v", kind, s)
			}
		}
	}
}

// A write is read back, and a step that does not take ends the node's run with
// an error that says where it stands; no machine is started twice.
func TestFailures(t *testing.T) {
	live := bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)}
	with := func(b bmcsim.Behaviour) bmcsim.Config { c := live; c.Behaviour = b; return c }
	for _, c := range []struct {
		name   string
		cfg    bmcsim.Config
		change func(*world)
		kind   bmc.Kind
		says   string
		step   string // the step that fails
		boots  int    // -1: the machine may still be in POST
	}{
		{"no licence", with(bmcsim.Behaviour{NoLicence: true}), nil, bmc.KindLicence, "", "insert-media", 0},
		{"the BMC never connects", bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{RedirectionStatus: true, DefaultPortOnly: true}}, func(w *world) {
			w.NewURL = "http://10.1.1.1:8080/iso/pit17.iso"
		}, bmc.KindMedia, "Stopped - Unable to Connect", "insert-media", 0},
		{"the image is lost at power-on", with(bmcsim.Behaviour{DetachAtPowerOn: true}), nil, bmc.KindMedia, "it does not run new", "await-boot", -1},
		{"Cd is not the virtual CD", with(bmcsim.Behaviour{IgnoreCd: true}), nil, bmc.KindMedia, "booted its disk", "await-boot", 1},
		{"the backup fails", live, func(w *world) {
			w.FailBackup = &bmc.Error{Kind: bmc.KindOverlay, Err: errors.New("disk full"), Hint: "make room"}
		}, bmc.KindOverlay, "disk full", "backup-overlay", 0},
		{"the restore fails", live, func(w *world) {
			w.FailRestore = &bmc.Error{Kind: bmc.KindOverlay, Err: errors.New("tar died"), Hint: "again"}
		}, bmc.KindOverlay, "tar died", "restore-overlay", 1},
		{"the insert fails", with(bmcsim.Behaviour{TaskFails: true}), nil, "", "", "insert-media", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			if c.change != nil {
				c.change(w)
			}
			r := w.apply()
			if r.Converged || r.Err == nil || (c.kind != "" && bmc.KindOf(r.Err) != c.kind) || !strings.Contains(r.Err.Error(), c.says) {
				t.Fatalf("converged %v, err %v (%s)", r.Converged, r.Err, bmc.KindOf(r.Err))
			}
			if bmc.HintOf(r.Err) == "" {
				t.Error("the error says not what to do next")
			}
			var failed []string
			for i, s := range r.Steps {
				if s.Outcome == OutcomeFailed {
					failed = append(failed, w.plan0(t, c.cfg)[i])
				}
			}
			if !slices.Equal(failed, []string{c.step}) {
				t.Errorf("failed steps: %v, want %s alone", failed, c.step)
			}
			if got := w.Machine.Stats().Boots; c.boots >= 0 && got != c.boots {
				t.Errorf("%d boots, want %d", got, c.boots)
			}
		})
	}
}

// plan0 names the steps that a node as cfg has at first.
func (w *world) plan0(t *testing.T, cfg bmcsim.Config) []string {
	t.Helper()
	var names []string
	for _, s := range newWorld(t, cfg).Plan(nil).Nodes[0].Steps {
		names = append(names, s.Action.Name())
	}
	return names
}

// A node that changed since it was planned is left alone.
func TestStalePlan(t *testing.T) {
	for name, change := range map[string]func(*world){
		"somebody mounted the image":   func(w *world) { w.Machine.SetMounted(applytest.NewImage) },
		"somebody switched it off":     func(w *world) { w.Machine.SetPower(bmc.PowerOff) },
		"ssh no longer answers":        func(w *world) { w.SetMute(true) },
		"it was rebooted to the image": func(w *world) { w.Machine.SetMounted(applytest.NewImage); w.Start(running(applytest.NewImage)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
			p := w.Plan(nil)
			r := w.runner()
			r.Overlays = afterBackup{w, func() { change(w) }}
			res := r.Run(t.Context(), nil, w.Site(), p).Nodes[0]
			if bmc.KindOf(res.Err) != bmc.KindCancelled || !strings.Contains(res.Err.Error(), "nothing was reset") {
				t.Errorf("err: %v", res.Err)
			}
			for _, q := range w.Machine.Requests() {
				if q.Method != http.MethodGet {
					t.Errorf("it wrote: %s %s", q.Method, q.Path)
				}
			}
		})
	}
}

// afterBackup does something right after the backup.
type afterBackup struct {
	*world
	then func()
}

func (a afterBackup) Backup(ctx context.Context, n site.Node, p plan.Purpose, tell func(string)) (string, error) {
	defer a.then()
	return a.world.Backup(ctx, n, p, tell)
}

// Stop lets the running step come to a safe point and starts no other.
func TestStop(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	stop := make(chan struct{})
	r := w.runner()
	r.Emit = func(e Event) {
		if e.Phase == Started && e.Action.Name() == "insert-media" {
			close(stop)
		}
	}
	res := r.Run(t.Context(), stop, w.Site(), w.Plan(nil)).Nodes[0]
	var got []string
	for _, s := range res.Steps {
		got = append(got, string(s.Outcome))
	}
	if s := strings.Join(got, " "); s != "done done done done skipped skipped skipped skipped" {
		t.Errorf("steps: %s", s)
	}
	if bmc.KindOf(res.Err) != bmc.KindCancelled || w.Machine.Stats().Boots != 0 || w.Machine.Mounted() != applytest.NewImage {
		t.Errorf("err %v, %+v", res.Err, w.Machine.Stats())
	}
	w.mustConverge()
}

// A stop during await-boot ends the wait; the next run goes on from there.
func TestStopDuringBoot(t *testing.T) {
	w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage), Timing: bmcsim.Timing{Post: 300 * time.Millisecond}})
	w.Write("precious", "kept")
	stop := make(chan struct{})
	r := w.runner()
	r.Emit = func(e Event) {
		if e.Phase == Started && e.Action.Name() == "await-boot" {
			close(stop)
		}
	}
	if res := r.Run(t.Context(), stop, w.Site(), w.Plan(nil)).Nodes[0]; bmc.KindOf(res.Err) != bmc.KindCancelled {
		t.Fatalf("err: %v", res.Err)
	}
	w.mustConverge()
	if w.Read("precious") != "kept" || w.Machine.Stats().Boots != 1 {
		t.Errorf("%q, %+v", w.Read("precious"), w.Machine.Stats())
	}
}

// One node's failure stops no other, unless that was asked for, and not more
// nodes than allowed are down at once.
func TestManyNodes(t *testing.T) {
	const count = 6
	worlds, s, o, r := fleet(t, count, bmcsim.Behaviour{})
	worlds["n0"].Machine.SetBehaviour(bmcsim.Behaviour{NoLicence: true})
	most, down := 0, map[string]bool{}
	r.MaxDown = 2
	r.Emit = func(e Event) {
		switch {
		case e.Action != nil && e.Action.Name() == "power-off" && e.Phase == Started:
			down[e.Node] = true
		case e.Action == nil:
			delete(down, e.Node)
		}
		most = max(most, len(down))
	}
	res := r.Run(t.Context(), nil, s, plan.Compute(s, o, nil))
	for i, n := range res.Nodes {
		if n.Converged != (i != 0) {
			t.Errorf("%s: converged %v, %v", n.Node, n.Converged, n.Err)
		}
	}
	if most != 2 {
		t.Errorf("%d nodes were down at once, 2 were allowed", most)
	}
}

// fleetRunner runs plans of all the worlds' nodes.
func fleetRunner(worlds map[string]*world, o plan.Observed) *Runner {
	return &Runner{
		Dial: func(_ context.Context, n site.Node) (bmc.Client, error) { return worlds[n.Name].Machine.Client(), nil },
		Host: func(ctx context.Context, n site.Node) (plan.Host, error) { return worlds[n.Name].Host(ctx, n) },
		Beside: func(ctx context.Context, s *site.Site, n site.Node, st bmc.State) plan.Facts {
			return worlds[n.Name].Beside(ctx, s, n, st)
		},
		Overlays: byNode{worlds}, Images: o.Images, Clock: bmc.SystemClock{}, Timing: fast,
	}
}

type byNode struct{ worlds map[string]*world }

func (b byNode) Backup(ctx context.Context, n site.Node, p plan.Purpose, tell func(string)) (string, error) {
	return b.worlds[n.Name].Backup(ctx, n, p, tell)
}

func (b byNode) Restore(ctx context.Context, n site.Node, id string, tell func(string)) (string, error) {
	return b.worlds[n.Name].Restore(ctx, n, id, tell)
}

func (b byNode) Repopulate(ctx context.Context, n site.Node, id string, tell func(string)) (string, error) {
	return b.worlds[n.Name].Repopulate(ctx, n, id, tell)
}

func (b byNode) SetReboot(ctx context.Context, n site.Node, r plan.Reboot) error {
	return b.worlds[n.Name].SetReboot(ctx, n, r)
}

func (b byNode) ClearReboot(ctx context.Context, n site.Node) error {
	return b.worlds[n.Name].ClearReboot(ctx, n)
}

// A BMC that tells when the firmware has handed over, and never uses the
// override up, is reset once: what was used is taken back, so that the next plan
// finds nothing to do.
func TestOverrideThatIsNeverUsedUp(t *testing.T) {
	for _, b := range []bmcsim.Behaviour{{OverrideStays: true}, {OverrideStays: true, OverrideReadsContinuous: true}} {
		w := newWorld(t, bmcsim.Config{Kind: bmcsim.ILO5, Behaviour: b})
		w.Node.SSH, w.Node.Overlay = nil, nil
		for range 3 {
			w.mustConverge()
		}
		if s := w.Machine.Stats(); s.Boots != 1 || s.MediaBoots != 1 || s.Sessions != 0 {
			t.Errorf("%+v: %+v, want one boot", b, s)
		}
	}
}

// With image: none nothing is left to boot from.
func TestNoneDisarms(t *testing.T) {
	for name, cfg := range map[string]bmcsim.Config{
		"armed, and another image runs": {Running: running(applytest.OldImage)},
		"armed, and off":                {InitialPower: bmc.PowerOff},
		"armed for ever":                {Behaviour: bmcsim.Behaviour{OverrideReadsContinuous: true}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cfg)
			w.Node.Image = site.NoImage
			w.Machine.SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
			w.mustConverge()
			if o := w.Machine.Override(); o.Enabled != "Disabled" || w.Machine.Mounted() != "" {
				t.Errorf("%+v, %q in the drive", o, w.Machine.Mounted())
			}
		})
	}
}
