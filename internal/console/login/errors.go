package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// errorLines is how many lines of the screen an error shows.
const errorLines = 6

func (l Login) fail(kind bmc.Kind, format, hint string, args ...any) *bmc.Error {
	op := "log in on the console of " + l.Node
	if l.Inside {
		op = "log in to " + l.Node + " over ssh"
	}
	return &bmc.Error{Op: op, Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
}

// explain makes a *bmc.Error of whatever ended the dialog, and tells what was on
// the screen.
func (d *dialog) explain(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		if _, broken := errors.AsType[*brokenError](err); !broken {
			e.Err = d.withScreen(e.Err)
			return e
		}
	}
	look := "look at the console: livecd-sync console " + d.Node
	text := strings.Join(d.screen.last(errorLines), "\n")
	switch {
	case errors.Is(err, errEnded) && taken.MatchString(text):
		return d.fail(bmc.KindBusy, "%w", "end the other session, or wait for it; then run apply again", d.withScreen(errors.New("somebody else has the console")))
	case errors.Is(err, errEnded):
		e := d.fail(bmc.KindUnreachable, "%w", "run apply again: it goes on from what it finds; see whether the BMC answers", d.withScreen(errors.New("the console ended before the login was done")))
		if cause, ok := errors.AsType[*brokenError](err); ok {
			if own, ok := errors.AsType[*bmc.Error](cause.error); ok {
				e.Kind, e.Hint = own.Kind, cmp.Or(bmc.HintOf(own), e.Hint)
			}
			e.Err = d.withScreen(cause.error)
		}
		return e
	case errors.Is(err, context.DeadlineExceeded) && !d.asRoot:
		return d.fail(bmc.KindTimeout, "%w", look+"; then run apply again, or give it longer by login.within", d.withScreen(errors.New("no login prompt came in time")))
	case errors.Is(err, context.DeadlineExceeded):
		return d.fail(bmc.KindTimeout, "%w", look+"; then run apply again, or give it longer by login.within", d.withScreen(errors.New("it was not done in time")))
	case ctx.Err() != nil:
		return d.fail(bmc.KindCancelled, "%w", "run apply again: it goes on from what it finds", err)
	}
	return d.fail(bmc.KindProtocol, "%w", look, d.withScreen(err))
}

// withScreen adds the last lines of the screen to an error.
func (d *dialog) withScreen(err error) error {
	lines := d.screen.last(errorLines)
	if len(lines) == 0 {
		return fmt.Errorf("%w (nothing was on the screen)", err)
	}
	return fmt.Errorf("%w; on the screen was:\n    %s", err, strings.Join(lines, "\n    "))
}
