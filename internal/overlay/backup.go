package overlay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"

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
	ToolVersion  string
	// Now tells the time; nil: time.Now.
	Now func() time.Time
	// Progress is told how many bytes of the tar archive have arrived so far;
	// nil: nobody is. It is called from another goroutine, one call at a time.
	Progress func(rawBytes int64)
}

const backupOp = "back up the overlay"

// Backup stores the upper dir of a node's overlay. What it returns without an
// error is in the store, was read back from there and is whole. When a file
// shrank while it was read, Backup starts over once; a backup that is partial
// even so, or that is not portable, is stored too, and returned along with an
// error of KindOverlay unless req.AllowPartial. With any other error nothing is
// left in the store.
//
// Memory is bounded, whatever the size of the overlay.
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
	draft, err := store.Create(ctx, req.Node, req.Now())
	if err != nil {
		return Manifest{}, err
	}
	defer draft.Discard() //nolint:errcheck // the next backup of the node cleans up
	m, err := req.fill(ctx, remote, draft)
	if err != nil {
		return Manifest{}, err
	}
	if err := readBack(ctx, draft, m); err != nil {
		return Manifest{}, err
	}
	if err := draft.Publish(m); err != nil {
		return Manifest{}, err
	}
	if req.AllowPartial {
		return m, nil
	}
	return m, m.Reliable()
}

func (req *BackupRequest) check() error {
	r := req.Running
	e := &bmc.Error{Op: backupOp, Kind: bmc.KindOverlay}
	switch {
	case r.UpperDir == "" && req.Path == "":
		e.Err = errors.New("the node's root is not an overlay")
		e.Hint = "see what the node runs: livecd-sync status; or set overlay.path"
	case !r.Root:
		e.Err, e.Hint = errors.New("the ssh user is not root"), "set ssh.user: root"
	case !r.HasGNUTar():
		return remoteError(backupOp, &ExitError{Status: statusNoGNUTar})
	default:
		return nil
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
		e.Err = errors.New("a file shrank while it was read, and its end is missing")
		e.Hint = "stop what writes to the files in the manifest's warnings, or leave them out with overlay.exclude"
	case !m.Portable:
		e.Err = errors.New("the overlay was mounted with metacopy or redirect_dir, so that data of changed files is only in the image")
		e.Hint = "boot with overlay.metacopy=off overlay.redirect_dir=off; such a backup can be unpacked by hand into an unmounted upper dir over the same image"
	default:
		return nil
	}
	return e
}

// fill streams the overlay into the draft, once more if a file shrank.
func (req *BackupRequest) fill(ctx context.Context, remote Remote, draft Draft) (Manifest, error) {
	var m Manifest
	for range 2 {
		pass := &backupPass{req: req, draft: draft}
		var err error
		if m, err = pass.run(ctx, remote); err != nil {
			return Manifest{}, err
		}
		if !m.Partial {
			break
		}
	}
	return m, nil
}

// A backupPass is one reading of the upper dir.
type backupPass struct {
	req    *BackupRequest
	draft  Draft
	said   messages
	result tally
	raw    digest // the tar archive
	stored digest // what is written to the store
}

// run streams from the node. The pipe's reader works in a goroutine that has
// ended when run returns.
func (b *backupPass) run(ctx context.Context, remote Remote) (Manifest, error) {
	from, to := io.Pipe()
	consumed := make(chan error, 1)
	go func() {
		err := b.consume(from)
		from.CloseWithError(err)
		consumed <- err
	}()
	ran := remote.Run(ctx, Command{
		Script: backupScript, Stdout: to, Stderr: &b.said,
		Args: append([]string{b.req.Running.BootID, b.req.upperDir()}, b.req.Exclude...),
	})
	to.CloseWithError(b.fatal(ran)) // nil is EOF
	if err := b.failure(ctx, ran, <-consumed); err != nil {
		return Manifest{}, err
	}
	return b.manifest(), nil
}

// fatal returns nil if the archive may be whole: tar ended with 0, or with 1
// because files changed under its hands.
func (b *backupPass) fatal(ran error) error {
	if exit, ok := errors.AsType[*ExitError](ran); ok && exit.Status == 1 {
		return nil
	}
	return ran
}

// failure picks the error that came first. Where the command came first, the
// consumer has its error from the pipe.
func (b *backupPass) failure(ctx context.Context, ran, consumed error) error {
	ran = b.fatal(ran)
	switch {
	case ctx.Err() != nil:
		return cancelled(ctx, backupOp)
	case b.stored.err != nil:
		return storeError(b.stored.err)
	case consumed != nil && (ran == nil || !errors.Is(consumed, ran)):
		return consumeError(consumed)
	case ran == nil:
		return nil
	}
	if exit, ok := errors.AsType[*ExitError](ran); ok && exit.Status == 2 {
		return &bmc.Error{
			Op: backupOp, Kind: bmc.KindOverlay,
			Err:  fmt.Errorf("tar on the node could not read everything: %s", exit.Stderr),
			Hint: "see to what tar names, or leave it out with overlay.exclude",
		}
	}
	return remoteError(backupOp, ran)
}

func consumeError(err error) error {
	if _, ok := errors.AsType[archiveError](err); !ok {
		return storeError(err)
	}
	return &bmc.Error{
		Op: backupOp, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("what the node sent is not the archive of an upper dir: %w", err),
		Hint: "run the command again, and see what the node's shell prints at login",
	}
}

func storeError(err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		return e
	}
	return &bmc.Error{Op: "write to the store", Kind: bmc.KindOverlay, Err: err, Hint: "see whether the store's disk or mount is well"}
}

// consume parses, hashes, compresses and stores the archive as it flows.
func (b *backupPass) consume(from io.Reader) (err error) {
	files, err := b.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	b.stored = digest{w: files.archive, h: sha256.New()}
	encoder, err := zstd.NewWriter(&b.stored, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, encoder.Close()) }()
	b.raw = digest{w: encoder, h: sha256.New()}
	b.result, err = readMembers(io.TeeReader(from, b.progress(&b.raw)), func(_ *archive, m member) error {
		return files.list(m)
	})
	return err
}

// progress tells the request's Progress of every write.
func (b *backupPass) progress(raw *digest) io.Writer {
	if b.req.Progress == nil {
		return raw
	}
	return writerFunc(func(p []byte) (int, error) {
		n, err := raw.Write(p)
		b.req.Progress(raw.n)
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

// Write calls the function.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// backupFiles are the files of a draft while they are written.
type backupFiles struct {
	closers         []io.Closer
	archive         io.Writer
	deleted, opaque *bufio.Writer
}

func (b *backupPass) open() (*backupFiles, error) {
	var files backupFiles
	var writers []io.Writer
	for _, name := range []string{ArchiveFile, DeletedFile, OpaqueFile} {
		w, err := b.draft.Write(name)
		if err != nil {
			return nil, errors.Join(err, files.close())
		}
		files.closers = append(files.closers, w)
		writers = append(writers, w)
	}
	files.archive = writers[0]
	files.deleted, files.opaque = bufio.NewWriter(writers[1]), bufio.NewWriter(writers[2])
	return &files, nil
}

func (f *backupFiles) list(m member) error {
	w := f.deleted
	if !m.whiteout {
		if !m.xattrs.opaque {
			return nil
		}
		w = f.opaque
	}
	_, err := w.WriteString(m.name + "\x00")
	return err
}

// close flushes and closes all files.
func (f *backupFiles) close() error {
	var errs []error
	if f.opaque != nil {
		errs = append(errs, f.deleted.Flush(), f.opaque.Flush())
	}
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (b *backupPass) manifest() Manifest {
	r := b.req.Running
	warnings := b.said.warnings()
	if n := b.result.xattrWhiteouts; n > 0 {
		warnings = append(warnings, fmt.Sprintf("%d whiteouts are xattrs, which overlayfs itself does not make", n))
	}
	return Manifest{
		Version: ManifestVersion, ID: b.draft.ID(), Node: b.req.Node, Site: b.req.Site,
		CreatedAt: b.req.Now().UTC(), Purpose: b.req.Purpose, BootID: r.BootID,
		Image: b.req.Image, Volume: b.req.Volume, Kernel: r.Kernel,
		UpperDir: b.req.upperDir(), Options: r.Options, Excludes: append([]string{}, b.req.Exclude...),
		Portable: !b.result.leansOnLower, Partial: b.said.shrank > 0,
		Counts: b.result.counts, Warnings: warnings,
		RawBytes: b.raw.n, RawSHA256: b.raw.sum(),
		StoredBytes: b.stored.n, StoredSHA256: b.stored.sum(),
		ToolVersion: b.req.ToolVersion,
	}
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
