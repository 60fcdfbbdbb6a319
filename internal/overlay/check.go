package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// maxWindow bounds the memory that a stored archive can make the decoder use.
// Those written here have windows of 4 MiB at most.
const maxWindow = 64 << 20

// Check reads a stored backup whole and compares it with its manifest: both
// hashes, both sizes and every count. It returns the manifest.
func Check(ctx context.Context, store Store, node, id string) (Manifest, error) {
	m, err := store.Get(ctx, node, id)
	if err != nil {
		return Manifest{}, err
	}
	return m, readBackup(ctx, store, m, func(*archive, member) error { return nil })
}

// readBackup reads a stored backup from beginning to end, as readStored does.
func readBackup(ctx context.Context, store Store, m Manifest, visit visitor) error {
	stored, err := store.Open(ctx, m.Node, m.ID, ArchiveFile)
	if err != nil {
		return err
	}
	defer stored.Close()
	return readStored(ctx, stored, m, visit)
}

// A visitor is shown each member in order. It may read the member's data, and
// leave it. What it returns is returned.
type visitor func(a *archive, m member) error

// readStored shows visit the members of a stored archive, and only then
// compares the archive with its manifest: a visitor that acts on what it sees
// needs a check before.
func readStored(ctx context.Context, stored io.Reader, m Manifest, visit visitor) error {
	raw, err := unpack(ctx, stored)
	if err != nil {
		return damaged(m, err)
	}
	defer raw.close()
	counted, err := readMembers(raw, visit)
	if err != nil {
		return readError(ctx, m, err)
	}
	if err := raw.compare(m); err != nil {
		return readError(ctx, m, err)
	}
	if m.Portable && counted.leansOnLower {
		return damaged(m, errors.New("its manifest says that it can be restored over any image, and it has parts of files only"))
	}
	if counted.counts != m.Counts {
		return damaged(m, fmt.Errorf("it holds %+v where its manifest says %+v", counted.counts, m.Counts))
	}
	return nil
}

// An unpacked is a stored archive while it is read.
type unpacked struct {
	stored, raw digest
	decoder     *zstd.Decoder
}

func unpack(ctx context.Context, stored io.Reader) (*unpacked, error) {
	u := &unpacked{stored: digest{r: contextReader{ctx, stored}, h: sha256.New()}}
	var err error
	if u.decoder, err = zstd.NewReader(&u.stored, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2)); err != nil {
		return nil, err
	}
	u.raw = digest{r: u.decoder, h: sha256.New()}
	return u, nil
}

// Read reads the tar archive.
func (u *unpacked) Read(p []byte) (int, error) { return u.raw.Read(p) }

func (u *unpacked) close() { u.decoder.Close() }

// compare reads what is left of both and compares them with the manifest.
func (u *unpacked) compare(m Manifest) error {
	if _, err := io.Copy(io.Discard, &u.raw); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, &u.stored); err != nil {
		return err
	}
	size, sum := m.compressed()
	switch {
	case u.stored.n != size || u.stored.sum() != sum:
		return errors.New("the stored file is not what was written")
	case u.raw.n != m.RawBytes || u.raw.sum() != m.RawSHA256:
		return errors.New("the archive in the stored file is not what was read from the node")
	}
	return nil
}

// readMembers shows visit every member and counts them.
func readMembers(r io.Reader, visit visitor) (tally, error) {
	var counted tally
	a := newArchive(r)
	for {
		m, err := a.next()
		if errors.Is(err, io.EOF) {
			return counted, nil
		}
		if err != nil {
			return counted, err
		}
		counted.add(m)
		if err := visit(a, m); err != nil {
			return counted, visitError{err}
		}
	}
}

// A visitError keeps a visitor's own error from being taken for damage.
type visitError struct{ error }

func (e visitError) Unwrap() error { return e.error }

func readError(ctx context.Context, m Manifest, err error) error {
	if e, ok := errors.AsType[visitError](err); ok {
		return e.error
	}
	if ctx.Err() != nil {
		return cancelled(ctx, "read backup "+m.Node+"/"+m.ID)
	}
	if e, ok := errors.AsType[*bmc.Error](err); ok { // of the store
		return e
	}
	return damaged(m, err)
}

// ErrDamaged is wrapped by what says that a backup is not what was written, and
// not by what says that it could not be looked at.
var ErrDamaged = errors.New("the backup is damaged")

func damaged(m Manifest, err error) error {
	return &bmc.Error{
		Op: "check backup " + m.Node + "/" + m.ID, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("%w: %w", ErrDamaged, err),
		Hint: "use another one (livecd-sync backups list -w " + m.Node + ") and have the store's disk looked at",
	}
}

func cancelled(ctx context.Context, op string) error {
	kind := bmc.KindCancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		kind = bmc.KindTimeout
	}
	return &bmc.Error{Op: op, Kind: kind, Err: context.Cause(ctx), Hint: "run the command again"}
}

// A digest counts and hashes what is read or written through it.
type digest struct {
	r   io.Reader
	w   io.Writer
	h   hash.Hash
	n   int64
	err error // the first of w
}

// Read reads from r.
func (d *digest) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.h.Write(p[:n])
	d.n += int64(n)
	return n, err
}

// Write writes to w.
func (d *digest) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.h.Write(p[:n])
	d.n += int64(n)
	if err != nil && d.err == nil {
		d.err = err
	}
	return n, err
}

func (d *digest) sum() string { return hex.EncodeToString(d.h.Sum(nil)) }

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digestOf reads one file of a draft.
func digestOf(draft Draft, name string) (string, error) {
	f, err := draft.Read(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d := &digest{r: f, h: sha256.New()}
	_, err = io.Copy(io.Discard, d)
	return d.sum(), err
}

// A contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // it belongs to the reading of one archive, and Read takes none
	r   io.Reader
}

// Read reads unless the context has ended.
func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
