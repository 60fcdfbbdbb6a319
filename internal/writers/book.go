package writers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Kind is what a note is about.
type Kind string

// The kinds of notes.
const (
	Paused   Kind = "paused"   // that a node is left alone, by a person's wish
	Attempts Kind = "attempts" // what a watch has done for what the site file wants of a node
)

// A Book keeps a small note of each kind about each node, for the writers of a
// site and those that come after them. It is safe for concurrent use; the errors
// are of type *bmc.Error.
type Book interface {
	// All are the notes of the kind, by node.
	All(ctx context.Context, k Kind) (map[string][]byte, error)
	// Get is the node's note, nil if there is none.
	Get(ctx context.Context, k Kind, node string) ([]byte, error)
	// Put returns when the note would outlive a power cut.
	Put(ctx context.Context, k Kind, node string, note []byte) error
	// Remove removes the note, if there is one.
	Remove(ctx context.Context, k Kind, node string) error
}

// FileBook is a book in a directory of this machine, a file for each note.
type FileBook struct{ Dir string }

const noteSuffix = ".json"

func (b *FileBook) path(k Kind, node string) string {
	return filepath.Join(b.Dir, string(k), node+noteSuffix)
}

// All are the notes of the kind.
func (b *FileBook) All(ctx context.Context, k Kind) (map[string][]byte, error) {
	entries, err := os.ReadDir(filepath.Join(b.Dir, string(k)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, b.cannot("read", err)
	}
	all := make(map[string][]byte, len(entries))
	for _, e := range entries {
		node, is := strings.CutSuffix(e.Name(), noteSuffix)
		if !is {
			continue // what a writer that was killed had begun
		}
		note, err := b.Get(ctx, k, node)
		if err != nil {
			return nil, err
		}
		if note != nil {
			all[node] = note
		}
	}
	return all, nil
}

// Get is the node's note.
func (b *FileBook) Get(_ context.Context, k Kind, node string) ([]byte, error) {
	note, err := os.ReadFile(b.path(k, node))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, b.cannot("read", err)
	}
	return note, nil
}

// Put writes the note beside the old one, and puts it in its place.
func (b *FileBook) Put(_ context.Context, k Kind, node string, note []byte) error {
	path := b.path(k, node)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return b.cannot("write", err)
	}
	if err := replace(path, note); err != nil {
		return b.cannot("write", err)
	}
	return nil
}

func replace(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Remove removes the note.
func (b *FileBook) Remove(_ context.Context, k Kind, node string) error {
	path := b.path(k, node)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return b.cannot("remove", err)
	}
	return nil
}

func (b *FileBook) cannot(what string, err error) error {
	return &bmc.Error{
		Op: what + " a note about a node", Kind: bmc.KindBusy, Err: err,
		Hint: "see that " + b.Dir + " can be written and has room",
	}
}
