package uppertar

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Clear makes way for an archive. Each record is a letter, a name and "//",
// ended by NUL, parents before children:
//
//	x  goes, whatever it is: deleted, or about to be made anew
//	d  goes unless it is a directory
//	f  goes if it is a directory
//
// The last record may lack its NUL. No name has "//" in it, so a record that ends
// that way is whole: nothing goes because of one that was cut. What lies on
// another file system stays, with the directories that lead to it. The error is
// r's, or says that a record is none; those before it have been acted upon.
func Clear(r io.Reader, dir *os.File, messages io.Writer) (Outcome, error) {
	c := &clearer{tree: newTree(dir), said: teller{to: messages}}
	defer c.tree.close()
	var st unix.Stat_t
	if err := unix.Fstat(c.tree.root, &st); err != nil {
		return Outcome{}, err
	}
	c.dev = st.Dev
	err := EachRecord(r, c.record)
	return c.said.outcome, err
}

type clearer struct {
	tree *tree
	said teller
	dev  uint64
}

func (c *clearer) record(record string) error {
	name, whole := strings.CutSuffix(record[1:], "//")
	if !whole {
		return errors.New("a record is not whole")
	}
	name, err := cleanName(name)
	if err != nil {
		return err
	}
	if name == "." {
		return errors.New("a record is about the directory itself")
	}
	letter := record[0]
	if strings.IndexByte("xdf", letter) < 0 {
		return errors.New("a record begins with another letter than x, d and f")
	}
	parent, base, err := c.tree.parent(name)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		if !isAbsent(err) {
			c.said.failed(name, "Cannot stat", err)
		}
		return nil
	}
	dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if letter == 'd' && dir || letter == 'f' && !dir {
		return nil
	}
	if dir {
		defer c.tree.forget()
	}
	c.remove(parent, base, name, dir)
	return nil
}

// isAbsent reports whether an error says that a name is not there, itself or
// because what leads to it is no directory.
func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// remove removes a name, and all that is below it.
func (c *clearer) remove(parent int, base, name string, dir bool) {
	if !dir {
		err := unix.Unlinkat(parent, base, 0)
		if !errors.Is(err, unix.EISDIR) { // it became one just now
			c.unless(err, name)
			return
		}
	}
	if c.empty(parent, base, name) {
		c.unless(unix.Unlinkat(parent, base, unix.AT_REMOVEDIR), name)
	}
}

// unless tells of an error, but that a name has gone already.
func (c *clearer) unless(err error, name string) {
	if err != nil && !errors.Is(err, unix.ENOENT) {
		c.said.failed(name, "Cannot remove", err)
	}
}

// empty removes what is in a directory, and reports whether to go on with itself.
func (c *clearer) empty(parent int, base, name string) bool {
	fd, err := openAgain(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
	if err != nil {
		c.unless(err, name)
		return false
	}
	defer shut(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != c.dev {
		c.said.failed(name, "Cannot remove", unix.EXDEV)
		return false
	}
	list, err := names(fd)
	if err != nil {
		c.said.failed(name, "Cannot read", err)
		return false
	}
	for _, entry := range list {
		var st unix.Stat_t
		err := unix.Fstatat(fd, entry, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			c.unless(err, name+"/"+entry)
			continue
		}
		c.remove(fd, entry, name+"/"+entry, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	}
	return true
}
