package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// login does the first login where the node needs it, and then waits until ssh
// lets in and, where the plan names an image, proves it. It resets nothing, and
// can be done again.
func (w *work) login(ctx context.Context, a plan.Login) (string, error) {
	ctx, done := w.interruptible(ctx)
	defer done()
	detail, err := "not needed: ssh lets in", error(nil)
	if _, asked := w.letIn(ctx); asked != nil {
		detail, err = w.overTheConsole(ctx, a)
	}
	if err != nil {
		return "", w.loginEnded(ctx, err)
	}
	proof := plan.AwaitBoot{Image: a.Image, Within: w.timing.LetIn}
	var how string
	err = w.until(ctx, 0, w.timing.LetIn, func(ctx context.Context) error {
		h, err := w.letIn(ctx)
		if err != nil {
			return err
		}
		if a.Image != "" {
			how, err = w.bootByTheNode(ctx, proof, h)
		}
		return err
	})
	switch {
	case err != nil:
		return "", w.loginEnded(ctx, err)
	case how != "":
		detail += "; " + how
	}
	return detail, nil
}

// overTheConsole logs in on the console. A node that could be reached meanwhile
// needs no console.
func (w *work) overTheConsole(ctx context.Context, a plan.Login) (string, error) {
	if w.Login == nil {
		return "", &bmc.Error{Kind: bmc.KindUnsupported, Err: errors.New("nothing does first logins here"), Hint: "log in on its console by hand"}
	}
	// What is not seen running yet has the time of its boot, too.
	within := a.Within + max(0, w.bootEnds.Sub(w.Clock.Now()))
	detail, err := w.loginWhileOn(ctx, within)
	if err == nil || ctx.Err() != nil {
		return detail, err
	}
	if _, asked := w.letIn(ctx); asked == nil {
		return "not needed: ssh lets in", nil
	}
	return "", err
}

// loginWhileOn logs in, and ends that when the machine goes off: its console asks
// nothing any more, and would be waited for until the login's time is over.
func (w *work) loginWhileOn(ctx context.Context, within time.Duration) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := w.bmc(ctx)
	if err != nil {
		return "", err
	}
	var watching sync.WaitGroup
	watching.Go(func() { cancel(w.wentOff(ctx, c)) })
	detail, err := w.Login(ctx, w.node, within, w.progress)
	cancel(nil)
	watching.Wait()
	if off, is := errors.AsType[*bmc.Error](context.Cause(ctx)); is && err != nil {
		return "", off
	}
	return detail, err
}

// wentOff returns an error once the machine is seen off for as long as it is not in
// passing, and nil when ctx has ended before that. A BMC that does not answer says
// nothing.
func (w *work) wentOff(ctx context.Context, c bmc.Client) error {
	var since time.Time
	for pause := w.timing.AskBMC; w.Clock.Sleep(ctx, pause) == nil; {
		s, err := c.ObserveSystem(ctx)
		now := w.Clock.Now()
		switch {
		case err != nil:
		case s.Power != bmc.PowerOff:
			since, pause = time.Time{}, w.timing.AskBMC
		case since.IsZero():
			since, pause = now, w.timing.Stale
		case now.Sub(since) >= w.timing.Stale:
			return &bmc.Error{
				Kind: bmc.KindMedia, Err: errors.New("the machine went off before its first login was done"),
				Hint: "run apply again: it goes on from what it finds; if it goes off again, look at its console meanwhile",
			}
		}
	}
	return nil
}

func (w *work) loginEnded(ctx context.Context, err error) error {
	if !w.stopped(ctx) {
		return err
	}
	return &bmc.Error{
		Kind: bmc.KindCancelled, Err: errors.New("stopped in its first login"),
		Hint: "run apply again: it goes on from what it finds",
	}
}

// letIn asks the node what it runs. Its error says why ssh does not let in.
func (w *work) letIn(ctx context.Context) (plan.Host, error) {
	asking, cancel := context.WithTimeout(ctx, w.timing.Host)
	defer cancel()
	h, err := w.Host(asking, w.node)
	if locked, is := h.(plan.HostLocked); is && err == nil {
		err = locked.Err
	}
	if err != nil {
		return nil, &bmc.Error{
			Kind: bmc.KindSSH, Err: notYet(fmt.Sprintf("it was logged in to, and cannot be reached over ssh within %s: %v", w.timing.LetIn.Round(time.Second), err)),
			Hint: "see whether ssh.address is what the node has now: login.commands may have to give it",
		}
	}
	return h, nil
}
