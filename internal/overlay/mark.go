package overlay

import (
	"context"
	_ "embed"
	"errors"
	"regexp"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

//go:embed scripts/begin.sh
var beginScript string

// The notes that a restore leaves below /run/livecd-sync on the node have the
// form "ID BOOT UPPER": the backup, the boot that has it, and the upper dir of
// the overlay that has it. A soft reboot into another overlay keeps both the
// boot's ID and /run, so that the upper dir is what tells.

// markForm is what a note may hold for an archive that is no backup of a store.
var markForm = regexp.MustCompile(`^archive-[0-9a-f]{16}$`)

// readMarks reads both notes. A backup is held only while no restore is under
// way: what is half of one and half of another is neither.
func (r *Running) readMarks(sections map[string]string) {
	r.Restoring = r.readMark(sections["restoring"])
	if r.Restoring.ID == "" {
		r.Restored = r.readMark(sections["restored"])
	}
}

func (r *Running) readMark(text string) Restored {
	line, _, _ := strings.Cut(text, "\n")
	id, rest, _ := strings.Cut(line, " ")
	boot, upper, _ := strings.Cut(rest, " ")
	if boot != r.BootID || (!ValidID(id) && !markForm.MatchString(id)) || (upper != "" && upper != r.UpperDir) {
		return Restored{}
	}
	return Restored{ID: id}
}

// Whole is nil unless a restore onto the running overlay was cut off, so that a
// backup of it would keep half of what was to be restored and take that for all.
// The error has KindOverlay.
func (r Running) Whole() error {
	if r.Restoring.ID == "" {
		return nil
	}
	e := &bmc.Error{
		Op: "rely on what the node holds", Kind: bmc.KindOverlay,
		Err:  errors.New("a restore of backup " + r.Restoring.ID + " is under way or was cut off, so that the node holds part of it only"),
		Hint: "finish it: livecd-sync restore --from " + r.Restoring.ID + " NODE; or restore another one",
	}
	if !ValidID(r.Restoring.ID) {
		e.Err = errors.New("a restore of an archive is under way or was cut off, so that the node holds part of it only")
		e.Hint = "finish it: restore the same file again; or restore a backup"
	}
	return e
}

// begin notes on the node that a restore is under way.
func (r *restoration) begin(ctx context.Context) error {
	return remoteErrorOrNil(r.remote.Run(ctx, Command{Script: beginScript, Args: r.markArgs()}))
}

// mark notes on the node that the restore is complete.
func (r *restoration) mark(ctx context.Context) error {
	return remoteErrorOrNil(r.remote.Run(ctx, Command{Script: markScript, Args: r.markArgs()}))
}

func (r *restoration) markArgs() []string {
	return []string{r.running.BootID, r.manifest.ID, r.running.UpperDir}
}
