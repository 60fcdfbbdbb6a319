package uppertar

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// List writes what lies under each of the names that it reads, each ended by NUL,
// as stat writes it with --printf='%f %u %g %s %t %T %.9Y %n\0'. Names that are
// not there are left out, told and counted. The error is r's or w's, or says that
// a name leads out of the directory.
func List(r io.Reader, w io.Writer, dir *os.File, messages io.Writer) (Outcome, error) {
	t := newTree(dir)
	defer t.close()
	said := teller{to: messages}
	out := bufio.NewWriterSize(w, copyBytes)
	err := eachRecord(r, func(name string) error {
		st, err := t.stat(name)
		if err != nil {
			if _, bad := cleanName(name); bad != nil {
				return bad
			}
			said.failed(name, "Cannot stat", err)
			return nil
		}
		_, err = fmt.Fprintf(out, "%x %d %d %d %x %x %s %s\x00", st.Mode, st.Uid, st.Gid, st.Size,
			unix.Major(st.Rdev), unix.Minor(st.Rdev), statTime(st.Mtim), name)
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	return said.outcome, err
}

// stat looks at what is under a name, which need not be clean.
func (t *tree) stat(name string) (*unix.Stat_t, error) {
	clean, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	parent, base, err := t.parent(clean)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	return &st, err
}

// statTime writes a time as stat's %.9Y: all nine digits.
func statTime(t unix.Timespec) string {
	if t.Sec < 0 && t.Nsec > 0 {
		return fmt.Sprintf("-%d.%09d", -(t.Sec + 1), 1_000_000_000-t.Nsec)
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

// Open opens a regular file below a directory, to be read. No link is followed.
func Open(dir *os.File, name string) (*os.File, error) {
	t := newTree(dir)
	defer t.close()
	clean, err := cleanName(name)
	if err != nil {
		return nil, err
	}
	parent, base, err := t.parent(clean)
	if err != nil {
		return nil, err
	}
	fd, err := openAgain(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		shut(fd)
		return nil, unix.EINVAL
	}
	return os.NewFile(uintptr(fd), name), nil
}
