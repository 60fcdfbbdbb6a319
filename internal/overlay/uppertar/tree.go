package uppertar

import (
	"errors"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPath is what one system call takes of a path; longer ones are walked.
const maxPath = 4000

// A tree opens what lies below a directory and nothing else: no name leads out
// of it, and no symbolic link is followed. Names are clean and relative: "." or
// "etc/hosts". It is used by one goroutine.
type tree struct {
	root int
	step bool // without openat2(2), which came with Linux 5.6

	// The directory that was asked for last: members of one follow each other.
	last   string
	lastFD int
}

func newTree(root *os.File) *tree {
	t := &tree{root: int(root.Fd()), lastFD: -1}
	fd, err := unix.Openat2(t.root, ".", beneath(unix.O_PATH|unix.O_DIRECTORY))
	if err != nil { // ENOSYS, or EPERM from a filter that does not know it
		t.step = true
		return t
	}
	shut(fd)
	return t
}

// close lets go of what the tree holds; the root stays open.
func (t *tree) close() { t.forget() }

// forget must be called when a directory is removed or moved.
func (t *tree) forget() {
	if t.lastFD >= 0 {
		shut(t.lastFD)
	}
	t.last, t.lastFD = "", -1
}

func beneath(flags int) *unix.OpenHow {
	return &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
}

// parent returns the directory that name lies in, and its name there. The
// descriptor is the tree's own, good until the next call; it is an O_PATH one.
func (t *tree) parent(name string) (int, string, error) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return t.root, base, nil
	}
	if t.lastFD >= 0 && t.last == dir {
		return t.lastFD, base, nil
	}
	fd, err := t.openDir(dir, unix.O_PATH)
	if err != nil {
		return -1, "", err
	}
	t.forget()
	t.last, t.lastFD = dir, fd
	return fd, base, nil
}

// openDir opens a directory. The caller closes it.
func (t *tree) openDir(name string, flags int) (int, error) {
	at, rest := t.root, name
	for {
		var part string
		part, rest = t.cut(rest)
		how := flags
		if rest != "" {
			how = unix.O_PATH
		}
		fd, err := t.openPart(at, part, how|unix.O_DIRECTORY)
		if at != t.root {
			shut(at)
		}
		if err != nil || rest == "" {
			return fd, err
		}
		at = fd
	}
}

// cut splits what one system call may take off the front of a name.
func (t *tree) cut(name string) (part, rest string) {
	if t.step {
		part, rest, _ = strings.Cut(name, "/")
		return part, rest
	}
	if len(name) <= maxPath {
		return name, ""
	}
	at := strings.LastIndexByte(name[:maxPath], '/')
	if at < 0 { // the kernel will say that it is too long
		return name, ""
	}
	return name[:at], name[at+1:]
}

func (t *tree) openPart(at int, part string, flags int) (int, error) {
	for {
		var fd int
		var err error
		if t.step {
			fd, err = unix.Openat(at, part, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		} else {
			fd, err = unix.Openat2(at, part, beneath(flags))
		}
		// EAGAIN: something was renamed meanwhile (openat2(2)).
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// makeParents makes the directories that lead to name, as far as they lack.
func (t *tree) makeParents(name string) error {
	for at := 0; ; {
		next := strings.IndexByte(name[at:], '/')
		if next < 0 {
			return nil
		}
		at += next
		fd, base, err := t.parent(name[:at])
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(fd, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		at++
	}
}

// shut closes what was only read, or led somewhere.
func shut(fd int) { _ = unix.Close(fd) }

// names reads a directory, in no order.
func names(fd int) ([]string, error) {
	dup, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), ".")
	list, err := f.Readdirnames(-1)
	_ = f.Close()
	var of *os.SyscallError
	if errors.As(err, &of) {
		err = of.Err
	}
	return list, err
}

// onOwnThread runs f on a thread that has a working directory and a umask of
// its own, since extended attributes of what cannot be opened are only reached
// by a path: there is no lsetxattrat before Linux 6.13, and no /proc in a merged
// view. The thread ends with f.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that nobody gets it after
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = f()
			_ = unix.Chdir("/") // the thread ends a moment later, and must not keep a mount busy till then
		}
		done <- err
	}()
	return <-done
}

// cleanName refuses what could lead out of a directory, and writes a name the
// one way that a tree takes.
func cleanName(name string) (string, error) {
	if name == "" || name[0] == '/' || strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("a name is not relative: " + quoteName(name))
	}
	if name == ".." || strings.HasPrefix(name, "../") || strings.HasSuffix(name, "/..") || strings.Contains(name, "/../") {
		return "", errors.New("a name leads out of the directory: " + quoteName(name))
	}
	return path.Clean(name), nil
}
