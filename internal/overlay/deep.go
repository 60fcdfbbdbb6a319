package overlay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

//go:embed scripts/scratch.sh
var scratchScript string

// VerifyDeep does what Verify does, and then restores the backup into a scratch
// overlay and compares that with it, contents too. here runs scripts on this
// machine, as root; dir is an empty directory of it, an absolute path without
// colons and commas, on a file system that an upper dir may lie on and that has
// room for the overlay. What is left in it is for the caller to remove. The notes
// tell what could not be compared. progress is as of a RestoreRequest.
func VerifyDeep(ctx context.Context, here Remote, store Store, node, id, dir string, progress func(rawBytes int64)) (notes []string, err error) {
	m, err := Verify(ctx, store, node, id)
	if err != nil {
		return nil, err
	}
	r := &restoration{remote: here, verify: true, progress: progress}
	if err := r.open(ctx, store, RestoreRequest{Node: node, ID: id}); err != nil {
		return nil, err
	}
	if err := m.Reliable(); err != nil {
		return nil, err
	}
	if r.running, err = Probe(ctx, here); err != nil {
		return nil, err
	}
	r.takeTools(here)
	if err := (RestoreRequest{Method: MethodOffline}).check(r.running); err != nil {
		return nil, err
	}
	if err := r.offline(ctx, dir+"/rw"); err != nil {
		return nil, err
	}
	r.unmounted, r.walks = false, false
	r.within = func(c Command) Command {
		c.Args, c.Script = []string{r.running.BootID, dir, c.Script}, scratchScript
		return c
	}
	if err := r.compare(ctx); err != nil {
		return nil, err
	}
	if r.unlike == 0 {
		return r.report.Notes, nil
	}
	return r.report.Notes, &bmc.Error{
		Op: "restore backup " + m.Node + "/" + m.ID + " here", Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("%d places differ, the first: %w", r.unlike, errors.New(r.report.Differences[0])),
		Hint: "see whether TMPDIR is on a file system that an upper dir may lie on, with extended attributes; else make a new backup while the node still runs",
	}
}
