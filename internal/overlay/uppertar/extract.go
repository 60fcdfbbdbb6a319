package uppertar

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ExtractOptions say where an archive goes.
type ExtractOptions struct {
	// Upper: the directory is an upper dir that is not mounted, so whiteouts and
	// trusted.overlay.* are written. Otherwise they are left out: through a
	// merged view the one cannot be made, and the kernel would escape the other.
	Upper bool
	// Messages is written a line for each thing that went amiss; nil: none is.
	Messages io.Writer
}

const (
	// stagePrefix begins the name of the directory in which members are made.
	stagePrefix = ".livecd-sync."
	staged      = "member"
	// maxKept bounds the memory for what is remembered of an archive until its
	// end: about a million directories.
	maxKept = 256 << 20
)

// Extract puts an archive below a directory, with all its metadata. An error is
// r's, or says what is wrong with the archive or that nothing can be written at
// all; what came before is extracted then.
//
// Nothing but what is below the directory is made, changed or removed, whatever
// the archive holds. A member that is no directory is made in a directory that
// nobody else may enter, with all its metadata, and then renamed to its place: a
// file is there as it was, or as it is to be, whenever the work is cut short.
// Directories that are there stay and get their metadata last. What is in the way
// of a member goes, unless it is a directory that is not empty.
//
// Memory is bounded.
func Extract(r io.Reader, dir *os.File, o ExtractOptions) (Outcome, error) {
	x := newExtractor(r, dir, o)
	err := onOwnThread(x.run)
	return x.said.outcome, err
}

// An extractor is one archive on its way.
type extractor struct {
	o    ExtractOptions
	said teller
	in   *reader
	tree *tree
	copy []byte

	stage     int // where members are made; the thread's working directory
	stageName string
	dirs      map[string]*member // whose metadata is still to be written
	order     []string
	whiteouts map[string]bool // left out; others may be links to them
	kept      int64
}

func newExtractor(r io.Reader, dir *os.File, o ExtractOptions) *extractor {
	return &extractor{
		o: o, said: teller{to: o.Messages}, in: newReader(r), tree: newTree(dir), copy: make([]byte, copyBytes),
		dirs: make(map[string]*member), whiteouts: make(map[string]bool),
	}
}

func (x *extractor) run() error {
	defer x.tree.close()
	unix.Umask(0)
	var before unix.Stat_t
	if err := unix.Fstat(x.tree.root, &before); err != nil {
		return fmt.Errorf("read the directory to extract to: %w", err)
	}
	if err := x.makeStage(); err != nil {
		return fmt.Errorf("make a directory in the one to extract to: %w", err)
	}
	err := x.members()
	x.removeStage()
	x.finishDirs(&before)
	return err
}

// makeStage makes the directory in which members are made. The thread works in
// it, for what takes no descriptor.
func (x *extractor) makeStage() error {
	var random [8]byte
	if _, err := unix.Getrandom(random[:], 0); err != nil {
		return err
	}
	x.stageName = stagePrefix + hex.EncodeToString(random[:])
	if err := unix.Mkdirat(x.tree.root, x.stageName, 0o700); err != nil {
		return err
	}
	var err error
	x.stage, err = unix.Openat(x.tree.root, x.stageName, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		_ = unix.Unlinkat(x.tree.root, x.stageName, unix.AT_REMOVEDIR)
		return err
	}
	// What is made in it must inherit nothing.
	_ = unix.Fremovexattr(x.stage, defaultACL) // the error is that there is none
	return unix.Fchdir(x.stage)
}

func (x *extractor) removeStage() {
	shut(x.stage)
	if err := unix.Unlinkat(x.tree.root, x.stageName, unix.AT_REMOVEDIR); err != nil {
		x.said.failed(x.stageName, "Cannot remove", err)
	}
}

func (x *extractor) members() error {
	for {
		m, err := x.in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if first, _, _ := strings.Cut(m.name, "/"); first == x.stageName {
			return damage("a member has a name that is ours")
		}
		if err := x.member(m); err != nil {
			return err
		}
	}
}

// keep accounts for what is remembered.
func (x *extractor) keep(m *member) error {
	x.kept += int64(len(m.name)) + 256
	for _, a := range m.xattrs {
		x.kept += int64(len(a.name)+len(a.value)) + 32
	}
	if x.kept > maxKept {
		return damage("the archive has too many directories or deleted files")
	}
	return nil
}

// member extracts one member. The error is one of the archive.
func (x *extractor) member(m *member) error {
	if !x.o.Upper {
		if m.whiteout() {
			x.whiteouts[m.name] = true
			return x.keep(m)
		}
		if m.kind == typeHardLink && x.whiteouts[m.link] {
			return nil
		}
		m.xattrs = slices.DeleteFunc(m.xattrs, func(a xattr) bool { return strings.HasPrefix(a.name, overlayPrefix) })
	}
	if m.kind == typeDir {
		x.makeDir(m)
		if _, again := x.dirs[m.name]; !again {
			x.order = append(x.order, m.name)
		}
		x.dirs[m.name] = m
		return x.keep(m)
	}
	err := x.make(m)
	if err == nil {
		err = x.place(m)
	}
	_ = unix.Unlinkat(x.stage, staged, 0) // if it was not placed, or was there under both names
	if errors.Is(err, errSkipped) {
		return nil
	}
	return err
}

// parent is the directory that a member goes to, which is made if it lacks.
func (x *extractor) parent(name string) (int, string, error) {
	fd, base, err := x.tree.parent(name)
	if errors.Is(err, unix.ENOENT) {
		if err := x.tree.makeParents(name); err != nil {
			return -1, "", err
		}
		fd, base, err = x.tree.parent(name)
	}
	return fd, base, err
}

func (x *extractor) makeDir(m *member) {
	if m.name == "." {
		return
	}
	parent, base, err := x.parent(m.name)
	if err == nil {
		err = unix.Mkdirat(parent, base, 0o700)
	}
	if !errors.Is(err, unix.EEXIST) {
		if err != nil {
			x.said.failed(m.name, "Cannot mkdir", err)
		}
		return
	}
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return
	}
	err = unix.Unlinkat(parent, base, 0)
	if err == nil {
		err = unix.Mkdirat(parent, base, 0o700)
	}
	if err != nil {
		x.said.failed(m.name, "Cannot mkdir", err)
	}
}

// errSkipped marks a member that could not be made, which was told.
var errSkipped = errors.New("skipped")

// make makes a member in the stage, with its metadata.
func (x *extractor) make(m *member) error {
	var err error
	what := "Cannot mknod"
	switch m.kind {
	case typeFile:
		return x.makeFile(m)
	case typeHardLink:
		// Its metadata is that of what it is linked to.
		parent, base, err := x.tree.parent(m.link)
		if err == nil {
			err = unix.Linkat(parent, base, x.stage, staged, 0)
		}
		return x.skipped(m, "Cannot hard link to "+quoteName(m.link), err)
	case typeSymlink:
		what = "Cannot create symlink to " + quoteName(m.link)
		err = unix.Symlinkat(m.link, x.stage, staged)
	case typeFifo:
		what = "Cannot mkfifo"
		err = unix.Mknodat(x.stage, staged, unix.S_IFIFO|0o600, 0)
	case typeCharDevice:
		err = unix.Mknodat(x.stage, staged, unix.S_IFCHR|0o600, int(unix.Mkdev(m.major, m.minor)))
	case typeBlock:
		err = unix.Mknodat(x.stage, staged, unix.S_IFBLK|0o600, int(unix.Mkdev(m.major, m.minor)))
	}
	if err != nil {
		return x.skipped(m, what, err)
	}
	x.dress(m)
	return nil
}

func (x *extractor) skipped(m *member, what string, err error) error {
	if err == nil {
		return nil
	}
	x.said.failed(m.name, what, err)
	return errSkipped
}

// makeFile makes a regular file.
func (x *extractor) makeFile(m *member) error {
	fd, err := unix.Openat(x.stage, staged, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return x.skipped(m, "Cannot open", err)
	}
	failed, err := x.fill(fd, m)
	if closed := unix.Close(fd); failed == nil {
		failed = closed // some file systems tell of a lost write only here
	}
	if err != nil {
		return err
	}
	if failed != nil {
		return x.skipped(m, "Cannot write", failed)
	}
	x.dress(m)
	return nil
}

// fill writes a file's data. failed is what the file system said, err what is
// wrong with the archive.
func (x *extractor) fill(fd int, m *member) (failed, err error) {
	for _, r := range m.regions {
		for at, end := r.at, r.at+r.n; at < end; {
			part := x.copy[:min(int64(len(x.copy)), end-at)]
			n, err := io.ReadFull(x.in.in, part)
			x.in.left -= int64(n)
			if err != nil {
				return nil, truncated(err)
			}
			if err := writeAt(fd, part, at); err != nil {
				return err, nil
			}
			at += int64(n)
		}
	}
	if n := len(m.regions); n == 0 || m.regions[n-1].n == 0 || m.regions[n-1].at+m.regions[n-1].n < m.realSize {
		return unix.Ftruncate(fd, m.realSize), nil
	}
	return nil, nil
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// dress gives what is in the stage its metadata. The order matters: a change of
// the owner clears set-user-ID and capabilities, one of the mode an ACL's mask.
func (x *extractor) dress(m *member) {
	mode := m.mode
	if err := unix.Fchownat(x.stage, staged, int(m.uid), int(m.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		mode = x.foreign(m, err)
	}
	if m.kind != typeSymlink {
		if err := unix.Fchmodat(x.stage, staged, mode, 0); err != nil {
			x.said.failed(m.name, fmt.Sprintf("Cannot change mode to %#o", mode), err)
		}
	}
	for _, a := range m.xattrs {
		if err := unix.Lsetxattr(staged, a.name, []byte(a.value), 0); err != nil {
			x.said.warn(m.name, "Cannot set extended attribute "+quoteName(a.name), err)
		}
	}
	if err := unix.UtimesNanoAt(x.stage, staged, times(m), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		x.said.failed(m.name, "Cannot utime", err)
	}
}

// foreign tells of a member that stays whose it is, and returns its mode, without
// what would lend somebody that owner's rights.
func (x *extractor) foreign(m *member, err error) uint32 {
	x.said.failed(m.name, fmt.Sprintf("Cannot change ownership to uid %d, gid %d", m.uid, m.gid), err)
	return m.mode &^ (unix.S_ISUID | unix.S_ISGID)
}

// times are those to set: the time of the last access stays.
func times(m *member) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m.mtime}
}

// place renames what is in the stage to its place.
func (x *extractor) place(m *member) error {
	parent, base, err := x.parent(m.name)
	if err == nil {
		err = unix.Renameat(x.stage, staged, parent, base)
	}
	if errors.Is(err, unix.EISDIR) {
		if err = unix.Unlinkat(parent, base, unix.AT_REMOVEDIR); err == nil {
			err = unix.Renameat(x.stage, staged, parent, base)
			x.tree.forget()
		}
	}
	return x.skipped(m, "Cannot open", err)
}

// finishDirs writes the metadata of directories, from the last one on: nothing
// is made in them any more. The directory that all is in keeps its time if the
// archive has none for it.
func (x *extractor) finishDirs(before *unix.Stat_t) {
	for _, name := range slices.Backward(x.order) {
		m := x.dirs[name]
		fd, err := x.tree.openDir(name, unix.O_RDONLY)
		if err != nil {
			x.said.failed(name, "Cannot open", err)
			continue
		}
		x.dressDir(fd, m)
		shut(fd)
	}
	if _, listed := x.dirs["."]; !listed {
		_ = unix.UtimesNanoAt(x.tree.root, ".", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, before.Mtim}, 0) // it is not ours
	}
}

func (x *extractor) dressDir(fd int, m *member) {
	mode := m.mode
	if err := unix.Fchown(fd, int(m.uid), int(m.gid)); err != nil {
		mode = x.foreign(m, err)
	}
	if err := unix.UtimesNanoAt(fd, ".", times(m), 0); err != nil {
		x.said.failed(m.name, "Cannot utime", err)
	}
	for _, acl := range []string{accessACL, defaultACL} { // inherited, or of the directory that was there
		if !slices.ContainsFunc(m.xattrs, func(a xattr) bool { return a.name == acl }) {
			_ = unix.Fremovexattr(fd, acl) // the error is that there is none
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		x.said.failed(m.name, fmt.Sprintf("Cannot change mode to %#o", mode), err)
	}
	for _, a := range m.xattrs {
		if err := unix.Fsetxattr(fd, a.name, []byte(a.value), 0); err != nil {
			x.said.warn(m.name, "Cannot set extended attribute "+quoteName(a.name), err)
		}
	}
}
