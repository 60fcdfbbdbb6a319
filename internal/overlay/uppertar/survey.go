package uppertar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Survey writes what a directory holds, a record each, ended by NUL, as find
// writes it with -xdev -printf '%y %m %U %G %s %T@ %C@ %p\0'. It reads no file.
// The error is w's.
func Survey(w io.Writer, dir *os.File, messages io.Writer) (Outcome, error) {
	const kinds = "?pc?d?b?f?l?s???" // S_IFMT, as find's letters
	out := bufio.NewWriterSize(w, copyBytes)
	s := &surveyor{said: teller{to: messages}}
	s.visit = func(name string, st *unix.Stat_t) error {
		_, err := fmt.Fprintf(out, "%c %o %d %d %d %s %s %s\x00", kinds[st.Mode&unix.S_IFMT>>12],
			st.Mode&0o7777, st.Uid, st.Gid, st.Size, findTime(st.Mtim), findTime(st.Ctim), name)
		return err
	}
	err := s.run(dir)
	if err == nil {
		err = out.Flush()
	}
	return s.said.outcome, err
}

// Changed writes the size and the name, a record each, ended by NUL, of everything
// in a directory that is no directory and whose status has changed since. It reads
// no file. The error is w's.
func Changed(w io.Writer, dir *os.File, since unix.Timespec) error {
	out := bufio.NewWriterSize(w, copyBytes)
	s := &surveyor{}
	s.visit = func(name string, st *unix.Stat_t) error {
		later := st.Ctim.Sec > since.Sec || st.Ctim.Sec == since.Sec && st.Ctim.Nsec > since.Nsec
		if !later || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil
		}
		_, err := fmt.Fprintf(out, "%d %s\x00", st.Size, name)
		return err
	}
	if err := s.run(dir); err != nil {
		return err
	}
	return out.Flush()
}

// findTime writes a time as find's %T@: seconds and nanoseconds side by side.
func findTime(t unix.Timespec) string { return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec) }

// A surveyor looks at everything on the file system of a directory.
type surveyor struct {
	said  teller
	visit func(name string, st *unix.Stat_t) error
	dev   uint64
}

func (s *surveyor) run(dir *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return err
	}
	s.dev = st.Dev
	return s.walk(int(dir.Fd()), ".", ".")
}

func (s *surveyor) walk(parent int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		s.missed(name, err)
		return nil
	}
	if err := s.visit(name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Dev != s.dev {
		return nil
	}
	fd, err := openAgain(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		s.missed(name, err)
		return nil
	}
	defer shut(fd)
	list, err := names(fd)
	if err != nil {
		s.missed(name, err)
	}
	for _, entry := range list {
		if err := s.walk(fd, entry, name+"/"+entry); err != nil {
			return err
		}
	}
	return nil
}

// missed tells of what could not be looked at; what went meanwhile is no loss.
func (s *surveyor) missed(name string, err error) {
	if !errors.Is(err, unix.ENOENT) {
		s.said.failed(name, "Cannot stat", err)
	}
}
