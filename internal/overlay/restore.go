package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A RestoreRequest says which backup to put back.
type RestoreRequest struct {
	Node string
	ID   string
	// Archive is the file of an archive that Backup did not make, to be restored
	// in place of a backup; ID is then not used.
	Archive string
	// Prefix is the directory of the archive that is the upper dir, "." for its
	// top; "": that is found out, or the archive is refused.
	Prefix string
	// BootID is the boot that is to receive it; "": whatever the node runs.
	BootID string
	// VolumeOf reads the identity of the live medium that the node runs; its
	// zero value and a nil func say that it is not known.
	VolumeOf func(Running) site.Volume
	// OntoOtherImage allows a backup of one image onto another.
	OntoOtherImage bool
	// Method is how; "": MethodMerged.
	Method Method
	// Dir is where, for MethodOffline: an absolute path on the node.
	Dir string
	// Verify compares the contents of files, too, which reads them all.
	Verify bool
	// Progress is told how many bytes of the tar archive have been sent so far;
	// nil: nobody is. It is called from another goroutine, one call at a time.
	Progress func(rawBytes int64)
	// Stop has the restore end between two files when it is closed, with an error
	// of KindCancelled that says where the node stands; nil: it goes on to its end.
	Stop <-chan struct{}
}

// A Method is a way to restore.
type Method string

// The methods.
const (
	// MethodMerged goes through the merged view of the running system.
	MethodMerged Method = "merged"
	// MethodOffline makes an upper dir that no overlay is mounted from.
	MethodOffline Method = "offline"
	// MethodNextRoot makes a second overlay and has systemd reboot into it,
	// without the kernel.
	MethodNextRoot Method = "nextroot"
)

// A RestoreReport tells what a restore did.
type RestoreReport struct {
	ID       string
	BootID   string // the boot that received it
	Restored int64  // members extracted
	Removed  int64  // whiteouts and opaque dirs that were cleared
	// Differences lists what differs from the archive in the merged view after
	// the restore, at most MaxDifferences. Files that the running system writes
	// to may be among them.
	Differences []string
	// Restart lists what still works with what was replaced or removed, at most
	// MaxHolders; only after a restore onto what runs.
	Restart []Holder
	// Reappear names directories in which files of the image that had been
	// deleted may show again, because the archive does not tell whether the
	// directory was made anew; at most MaxDifferences.
	Reappear []string
	// Notes are what a person should know of how the restore went, a sentence
	// each.
	Notes []string
	// Warnings are what tar and rm said, at most MaxWarnings each.
	Warnings []string
}

// MaxDifferences is how many differences a report keeps; the last then says how
// many more there were.
const MaxDifferences = 200

const restoreOp = "restore the overlay"

// Restore puts a backup back onto a running node, through the merged view, so
// that all of it is visible at once: see the package's documentation. The stored
// backup is checked before the node is touched. Files that the running system
// made itself and the backup does not have stay.
//
// A backup of another image than the one that runs is refused, unless
// req.OntoOtherImage: its files would cover newer ones of the image.
//
// Before the first change the node is told which backup it is receiving, and
// when all is there that it has it: see Running.Whole. A restore that is cut off
// is finished by restoring the same backup again.
//
// When extraction fails the report is returned along with the error, and lists
// what is missing; running Restore again is safe. An extended attribute that a
// directory of the image has and the backup does not is kept.
func Restore(ctx context.Context, remote Remote, store Store, req RestoreRequest) (RestoreReport, error) {
	r := &restoration{remote: remote, progress: req.Progress, verify: req.Verify, stop: req.Stop}
	if err := r.open(ctx, store, req); err != nil {
		return RestoreReport{}, r.orStopped(err, req)
	}
	if err := r.manifest.Reliable(); err != nil {
		return RestoreReport{}, err
	}
	var err error
	if r.running, err = Probe(ctx, remote); err != nil {
		return RestoreReport{}, err
	}
	r.report.BootID = r.running.BootID
	if err := req.check(r.running); err != nil {
		return RestoreReport{}, err
	}
	r.takeTools(remote)
	if err := r.sameImage(req); err != nil {
		return RestoreReport{}, err
	}
	r.report.Removed = r.manifest.Counts.Whiteouts + r.manifest.Counts.Opaque
	r.report.Restored = r.manifest.Counts.Entries - r.manifest.Counts.Whiteouts
	if err := r.tellForeign(ctx); err != nil {
		return r.report, err
	}
	switch req.Method {
	case MethodOffline:
		err = r.offline(ctx, req.Dir)
	case MethodNextRoot:
		err = r.nextRoot(ctx)
	default:
		err = r.throughMerged(ctx)
	}
	return r.report, r.orStopped(err, req)
}

// open reads what is to be restored from beginning to end, which tells whether
// it is whole, and what of it counts.
func (r *restoration) open(ctx context.Context, store Store, req RestoreRequest) error {
	if req.Archive != "" {
		f, err := openForeign(ctx, req.Archive, req.Prefix)
		if err != nil {
			return err
		}
		r.foreign, r.read, r.manifest = f, f.read, f.manifest(req.Node)
	} else {
		m, err := store.Get(ctx, req.Node, req.ID)
		if err != nil {
			return err
		}
		r.manifest = m
		r.read = func(ctx context.Context, visit visitor) error { return readBackup(ctx, store, m, visit) }
	}
	r.read = r.stopping(r.read)
	r.report.ID = r.manifest.ID
	seen := newCensus()
	err := r.read(ctx, func(a *archive, m member) error { return seen.add(a, m) })
	if errors.Is(err, errUnsafe) {
		return &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay, Err: fmt.Errorf("the archive is not one of an upper dir: %w", err),
			Hint: "nothing was changed on the node; restore another backup",
		}
	}
	r.replaced, r.hasXattrs, r.tooLong = seen.fates(), seen.xattrs, seen.tooLong
	return err
}

func (req RestoreRequest) check(r Running) error {
	e := &bmc.Error{Op: restoreOp, Kind: bmc.KindOverlay}
	switch {
	case !r.Live && req.Method != MethodOffline:
		e.Err = errors.New("the node does not run a live system: its root is not the overlay of one")
		e.Hint = "see what the node runs: livecd-sync status"
	case req.BootID != "" && req.BootID != r.BootID:
		return remoteError(restoreOp, &ExitError{Status: statusOtherBoot})
	case !r.Root:
		return remoteError(restoreOp, &ExitError{Status: statusNotRoot})
	case req.Method == MethodNextRoot && !r.HasGNUTar():
		return remoteError(restoreOp, &ExitError{Status: statusNoGNUTar})
	default:
		return r.toolsMissing()
	}
	return e
}

// A restoration is one restore under way.
type restoration struct {
	remote    Remote
	read      func(context.Context, visitor) error // shows every member of what is restored
	manifest  Manifest
	foreign   *foreignArchive // nil for a backup
	replaced  map[int64]bool  // see census.fates
	hasXattrs bool
	tooLong   int // names that no system call takes whole
	running   Running
	progress  func(int64)
	verify    bool

	stop    <-chan struct{}
	stopped atomic.Bool // a pass has ended because of stop
	begun   bool        // the running overlay was changed, or was about to be

	// within runs a command where the restore goes; unmounted: that is an upper
	// dir without its overlay, which shows whiteouts and marks as they are.
	within    func(Command) Command
	unmounted bool
	// walks: what runs there reaches names of any length.
	walks bool

	report    RestoreReport
	unlike    int // differences found
	lacking   int // those among them that are of more than times, owners and contents
	extracted error
}

// noteCutOff tells what an earlier restore left on the node.
func (r *restoration) noteCutOff() {
	switch was := r.running.Restoring.ID; was {
	case "":
	case r.manifest.ID:
		r.note("a restore of this backup had been cut off; it was done again from its beginning")
	default:
		r.note("a restore of backup %s had been cut off before: what it had brought and this backup does not have is still there", was)
	}
}

// note adds a sentence to the report, once.
func (r *restoration) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(r.report.Notes, text) {
		r.report.Notes = append(r.report.Notes, text)
	}
}

// sameImage refuses a backup of another image than the one that runs. What is
// not known on either side is told.
func (r *restoration) sameImage(req RestoreRequest) error {
	of, runs := r.manifest.Volume, site.Volume{}
	if req.VolumeOf != nil {
		runs = req.VolumeOf(r.running)
	}
	switch {
	case of == site.Volume{}:
		r.note("it is not known which image the backup is of, so that was not compared with what the node runs")
	case runs == site.Volume{}:
		r.note("the node does not tell which image it runs, so that was not compared with the backup's, %s", named(of, r.manifest.Image))
	case sameVolume(of, runs):
	case req.OntoOtherImage:
		r.note("the backup is of %s, and the node runs %s", named(of, r.manifest.Image), named(runs, ""))
	default:
		return &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay,
			Err:  fmt.Errorf("backup %s is of %s, and the node runs %s", r.manifest.ID, named(of, r.manifest.Image), named(runs, "")),
			Hint: "boot the image that the backup is of, or restore it onto this one all the same with --onto-other-image: what it holds of the old image then covers the new one's",
		}
	}
	return nil
}

// sameVolume compares what both have: an image without a date is told by its
// identifier alone.
func sameVolume(a, b site.Volume) bool {
	return a.ID == b.ID && (a.Created == b.Created || a.Created == "" || b.Created == "")
}

// named gives an image's volume, and its name where that is known.
func named(v site.Volume, image string) string {
	s := fmt.Sprintf("the volume %q", Printable(v.ID))
	if v.Created != "" {
		s += " of " + Printable(v.Created)
	}
	if image != "" {
		s = fmt.Sprintf("image %s (%s)", image, s)
	}
	return s
}

// runFed runs a command where the restore goes, fed by a pass over the archive.
// The error is the pass's own if it failed, else what Run returned.
func (r *restoration) runFed(ctx context.Context, c Command, feed func(w io.Writer) error) error {
	c = r.within(c)
	from, to := io.Pipe()
	c.Stdin = from
	fed := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(to, readBytes)
		err := feed(w)
		if err == nil {
			err = w.Flush()
		}
		to.CloseWithError(err)
		fed <- err
	}()
	ran := r.remote.Run(ctx, c)
	from.CloseWithError(errCommandEnded)
	err := <-fed
	if ctx.Err() != nil {
		return cancelled(ctx, restoreOp)
	}
	if err != nil && !errors.Is(err, errCommandEnded) {
		return err
	}
	return ran
}

// errCommandEnded is what the feeding side sees when nobody reads any more.
var errCommandEnded = errors.New("the command on the node has ended")

// pass shows visit the members that count: the last of each name.
func (r *restoration) pass(ctx context.Context, visit visitor) error {
	return r.selected(ctx, func(replaced, _ bool) bool { return !replaced }, visit)
}

// passAll shows visit every member, but for what a later whiteout undoes: the
// names that share a file are told apart only when all are extracted in order.
func (r *restoration) passAll(ctx context.Context, visit visitor) error {
	return r.selected(ctx, func(_, undone bool) bool { return !undone }, visit)
}

func (r *restoration) selected(ctx context.Context, take func(replaced, undone bool) bool, visit visitor) error {
	i := int64(-1)
	return r.read(ctx, func(a *archive, m member) error {
		i++
		undone, replaced := r.replaced[i]
		if !take(replaced, undone) {
			return nil
		}
		return visit(a, m)
	})
}

// xargsFailed reports whether a command that xargs ran ended with a status from
// 1 to 125.
func xargsFailed(err error) bool {
	exit, ok := errors.AsType[*ExitError](err)
	return ok && exit.Status == 123
}

func remoteErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return remoteError(restoreOp, err)
}

// send writes the members that take chooses.
func (r *restoration) send(ctx context.Context, w io.Writer, take func(member) bool) error {
	var sent int64
	return r.passAll(ctx, func(a *archive, m member) error {
		if !take(m) {
			return nil
		}
		sent += int64(len(a.head)) + a.left
		if _, err := w.Write(a.head); err != nil {
			return err
		}
		if err := a.body(w); err != nil {
			return err
		}
		if r.progress != nil {
			r.progress(sent)
		}
		return nil
	})
}

// extract has tar on the node extract the members that take chooses. A tar that
// could not do everything is an error to be told of after the comparison.
func (r *restoration) extract(ctx context.Context, script string, take func(member) bool) error {
	var said messages
	err := r.runFed(ctx, Command{Script: script, Stderr: &said}, func(w io.Writer) error {
		err := r.send(ctx, w, take)
		// A restore that is stopped ends the archive here, so that tar leaves no
		// half of a file.
		if err != nil && !errors.Is(err, errStopped) {
			return err
		}
		_, err = w.Write(zeroRecord[:])
		return err
	})
	if err == nil && r.stopped.Load() {
		return errStopped
	}
	r.report.Warnings = append(r.report.Warnings, said.warnings()...)
	if exit, ok := errors.AsType[*ExitError](err); ok && (exit.Status == 1 || exit.Status == 2) {
		r.extracted = &bmc.Error{
			Op: restoreOp, Kind: bmc.KindOverlay,
			Err:  fmt.Errorf("tar on the node could not extract everything: %s", exit.Stderr),
			Hint: "see to what tar names, then restore again; the backup is untouched",
		}
		return nil
	}
	return remoteErrorOrNil(err)
}
