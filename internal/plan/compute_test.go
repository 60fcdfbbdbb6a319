package plan

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// one plans the scene of a row, changed by the given funcs.
func one(r row, accept bool, change ...func(*site.Site, *Observed)) NodePlan {
	s, o := r.scene()
	for _, c := range change {
		c(s, &o)
	}
	return Compute(s, o, map[string]bool{"n1": accept}).Nodes[0]
}

var (
	liveOther = row{wants: "image", reset: "needed", power: "On", drive: "other", armed: "no", phase: "os", host: "live other", store: "kept"}
	switchOff = row{wants: "image", reset: "needed", power: "Off", drive: "empty", armed: "no", phase: "?", host: "-", store: "-"}
)

func facts(change func(*Facts)) func(*site.Site, *Observed) {
	return func(_ *site.Site, o *Observed) {
		f := o.Nodes["n1"]
		change(&f)
		o.Nodes = map[string]Facts{"n1": f}
	}
}

func TestPlanCases(t *testing.T) {
	unreadable := func(kind bmc.Kind) func(*site.Site, *Observed) {
		return func(_ *site.Site, o *Observed) {
			o.Images = map[string]ImageFacts{"pit-1.7": {Err: &bmc.Error{Kind: kind, Err: errors.New("no such file"), Hint: "look"}}}
		}
	}
	lost := liveOther
	lost.host, lost.store = "silent", "kept"
	nothing := liveOther
	nothing.wants = "none"
	never := liveOther
	never.store = "-"
	damaged := switchOff
	damaged.host, damaged.store = "silent", "damaged"
	broken := liveOther
	broken.store = "broken"
	for _, c := range []struct {
		name   string
		row    row
		accept bool
		change func(*site.Site, *Observed)
		want   string
	}{
		{"a silent node's overlay is given up", lost, true, nil, "power-off eject-media insert-media set-boot-once power-on await-boot restore-overlay"},
		{"a live node without a store is given up", never, true, nil, "power-off eject-media insert-media set-boot-once power-on await-boot"},
		{"a broken store is given up", broken, true, nil, "power-off eject-media insert-media set-boot-once power-on await-boot"},
		{"accepting still backs up what can be", liveOther, true, nil, "backup-overlay power-off eject-media insert-media set-boot-once power-on await-boot restore-overlay"},
		{"an image at fault", liveOther, false, unreadable(bmc.KindMedia), "failed media"},
		{"an image that cannot be reached from here", liveOther, false, unreadable(bmc.KindUnreachable), "blocked unreachable"},
		{"off, an image that cannot be reached from here", switchOff, false, unreadable(bmc.KindUnreachable), "insert-media set-boot-once power-on await-boot"},
		{
			"no power off, but a restart", liveOther, false, facts(func(f *Facts) { f.BMC.Resets = []bmc.ResetKind{bmc.Restart} }),
			"backup-overlay eject-media insert-media set-boot-once reset await-boot restore-overlay",
		},
		{"no way to start", switchOff, false, facts(func(f *Facts) { f.BMC.Resets = []bmc.ResetKind{bmc.ForceOff} }), "failed unsupported"},
		{"on, and a power on only", liveOther, false, facts(func(f *Facts) { f.BMC.Resets = []bmc.ResetKind{bmc.PowerUp} }), "failed unsupported"},
		{"on, and no reset at all", liveOther, false, facts(func(f *Facts) { f.BMC.Resets = nil }), "failed unsupported"},
		{"nothing to be mounted, and no way back on", nothing, false, facts(func(f *Facts) { f.BMC.Resets = []bmc.ResetKind{bmc.ForceOff} }), "failed unsupported"},
		{"a family that cannot", switchOff, false, facts(func(f *Facts) {
			f.BMC.Media.Access, f.BMC.CannotMount = bmc.AccessNone, bmc.Refusal{Kind: bmc.KindUnsupported, Why: "it has no virtual media", Hint: "boot it another way"}
		}), "failed unsupported"},
		{"a url that the family refuses", switchOff, false, facts(func(f *Facts) { f.Profile.URL.Schemes = []string{"https"} }), "failed url"},
		{"an image that is a file", switchOff, false, func(s *site.Site, _ *Observed) {
			s.Images = map[string]site.Image{"pit-1.7": {Name: "pit-1.7", File: "/iso/pit.iso"}}
		}, "failed url"},
		{"an unreachable BMC", switchOff, false, facts(func(f *Facts) {
			f.Err = &bmc.Error{Kind: bmc.KindUnreachable, Err: errors.New("refused"), Hint: "look"}
		}), "failed unreachable"},
		{"not observed", switchOff, false, func(_ *site.Site, o *Observed) { o.Nodes = nil }, "failed cancelled"},
		{"a restore by ID", liveOther, false, func(s *site.Site, _ *Observed) {
			s.Nodes[0].Overlay = &site.Overlay{Store: "admin", Restore: "20260101T000000Z"}
		}, "backup-overlay power-off eject-media insert-media set-boot-once power-on await-boot restore-overlay"},
		{"a restore by ID of one that is damaged", liveOther, false, func(s *site.Site, o *Observed) {
			s.Nodes[0].Overlay = &site.Overlay{Store: "admin", Restore: "20260101T000000Z"}
			facts(func(f *Facts) { f.Overlay.Damaged = []Damage{{ID: "20260101T000000Z", Why: "a bit"}} })(s, o)
		}, "blocked overlay"},
		{"a damaged backup is given up", damaged, true, nil, "insert-media set-boot-once power-on await-boot"},
		{"no restore", liveOther, false, func(s *site.Site, _ *Observed) {
			s.Nodes[0].Overlay = &site.Overlay{Store: "admin", Restore: site.RestoreNone}
		}, "backup-overlay power-off eject-media insert-media set-boot-once power-on await-boot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			change := c.change
			if change == nil {
				change = func(*site.Site, *Observed) {}
			}
			np := one(c.row, c.accept, change)
			if got := outcome(np); got != c.want {
				t.Errorf("got  %s\nwant %s\nerr: %v", got, c.want, np.Err)
			}
			if np.Err != nil && (np.Err.Hint == "" || np.Err.Err == nil) {
				t.Errorf("the error says not what to do next, or not what happened: %#v", np.Err)
			}
		})
	}
}

func TestBackupWhenDue(t *testing.T) {
	inSync := row{wants: "image", reset: "needed", power: "On", drive: "wanted", armed: "no", phase: "os", host: "live wanted", store: "kept"}
	every := func(d time.Duration) func(*site.Site, *Observed) {
		return func(s *site.Site, _ *Observed) { s.Nodes[0].Overlay.Every = d }
	}
	for _, c := range []struct {
		every time.Duration
		row   row
		want  string
	}{
		{0, inSync, "in-sync"},
		{49 * time.Hour, inSync, "in-sync"},
		{48 * time.Hour, inSync, "backup-overlay"},
		{time.Hour, liveOther, "backup-overlay power-off eject-media insert-media set-boot-once power-on await-boot restore-overlay"},
		{time.Hour, row{wants: "-", reset: "needed", power: "On", drive: "other", phase: "os", host: "live other", store: "empty"}, "backup-overlay"},
		{time.Hour, row{wants: "-", reset: "needed", power: "On", drive: "other", phase: "os", host: "disk", store: "empty"}, "in-sync"},
	} {
		if got := outcome(one(c.row, false, every(c.every))); got != c.want {
			t.Errorf("every %s: got %s, want %s", c.every, got, c.want)
		}
	}
}

// A note left by a run that was cut off is good for one boot's time, and for
// the boot it speaks of.
func TestNoteOfACutOffRun(t *testing.T) {
	saved := row{wants: "image", reset: "needed", power: "On", drive: "other", armed: "no", phase: "os", host: "silent", store: "saved"}
	old := facts(func(f *Facts) { r := *f.Overlay.Reboot; r.At = noon.Add(-31 * time.Minute); f.Overlay.Reboot = &r })
	if got := outcome(one(saved, false, old)); got != "blocked data-loss" {
		t.Errorf("an old note still unblocks: %s", got)
	}
	owed := row{wants: "image", reset: "needed", power: "On", drive: "wanted", armed: "no", phase: "os", host: "live wanted", store: "owed"}
	for name, change := range map[string]func(*Facts){
		"the boot the note speaks of still runs": func(f *Facts) { r := *f.Overlay.Reboot; r.BootID = "boot-now"; f.Overlay.Reboot = &r },
		"this boot holds the backup already":     func(f *Facts) { h := f.Host.(HostLive); h.Restored = "old"; f.Host = h },
		"the note is for another image":          func(f *Facts) { r := *f.Overlay.Reboot; r.Image = "pit-1.6"; f.Overlay.Reboot = &r },
	} {
		if got := outcome(one(owed, false, facts(change))); got != "in-sync" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// No plan ends a running live image without a backup before it, unless its loss
// was accepted.
func TestNothingIsEndedUnsaved(t *testing.T) {
	values := map[string][]string{
		"wants": {"image", "none", "-"}, "reset": {"needed", "never"}, "power": {"On", "Off", "PoweringOff", "PoweringOn", ""},
		"drive": {"empty", "wanted", "other", "stale", "unnamed", "disabled"}, "armed": {"yes", "no"}, "phase": {"post", "os", "?"},
		"host": {"-", "silent", "disk", "live wanted", "live other", "live ?", "locked", "silent, login", "live other, login"}, "store": {"-", "empty", "kept", "broken", "sealed", "saved", "owed"},
	}
	walk(values, func(r row) {
		np := one(r, false)
		ends := np.EndsRunning()
		if ends && r.host == "locked" && !strings.HasPrefix(outcome(np), "login backup-overlay ") {
			t.Errorf("%+v: ends what may be a live image: %s", r, outcome(np))
		}
		if ends && strings.HasPrefix(r.host, "live") && np.Steps[0].Action.Name() != "backup-overlay" {
			t.Errorf("%+v: %s", r, outcome(np))
		}
		if ends && strings.HasPrefix(r.host, "silent") && r.store != "saved" && r.store != "owed" {
			t.Errorf("%+v: ends what may be a live image: %s", r, outcome(np))
		}
		if ends && r.reset == "never" {
			t.Errorf("%+v: resets although reset: never: %s", r, outcome(np))
		}
		if ends && r.host == "live wanted" && r.wants == "image" {
			t.Errorf("%+v: resets a node that runs what it should: %s", r, outcome(np))
		}
		s, o := r.scene()
		if left := Compute(s, Predict(s, o, Compute(s, o, nil)), nil).Nodes[0]; np.Err == nil && left.State != InSync {
			t.Errorf("%+v: after %s there is left %s", r, outcome(np), outcome(left))
		}
	})
}

// walk calls f with every combination of the values.
func walk(values map[string][]string, f func(row)) {
	for _, wants := range values["wants"] {
		for _, reset := range values["reset"] {
			for _, power := range values["power"] {
				for _, drive := range values["drive"] {
					for _, armed := range values["armed"] {
						for _, phase := range values["phase"] {
							for _, host := range values["host"] {
								for _, store := range values["store"] {
									f(row{wants, reset, power, drive, armed, phase, host, store, ""})
								}
							}
						}
					}
				}
			}
		}
	}
}

// The order in which nodes are found changes nothing.
func TestOrderDoesNotMatter(t *testing.T) {
	s, o := liveOther.scene()
	base := s.Nodes[0]
	s.Nodes = nil
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		n := base
		n.Name = name
		s.Nodes = append(s.Nodes, n)
		o.Nodes[name] = o.Nodes["n1"]
	}
	want := Compute(s, o, nil)
	rand.Shuffle(len(s.Nodes), func(i, j int) { s.Nodes[i], s.Nodes[j] = s.Nodes[j], s.Nodes[i] })
	got := Compute(s, o, nil)
	for _, n := range want.Nodes {
		if g, _ := got.Node(n.Node); !reflect.DeepEqual(g, n) { //nolint:govet // errors that say the same are the same here
			t.Errorf("%s differs", n.Node)
		}
	}
	if sum := want.Summary(); sum != (Summary{Nodes: 4, Change: 4}) {
		t.Errorf("summary: %+v", sum)
	}
}

// FuzzCompute: no facts make the planner panic, and no error is without a hint.
func FuzzCompute(f *testing.F) {
	f.Add("image", "needed", "On", "other", "yes", "os", "live other", "owed", "http://h/x.iso", true)
	f.Add("none", "never", "bogus", "stale", "", "", "disk", "broken", "", false)
	f.Fuzz(func(t *testing.T, wants, reset, power, drive, armed, phase, host, store, image string, accept bool) {
		np := one(row{wants, reset, power, drive, armed, phase, host, store, ""}, accept, func(s *site.Site, _ *Observed) {
			s.Images = map[string]site.Image{"pit-1.7": {Name: "pit-1.7", URL: image}}
		})
		if np.Err != nil && np.Err.Hint == "" {
			t.Errorf("no hint: %v", np.Err)
		}
	})
}

func BenchmarkCompute1000(b *testing.B) {
	s, o := liveOther.scene()
	base := s.Nodes[0]
	s.Nodes = nil
	for i := range 1000 {
		n := base
		n.Name = "n" + string(rune('a'+i%26)) + time.Duration(i).String()
		s.Nodes = append(s.Nodes, n)
		o.Nodes[n.Name] = o.Nodes["n1"]
	}
	for b.Loop() {
		Compute(s, o, nil)
	}
}

// TestHalfRestored plans nodes onto which a restore was cut off: nothing that
// would keep half of it for all is done before it is finished.
func TestHalfRestored(t *testing.T) {
	half := func(s *site.Site, o *Observed) {
		f := o.Nodes["n1"]
		h := f.Host.(HostLive)
		h.Restoring = "20261120T050000Z"
		f.Host = h
		o.Nodes = map[string]Facts{"n1": f}
		if s.Nodes[0].Overlay != nil {
			s.Nodes[0].Overlay.Every = time.Minute
		}
	}
	owed := row{wants: "image", reset: "needed", power: "On", drive: "wanted", armed: "no", phase: "os", host: "live wanted", store: "owed"}
	kept := owed
	kept.store = "kept"
	for name, c := range map[string]struct {
		row    row
		accept bool
		want   string
		noted  bool
	}{
		"a reset waits":        {liveOther, false, "blocked overlay", true},
		"it is given up":       {liveOther, true, "backup-overlay power-off eject-media insert-media set-boot-once power-on await-boot restore-overlay", true},
		"no backup is due":     {kept, false, "in-sync", true},
		"it is finished first": {owed, false, "restore-overlay backup-overlay", false},
	} {
		p := one(c.row, c.accept, half)
		if got := outcome(p); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if noted := strings.Contains(strings.Join(p.Notes, "\n"), "livecd-sync restore n1 --from 20261120T050000Z"); noted != c.noted {
			t.Errorf("%s: notes %q", name, p.Notes)
		}
		s, o := c.row.scene()
		half(s, &o)
		accept := map[string]bool{"n1": c.accept}
		after := Compute(s, Predict(s, o, Compute(s, o, accept)), accept).Nodes[0]
		if c.want != "blocked overlay" && len(after.Steps) > 0 {
			t.Errorf("%s: %s is left to do", name, outcome(after))
		}
	}
}

func TestDamagedBackupIsNoted(t *testing.T) {
	for host, store := range map[string]string{"live wanted": "worn", "live other": "damaged"} {
		np := one(row{wants: "image", reset: "needed", power: "On", drive: "wanted", phase: "os", host: host, store: store}, false)
		if notes := strings.Join(np.Notes, "\n"); !strings.Contains(notes, "backup bad is damaged: a bit") {
			t.Errorf("%s: it is not said which backup is damaged: %q", host, notes)
		}
	}
}
