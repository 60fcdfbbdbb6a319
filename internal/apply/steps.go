package apply

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// do runs one action and says, in words, what came of it.
func (w *work) do(ctx context.Context, a plan.Action) (detail string, err error) {
	switch a := a.(type) {
	case plan.BackupOverlay:
		return w.backupOverlay(ctx, a)
	case plan.PowerOff:
		return w.powerOff(ctx)
	case plan.EnableMedia:
		return "", w.enableMedia(ctx)
	case plan.EjectMedia:
		return "", w.ejectMedia(ctx)
	case plan.InsertMedia:
		return w.insertMedia(ctx, a)
	case plan.SetBootOnce:
		return "", w.setBootOnce(ctx)
	case plan.ClearBoot:
		return "", w.clearBoot(ctx)
	case plan.PowerOn:
		return "", w.powerOn(ctx)
	case plan.Reset:
		return "", w.restart(ctx)
	case plan.AwaitBoot:
		return w.awaitBoot(ctx, a)
	case plan.Login:
		return w.login(ctx, a)
	case plan.RestoreOverlay:
		return w.restoreOverlay(ctx, a)
	case plan.Repopulate:
		return w.repopulate(ctx, a)
	}
	panic(fmt.Sprintf("apply: no way to run %T", a)) // the set of actions is closed
}

func (w *work) progress(detail string) { w.event(Progress, detail, nil) }

func (w *work) backupOverlay(ctx context.Context, a plan.BackupOverlay) (string, error) {
	ctx, done := w.interruptible(ctx)
	defer done()
	id, err := w.Overlays.Backup(ctx, w.node, a.Purpose, w.progress)
	switch {
	case err != nil && w.stopped(ctx):
		return "", cancelled(err)
	case err != nil && a.MayFail:
		w.gaveUp = true
		return "no backup, and its loss was accepted: " + err.Error(), nil
	case err != nil:
		return "", err
	}
	w.backup = id
	return "backup " + id, nil
}

func (w *work) restoreOverlay(ctx context.Context, a plan.RestoreOverlay) (string, error) {
	id := a.From
	if id == "" {
		id = w.backup
	}
	if id == "" {
		return "nothing to restore: no backup could be made", nil
	}
	report, err := w.Overlays.Restore(ctx, w.node, id, w.progress)
	if err != nil || w.repopulates() { // the note stays until that is done, too
		return report, err
	}
	return report, w.Overlays.ClearReboot(ctx, w.node)
}

func (w *work) repopulate(ctx context.Context, a plan.Repopulate) (string, error) {
	id := cmp.Or(a.From, w.backup)
	if id == "" {
		return "nothing was restored", nil
	}
	report, err := w.Overlays.Repopulate(ctx, w.node, id, w.progress)
	if err != nil {
		return "", err
	}
	return report, w.Overlays.ClearReboot(ctx, w.node)
}

// repopulates reports whether the plan has that step.
func (w *work) repopulates() bool {
	return slices.ContainsFunc(w.plan.Steps, func(s plan.Step) bool { _, is := s.Action.(plan.Repopulate); return is })
}

func (w *work) enableMedia(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	enableErr := c.EnableMedia(ctx)
	if definite(enableErr) {
		return enableErr
	}
	return w.until(ctx, 0, w.timing.Enable, func(ctx context.Context) error {
		m, err := c.ObserveMedia(ctx)
		if err == nil && m.Access != bmc.AccessReady {
			err = notShown("its BMC was asked to enable remote media, but shows no slot", enableErr)
		}
		return err
	})
}

func (w *work) ejectMedia(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	ejectErr := c.EjectMedia(ctx)
	begun, again := w.Clock.Now(), false
	err = w.until(ctx, 0, w.timing.Eject, func(ctx context.Context) error {
		m, err := c.ObserveMedia(ctx)
		if err != nil {
			return err
		}
		switch m.Compare("") {
		case bmc.ImageEmpty:
			return nil
		case bmc.ImageStale:
			// Some keep the name until they are asked once more, and refuse another
			// image till then (AMI, vendors.md 2.4); some never forget it.
			since := w.Clock.Now().Sub(begun)
			if since >= w.timing.Stale {
				return nil
			}
			if !again && since >= w.timing.Stale/2 {
				again = true
				ejectErr = c.EjectMedia(ctx)
			}
		case bmc.ImageMatch, bmc.ImageOther, bmc.ImageUnnamed:
		}
		if definite(ejectErr) {
			return ejectErr
		}
		return notShown("its BMC was asked to eject, but still shows "+m.Image, ejectErr)
	})
	return err
}

func (w *work) insertMedia(ctx context.Context, a plan.InsertMedia) (string, error) {
	c, err := w.bmc(ctx)
	if err != nil {
		return "", err
	}
	insertErr := c.InsertMedia(ctx, a.URL)
	begun := w.Clock.Now()
	err = w.until(ctx, 0, w.timing.Insert, func(ctx context.Context) error {
		m, err := c.ObserveMedia(ctx)
		if err != nil {
			return err
		}
		switch m.Compare(a.URL) {
		case bmc.ImageMatch, bmc.ImageUnnamed:
			return nil
		case bmc.ImageEmpty, bmc.ImageOther, bmc.ImageStale:
		}
		if why := stoppedShort(m); why != "" && w.Clock.Now().Sub(begun) >= w.timing.Stale {
			return &bmc.Error{
				Kind: bmc.KindMedia, Err: fmt.Errorf("its BMC was asked to mount it, and says %q", why),
				Hint: "check from the BMC's network that " + a.URL + " can be fetched, by byte ranges and on port 80",
			}
		}
		// A drive that is taken but shows nothing may be about to show what an
		// earlier run had put there.
		taken := bmc.KindOf(insertErr) == bmc.KindMedia && w.Clock.Now().Sub(begun) < w.timing.Stale
		if definite(insertErr) && !taken {
			return insertErr
		}
		return notShown("its BMC was asked to mount it, but shows "+shown(m), insertErr)
	})
	if err != nil {
		return "", err
	}
	w.inserted = true
	w.back = readBack{media: w.Clock.Now()}
	return w.settle(ctx)
}

// stoppedShort is what a BMC says of a redirection that it has given up (AMI's
// RedirectionStatus, vendors.md 3.2); "" for one that goes on, or of which it says
// nothing.
func stoppedShort(m bmc.Media) string {
	if !m.Inserted && strings.HasPrefix(m.Detail, "Stopped") {
		return m.Detail
	}
	return ""
}

// settle waits for as long as this BMC needs between mounting an image and
// booting it (vendors.md 9.1).
func (w *work) settle(ctx context.Context) (string, error) {
	d := w.plan.Facts.Profile.Settle()
	if d == 0 {
		return "", nil
	}
	w.progress(fmt.Sprintf("mounted; this BMC needs %s before it can be booted from", d))
	if err := w.Clock.Sleep(ctx, d); err != nil {
		return "", interrupted(err)
	}
	return fmt.Sprintf("settled for %s", d), nil
}

func (w *work) setBootOnce(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	setErr := c.SetBootOnce(ctx)
	err = w.until(ctx, 0, w.timing.Override, func(ctx context.Context) error {
		s, err := c.ObserveSystem(ctx)
		if err != nil {
			return err
		}
		if w.showsArmed(s) {
			w.back.state, w.back.at = &s, w.Clock.Now()
			return nil
		}
		if definite(setErr) {
			return setErr
		}
		return notShown(fmt.Sprintf("its BMC was told the boot override, but shows %q, %q", s.Boot.Enabled, s.Boot.Target), setErr)
	})
	w.armed = err == nil
	return err
}

func (w *work) clearBoot(ctx context.Context) error {
	c, err := w.bmc(ctx)
	if err != nil {
		return err
	}
	clearErr := c.ClearBoot(ctx)
	return w.until(ctx, 0, w.timing.Override, func(ctx context.Context) error {
		s, err := c.ObserveSystem(ctx)
		if err != nil {
			return err
		}
		if !w.showsArmed(s) {
			return nil
		}
		if definite(clearErr) {
			return clearErr
		}
		return notShown(fmt.Sprintf("its BMC was told to end the boot override, but shows %q, %q", s.Boot.Enabled, s.Boot.Target), clearErr)
	})
}

// definite reports whether err is a refusal: the request did not act and will
// not. A lost answer is none.
func definite(err error) bool {
	if err == nil {
		return false
	}
	e, ok := asBMC(err)
	return !ok || !e.Uncertain
}

// notShown is what a look returns while a write does not show. request is what
// the write itself ended in: an answer that was lost may explain things.
func notShown(what string, request error) error {
	if request != nil {
		what += "; the request itself ended in: " + request.Error()
	}
	return &bmc.Error{
		Kind: bmc.KindTimeout, Err: notYet(what),
		Hint: "run apply again: it continues from what it finds; if it happens again, restart the BMC",
	}
}

func shown(m bmc.Media) string {
	var parts []string
	if m.Image != "" {
		parts = append(parts, m.Image)
	} else {
		parts = append(parts, "nothing")
	}
	if !m.Inserted {
		parts = append(parts, "not inserted")
	}
	if m.Detail != "" {
		parts = append(parts, m.Detail)
	}
	return strings.Join(parts, ", ")
}
