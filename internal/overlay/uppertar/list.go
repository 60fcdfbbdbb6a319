package uppertar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// List writes what lies under each of the names that it reads, each ended by NUL,
// as stat writes it with QUOTING_STYLE=literal and
// --printf='%f %u %g %s %t %T %.9Y %h %d:%i %n\0%N\0'. Names that are not there are
// left out, told and counted. The error is r's or w's, or says that a name leads
// out of the directory.
func List(r io.Reader, w io.Writer, dir *os.File, messages io.Writer) (Outcome, error) {
	return ask(r, w, dir, messages, func(out *bufio.Writer, parent int, base, name string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		links := ""
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := readLink(parent, base)
			if err != nil {
				return err
			}
			links = " -> " + target
		}
		fmt.Fprintf(out, "%x %d %d %d %x %x %s %d %d:%d %s\x00%s%s\x00", st.Mode, st.Uid, st.Gid, st.Size,
			unix.Major(st.Rdev), unix.Minor(st.Rdev), statTime(st.Mtim), st.Nlink, st.Dev, st.Ino, name, name, links)
		return nil
	})
}

// Xattrs writes the extended attributes of each of the names that it reads, each
// ended by NUL, as getfattr writes them with -h -d -m - -e hex. What has none, and
// what is not there, is left out; the latter is told and counted. The error is as
// of List.
func Xattrs(r io.Reader, w io.Writer, dir *os.File, messages io.Writer) (Outcome, error) {
	return ask(r, w, dir, messages, func(out *bufio.Writer, parent int, base, name string) error {
		if err := unix.Fchdir(parent); err != nil {
			return err
		}
		all, err := namedHolder(base).read()
		if len(all) == 0 {
			return err
		}
		fmt.Fprintf(out, "# file: %s\n", quoteAttr(name, ""))
		for _, x := range all {
			fmt.Fprintf(out, "%s=0x%x\n", quoteAttr(x.name, "="), x.value)
		}
		fmt.Fprintln(out)
		return err
	})
}

// quoteAttr writes a name as getfattr does: backslashes, ends of lines and what
// else is given as \ooo.
func quoteAttr(name, special string) string {
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte("\\\n\r"+special, name[i]) >= 0 {
			fmt.Fprintf(&b, `\%03o`, name[i])
		} else {
			b.WriteByte(name[i])
		}
	}
	return b.String()
}

// ask answers for each name that it reads. What an answer writes is told of when
// it is flushed.
func ask(r io.Reader, w io.Writer, dir *os.File, messages io.Writer, answer func(out *bufio.Writer, parent int, base, name string) error) (Outcome, error) {
	t := newTree(dir)
	defer t.close()
	said := teller{to: messages}
	out := bufio.NewWriterSize(w, copyBytes)
	err := onOwnThread(func() error {
		err := EachRecord(r, func(name string) error {
			clean, err := cleanName(name)
			if err != nil {
				return err
			}
			parent, base, err := t.parent(clean)
			if err == nil {
				err = answer(out, parent, base, name)
			}
			if err != nil {
				said.failed(name, "Cannot stat", err)
			}
			return nil
		})
		return errors.Join(err, out.Flush())
	})
	return said.outcome, err
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
