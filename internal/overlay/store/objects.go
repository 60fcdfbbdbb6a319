package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// A medium is a server that keeps a store's files. Names are paths below the
// store, with slashes; nothing in them leads out of it. Where a method says so
// its error wraps that of io/fs; explain makes the rest fit for people. A medium
// is safe for concurrent use. It connects when it is first used, and again after
// the connection was lost.
type medium interface {
	// list names what is directly below a directory: nothing if it is not there.
	list(ctx context.Context, dir string) ([]string, error)
	// open opens a file: fs.ErrNotExist.
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// write begins a file anew. It is whole, and on stable storage as far as the
	// server tells, when Close returns nil; until then ctx ends it.
	write(ctx context.Context, name string) (io.WriteCloser, error)
	// put writes a small file at once: all of it is there or what was before.
	put(ctx context.Context, name string, data []byte) error
	// claim is put where there is no such file: else fs.ErrExist.
	claim(ctx context.Context, name string, data []byte) error
	// replace is put where the file is old: else fs.ErrExist.
	replace(ctx context.Context, name string, old, data []byte) error
	// age is how long ago a file was written, by the server's own clock.
	age(ctx context.Context, name string) (time.Duration, error)
	// remove removes a file. That there is none is no error.
	remove(ctx context.Context, name string) error
	// removeAll removes a directory and all that is in it, the first before the
	// rest. That there is none is no error.
	removeAll(ctx context.Context, dir, first string) error
	// sweep ends the writes below a directory that lost their writers.
	sweep(ctx context.Context, dir string) error
	explain(err error) error
	Close() error
}

// objects is a store on a medium. A backup is there if its manifest is, which is
// written last and removed first.
type objects struct {
	medium
	site   string        // whose notes it keeps; "" for none that is named
	expiry time.Duration // of locks
}

// List returns the node's backups, newest first. What is wrong with one of them
// is no reason not to see the others; what is wrong with the way to it is.
func (o *objects) List(ctx context.Context, node string) (overlay.Listing, error) {
	var list overlay.Listing
	if err := checkNode(node); err != nil {
		return list, err
	}
	ids, err := o.ids(ctx, node)
	if err != nil {
		return list, o.explain(err)
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return list, cancelled(ctx)
		}
		m, err := o.manifest(ctx, node, id)
		switch {
		case err == nil:
			list.Backups = append(list.Backups, m)
		case errors.Is(err, fs.ErrNotExist): // half, or deleted in the meantime
		case ofOneFile(err):
			list.Unreadable = append(list.Unreadable, overlay.Unreadable{ID: id, Site: m.Site, Err: o.explain(err)})
		default:
			return list, o.explain(err)
		}
	}
	return list, nil
}

// ofOneFile reports whether an error says nothing of other files.
func ofOneFile(err error) bool {
	_, content := errors.AsType[contentError](err)
	return content || errors.Is(err, fs.ErrPermission)
}

// ids are those of the node's backups, newest first, and of what may be half.
func (o *objects) ids(ctx context.Context, node string) ([]string, error) {
	names, err := o.list(ctx, node)
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(names, func(name string) bool { return !overlay.ValidID(name) })
	slices.SortFunc(ids, func(a, b string) int { return overlay.CompareIDs(b, a) })
	return ids, nil
}

// Get returns one backup's manifest.
func (o *objects) Get(ctx context.Context, node, id string) (overlay.Manifest, error) {
	if err := checkNode(node); err != nil {
		return overlay.Manifest{}, err
	}
	if !overlay.ValidID(id) {
		return overlay.Manifest{}, noBackup(node, id)
	}
	m, err := o.manifest(ctx, node, id)
	if errors.Is(err, fs.ErrNotExist) {
		return m, noBackup(node, id)
	}
	return m, o.explain(err)
}

// manifest reads a manifest; its error may be the medium's.
func (o *objects) manifest(ctx context.Context, node, id string) (m overlay.Manifest, err error) {
	if err := o.readJSON(ctx, path.Join(node, id, overlay.ManifestFile), &m); err != nil {
		return m, err
	}
	return m, checkManifest(m, node, id)
}

func (o *objects) readJSON(ctx context.Context, name string, into any) error {
	data, err := o.read(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &bmc.Error{
			Op: "read " + name + " in the store", Kind: bmc.KindOverlay,
			Err: contentError{fmt.Errorf("it is damaged: %w", err)}, Hint: "move it out of the store",
		}
	}
	return nil
}

// read reads a small file.
func (o *objects) read(ctx context.Context, name string) ([]byte, error) {
	f, err := o.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

// Open opens one file of a backup as it is stored.
func (o *objects) Open(ctx context.Context, node, id, name string) (io.ReadCloser, error) {
	if _, err := o.Get(ctx, node, id); err != nil {
		return nil, err
	}
	f, err := o.open(ctx, path.Join(node, id, path.Base(name)))
	if err != nil {
		return nil, o.explain(err)
	}
	return &explained{ReadCloser: f, explain: o.explain}, nil
}

// explained is a file whose errors are for people.
type explained struct {
	io.ReadCloser
	explain func(error) error
}

// Read reads from the file.
func (f *explained) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = f.explain(err)
	}
	return n, err
}

// Delete removes a backup, the manifest first.
func (o *objects) Delete(ctx context.Context, node, id string) error {
	if _, err := o.Get(ctx, node, id); errors.Is(err, overlay.ErrNoBackup) {
		return err
	}
	if err := checkNode(node); err != nil {
		return err
	}
	return o.explain(o.removeAll(ctx, path.Join(node, id), overlay.ManifestFile))
}

// SetReboot notes that a reset is about to begin.
func (o *objects) SetReboot(ctx context.Context, node string, r overlay.Reboot) error {
	r.Version = overlay.RebootVersion
	return o.setNote(ctx, node, rebootNote, r)
}

// Reboot returns what SetReboot noted.
func (o *objects) Reboot(ctx context.Context, node string) (overlay.Reboot, bool, error) {
	return readReboot(node, func(into any) (bool, error) { return o.note(ctx, node, rebootNote, into) })
}

// SetVerified notes when backups were verified.
func (o *objects) SetVerified(ctx context.Context, node string, v map[string]overlay.Verified) error {
	return o.setNote(ctx, node, verifiedNote, v)
}

// Verified returns what SetVerified noted.
func (o *objects) Verified(ctx context.Context, node string) (map[string]overlay.Verified, error) {
	var v map[string]overlay.Verified
	_, err := o.note(ctx, node, verifiedNote, &v)
	return v, err
}

// setNote writes a document beside the node's backups.
func (o *objects) setNote(ctx context.Context, node, note string, v any) error {
	if err := checkNode(node); err != nil {
		return err
	}
	data, err := marshal(v)
	if err != nil {
		return err
	}
	return o.explain(o.put(ctx, path.Join(node, noteFile(note, o.site)), data))
}

// note reads such a document, and reports whether there is one.
func (o *objects) note(ctx context.Context, node, note string, into any) (bool, error) {
	if err := checkNode(node); err != nil {
		return false, err
	}
	err := o.readJSON(ctx, path.Join(node, noteFile(note, o.site)), into)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, o.explain(err)
}

// ClearReboot removes the note.
func (o *objects) ClearReboot(ctx context.Context, node string) error {
	if err := checkNode(node); err != nil {
		return err
	}
	return o.explain(o.remove(ctx, path.Join(node, noteFile(rebootNote, o.site))))
}

// marshal writes a document as it is stored.
func marshal(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}
