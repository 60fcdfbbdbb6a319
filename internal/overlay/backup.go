package overlay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A BackupRequest says what to back up and what to note about it.
type BackupRequest struct {
	Node    string
	Site    string
	Image   string      // the name of the image that runs, as far as it is known
	Volume  site.Volume // of the live medium, as far as it is known
	Purpose Purpose
	// Running is what Probe returned; its zero value makes Backup probe.
	Running Running
	// Path is the upper dir, when the site file names one; "": Running's.
	Path    string
	Exclude []string // patterns for tar --exclude
	// AllowPartial returns no error for a backup that a reset may not rely on:
	// one that is partial or not portable.
	AllowPartial bool
	// Whole has everything sent, whatever earlier backups hold.
	Whole       bool
	ToolVersion string
	// Now tells the time; nil: time.Now.
	Now func() time.Time
	// Progress is told how many bytes of the tar archive have arrived so far;
	// nil: nobody is. It is called from another goroutine, one call at a time.
	Progress func(rawBytes int64)
}

const backupOp = "back up the overlay"

// Backup stores the upper dir of a node's overlay. What it returns without an
// error is in the store, was read back from there and is whole. Files that
// changed while they were read are read once more; a backup that is partial even
// so, or that is not portable, is stored too, and returned along with an error
// of KindOverlay unless req.AllowPartial. With any other error nothing is left in
// the store.
//
// Where the store has an earlier backup of the same boot, the node sends only
// what has changed since; see increment.go. Memory does not grow with the size
// of the overlay, but by some 40 bytes for each of its names.
func Backup(ctx context.Context, remote Remote, store Store, req BackupRequest) (Manifest, error) {
	if req.Now == nil {
		req.Now = bmc.SystemClock{}.Now
	}
	if req.Running.BootID == "" {
		running, err := Probe(ctx, remote)
		if err != nil {
			return Manifest{}, err
		}
		req.Running = running
	}
	if err := req.check(); err != nil {
		return Manifest{}, err
	}
	remote = req.Running.withTools(remote)
	draft, err := store.Create(ctx, req.Node, req.Now())
	if err != nil {
		return Manifest{}, err
	}
	defer draft.Discard() //nolint:errcheck // the next backup of the node cleans up
	m, err := req.fill(ctx, remote, store, draft)
	if err != nil {
		return Manifest{}, err
	}
	if err := readBack(ctx, draft, m); err != nil {
		return Manifest{}, err
	}
	if err := describe(draft, m); err != nil {
		return Manifest{}, storeError(err)
	}
	if err := draft.Publish(m); err != nil {
		return Manifest{}, err
	}
	if req.AllowPartial {
		return m, nil
	}
	return m, m.Reliable()
}

// ErrNoOverlay is wrapped by the error of Backup for a node that has nothing to
// back up, one that runs from its disk.
var ErrNoOverlay = errors.New("the node's root is not an overlay")

func (req *BackupRequest) check() error {
	r := req.Running
	e := &bmc.Error{Op: backupOp, Kind: bmc.KindOverlay}
	switch {
	case r.UpperDir == "" && req.Path == "":
		e.Err = ErrNoOverlay
		e.Hint = "see what the node runs: livecd-sync status; or set overlay.path"
	case !r.Root:
		e.Err, e.Hint = errors.New("the ssh user is not root"), "set ssh.user: root"
	case r.Whole() != nil:
		return r.Whole()
	default:
		return r.toolsMissing()
	}
	return e
}

func (req *BackupRequest) upperDir() string {
	if req.Path != "" {
		return req.Path
	}
	return req.Running.UpperDir
}

// Reliable is nil for a backup that a reset and a restore may rely on.
func (m Manifest) Reliable() error {
	e := &bmc.Error{Op: "rely on backup " + m.Node + "/" + m.ID, Kind: bmc.KindOverlay}
	switch {
	case m.Partial:
		e.Err = errors.New("not all of a file could be read: it shrank meanwhile, or it is damaged")
		e.Hint = "stop what writes to the files in the manifest's warnings, or leave them out with overlay.exclude"
	case !m.Portable:
		e.Err = errors.New("data of changed files is only in the image (metacopy, redirect_dir), and could not be read from there")
		e.Hint = "see the manifest's warnings; such a backup can be unpacked by hand into an unmounted upper dir over the same image"
	default:
		return nil
	}
	return e
}

// fill reads the overlay into the draft: what has changed since the last backup
// of this boot, and where that does not come out even, everything.
func (req *BackupRequest) fill(ctx context.Context, remote Remote, store Store, draft Draft) (Manifest, error) {
	pass := &backupPass{req: req, remote: remote, store: store, draft: draft}
	if err := pass.findBase(ctx); err != nil {
		return Manifest{}, err
	}
	if err := pass.plan(ctx); err != nil {
		return Manifest{}, err
	}
	err := pass.run(ctx)
	if why, ok := errors.AsType[baseError](err); ok {
		whole := &backupPass{req: req, remote: remote, store: store, draft: draft, zstd: pass.zstd}
		whole.warnings = append(whole.warnings, fmt.Sprintf("backup %s was of no use: %s", pass.base.ID, string(why)))
		pass, err = whole, whole.run(ctx)
	}
	if err != nil {
		return Manifest{}, err
	}
	return pass.manifest(), nil
}

func (b *backupPass) manifest() Manifest {
	r := b.req.Running
	warnings := append(append([]string{}, b.warnings...), b.said.warnings()...)
	if n := b.asm.tally.xattrWhiteouts; n > 0 {
		warnings = append(warnings, fmt.Sprintf("%d whiteouts are xattrs, which overlayfs itself does not make", n))
	}
	m := Manifest{
		Version: ManifestVersion, ID: b.draft.ID(), Node: b.req.Node, Site: b.req.Site,
		CreatedAt: b.req.Now().UTC(), Purpose: b.req.Purpose, BootID: r.BootID, Clock: r.Clock,
		Image: b.req.Image, Volume: b.req.Volume, Kernel: r.Kernel,
		UpperDir: b.req.upperDir(), Options: r.Options, Excludes: append([]string{}, b.req.Exclude...),
		Portable: !b.asm.tally.leansOnLower, Flattened: b.flattened, Partial: len(b.unread) > 0 || b.said.unknown > 0,
		Counts: b.asm.tally.counts, Warnings: warnings[:min(len(warnings), MaxWarnings)],
		LeftOut: append([]LeftOut{}, b.leftOut...), Omitted: b.omitted,
		Base: b.base.ID, Copied: b.copied, MovedBytes: b.moved.n,
		RawBytes: b.raw.n, RawSHA256: b.raw.sum(),
		StoredBytes: b.stored.n, StoredSHA256: b.stored.sum(),
		ToolVersion: b.req.ToolVersion,
	}
	m.Changed, m.Omitted = bounded(b.again, m.Omitted)
	for _, name := range b.unread[:min(len(b.unread), MaxWarnings)] {
		m.Warnings = append(m.Warnings, escape(name)+": not all of it could be read")
	}
	m.Skipped = append([]Skipped{}, b.skipped...)
	return m
}

// A budget bounds a list of names in a manifest, which is read whole into memory.
type budget struct{ names, bytes int }

// take reports whether another name fits.
func (b *budget) take(name string) bool {
	if b.names == MaxNames || b.bytes+len(name) > maxNameBytes {
		return false
	}
	b.names++
	b.bytes += len(name)
	return true
}

// bounded escapes as many names as fit and adds the number of the others.
func bounded(names []string, omitted int64) ([]string, int64) {
	out := []string{}
	var room budget
	for _, name := range names {
		if room.take(name) {
			out = append(out, escape(name))
		} else {
			omitted++
		}
	}
	return out, omitted
}

// readBack compares what the store holds with what was sent to it.
func readBack(ctx context.Context, draft Draft, m Manifest) error {
	stored, err := draft.Read(ArchiveFile)
	if err != nil {
		return err
	}
	defer stored.Close()
	return readStored(ctx, stored, m, func(*archive, member) error { return nil })
}
