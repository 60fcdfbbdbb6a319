package bmctest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

func (s *suite) observeFresh() {
	st := s.observe()
	if st.Power != bmc.PowerOn {
		s.Errorf("power %q, want On", st.Power)
	}
	if st.Media.Access != bmc.AccessReady || st.Media.Slot == "" {
		s.Errorf("media %+v, want a slot that is ready", st.Media)
	}
	if got := st.Media.Compare(""); got != bmc.ImageEmpty {
		s.Errorf("media is %s, want empty: %+v", got, st.Media)
	}
	if st.Boot.Armed(armedTargets) {
		s.Errorf("boot %+v, want it idle", st.Boot)
	}
	if st.ID.System == "" || st.ID.Vendor == "" {
		s.Errorf("identity %+v, want a system and a vendor", st.ID)
	}
	for _, k := range []bmc.ResetKind{bmc.ForceOff, bmc.PowerUp} {
		if !st.Can(k) {
			s.Errorf("the BMC offers %v, want %s among them", st.Resets, k)
		}
	}
	if st.Phase == bmc.PhaseOff || st.Phase == bmc.PhasePost {
		s.Errorf("phase %q of a machine that runs", st.Phase)
	}
}

func (s *suite) observeReadsOnly() {
	before := len(s.h.Methods())
	for range 3 {
		s.observe()
	}
	for _, m := range s.h.Methods()[before:] {
		if !read(m) {
			s.Errorf("observing sent a %s", m)
		}
	}
	if n := s.h.Sessions(); n != 0 {
		s.Errorf("observing opened %d sessions", n)
	}
}

func (s *suite) observeSystem() {
	full := s.observe()
	s.h.SetPower(bmc.PowerOff)
	var last bmc.State
	s.wait("power Off", func() bool {
		st, err := s.c.ObserveSystem(s.Context())
		s.ok("observe the system", err)
		last = st
		return st.Power == bmc.PowerOff
	}, func() any { return last })
	if last.Media != full.Media {
		s.Errorf("media %+v, want it as last read, %+v", last.Media, full.Media)
	}
}

func (s *suite) observeMedia() {
	m, err := s.c.ObserveMedia(s.Context())
	s.ok("observe the media at first", err)
	if first := s.observe().Media; m != first {
		s.Errorf("media %+v, want what Observe says, %+v", m, first)
	}
	s.h.SetMounted(s.h.Images[0])
	var last bmc.Media
	s.wait("the image", func() bool {
		last, err = s.c.ObserveMedia(s.Context())
		s.ok("observe the media", err)
		is := last.Compare(s.h.Images[0])
		return is == bmc.ImageMatch || is == bmc.ImageUnnamed
	}, func() any { return last })
}

func (s *suite) insertMatches() {
	s.insert(s.h.Images[0])
	if got := s.h.Mounted(); got != s.h.Images[0] {
		s.Errorf("the drive holds %q", got)
	}
}

func (s *suite) insertFull() {
	s.insert(s.h.Images[0])
	err := s.c.InsertMedia(s.Context(), s.h.Images[1])
	s.kind("insert into a full drive", err, bmc.KindMedia)
	if got := s.h.Mounted(); got != s.h.Images[0] {
		s.Errorf("the drive holds %q, want what it held", got)
	}
}

func (s *suite) insertOverOthers() {
	s.h.SetMounted(s.h.Images[1])
	st := s.observe()
	if got := st.Media.Compare(s.h.Images[0]); got != bmc.ImageOther && got != bmc.ImageUnnamed {
		s.Errorf("another image shows as %s: %+v", got, st.Media)
	}
	s.kind("insert into a full drive", s.c.InsertMedia(s.Context(), s.h.Images[0]), bmc.KindMedia)
}

func (s *suite) eject() {
	s.insert(s.h.Images[0])
	s.ok("eject", s.c.EjectMedia(s.Context()))
	if got := s.h.Mounted(); got != "" {
		s.Errorf("the drive holds %q", got)
	}
	s.empty()
}

func (s *suite) ejectEmpty() {
	s.ok("eject", s.c.EjectMedia(s.Context()))
	s.ok("eject again", s.c.EjectMedia(s.Context()))
	s.empty()
}

func (s *suite) replace() {
	s.insert(s.h.Images[0])
	s.ok("eject", s.c.EjectMedia(s.Context()))
	s.empty()
	s.insert(s.h.Images[1])
	if got := s.h.Mounted(); got != s.h.Images[1] {
		s.Errorf("the drive holds %q", got)
	}
}

func (s *suite) arm() {
	s.insert(s.h.Images[0])
	s.ok("set boot once", s.c.SetBootOnce(s.Context()))
	if st := s.observe(); !st.Boot.Armed(armedTargets) {
		s.Errorf("boot %+v, want the virtual CD armed", st.Boot)
	}
}

func (s *suite) armTwice() {
	s.arm()
	s.ok("set boot once again", s.c.SetBootOnce(s.Context()))
	if st := s.observe(); !st.Boot.Armed(armedTargets) {
		s.Errorf("boot %+v, want the virtual CD armed", st.Boot)
	}
}

func (s *suite) disarm() {
	s.arm()
	s.ok("clear boot", s.c.ClearBoot(s.Context()))
	if st := s.observe(); st.Boot.Armed(armedTargets) {
		s.Errorf("boot %+v, want nothing armed", st.Boot)
	}
	s.ok("clear boot again", s.c.ClearBoot(s.Context()))
	s.powerOffByForce()
	s.reset(bmc.PowerUp)
	if got := s.booted(); len(got) != 1 || got[0] != "" {
		s.Errorf("booted %q, want the disk once", got)
	}
}

func (s *suite) powerOffGracefully() {
	if !s.observe().Can(bmc.GracefulShutdown) {
		s.Skip("the BMC offers no graceful shutdown")
	}
	s.reset(bmc.GracefulShutdown)
	s.powered(bmc.PowerOff)
}

func (s *suite) powerOffByForce() {
	s.reset(bmc.ForceOff)
	s.powered(bmc.PowerOff)
}

func (s *suite) powerOn() {
	s.powerOffByForce()
	s.reset(bmc.PowerUp)
	s.powered(bmc.PowerOn)
	if got := s.booted(); len(got) != 1 || got[0] != "" {
		s.Errorf("booted %q, want the disk once", got)
	}
}

func (s *suite) bootSpendsOverride() {
	s.powerOffByForce()
	s.insert(s.h.Images[0])
	s.ok("set boot once", s.c.SetBootOnce(s.Context()))
	s.reset(bmc.PowerUp)
	want := s.h.Images[0]
	if s.h.BootsDisk {
		want = ""
	}
	if got := s.booted(); len(got) != 1 || got[0] != want {
		s.Errorf("booted %q, want %q once", got, want)
	}
	if !s.h.KeepsOverride {
		s.until("the override to be spent", func(st bmc.State) bool { return !st.Boot.Armed(armedTargets) })
	}
	s.powered(bmc.PowerOn)
}

func (s *suite) bootUnarmed() {
	s.powerOffByForce()
	s.insert(s.h.Images[0])
	s.reset(bmc.PowerUp)
	if got := s.booted(); len(got) != 1 || got[0] != "" {
		s.Errorf("booted %q, want the disk once", got)
	}
}

func (s *suite) restart() {
	if !s.observe().Can(bmc.Restart) {
		s.Skip("the BMC offers no restart")
	}
	s.reset(bmc.Restart)
	s.powered(bmc.PowerOn)
	if got := s.booted(); len(got) != 1 {
		s.Errorf("booted %q, want once", got)
	}
}

func (s *suite) enableMedia() {
	s.h.SetRemote(false)
	if st := s.observe(); st.Media.Access != bmc.AccessDisabled || st.Media.Slot != "" {
		s.Errorf("media %+v, want it disabled", st.Media)
	}
	s.ok("enable media", s.c.EnableMedia(s.Context()))
	s.until("a slot", func(st bmc.State) bool { return st.Media.Access == bmc.AccessReady })
	s.ok("enable media again", s.c.EnableMedia(s.Context()))
	s.insert(s.h.Images[0])
}

func (s *suite) closeLeavesNone() {
	s.arm()
	s.ok("close", s.c.Close(s.Context()))
	if n := s.h.Sessions(); n != 0 {
		s.Errorf("%d sessions left", n)
	}
}

func (s *suite) closeAfterCancel() {
	s.arm()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	s.ok("close", s.c.Close(ctx))
	if n := s.h.Sessions(); n != 0 {
		s.Errorf("%d sessions left", n)
	}
}

func (s *suite) endedContext() {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	_, err := s.c.Observe(ctx)
	s.kind("observe", err, bmc.KindCancelled)
	for what, call := range map[string]func(context.Context) error{
		"insert":        func(ctx context.Context) error { return s.c.InsertMedia(ctx, s.h.Images[0]) },
		"eject":         s.c.EjectMedia,
		"set boot once": s.c.SetBootOnce,
		"reset":         func(ctx context.Context) error { return s.c.Reset(ctx, bmc.ForceOff) },
	} {
		s.kind(what, call(ctx), bmc.KindCancelled)
	}
	if s.h.Power() != bmc.PowerOn || s.h.Mounted() != "" {
		s.Error("a call whose context had ended did something")
	}
}

func (s *suite) cancelWhileHanging() {
	s.observe()
	s.h.Hang(false)
	ctx, cancel := context.WithCancel(s.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	start := time.Now()
	_, err := s.c.Observe(ctx)
	s.kind("observe", err, bmc.KindCancelled)
	s.prompt(start)
}

func (s *suite) hangTimesOut() {
	s.observe()
	s.h.Hang(false)
	ctx, cancel := context.WithTimeout(s.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := s.c.Observe(ctx)
	s.kind("observe", err, bmc.KindTimeout)
	s.prompt(start)
}

func (s *suite) hangIsUncertain() {
	s.arm() // whatever a first write needs is there by now
	s.h.Hang(true)
	// Long enough for the reads that come before the write, on a busy machine.
	ctx, cancel := context.WithTimeout(s.Context(), s.h.Patience/20)
	defer cancel()
	err := s.c.Reset(ctx, bmc.ForceOff)
	s.kind("reset", err, bmc.KindTimeout)
	if e, ok := errors.AsType[*bmc.Error](err); ok && !e.Uncertain {
		s.Errorf("a write whose answer was lost is not uncertain: %v", err)
	}
}

// prompt checks that a call did not outlive its context by much.
func (s *suite) prompt(start time.Time) {
	s.Helper()
	if took := time.Since(start); took > s.h.Patience/2 {
		s.Errorf("the call took %v", took)
	}
}

// misfortunes has each write of a boot meet each misfortune, on a machine of its
// own. Whatever is told of it has to be so: a success was done, an error that is
// certain was not, and nothing was done twice.
func (s *suite) misfortunes() {
	image := s.h.Images[0]
	s.parts = map[string]Part{}
	for _, w := range []struct {
		name    string
		prepare func(*suite)
		do      func(*suite) error
		done    func(*suite) bool
	}{
		{"insert", nil, func(s *suite) error { return s.c.InsertMedia(s.Context(), image) }, func(s *suite) bool { return s.h.Mounted() == image }},
		{"arm", func(s *suite) { s.insert(image) }, func(s *suite) error { return s.c.SetBootOnce(s.Context()) }, func(s *suite) bool { return s.observe().Boot.Armed(armedTargets) }},
		{"power off", nil, func(s *suite) error { return s.c.Reset(s.Context(), bmc.ForceOff) }, func(s *suite) bool { return s.h.Power() == bmc.PowerOff }},
		{"restart", nil, func(s *suite) error { return s.c.Reset(s.Context(), bmc.Restart) }, func(s *suite) bool { return len(s.h.Boots()) > 0 }},
	} {
		for _, m := range s.h.Misfortunes {
			held := s.Run(w.name+", "+m.Name, func(t *testing.T) { start(t, s.open).misfortune(m, w.prepare, w.do, w.done) })
			p := s.parts[m.Name]
			p.Tried++
			if held {
				p.Held++
			}
			s.parts[m.Name] = p
		}
	}
}

func (s *suite) misfortune(m Misfortune, prepare func(*suite), do func(*suite) error, done func(*suite) bool) {
	s.observe()
	s.ok("clear boot", s.c.ClearBoot(s.Context())) // a session is open by now
	if prepare != nil {
		prepare(s)
	}
	s.h.Strike(m.Name)
	err := do(s)
	if err == nil {
		s.wait("what was told to be done", func() bool { return done(s) }, func() any { return s.h.Boots() })
	} else {
		e, ok := errors.AsType[*bmc.Error](err)
		if !ok || e.Op == "" || e.Hint == "" {
			s.Fatalf("%v (%T), want a *bmc.Error with what to do next", err, err)
		}
		switch {
		case m.Acts && !e.Uncertain:
			s.Errorf("it was done, and the error is certain that it was not: %v", err)
		case !m.Acts && !e.Uncertain && e.Kind != bmc.KindAuth && done(s):
			s.Errorf("the error is certain, and it was done: %v", err)
		case m.Passes && e.Kind != bmc.KindBusy:
			s.Errorf("%v (%s), and it would have passed", err, e.Kind)
		}
	}
	if n := len(s.h.Boots()); n > 1 {
		s.Errorf("it was started %d times", n)
	}
	s.ok("close", s.c.Close(s.Context()))
	if n := s.h.Sessions(); n != 0 {
		s.Errorf("%d sessions left", n)
	}
}
