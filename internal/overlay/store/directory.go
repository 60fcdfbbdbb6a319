package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

const (
	hidden       = "."     // begins the name of whatever is not a backup
	newPrefix    = ".new-" // a draft
	oldPrefix    = ".old-" // a backup that is being deleted
	lockFile     = ".lock"
	rebootNote   = "reboot"
	verifiedNote = "verified"
	maxManifest  = 32 << 20
)

// noteFile is where a site keeps a note of a node. Another site may have a node of
// that name in the same store, and notes of its own.
func noteFile(note, site string) string {
	if site == "" {
		return note + ".json"
	}
	return note + "@" + site + ".json"
}

// A directory is a store below one path.
type directory struct {
	path string
	site string // whose notes it keeps; "" for none that is named
	// before is called before each change of what is stored; nil but in tests,
	// which end the process there.
	before func()
}

func (d *directory) step() {
	if d.before != nil {
		d.before()
	}
}

// Close does nothing: no connection is kept.
func (d *directory) Close() error { return nil }

// node opens the node's directory; made tells whether it shall be made.
func (d *directory) node(name string, made bool) (*os.Root, error) {
	if err := checkNode(name); err != nil {
		return nil, err
	}
	if made {
		if err := os.MkdirAll(d.path, 0o700); err != nil {
			return nil, d.explain(err)
		}
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, d.explain(err)
	}
	defer root.Close()
	if made {
		if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, d.explain(err)
		}
		if err := syncDir(root, "."); err != nil {
			return nil, d.explain(err)
		}
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, d.explain(err)
	}
	return dir, nil
}

// explain makes an error of the file system one for people.
func (d *directory) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*bmc.Error](err); ok {
		return err
	}
	e := &bmc.Error{Op: "store " + d.path, Kind: bmc.KindOverlay, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Err = errors.New("the store is full")
		e.Hint = "make room; backups that are no longer needed may be removed by hand, a directory each"
	case errors.Is(err, syscall.EROFS):
		e.Err = errors.New("the store is mounted read-only")
		e.Hint = "remount it for writing, or name another store"
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "run livecd-sync as the user that owns the store"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "see the store's url in the site file, and: livecd-sync backups list"
	default:
		e.Hint = "see whether the store's disk or mount is well: dmesg, df"
	}
	return e
}

// List returns the node's backups, newest first. Whatever is wrong with one of
// them is no reason not to see the others.
func (d *directory) List(ctx context.Context, node string) (overlay.Listing, error) {
	var list overlay.Listing
	root, err := d.node(node, false)
	if errors.Is(err, fs.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return list, err
	}
	defer root.Close()
	ids, err := backups(root)
	if err != nil {
		return list, d.explain(err)
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			return list, cancelled(ctx)
		}
		switch m, err := d.manifest(root, node, id); {
		case err == nil:
			list.Backups = append(list.Backups, m)
		case errors.Is(err, fs.ErrNotExist): // deleted in the meantime
		default:
			list.Unreadable = append(list.Unreadable, overlay.Unreadable{ID: id, Site: m.Site, Err: err})
		}
	}
	return list, nil
}

func cancelled(ctx context.Context) error {
	return &bmc.Error{Op: "read the store", Kind: bmc.KindCancelled, Err: context.Cause(ctx), Hint: "run the command again"}
}

// backups returns the IDs in a node's directory, newest first.
func backups(root *os.Root) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(names, func(name string) bool { return !overlay.ValidID(name) })
	slices.SortFunc(ids, func(a, b string) int { return overlay.CompareIDs(b, a) })
	return ids, nil
}

func (d *directory) manifest(root *os.Root, node, id string) (overlay.Manifest, error) {
	var m overlay.Manifest
	if err := d.readJSON(root, path.Join(id, overlay.ManifestFile), &m); err != nil {
		return m, err
	}
	return m, checkManifest(m, node, id)
}

func checkManifest(m overlay.Manifest, node, id string) error {
	if m.Version == overlay.ManifestVersion && m.ID == id && m.Node == node {
		return nil
	}
	return &bmc.Error{
		Op: "read backup " + node + "/" + id, Kind: bmc.KindOverlay,
		Err:  contentError{fmt.Errorf("its manifest is of version %d, node %q and ID %q", m.Version, m.Node, m.ID)},
		Hint: "move the backup out of the store, or use the livecd-sync that wrote it",
	}
}

// A contentError is about what a document holds, and not about the way to it.
type contentError struct{ error }

func (e contentError) Unwrap() error { return e.error }

func (d *directory) readJSON(root *os.Root, name string, into any) error {
	f, err := root.Open(name)
	if err != nil {
		return d.explain(err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return d.explain(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return &bmc.Error{
			Op: "read " + path.Join(d.path, path.Base(root.Name()), name), Kind: bmc.KindOverlay,
			Err: contentError{fmt.Errorf("it is damaged: %w", err)}, Hint: "move it out of the store",
		}
	}
	return nil
}

// Get returns one backup's manifest.
func (d *directory) Get(_ context.Context, node, id string) (overlay.Manifest, error) {
	root, err := d.backup(node, id)
	if err != nil {
		return overlay.Manifest{}, err
	}
	defer root.Close()
	return d.manifest(root, node, id)
}

// backup opens the node's directory if it has the backup.
func (d *directory) backup(node, id string) (*os.Root, error) {
	if !overlay.ValidID(id) {
		return nil, noBackup(node, id)
	}
	root, err := d.node(node, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noBackup(node, id)
	}
	if err != nil {
		return nil, err
	}
	if _, err := root.Lstat(id); err != nil {
		root.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, noBackup(node, id)
		}
		return nil, d.explain(err)
	}
	return root, nil
}

// Open opens one file of a backup as it is stored.
func (d *directory) Open(_ context.Context, node, id, name string) (io.ReadCloser, error) {
	root, err := d.backup(node, id)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(path.Join(id, path.Base(name)))
	if err != nil {
		return nil, d.explain(err)
	}
	return &reading{File: f, store: d}, nil
}

// Delete removes a backup. The rename comes first, so that a half-deleted
// backup is never listed.
func (d *directory) Delete(_ context.Context, node, id string) error {
	root, err := d.backup(node, id)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Rename(id, oldPrefix+id); err != nil {
		return d.explain(err)
	}
	if err := syncDir(root, "."); err != nil {
		return d.explain(err)
	}
	return d.explain(root.RemoveAll(oldPrefix + id))
}

// SetReboot notes that a reset is about to begin.
func (d *directory) SetReboot(_ context.Context, node string, r overlay.Reboot) error {
	r.Version = overlay.RebootVersion
	return d.setNote(node, rebootNote, r)
}

// Reboot returns what SetReboot noted.
func (d *directory) Reboot(_ context.Context, node string) (overlay.Reboot, bool, error) {
	return readReboot(node, func(into any) (bool, error) { return d.note(node, rebootNote, into) })
}

// SetVerified notes when backups were verified.
func (d *directory) SetVerified(_ context.Context, node string, v map[string]overlay.Verified) error {
	return d.setNote(node, verifiedNote, v)
}

// Verified returns what SetVerified noted.
func (d *directory) Verified(_ context.Context, node string) (map[string]overlay.Verified, error) {
	var v map[string]overlay.Verified
	_, err := d.note(node, verifiedNote, &v)
	return v, err
}

// setNote writes a document beside the node's backups, whole or not at all.
func (d *directory) setNote(node, note string, v any) error {
	name := noteFile(note, d.site)
	root, err := d.node(node, true)
	if err != nil {
		return err
	}
	defer root.Close()
	data, err := marshal(v)
	if err != nil {
		return err
	}
	if err := writeFile(root, hidden+name, data); err != nil {
		return d.explain(err)
	}
	if err := root.Rename(hidden+name, name); err != nil {
		return d.explain(err)
	}
	return d.explain(syncDir(root, "."))
}

// note reads such a document, and reports whether there is one.
func (d *directory) note(node, note string, into any) (bool, error) {
	root, err := d.node(node, false)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	err = d.readJSON(root, noteFile(note, d.site), into)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// readReboot reads a reboot note by the means of a kind of store.
func readReboot(node string, note func(into any) (bool, error)) (overlay.Reboot, bool, error) {
	var r overlay.Reboot
	noted, err := note(&r)
	if err != nil || !noted {
		return overlay.Reboot{}, false, err
	}
	if err := checkReboot(r, node); err != nil {
		return r, false, err
	}
	return r, true, nil
}

func checkReboot(r overlay.Reboot, node string) error {
	if r.Version == overlay.RebootVersion {
		return nil
	}
	return &bmc.Error{
		Op: "read the reboot note of " + node, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("it is of version %d", r.Version),
		Hint: "use the livecd-sync that wrote it",
	}
}

// ClearReboot removes the note.
func (d *directory) ClearReboot(_ context.Context, node string) error {
	root, err := d.node(node, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(noteFile(rebootNote, d.site)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.explain(err)
	}
	return d.explain(syncDir(root, "."))
}
