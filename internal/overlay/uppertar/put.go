package uppertar

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A File says what a file is to be like.
type File struct {
	Name     string
	Sum      [sha256.Size]byte // of what is in it
	Mode     uint32
	UID, GID uint32
	MTime    string // seconds since 1970, with a fraction
}

// ErrOtherFile is what Put returns for a file that is not what it should be.
var ErrOtherFile = errors.New("the file's digest is another")

// Put writes all that r has to a file below a directory, if it is what it should
// be, and makes the directories that lead to it. The file is there whole or not at
// all.
func Put(r io.Reader, dir *os.File, f File) error {
	name, err := cleanName(f.Name)
	if err != nil {
		return err
	}
	m := &member{header: header{name: name, kind: typeFile, mode: f.Mode & 0o7777, uid: f.UID, gid: f.GID}}
	if m.mtime, err = parseTime(f.MTime); err != nil {
		return fmt.Errorf("the file's time: %w", err)
	}
	var said bytes.Buffer
	x := newExtractor(bytes.NewReader(nil), dir, ExtractOptions{Messages: &said})
	defer x.tree.close()
	err = onOwnThread(func() error { return x.put(r, m, f.Sum) })
	if errors.Is(err, errSkipped) || err == nil && x.said.outcome.Failed > 0 {
		return errors.New(string(bytes.TrimSpace(said.Bytes())))
	}
	return err
}

func (x *extractor) put(r io.Reader, m *member, sum [sha256.Size]byte) error {
	unix.Umask(0)
	if err := x.makeStage(); err != nil {
		return err
	}
	defer x.removeStage()
	defer func() { _ = unix.Unlinkat(x.stage, staged, 0) }() // unless it was placed
	fd, err := unix.Openat(x.stage, staged, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return x.skipped(m, "Cannot open", err)
	}
	file := os.NewFile(uintptr(fd), m.name)
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, h), r)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return ErrOtherFile
	}
	x.dress(m)
	return x.place(m)
}
