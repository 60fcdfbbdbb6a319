// Package localremote runs the scripts of package overlay on this machine.
package localremote

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// killed is how long the output of a script that was killed is waited for.
const killed = time.Second

// Remote is this machine, as an overlay.Remote. It is safe for concurrent use.
type Remote struct{}

// Run runs the command with sh, as overlay.Remote says.
func (Remote) Run(ctx context.Context, c overlay.Command) error {
	said := overlay.Tail{Also: c.Stderr}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", c.Script, "livecd-sync"}, c.Args...)...)
	cmd.WaitDelay = killed
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, &said
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return &overlay.ExitError{Status: exit.ExitCode(), Stderr: said.String()}
	}
	if err == nil {
		return nil
	}
	e := &bmc.Error{Op: "run a script on this machine", Kind: bmc.KindOverlay, Err: err, Hint: "see whether this machine has sh, and room"}
	if ctx.Err() != nil {
		e.Kind, e.Err, e.Hint = bmc.KindCancelled, context.Cause(ctx), "run the command again"
	}
	return e
}
