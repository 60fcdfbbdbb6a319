package apply

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// newLocked is a world whose images let nobody in before their first login.
func newLocked(t *testing.T, cfg bmcsim.Config) *world {
	t.Helper()
	w := newWorld(t, cfg)
	w.Locks = true
	w.Node.Login = &site.Login{Within: time.Second}
	return w
}

// mount puts another image into the drive, under whatever runs.
func (w *world) mount(url string) {
	w.t.Helper()
	c := w.Machine.Client()
	m, err := c.ObserveMedia(w.t.Context())
	if err == nil && m.Inserted {
		err = c.EjectMedia(w.t.Context())
	}
	if err = errors.Join(err, c.InsertMedia(w.t.Context(), url)); err != nil {
		w.t.Fatal(err)
	}
}

// names are those of a plan's steps.
func names(np plan.NodePlan) []string {
	var out []string
	for _, s := range np.Steps {
		out = append(out, s.Action.Name())
	}
	return out
}

// From power-off to the wanted image with the overlay back, whether or not the node
// has an address before its first login.
func TestFirstLogin(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		for _, kind := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.Gigabyte, bmcsim.Generic} {
			w := newLocked(t, bmcsim.Config{Kind: kind, InitialPower: bmc.PowerOff})
			w.Deaf = deaf
			w.Backups["kept"] = map[string]string{"etc/motd": "mine"}
			w.Taken = []string{"kept"}
			w.mustConverge()
			if w.Logins != 1 || w.Read("etc/motd") != "mine" || w.Machine.Stats().Boots != 1 {
				t.Errorf("%s, deaf %v: %d logins, %q, %+v", kind, deaf, w.Logins, w.Read("etc/motd"), w.Machine.Stats())
			}
		}
	}
}

// A BMC that never uses the boot override up keeps no node without an address from
// its first login.
func TestFirstLoginWhereTheOverrideStays(t *testing.T) {
	for _, kind := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.Generic} {
		for _, known := range []bool{false, true} {
			w := newLocked(t, bmcsim.Config{Kind: kind, InitialPower: bmc.PowerOff, Behaviour: bmcsim.Behaviour{OverrideStays: true}})
			w.Deaf = true
			w.Profile.OverrideStays = known
			r := w.apply()
			if (known || kind == bmcsim.ILO5) && (!r.Converged || w.Logins != 1) || w.Machine.Stats().Boots != 1 {
				t.Errorf("%s, known %v: %v, %d logins, %+v", kind, known, r.Err, w.Logins, w.Machine.Stats())
			}
		}
	}
}

// A login that is not needed is not done.
func TestFirstLoginNotNeeded(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, InitialPower: bmc.PowerOff})
	w.Locks = false
	if w.mustConverge(); w.Logins != 0 {
		t.Errorf("%d logins", w.Logins)
	}
}

// A node that runs and lets nobody in is logged in to without a reset; what it
// holds is saved before anything ends it.
func TestFirstLoginOfWhatRuns(t *testing.T) {
	t.Run("the wanted image", func(t *testing.T) {
		w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.NewImage)})
		w.SetLocked(true)
		if w.mustConverge(); w.Logins != 1 || w.Machine.Stats().Boots != 0 {
			t.Errorf("%d logins, %+v", w.Logins, w.Machine.Stats())
		}
	})
	t.Run("another image", func(t *testing.T) {
		w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
		w.Write("etc/motd", "work")
		w.SetLocked(true)
		if got := names(w.Plan(nil).Nodes[0]); !slices.Equal(got[:3], []string{"login", "backup-overlay", "power-off"}) {
			t.Fatal(got)
		}
		if w.mustConverge(); w.Logins != 2 || w.Read("etc/motd") != "work" || w.Machine.Stats().Boots != 1 {
			t.Errorf("%d logins, %q, %+v", w.Logins, w.Read("etc/motd"), w.Machine.Stats())
		}
	})
	t.Run("it is the disk", func(t *testing.T) {
		w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5})
		w.mount(applytest.OldImage)
		w.SetLocked(true)
		w.FailBackup = &bmc.Error{Kind: bmc.KindOverlay, Err: errors.New("it runs no live image"), Hint: "plan again"}
		if r := w.apply(); r.Converged || w.Machine.Stats().Boots != 0 {
			t.Errorf("it was reset: %v, %+v", r.Err, w.Machine.Stats())
		}
		if got := names(w.Plan(nil).Nodes[0]); got[0] != "power-off" {
			t.Errorf("now that it is seen: %v", got)
		}
	})
}

// A login that fails ends the node's run without a reset, and with its own error.
func TestFirstLoginFails(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	w.Write("etc/motd", "work")
	w.SetLocked(true)
	w.FailLogin = &bmc.Error{Kind: bmc.KindAuth, Err: errors.New("the node refuses the new password"), Hint: "another"}
	r := w.apply()
	if bmc.KindOf(r.Err) != bmc.KindAuth || bmc.HintOf(r.Err) == "" || w.Machine.Stats().Boots != 0 || w.Read("etc/motd") != "work" {
		t.Errorf("%v, %+v", r.Err, w.Machine.Stats())
	}
	w.FailLogin = nil
	w.mustConverge()
}

// After a boot from the wrong device, or of a wrong image, the login does not hide it,
// and nothing is reset again.
func TestFirstLoginShowsWrongBoot(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	w.mount(applytest.NewImage)
	w.SetLocked(true)
	if got := names(w.Plan(nil).Nodes[0]); !slices.Equal(got, []string{"login"}) {
		t.Fatal(got)
	}
	r := w.apply()
	if bmc.KindOf(r.Err) != bmc.KindMedia || !strings.Contains(r.Err.Error(), "it runs another image") || w.Machine.Stats().Boots != 0 {
		t.Errorf("%v, %+v", r.Err, w.Machine.Stats())
	}
}

// A disk that was booted instead, and lets nobody in by any password that is known, is
// left as it is, for it may be a live image. Once somebody has switched it off, apply
// goes on, and brings back what it had saved.
func TestFirstLoginKeptOutByTheDisk(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.OldImage)})
	w.LocksDisk = true
	w.Write("etc/motd", "work")
	w.FailLogin = &bmc.Error{Kind: bmc.KindAuth, Err: errors.New("root is not let in"), Hint: "switch the node off"}
	w.Machine.SetBehaviour(bmcsim.Behaviour{IgnoreCd: true})
	for range 2 {
		if r := w.apply(); bmc.KindOf(r.Err) != bmc.KindAuth || w.Machine.Stats().Boots != 1 {
			t.Fatalf("%v, %+v", r.Err, w.Machine.Stats())
		}
	}
	w.Machine.SetBehaviour(bmcsim.Behaviour{})
	w.Machine.SetPower(bmc.PowerOff)
	w.FailLogin = nil
	if w.mustConverge(); w.Read("etc/motd") != "work" || w.Machine.Stats().Boots != 2 {
		t.Errorf("%q, %+v", w.Read("etc/motd"), w.Machine.Stats())
	}
}

// Power that goes while a console is waited for ends the login; where it only seems to
// be gone, or the BMC does not answer, the login goes on. The next run does the rest.
func TestPowerGoesDuringFirstLogin(t *testing.T) {
	for _, kind := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.Gigabyte} {
		w := newLocked(t, bmcsim.Config{Kind: kind, InitialPower: bmc.PowerOff})
		w.Backups["kept"] = map[string]string{"etc/motd": "mine"}
		w.Taken = []string{"kept"}
		r := w.runner()
		r.Login = func(ctx context.Context, _ site.Node, _ time.Duration, _ func(string)) (string, error) {
			w.Machine.SetPower(bmc.PowerOff)
			<-ctx.Done()
			return "", &bmc.Error{Kind: bmc.KindCancelled, Err: context.Canceled, Hint: "again"}
		}
		res := r.Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
		if bmc.KindOf(res.Err) != bmc.KindMedia || !strings.Contains(res.Err.Error(), "the machine went off before its first login was done") {
			t.Fatalf("%s: %v", kind, res.Err)
		}
		if w.mustConverge(); w.Logins != 1 || w.Read("etc/motd") != "mine" || w.Machine.Stats().Boots != 2 {
			t.Errorf("%s: %d logins, %q, %+v", kind, w.Logins, w.Read("etc/motd"), w.Machine.Stats())
		}
	}
}

// A vagueBMC does not answer at first, then shows the machine off once.
type vagueBMC struct {
	bmc.Client
	asked int
	seen  func() // it was asked often enough
}

func (c *vagueBMC) ObserveSystem(ctx context.Context) (bmc.State, error) {
	s, err := c.Client.ObserveSystem(ctx)
	switch c.asked++; c.asked {
	case 1, 2:
		return bmc.State{}, &bmc.Error{Kind: bmc.KindUnreachable, Err: errors.New("no answer"), Hint: "wait"}
	case 3:
		s.Power = bmc.PowerOff
	case 6:
		c.seen()
	}
	return s, err
}

func TestPowerOnlySeemsToGo(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.NewImage)})
	ctx, seen := context.WithCancel(t.Context())
	defer seen()
	one := &work{run: &run{Runner: w.runner(), timing: fast}}
	if err := one.wentOff(ctx, &vagueBMC{Client: w.Machine.Client(), seen: seen}); err != nil {
		t.Errorf("it was taken for off: %v", err)
	}
}

func TestNoWayToLogIn(t *testing.T) {
	w := newLocked(t, bmcsim.Config{Kind: bmcsim.ILO5, Running: running(applytest.NewImage)})
	w.SetLocked(true)
	r := w.runner()
	r.Login = nil
	res := r.Run(t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
	if bmc.KindOf(res.Err) != bmc.KindUnsupported {
		t.Error(res.Err)
	}
}
