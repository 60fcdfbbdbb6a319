package sim

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// A view is what a process of a node sees as its file system: directories of
// this machine, at places of the node. Names are resolved by the view itself and
// never by the host's kernel, because an absolute symbolic link of the node
// means a name of the node. Safe for concurrent use.
type view struct {
	mu     sync.Mutex
	mounts []bound
}

// bound is a directory of this machine at a place of the node.
type bound struct{ at, dir string }

func newView(mounts ...bound) *view { return &view{mounts: mounts} }

// clone is a mount namespace of its own.
func (v *view) clone() *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	return &view{mounts: slices.Clone(v.mounts)}
}

// bind shows the file system that holds source at target too, without what is
// mounted below it.
func (v *view) bind(source, target string) error {
	dir, err := v.resolve("/", source, true)
	if err != nil {
		return err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return &fs.PathError{Op: "mount", Path: source, Err: syscall.ENOTDIR}
	}
	at, real, err := v.walk("/", target, true)
	if err != nil {
		return err
	}
	if st, err := os.Stat(real); err != nil || !st.IsDir() {
		return &fs.PathError{Op: "mount", Path: target, Err: syscall.ENOENT}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mounts = append(v.mounts, bound{at, dir})
	return nil
}

// unbind takes the last mount at target away.
func (v *view) unbind(target string) error {
	at, _, err := v.walk("/", target, true)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := len(v.mounts) - 1; i > 0; i-- {
		if v.mounts[i].at == at {
			v.mounts = slices.Delete(v.mounts, i, i+1)
			return nil
		}
	}
	return &fs.PathError{Op: "umount", Path: target, Err: syscall.EINVAL}
}

// chroot is the view of a process whose root is a directory of this one.
func (v *view) chroot(name string) (*view, error) {
	dir, err := v.resolve("/", name, true)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, &fs.PathError{Op: "chroot", Path: name, Err: syscall.ENOENT}
	}
	return newView(bound{"/", dir}), nil
}

// resolve turns a name, relative to the directory cwd, into a name of this
// machine that has no symbolic link in it; the last element may be one unless
// follow is set, and need not exist. The error is an *fs.PathError.
func (v *view) resolve(cwd, name string, follow bool) (string, error) {
	_, real, err := v.walk(cwd, name, follow)
	return real, err
}

const maxLinks = 40 // as Linux

func (v *view) walk(cwd, name string, follow bool) (at, real string, err error) {
	if name == "" {
		return "", "", &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	if !path.IsAbs(name) {
		name = cwd + "/" + name
	}
	at, rest, links := "/", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		elem := rest[0]
		rest = rest[1:]
		if elem == "" || elem == "." {
			continue
		}
		next := path.Join(at, elem) // ".." of "/" is "/"
		target, isLink := readlink(v.real(next))
		if elem == ".." || !isLink || (len(rest) == 0 && !follow) {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", "", &fs.PathError{Op: "open", Path: name, Err: syscall.ELOOP}
		}
		if path.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, v.real(at), nil
}

func readlink(name string) (string, bool) {
	target, err := os.Readlink(name)
	return target, err == nil
}

// real gives the name on this machine of a clean name without symbolic links.
func (v *view) real(name string) string {
	if name == os.DevNull {
		// The kernel's own will do, for those who see /dev at all.
		if _, dir := v.mount(name); filepath.Base(dir) == "dev" {
			return os.DevNull
		}
	}
	at, dir := v.mount(name)
	return filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, at)))
}

// mount finds the mount that a clean name is in: the longest, of these the last.
func (v *view) mount(name string) (at, dir string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, b := range v.mounts {
		if len(b.at) >= len(at) && within(name, b.at) {
			at, dir = b.at, b.dir
		}
	}
	return at, dir
}

func within(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, dir+"/")
}

// virtual names an error's file as the node does.
func virtual(err error, name string) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return &fs.PathError{Op: p.Op, Path: name, Err: p.Err}
	}
	return err
}
