package apply

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// powerOff asks the machine to go down, and switches it off when it does not.
func (w *work) powerOff(ctx context.Context) (string, error) {
	c, err := w.bmc(ctx)
	if err != nil {
		return "", err
	}
	var s bmc.State
	if w.seen != nil {
		s = *w.seen
	} else if s, err = c.ObserveSystem(ctx); err != nil {
		return "", err
	}
	how := "was off already"
	if s.Power != bmc.PowerOff {
		if how, err = w.bringDown(ctx, c, s); err != nil {
			return "", err
		}
	}
	if err := w.Clock.Sleep(ctx, w.timing.OffSettle); err != nil {
		return "", interrupted(err)
	}
	// A machine that restarts instead of going down is off for a moment only.
	if s, err = c.ObserveSystem(ctx); err != nil {
		return "", err
	}
	if s.Power != bmc.PowerOff {
		return "", &bmc.Error{
			Kind: bmc.KindProtocol, Err: fmt.Errorf("it went off and came back by itself (%s)", s.Power),
			Hint: "look for what restarts it, then run apply again",
		}
	}
	return how, nil
}

func (w *work) bringDown(ctx context.Context, c bmc.Client, s bmc.State) (string, error) {
	if s.Can(bmc.GracefulShutdown) {
		err := c.Reset(ctx, bmc.GracefulShutdown)
		if !definite(err) {
			err = w.untilPower(ctx, c, bmc.PowerOff, err, w.timing.Lag, w.timing.Shutdown)
		}
		if err == nil {
			return "shut down when asked", nil
		}
		if ctx.Err() != nil || hopeless(err) || !s.Can(bmc.ForceOff) {
			return "", err
		}
	}
	err := c.Reset(ctx, bmc.ForceOff)
	if definite(err) {
		return "", err
	}
	return "switched off by force", w.untilPower(ctx, c, bmc.PowerOff, err, 0, w.timing.Power)
}

// hopeless reports whether asking in another way cannot help either.
func hopeless(err error) bool {
	switch bmc.KindOf(err) {
	case bmc.KindAuth, bmc.KindTLS, bmc.KindUnreachable, bmc.KindLicence, bmc.KindCancelled:
		return true
	default:
		return false
	}
}

func (w *work) untilPower(ctx context.Context, c bmc.Client, want bmc.Power, request error, lag, limit time.Duration) error {
	return w.until(ctx, lag, limit, func(ctx context.Context) error {
		s, err := c.ObserveSystem(ctx)
		if err == nil && s.Power != want {
			err = notShown(fmt.Sprintf("its BMC was asked for power %q, but shows %q", want, s.Power), request)
		}
		return err
	})
}

// powerOn starts the machine, once. If the answer is lost, whether it started is
// read, not tried again.
func (w *work) powerOn(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	if err := w.readyToBoot(ctx, c); err != nil {
		return err
	}
	if err := w.starting(ctx); err != nil {
		return err
	}
	resetErr := c.Reset(ctx, bmc.PowerUp)
	err = w.untilPower(ctx, c, bmc.PowerOn, resetErr, 0, w.timing.Power)
	if err != nil && definite(resetErr) {
		return resetErr
	}
	return err
}

// readyToBoot makes sure that the machine will boot the image, where this run
// did not mount and arm it itself a moment ago.
func (w *work) readyToBoot(ctx context.Context, c bmc.Client) error {
	url := w.site.Images[w.node.Image].URL
	if url == "" {
		return nil
	}
	if !w.armed {
		s, err := c.ObserveSystem(ctx)
		if err != nil {
			return err
		}
		if !w.showsArmed(s) {
			return wouldBootDisk("its boot override is no longer set")
		}
	}
	if w.inserted {
		return nil
	}
	m, err := c.ObserveMedia(ctx)
	if err != nil {
		return err
	}
	if is := m.Compare(url); is != bmc.ImageMatch && is != bmc.ImageUnnamed {
		return wouldBootDisk("the image is no longer in its drive: its BMC shows " + shown(m))
	}
	_, err = w.settle(ctx) // a run that was cut off may have mounted it a moment ago
	return err
}

func wouldBootDisk(why string) error {
	return &bmc.Error{
		Kind: bmc.KindCancelled, Err: errors.New(why + "; it was not started, for it would boot its disk"),
		Hint: "run apply again",
	}
}

// showsArmed reports whether a BMC that says s will boot the virtual CD next.
func (w *work) showsArmed(s bmc.State) bool {
	return plan.Armed(plan.Facts{BMC: s, Profile: w.plan.Facts.Profile})
}

// restart restarts the machine in place, once. Nothing shows at once whether it
// did; await-boot finds out.
func (w *work) restart(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	if err := w.readyToBoot(ctx, c); err != nil {
		return err
	}
	if err := w.starting(ctx); err != nil {
		return err
	}
	err = c.Reset(ctx, bmc.Restart)
	if definite(err) {
		return err
	}
	return nil
}

func asBMC(err error) (*bmc.Error, bool) { return errors.AsType[*bmc.Error](err) }
