package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// An objectDraft is a directory that has no manifest yet.
type objectDraft struct {
	store *objects
	node  string
	id    string
	lock  *lock           // nil once the draft is done with
	ctx   context.Context //nolint:containedctx // Write and Publish take none, and what they begin ends with the draft
	end   context.CancelFunc
	whole bool // published
}

// Create starts a backup of the node. The draft's writes end with ctx.
func (o *objects) Create(ctx context.Context, node string, at time.Time) (overlay.Draft, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	l, err := o.acquire(ctx, node, backingUp)
	if err != nil {
		return nil, o.explain(err)
	}
	w := &objectDraft{store: o, node: node, lock: l}
	w.ctx, w.end = context.WithCancel(ctx)
	if err := w.begin(at); err != nil {
		_ = w.Discard() //nolint:contextcheck // it has the draft's
		return nil, o.explain(err)
	}
	return w, nil
}

// begin cleans up after others and takes an ID. Who holds the lock is the only
// writer: what has no manifest has no writer any more.
func (w *objectDraft) begin(at time.Time) error {
	names, err := w.store.list(w.ctx, w.node)
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, name := range names {
		dir := path.Join(w.node, name)
		switch {
		case overlay.ValidID(name):
			f, err := w.store.open(w.ctx, path.Join(dir, overlay.ManifestFile))
			if err == nil {
				used[name] = true
				f.Close()
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case strings.HasPrefix(name, hidden) && name != lockFile:
		default:
			continue
		}
		if err := w.store.removeAll(w.ctx, dir, ""); err != nil {
			return err
		}
	}
	if err := w.store.sweep(w.ctx, w.node); err != nil {
		return err
	}
	w.id, err = unusedID(w.node, at, func(id string) (bool, error) { return used[id], nil })
	return err
}

// ID is what the backup will be called.
func (w *objectDraft) ID() string { return w.id }

func (w *objectDraft) path(name string) string { return path.Join(w.node, w.id, path.Base(name)) }

// Write makes one file of the backup.
func (w *objectDraft) Write(name string) (io.WriteCloser, error) {
	f, err := w.store.write(w.ctx, w.path(name))
	if err != nil {
		return nil, w.store.explain(err)
	}
	return &explainedWriter{f, w.store.explain}, nil
}

// explainedWriter is a file whose errors are for people.
type explainedWriter struct {
	f       io.WriteCloser
	explain func(error) error
}

// Write writes to the file.
func (f *explainedWriter) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	return n, f.explain(err)
}

// Close brings the file to stable storage.
func (f *explainedWriter) Close() error { return f.explain(f.f.Close()) }

// Read opens one file of the draft.
func (w *objectDraft) Read(name string) (io.ReadCloser, error) {
	f, err := w.store.open(w.ctx, w.path(name))
	if err != nil {
		return nil, w.store.explain(err)
	}
	return &explained{ReadCloser: f, explain: w.store.explain}, nil
}

// Publish writes the manifest, if the lock is still held: a writer that was
// taken for dead must not publish what its successor has cleaned up.
func (w *objectDraft) Publish(m overlay.Manifest) error {
	if err := checkPublished(m, w.node, w.id); err != nil {
		return err
	}
	data, err := m.Encode()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, w.store.expiry/2) // the lock lasts longer
	defer cancel()
	if err := w.lock.renew(ctx); err != nil {
		return w.store.explain(err)
	}
	if err := w.store.put(ctx, w.path(overlay.ManifestFile), data); err != nil {
		return w.store.explain(err)
	}
	w.whole = true
	_ = w.Discard() // a lock that stays behind expires, and the backup is whole
	return nil
}

// Discard removes the draft, if it was not published, and frees the lock. It
// also does so when the draft's context has ended.
func (w *objectDraft) Discard() error {
	if w.lock == nil {
		return nil
	}
	w.end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), w.store.expiry/2)
	defer cancel()
	var err error
	if w.id != "" && !w.whole {
		// After a Publish that failed there may be a manifest.
		err = w.store.removeAll(ctx, path.Join(w.node, w.id), overlay.ManifestFile)
	}
	err = errors.Join(err, w.lock.release(ctx))
	w.lock = nil
	return w.store.explain(err)
}

// unusedID is an ID for a backup made at a time.
func unusedID(node string, at time.Time, used func(id string) (bool, error)) (string, error) {
	base := at.UTC().Format("20060102T150405Z")
	id := base
	for n := 2; n <= maxSameSecond; n++ {
		if taken, err := used(id); err != nil || !taken {
			return id, err
		}
		id = fmt.Sprintf("%s-%d", base, n)
	}
	return "", &bmc.Error{
		Op: "back up " + node, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("there are %d backups of one second", maxSameSecond),
		Hint: "see whether the clock runs: date",
	}
}

func checkPublished(m overlay.Manifest, node, id string) error {
	if m.ID == id && m.Node == node {
		return nil
	}
	return &bmc.Error{
		Op: "publish backup " + id, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("its manifest is of node %q and ID %q", m.Node, m.ID),
		Hint: "report this: a backup was mixed up with another",
	}
}
