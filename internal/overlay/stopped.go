package overlay

import (
	"context"
	"errors"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// errStopped ends a pass over the archive, between two members.
var errStopped = errors.New("stopped")

// stopping ends each pass over the archive once the restore is to stop.
func (r *restoration) stopping(read func(context.Context, visitor) error) func(context.Context, visitor) error {
	return func(ctx context.Context, visit visitor) error {
		return read(ctx, func(a *archive, m member) error {
			select {
			case <-r.stop:
				r.stopped.Store(true)
				return errStopped
			default:
				return visit(a, m)
			}
		})
	}
}

// orStopped returns err, or what is to be known of a restore that was stopped.
func (r *restoration) orStopped(err error, req RestoreRequest) error {
	if err == nil || !r.stopped.Load() {
		return err
	}
	e := &bmc.Error{
		Op: restoreOp, Kind: bmc.KindCancelled,
		Err: errors.New("stopped before anything was changed on the node"), Hint: "run the same command again",
	}
	of := "backup " + r.manifest.ID
	if r.foreign != nil {
		of = "the archive"
	}
	switch {
	case req.Method == MethodOffline && r.begun:
		e.Err = errors.New("stopped: " + Printable(req.Dir) + " was not made; what is there of it is marked as cut off")
		e.Hint = "run the same command again: it begins anew"
	case r.begun:
		e.Err = errors.New("stopped: the node holds part of " + of + " only, and is marked so: no backup of it is taken for whole until a restore has been completed")
		e.Hint = "finish it: run the same command again"
	}
	return e
}
