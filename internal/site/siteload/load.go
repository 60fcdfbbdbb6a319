package siteload

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// MaxFileSize is how many bytes a site file may have.
const MaxFileSize = 16 << 20

// Load reads the site file at path. The errors it returns are of type Errors.
// It reads no file but that one, and uses no network. It may be called
// concurrently.
func Load(path string) (*site.Site, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Errors{fileError(path, err)}
	}
	return Parse(path, data)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxFileSize+1))
	return data, errors.Join(err, f.Close())
}

func fileError(path string, err error) Error {
	e := Error{Pos: Pos{File: path}, cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Message, e.Hint = "there is no such file", "name the site file with --file, or try one made by livecd-sync sim"
	case errors.Is(err, fs.ErrPermission):
		e.Message, e.Hint = "this file may not be read", "run as a user who may read it"
	default:
		e.Message, e.Hint = "this file cannot be read: "+reason(err), "name a readable file with --file"
	}
	return e
}

// reason is the part of a file system's error that is not the path.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse reads a site file from memory. Its name is what positions show, and
// relative paths in it start at the name's directory. The errors it returns are
// of type Errors. It may be called concurrently.
func Parse(name string, data []byte) (*site.Site, error) {
	f := &file{name: name}
	root := f.read(data)
	if root == nil {
		return nil, f.errs.sorted()
	}
	f.check(root)
	s := f.resolve(root)
	if len(f.errs) > 0 {
		return nil, f.errs.sorted()
	}
	sum := sha256.Sum256(data)
	s.Digest = "sha256:" + hex.EncodeToString(sum[:])
	return s, nil
}

// A file is a site file while it is being read.
type file struct {
	name string
	errs Errors
}

// fail reports an error at a value.
func (f *file) fail(v *value, message, hint string) {
	f.failAt(v.line, v.column, v.path(), message, hint)
}

// failKey reports an error at a value's key.
func (f *file) failKey(v *value, message, hint string) {
	line, column := v.keyPlace()
	f.failAt(line, column, v.path(), message, hint)
}

func (f *file) failAt(line, column int32, path, message, hint string) {
	f.errs = append(f.errs, Error{
		Pos:     Pos{f.name, int(line), int(column)},
		Path:    path,
		Message: message,
		Hint:    hint,
	})
}

// at is where a value stands, for other errors to point to.
func (f *file) at(line, column int32) site.Pos {
	return site.Pos(fmt.Sprintf("%s:%d:%d", f.name, line, column))
}
