package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// directories keeps a watcher on every directory in which a change may give the
// path another content.
type directories struct {
	fs   *fsnotify.Watcher
	path string
	more []string // files that are watched besides
	now  route
}

func (d *directories) also(files []string) bool {
	others := !slices.Equal(d.more, files)
	d.more = slices.Clone(files)
	return others
}

// concerns tells whether an entry of that name lies on the way to the file. It
// compares the last element only: a directory may be known to the kernel by
// another path.
func (d *directories) concerns(entry string) bool {
	return entry == "" || slices.Contains(d.now.names, filepath.Base(entry))
}

// follow brings the watched directories up to date. It is called again after
// every event that concerns the file, since any may have been a link that now
// leads elsewhere.
func (d *directories) follow() error {
	var err error
	paths := append([]string{d.path}, d.more...)
	for i, p := range paths {
		if paths[i], err = filepath.Abs(p); err != nil {
			return fmt.Errorf("watch %s: %w", p, err)
		}
	}
	// A link may be changed between reading it and watching its directory, unseen;
	// so look again until nothing has changed meanwhile.
	for range mostLinks {
		d.now = routes(paths)
		err = d.add(d.now)
		if slices.Equal(d.now.dirs, routes(paths).dirs) {
			break
		}
	}
	for _, dir := range d.fs.WatchList() {
		if !slices.Contains(d.now.dirs, dir) && !slices.Contains(d.now.parents, dir) {
			_ = d.fs.Remove(dir) // fails where the directory is gone, and then nothing is left to remove
		}
	}
	return err
}

// add watches the route's directories. Adding one that is watched does nothing,
// except where the directory was replaced by another of that name, which then is
// watched in its place.
func (d *directories) add(r route) error {
	var errs []error
	for _, dir := range r.dirs {
		if err := d.fs.Add(dir); err != nil && !errors.Is(err, os.ErrNotExist) { // gone since: its parent tells
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
		}
	}
	for _, dir := range r.parents {
		_ = d.fs.Add(dir) // may not be readable for us; then a directory that is replaced goes unseen until the next run
	}
	return errors.Join(errs...)
}

// A route is how a path leads to a file.
type route struct {
	dirs    []string // the directories that hold a link on the way, or the file
	parents []string // those that hold these: a directory can be replaced too
	names   []string // every element of every path on the way
}

// mostLinks is how many links may be followed, as in Linux (path_resolution(7)).
const mostLinks = 40

// routeTo follows path, link by link. Where something is missing the route ends
// in the nearest directory that exists.
func routeTo(path string) route {
	var r route
	for range mostLinks {
		link, rest := firstLink(path)
		r.names = appendNew(r.names, strings.Split(path, string(filepath.Separator))...)
		if link == "" {
			r.through(path)
			return r
		}
		r.through(link)
		target, err := os.Readlink(link)
		if err != nil { // replaced this moment: an event will tell
			return r
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	return r
}

// routes are those of all paths together.
func routes(paths []string) route {
	var all route
	for _, p := range paths {
		r := routeTo(p)
		all.dirs, all.parents, all.names = appendNew(all.dirs, r.dirs...), appendNew(all.parents, r.parents...), appendNew(all.names, r.names...)
	}
	return all
}

// through adds the directory that holds the entry, or would.
func (r *route) through(entry string) {
	dir := filepath.Dir(entry)
	for !isDir(dir) && filepath.Dir(dir) != dir {
		dir = filepath.Dir(dir)
	}
	r.dirs = appendNew(r.dirs, dir)
	r.parents = appendNew(r.parents, filepath.Dir(dir))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// firstLink finds the first symbolic link among the path's elements, and what of
// the path comes after it; "" if there is none.
func firstLink(path string) (link, rest string) {
	for p := path; ; p = filepath.Dir(p) {
		info, err := os.Lstat(p)
		if err == nil && info.Mode()&os.ModeSymlink != 0 {
			link, rest = p, path[len(p):]
		}
		if filepath.Dir(p) == p {
			return link, rest
		}
	}
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// digest reads the file.
func (d *directories) digest() (string, error) {
	h := sha256.New()
	if err := content(h, d.path); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// digestMore looks at the other files. One that is missing or cannot be read is as
// it is.
func (d *directories) digestMore() string {
	h := sha256.New()
	for _, path := range d.more {
		fmt.Fprintf(h, "\x00%s\x00", path)
		info, err := os.Stat(path)
		if err == nil && info.Size() <= mostRead {
			err = content(h, path)
		}
		if err != nil {
			fmt.Fprintf(h, "%v", err)
			continue
		}
		fmt.Fprintf(h, "\x00%d %d", info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// mostRead is up to which size files are read that are watched besides: images are
// told by their size and time.
const mostRead = 1 << 20

// content copies what a file says to w. A pipe would never end, and is no file.
func content(w io.Writer, path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s: it is a directory", path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: it is no regular file", path)
	}
	_, err = io.Copy(w, f)
	return err
}
