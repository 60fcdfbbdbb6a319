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
	var said tail
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", c.Script, "livecd-sync"}, c.Args...)...)
	cmd.WaitDelay = killed
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, &said
	if c.Stderr != nil {
		said.also = c.Stderr.Write
	}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return &overlay.ExitError{Status: exit.ExitCode(), Stderr: overlay.Printable(string(said.end))}
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

// tailBytes is how much of stderr an ExitError keeps.
const tailBytes = 2 << 10

// tail keeps the end of what is written to it, and passes it on.
type tail struct {
	end  []byte
	also func([]byte) (int, error)
}

// Write takes part of stderr; it never fails.
func (t *tail) Write(p []byte) (int, error) {
	if t.also != nil {
		_, _ = t.also(p) // as overlay.Command says, an error is ignored
	}
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-tailBytes):]
	return len(p), nil
}
