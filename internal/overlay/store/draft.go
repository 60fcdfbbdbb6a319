package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

const maxSameSecond = 1000

// A draft is a hidden directory beside the node's backups.
type draft struct {
	store *directory
	node  string
	root  *os.Root // the node's directory
	lock  *os.File // nil once the draft is done with
	id    string
	dir   string // hidden
}

// Create starts a backup of the node.
func (d *directory) Create(_ context.Context, node string, at time.Time) (overlay.Draft, error) {
	root, err := d.node(node, true)
	if err != nil {
		return nil, err
	}
	w := &draft{store: d, node: node, root: root}
	if err := w.begin(at); err != nil {
		_ = w.Discard()
		return nil, d.explain(err)
	}
	return w, nil
}

func (w *draft) begin(at time.Time) error {
	w.store.step()
	var err error
	if w.lock, err = acquire(w.root, w.node, backingUp); err != nil {
		return err
	}
	// Whoever holds the lock is the only writer, so these have none any more.
	if err = w.removeLeftovers(); err != nil {
		return err
	}
	if w.id, err = unusedID(w.node, at, w.used); err != nil {
		return err
	}
	w.dir = newPrefix + w.id
	w.store.step()
	return w.root.Mkdir(w.dir, 0o700)
}

// Lock takes the node's lock.
func (d *directory) Lock(_ context.Context, node, doing string) (func() error, error) {
	root, err := d.node(node, true)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	lock, err := acquire(root, node, doing)
	if err != nil {
		return nil, d.explain(err)
	}
	return func() error { return d.explain(lock.Close()) }, nil
}

// acquire takes the lock in a node's directory, until it is closed.
func acquire(root *os.Root, node, doing string) (*os.File, error) {
	lock, err := root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(lock); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			theirs, _ := io.ReadAll(io.LimitReader(lock, maxManifest)) // for people only
			err = busy(node, theirs, "wait for it to end")
		}
		return nil, errors.Join(err, lock.Close())
	}
	// What others are told of the holder is no condition, on a full disk for
	// example: the lock is the kernel's.
	if mine, err := hold(doing); err == nil && lock.Truncate(0) == nil {
		_, _ = lock.WriteAt(mine, 0)
	}
	return lock, nil
}

// flock takes the lock, which the kernel frees when its holder dies.
func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (w *draft) removeLeftovers() error {
	dir, err := w.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, oldPrefix) {
			w.store.step()
			if err := w.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *draft) used(id string) (bool, error) {
	_, err := w.root.Lstat(id)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ID is what the backup will be called.
func (w *draft) ID() string { return w.id }

// Write makes one file of the backup.
func (w *draft) Write(name string) (io.WriteCloser, error) {
	w.store.step()
	f, err := w.root.OpenFile(path.Join(w.dir, path.Base(name)), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, w.store.explain(err)
	}
	return &writing{f: f, store: w.store}, nil
}

// A writing is a file of a draft.
type writing struct {
	f     *os.File
	store *directory
}

// Write writes to the file.
func (f *writing) Write(p []byte) (int, error) {
	f.store.step()
	n, err := f.f.Write(p)
	return n, f.store.explain(err)
}

// Close brings the file to stable storage and lets the page cache go, so that
// what is read back comes from there.
func (f *writing) Close() error {
	f.store.step()
	err := f.f.Sync()
	if err == nil {
		_ = unix.Fadvise(int(f.f.Fd()), 0, 0, unix.FADV_DONTNEED) // advice, no more
	}
	return f.store.explain(errors.Join(err, f.f.Close()))
}

// A reading is a file of a backup or a draft.
type reading struct {
	*os.File
	store *directory
}

// Read reads from the file.
func (f *reading) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.store.explain(err)
	}
	return n, err
}

// WriteTo hides that of os.File, whose errors would pass by Read.
func (f *reading) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{f})
}

// Read opens one file of the draft.
func (w *draft) Read(name string) (io.ReadCloser, error) {
	f, err := w.root.Open(path.Join(w.dir, path.Base(name)))
	if err != nil {
		return nil, w.store.explain(err)
	}
	return &reading{File: f, store: w.store}, nil
}

// Publish writes the manifest, then gives the directory its final name.
func (w *draft) Publish(m overlay.Manifest) error {
	if err := checkPublished(m, w.node, w.id); err != nil {
		return err
	}
	w.store.step()
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if err := writeFile(w.root, path.Join(w.dir, overlay.ManifestFile), data); err != nil {
		return w.store.explain(err)
	}
	w.store.step()
	if err := syncDir(w.root, w.dir); err != nil {
		return w.store.explain(err)
	}
	w.store.step()
	if err := w.root.Rename(w.dir, w.id); err != nil {
		return w.store.explain(err)
	}
	w.store.step()
	if err := syncDir(w.root, "."); err != nil {
		return w.store.explain(err)
	}
	w.dir = ""
	return w.Discard()
}

// Discard removes the draft, if it was not published, and frees the lock.
func (w *draft) Discard() error {
	if w.root == nil {
		return nil
	}
	var err error
	if w.dir != "" {
		err = w.root.RemoveAll(w.dir)
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
	}
	err = errors.Join(err, w.root.Close())
	w.root, w.lock = nil, nil
	return w.store.explain(err)
}

// writeFile writes a file and brings it to stable storage.
func writeFile(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDir brings a directory's names to stable storage.
func syncDir(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) { // some network file systems cannot
		err = nil
	}
	return errors.Join(err, dir.Close())
}
