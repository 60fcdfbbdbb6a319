package overlay

import (
	"context"
	"fmt"
	"io"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// throughMerged restores through the merged view of the running system.
func (r *restoration) throughMerged(ctx context.Context) error {
	r.within = func(c Command) Command {
		c.Args, c.Script = []string{r.running.BootID, c.Script}, mergedScript
		return c
	}
	r.walks = r.hasProgram()
	r.noteCutOff()
	r.begun = true
	if err := r.begin(ctx); err != nil {
		return err
	}
	// A program may have removed what was just restored: it is put back once.
	for range 2 {
		r.report.Differences, r.unlike, r.lacking, r.extracted = nil, 0, 0, nil
		for _, step := range []func(context.Context) error{r.clear, r.extractMerged, r.compare} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		if r.lacking == 0 {
			break
		}
	}
	if r.extracted != nil {
		return r.extracted
	}
	if err := r.mark(ctx); err != nil {
		return err
	}
	r.stop = nil // it is complete
	r.findHolders(ctx)
	return r.complete()
}

// complete is an error when the node has not all that was restored, after the
// second time: something on it is in the way.
func (r *restoration) complete() error {
	if r.lacking == 0 {
		return nil
	}
	return &bmc.Error{
		Op: restoreOp, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("all but %d names are as in the backup; of the differences the first is: %s", r.lacking, r.report.Differences[0]),
		Hint: "look what removes or covers them, a program or a mount, then restore again; the backup is untouched",
	}
}

// clear makes way: what was deleted goes, and what would be in the way of
// something of another type. tar removes files that it replaces, but neither
// directories nor what lies in an opaque one.
func (r *restoration) clear(ctx context.Context) error {
	var said messages
	err := r.runFed(ctx, Command{Script: clearScript, Stderr: &said}, func(w io.Writer) error {
		// Directories first, each before what lies in it: a link in the place of
		// one must not be followed. A directory that was read again comes late.
		send := func(dirs bool) visitor {
			return func(_ *archive, m member) error {
				if m.name == "." || (m.kind == typeDir) != dirs {
					return nil
				}
				_, err := io.WriteString(w, clearing(m)+m.name+"//\x00")
				return err
			}
		}
		if err := r.read(ctx, send(true)); err != nil {
			return err
		}
		return r.pass(ctx, send(false))
	})
	r.report.Warnings = append(r.report.Warnings, said.warnings()...)
	if xargsFailed(err) { // what rm could not remove, compare or extract will tell
		return nil
	}
	return remoteErrorOrNil(err)
}

// clearing returns the letter that clear.sh acts upon.
func clearing(m member) string {
	switch {
	case m.whiteout, m.kind == typeDir && m.xattrs.opaque:
		return "x"
	case m.kind == typeDir:
		return "d"
	}
	return "f"
}

// extractMerged leaves out the whiteouts, which no process may make in a mounted
// overlay (EPERM).
func (r *restoration) extractMerged(ctx context.Context) error {
	return r.extract(ctx, extractScript, func(m member) bool { return !m.whiteout })
}
