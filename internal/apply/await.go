package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// awaitBoot waits until the node is seen running the image: by what it says
// itself where it can be asked, else by the BMC's evidence (vendors.md 4.2).
// It may be left at any moment.
func (w *work) awaitBoot(ctx context.Context, a plan.AwaitBoot) (string, error) {
	ctx, done := w.interruptible(ctx)
	defer done()
	var how string
	var lag time.Duration
	if w.started {
		lag = w.timing.Lag
	}
	w.bootEnds = w.Clock.Now().Add(a.Within)
	err := w.until(ctx, lag, a.Within, func(ctx context.Context) error {
		var err error
		how, err = w.lookAtBoot(ctx, a)
		return err
	})
	switch {
	case err != nil && w.stopped(ctx):
		return "", &bmc.Error{
			Kind: bmc.KindCancelled, Err: fmt.Errorf("stopped while it was booting %s", a.Image),
			Hint: "run apply again: it waits for the boot and goes on from there",
		}
	case err != nil:
		return "", err
	}
	return how, nil
}

func (w *work) lookAtBoot(ctx context.Context, a plan.AwaitBoot) (string, error) {
	if w.node.SSH == nil {
		return w.bootByTheBMC(ctx, a)
	}
	asking, cancel := context.WithTimeout(ctx, w.timing.Host)
	defer cancel()
	h, err := w.Host(asking, w.node)
	if err != nil {
		return w.silentBoot(ctx, a, err)
	}
	return w.bootByTheNode(ctx, a, h)
}

// bootByTheNode judges what the node says of itself.
func (w *work) bootByTheNode(ctx context.Context, a plan.AwaitBoot, h plan.Host) (string, error) {
	wanted := w.Images[a.Image].Volume
	switch h := h.(type) {
	case plan.HostLive:
		if w.sameBoot(h.BootID) {
			return "", w.booting(a, "it still runs what it ran before")
		}
		if wanted == (site.Volume{}) || h.Volume == (site.Volume{}) {
			return w.incomparableBoot(ctx, a)
		}
		if h.Volume == wanted {
			return fmt.Sprintf("runs %s (volume %s)", a.Image, h.Volume.ID), nil
		}
		return "", w.wrongBoot(a, fmt.Sprintf("it runs another image: volume %q, created %s", h.Volume.ID, h.Volume.Created))
	case plan.HostDisk:
		if w.sameBoot(h.BootID) {
			return "", w.booting(a, "it still runs what it ran before")
		}
		return "", w.wrongBoot(a, "it booted its disk, not the virtual CD")
	case plan.HostLocked:
		return "up; what it runs is seen after its first login", nil
	case plan.HostSilent, plan.HostUnknown:
	}
	return "", w.booting(a, "it does not answer over ssh")
}

// incomparableBoot: it runs a live image, and which cannot be told from here.
func (w *work) incomparableBoot(ctx context.Context, a plan.AwaitBoot) (string, error) {
	s, err := w.state(ctx)
	if err != nil {
		return "", err
	}
	if m := s.Media.Compare(w.imageURL(a)); m != bmc.ImageMatch {
		return "", w.wrongBoot(a, "it runs a live image, and its BMC shows "+shown(s.Media))
	}
	return "runs a live image; that it is " + a.Image + " is the BMC's word only", nil
}

// silentBoot looks, now and then, whether the BMC says that the boot is lost, or,
// for a node whose first login is to come, that it has started: before that it may
// have no address.
func (w *work) silentBoot(ctx context.Context, a plan.AwaitBoot, sshErr error) (string, error) {
	if now := w.Clock.Now(); now.Sub(w.asked) >= w.timing.AskBMC {
		w.asked = now
		s, err := w.state(ctx)
		if err != nil {
			return "", err
		}
		if lost := w.lostBoot(a, s); lost != nil {
			return "", lost
		}
		if w.node.Login != nil && w.handedOver(ctx, a, s) == nil {
			return "started, by the BMC's word; ssh does not answer before its first login", nil
		}
		if s.Phase != bmc.PhaseUnknown {
			w.event(Progress, "the BMC says: "+string(s.Phase), nil)
		}
	}
	return "", w.booting(a, "it does not answer over ssh: "+sshErr.Error())
}

// lostBoot is the error of a boot that cannot come to anything any more. One
// look does not show that: in passing, a machine that restarts may be shown as
// off, and a drive as empty.
func (w *work) lostBoot(a plan.AwaitBoot, s bmc.State) error {
	var why string
	switch is := s.Media.Compare(w.imageURL(a)); {
	case s.Power == bmc.PowerOff:
		why = "the machine went off while it was booting"
	case is == bmc.ImageStale, is == bmc.ImageEmpty:
		why = "its BMC lost the image while the machine was starting: it shows " + shown(s.Media)
	default:
		w.lostSince = time.Time{}
		return nil
	}
	now := w.Clock.Now()
	if w.lostSince.IsZero() {
		w.lostSince = now
	}
	if now.Sub(w.lostSince) < w.timing.Stale {
		return w.booting(a, why)
	}
	return w.wrongBoot(a, why)
}

// bootByTheBMC judges by the BMC alone: the override was used up, firmware has
// handed over or does not tell, and the image is still there.
func (w *work) bootByTheBMC(ctx context.Context, a plan.AwaitBoot) (string, error) {
	c, err := w.bmc(ctx)
	if err != nil {
		return "", err
	}
	s, err := c.ObserveSystem(ctx)
	if err != nil {
		return "", err
	}
	if s.Power == bmc.PowerOff {
		return "", w.lostBoot(a, s)
	}
	if err := w.handedOver(ctx, a, s); err != nil {
		return "", err
	}
	if s.Media, err = c.ObserveMedia(ctx); err != nil {
		return "", err
	}
	if lost := w.lostBoot(a, s); lost != nil {
		return "", lost
	}
	return "started from the virtual CD by the BMC's word; not proven on the node, for the site file gives no ssh", nil
}

// handedOver returns nil once firmware, as far as its BMC tells, has used the boot
// override and left the machine to what it booted.
func (w *work) handedOver(ctx context.Context, a plan.AwaitBoot, s bmc.State) error {
	switch {
	case s.Phase == bmc.PhasePost:
		w.inPost = true
		return w.booting(a, "its firmware is still starting it")
	case !w.showsUnused(s):
		return nil
	}
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	return w.takeBack(ctx, a, c, s)
}

// showsUnused reports whether the BMC says that the one-time boot is still to
// come.
func (w *work) showsUnused(s bmc.State) bool {
	return plan.Unused(plan.Facts{BMC: s, Profile: w.plan.Facts.Profile})
}

// takeBack ends an override that its BMC does not end itself. Firmware that has
// been seen at work and has handed over has used it; were it left, every plan to
// come would take the machine for one that is still to be booted, and reset it.
// Before that nothing is written: some BMCs boot what is written last (vendors.md
// 3.11).
func (w *work) takeBack(ctx context.Context, a plan.AwaitBoot, c bmc.Client, s bmc.State) error {
	unused := w.booting(a, "its BMC still shows the boot override as unused")
	if !w.inPost || s.Phase != bmc.PhaseOS {
		return unused
	}
	now := w.Clock.Now()
	if w.usedSince.IsZero() {
		w.usedSince = now
	}
	if now.Sub(w.usedSince) < w.timing.Stale {
		return unused
	}
	w.progress("its BMC does not use the boot override up: it is taken back")
	return c.ClearBoot(ctx)
}

// sameBoot reports whether id is the boot that ran before this run ended it. A
// node that this run did not start may be on any boot.
func (w *work) sameBoot(id string) bool {
	if !w.started {
		return false
	}
	switch h := w.host.(type) {
	case plan.HostLive:
		return h.BootID == id
	case plan.HostDisk:
		return h.BootID == id
	case plan.HostSilent, plan.HostLocked, plan.HostUnknown:
	}
	return false
}

func (w *work) imageURL(a plan.AwaitBoot) string { return w.site.Images[a.Image].URL }

func (w *work) booting(a plan.AwaitBoot, what string) error {
	return &bmc.Error{
		Kind: bmc.KindTimeout,
		Err:  notYet(fmt.Sprintf("it was not seen running %s within %s: %s", a.Image, a.Within.Round(time.Second), what)),
		Hint: "look at its console; it is not reset again by itself. If it hangs, power it off by hand and run apply again",
	}
}

func (w *work) wrongBoot(a plan.AwaitBoot, what string) error {
	return &bmc.Error{
		Kind: bmc.KindMedia, Err: fmt.Errorf("it does not run %s: %s", a.Image, what),
		Hint: "see whether its BMC reaches the image's web server and its firmware allows booting the virtual CD; then run apply again",
	}
}
