package uppertar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	copyBytes = 128 << 10
	// maxName bounds a name that is read from a list, or an archive.
	maxName = 1 << 20
)

// WriteOptions say what goes into an archive.
type WriteOptions struct {
	// Exclude are patterns as of tar --exclude.
	Exclude []string
	// Names lists what is archived, each name ended by NUL; nil: everything.
	Names io.Reader
	// Recurse takes what lies below the directories that Names lists, too.
	Recurse bool
	// Newer leaves out what is no directory and neither whose data nor whose
	// status was changed since (seconds since 1970), as --newer does; nil:
	// nothing.
	Newer *int64
	// IgnoreUnreadable tells of what cannot be read, and does not count it.
	IgnoreUnreadable bool
	// Messages is written a line for each thing that went amiss; nil: none is.
	Messages io.Writer
}

// Write writes an archive of what lies below a directory. An error is w's, or
// that of o.Names; the archive is not whole then. What is below the directory may
// change meanwhile.
//
// The members are those of GNU tar, sorted by name within a directory. Memory is
// bounded but for the names in a directory, one per level, and some 100 bytes for
// each file with several names.
func Write(w io.Writer, dir *os.File, o WriteOptions) (Outcome, error) {
	t := newWriter(dir, o)
	t.out = bufio.NewWriterSize(&counting{w: w, n: &t.written}, copyBytes)
	t.copy = make([]byte, copyBytes)
	err := t.run(dir)
	if err == nil {
		err = t.end()
	}
	return t.said.outcome, err
}

// Names writes the name of every member that Write would write, escaped, a line
// each. It opens directories alone.
func Names(w io.Writer, dir *os.File, o WriteOptions) (Outcome, error) {
	t := newWriter(dir, o)
	t.out = bufio.NewWriterSize(w, copyBytes)
	t.namesOnly = true
	err := t.run(dir)
	if err == nil {
		err = t.out.Flush()
	}
	return t.said.outcome, err
}

// An inode is who a file is, whatever it is called.
type inode struct{ dev, ino uint64 }

// A writer is one archive on its way.
type writer struct {
	o         WriteOptions
	exclude   patterns
	said      teller
	out       *bufio.Writer
	written   int64
	namesOnly bool
	dev       uint64           // of the file system that is not left
	links     map[inode]string // what each file with several names was called first
	copy      []byte
	blocks    []byte // a member's header
}

func newWriter(dir *os.File, o WriteOptions) *writer {
	t := &writer{o: o, exclude: o.Exclude, said: teller{to: o.Messages}, links: make(map[inode]string)}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err == nil {
		t.dev = st.Dev
	}
	return t
}

func (t *writer) run(dir *os.File) error {
	return onOwnThread(func() error {
		if t.o.Names != nil {
			return t.listed(dir)
		}
		return t.entry(int(dir.Fd()), ".", ".", true)
	})
}

// listed writes what a list names.
func (t *writer) listed(dir *os.File) error {
	tr := newTree(dir)
	defer tr.close()
	return EachRecord(t.o.Names, func(name string) error {
		clean, err := cleanName(name)
		if err != nil {
			return err
		}
		if t.exclude.match(name) {
			return nil
		}
		parent, base, err := tr.parent(clean)
		if err != nil {
			t.unreadable(name, "Cannot stat", err)
			return nil
		}
		return t.entry(parent, base, strings.TrimSuffix(name, "/"), true)
	})
}

// EachRecord reads records that are ended by NUL; the last one may not be.
func EachRecord(r io.Reader, each func(string) error) error {
	in := bufio.NewReader(r)
	var record []byte
	for {
		part, err := in.ReadSlice(0)
		record = append(record, part...)
		if len(record) > maxName {
			return errors.New("a name is too long")
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return err
		}
		if name := strings.TrimSuffix(string(record), "\x00"); name != "" {
			if err := each(name); err != nil {
				return err
			}
		}
		if last {
			break
		}
		record = record[:0]
	}
	return nil
}

// unreadable tells of what was to be read and cannot be.
func (t *writer) unreadable(name, what string, err error) {
	if t.o.IgnoreUnreadable {
		t.said.warn(name, what, err)
		return
	}
	t.said.failed(name, what, err)
}

// gone tells of an error at something that was there a moment ago. top marks
// what was asked for by name.
func (t *writer) gone(name, what string, err error, top bool) {
	if !top && errors.Is(err, unix.ENOENT) {
		t.said.changed(name, "File removed before we read it")
		return
	}
	t.unreadable(name, what, err)
}

// entry writes one member, and what lies below it. Only errors of the archive
// itself are returned.
func (t *writer) entry(parent int, base, name string, top bool) error {
	if t.exclude.match(name) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		t.gone(name, "Cannot stat", err, top)
		return nil
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return t.directory(parent, base, name, top)
	}
	if n := t.o.Newer; n != nil && st.Mtim.Sec < *n && st.Ctim.Sec < *n {
		return nil
	}
	if kind == unix.S_IFSOCK {
		t.said.note(name, "socket ignored")
		return nil
	}
	if t.namesOnly {
		return t.name(name)
	}
	// Whiteouts share one inode, and each stands for itself: GNU tar links files
	// and symbolic links alone.
	linkable := kind == unix.S_IFREG || kind == unix.S_IFLNK
	if first, linked := t.links[inode{st.Dev, st.Ino}]; linked && linkable && st.Nlink > 1 {
		h := headerOf(&st, name)
		h.kind, h.link = typeHardLink, first
		return t.header(&h, nil)
	}
	if kind == unix.S_IFREG {
		return t.file(parent, base, name, top)
	}
	return t.special(parent, base, name, &st, top)
}

func (t *writer) name(name string) error {
	_, err := t.out.WriteString(quoteName(name) + "\n")
	return err
}

// remember notes a member that others may be links to.
func (t *writer) remember(st *unix.Stat_t, name string) {
	if st.Nlink > 1 {
		t.links[inode{st.Dev, st.Ino}] = name
	}
}

func (t *writer) header(h *header, all []xattr) error {
	t.blocks = h.appendTo(t.blocks[:0], appendXattrs(nil, all))
	_, err := t.out.Write(t.blocks)
	return err
}

// open opens what is to be read, and says what it is. That it cannot is told. The
// caller closes it.
func (t *writer) open(parent int, base, name string, flags int, top bool) (fd int, st unix.Stat_t, ok bool) {
	fd, err := openAgain(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags)
	if err != nil {
		t.gone(name, "Cannot open", err, top)
		return -1, st, false
	}
	if err := unix.Fstat(fd, &st); err != nil {
		shut(fd)
		t.unreadable(name, "Cannot stat", err)
		return -1, st, false
	}
	return fd, st, true
}

// directory writes a directory and what is in it, unless another file system
// begins there.
func (t *writer) directory(parent int, base, name string, top bool) error {
	fd, st, ok := t.open(parent, base, name, unix.O_DIRECTORY, top)
	if !ok {
		return nil
	}
	defer shut(fd)
	if err := t.directoryHeader(fd, name, &st); err != nil {
		return err
	}
	if t.o.Names != nil && !t.o.Recurse || st.Dev != t.dev {
		return nil
	}
	list, err := names(fd)
	if err != nil {
		t.unreadable(name, "Cannot read", err)
	}
	slices.Sort(list)
	for _, entry := range list {
		if err := t.entry(fd, entry, name+"/"+entry, false); err != nil {
			return err
		}
	}
	if !t.namesOnly {
		t.sayIfChanged(fd, name, &st)
	}
	return nil
}

func (t *writer) directoryHeader(fd int, name string, st *unix.Stat_t) error {
	if t.namesOnly {
		return t.name(name + "/")
	}
	all, err := openHolder(fd).read()
	if err != nil {
		t.unreadable(name, "Cannot read extended attributes", err)
	}
	h := headerOf(st, name)
	return t.header(&h, all)
}

// special writes what is neither a file nor a directory. It is not opened, for
// that may do something.
func (t *writer) special(parent int, base, name string, st *unix.Stat_t, top bool) error {
	h := headerOf(st, name)
	if h.kind == typeSymlink {
		target, err := readLink(parent, base)
		if err != nil {
			t.gone(name, "Cannot readlink", err, top)
			return nil
		}
		h.link = target
	}
	err := unix.Fchdir(parent)
	var all []xattr
	if err == nil {
		all, err = namedHolder(base).read()
	}
	if err != nil {
		t.gone(name, "Cannot read extended attributes", err, top)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	t.remember(st, name)
	return t.header(&h, all)
}

func readLink(parent int, base string) (string, error) {
	for size := 256; ; size *= 4 {
		buf := make([]byte, size)
		n, err := unix.Readlinkat(parent, base, buf)
		if err != nil || n < size {
			return string(buf[:max(n, 0)]), err
		}
	}
}

// file writes a regular file.
func (t *writer) file(parent int, base, name string, top bool) error {
	// Without O_NONBLOCK a fifo that was put there meanwhile would be waited for.
	fd, st, ok := t.open(parent, base, name, unix.O_NONBLOCK, top)
	if !ok {
		return nil
	}
	defer shut(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		t.said.changed(name, "File removed before we read it")
		return nil
	}
	all, err := openHolder(fd).read()
	if err != nil {
		t.unreadable(name, "Cannot read extended attributes", err)
	}
	t.remember(&st, name)
	h := headerOf(&st, name)
	regions, sparse := findRegions(fd, &st)
	if !sparse {
		regions = []region{{0, st.Size}}
		h.size = st.Size
		if err := t.header(&h, all); err != nil {
			return err
		}
	} else if err := t.sparseHeader(&h, all, regions, st.Size); err != nil {
		return err
	}
	if err := t.data(fd, name, regions); err != nil {
		return err
	}
	t.sayIfChanged(fd, name, &st)
	return nil
}

func (t *writer) sparseHeader(h *header, all []xattr, regions []region, size int64) error {
	head := appendMap(nil, regions, size)
	h.sparse, h.realSize, h.size = true, size, int64(len(head))
	for _, r := range regions {
		h.size += r.n
	}
	if err := t.header(h, all); err != nil {
		return err
	}
	_, err := t.out.Write(head)
	return err
}

// openAgain opens, past signals.
func openAgain(parent int, base string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(parent, base, flags, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// data writes regions of a file, each filled up to a whole block: only the last
// need be. What is not there any more is zeros, and told.
func (t *writer) data(fd int, name string, regions []region) error {
	var written, lost int64
	var failed error
	for _, r := range regions {
		written += r.n
		for at, end := r.at, r.at+r.n; at < end; {
			part := t.copy[:min(int64(len(t.copy)), end-at)]
			n, err := readAt(fd, part, at)
			if err != nil && failed == nil {
				failed = err
				t.unreadable(name, fmt.Sprintf("Read error at byte %d, while reading %d bytes", at+int64(n), len(part)-n), err)
			}
			clear(part[n:])
			lost += int64(len(part) - n)
			if _, err := t.out.Write(part); err != nil {
				return err
			}
			at += int64(len(part))
		}
	}
	if lost > 0 && failed == nil {
		t.said.changed(name, "File shrank by %d %s; padding with zeros", lost, plural(lost, "byte"))
	}
	return t.pad(written)
}

func plural(n int64, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// readAt reads as much as there is.
func readAt(fd int, buf []byte, at int64) (int, error) {
	n := 0
	for n < len(buf) {
		got, err := unix.Pread(fd, buf[n:], at+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got == 0 {
			return n, err
		}
		n += got
	}
	return n, nil
}

func (t *writer) pad(size int64) error {
	if n := size % blockBytes; n != 0 {
		_, err := t.out.Write(make([]byte, blockBytes-n))
		return err
	}
	return nil
}

// sayIfChanged compares an open file with what it was.
func (t *writer) sayIfChanged(fd int, name string, was *unix.Stat_t) {
	var is unix.Stat_t
	if err := unix.Fstat(fd, &is); err != nil {
		t.unreadable(name, "Cannot stat", err)
		return
	}
	if is.Ctim != was.Ctim || is.Size > was.Size && was.Mode&unix.S_IFMT == unix.S_IFREG {
		t.said.changed(name, "file changed as we read it")
	}
}

// end closes the archive with two blocks of zeros, and fills the last record.
func (t *writer) end() error {
	if _, err := t.out.Write(make([]byte, 2*blockBytes)); err != nil {
		return err
	}
	if err := t.out.Flush(); err != nil {
		return err
	}
	if n := t.written % recordBytes; n != 0 {
		if _, err := t.out.Write(make([]byte, recordBytes-n)); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

// counting counts what passes.
type counting struct {
	w io.Writer
	n *int64
}

// Write passes on.
func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}
