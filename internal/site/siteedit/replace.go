package siteedit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrChanged is a file that is not what it was when it was read.
var ErrChanged = errors.New("the file was changed meanwhile")

// Replace puts new content in the place of a file's old content, which it must
// still have; nil is a file that must not be there yet. Whoever reads the file
// meanwhile sees the one or the other, never a part. A symlink stays, and what
// it points to is replaced; mode and owner stay as they were.
func Replace(path string, old, content []byte) error {
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && old == nil {
		return create(path, content)
	}
	if err != nil {
		return err
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	tmp, err := write(filepath.Dir(target), info, content)
	if err != nil {
		return err
	}
	if err = unchanged(target, old); err == nil {
		err = os.Rename(tmp, target)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return syncDir(filepath.Dir(target))
}

func unchanged(target string, old []byte) error {
	now, err := os.ReadFile(target)
	switch {
	case err != nil:
		return err
	case old == nil || !bytes.Equal(now, old):
		return fmt.Errorf("%s: %w", target, ErrChanged)
	}
	return nil
}

// write makes a file beside the one that it is to replace.
func write(dir string, like fs.FileInfo, content []byte) (name string, err error) {
	f, err := os.CreateTemp(dir, ".livecd-sync-*")
	if err != nil {
		return "", err
	}
	err = f.Chmod(like.Mode().Perm())
	if owner, ok := like.Sys().(*syscall.Stat_t); ok && err == nil && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// create makes a file that is not there, and its directory. A link, unlike a
// rename, does not go over one that came to be meanwhile.
func create(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as readable as the site file beside it: nothing in it is secret
		return err
	}
	f, err := os.CreateTemp(dir, ".livecd-sync-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s: %w", path, ErrChanged)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
