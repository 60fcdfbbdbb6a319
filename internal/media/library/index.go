package library

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A stamp tells one state of a file from another without reading it. Changed is the
// time of the inode's last change, which, unlike the other, no program can set.
type stamp struct {
	Size     int64  `json:"size"`
	Inode    uint64 `json:"inode"`
	Modified int64  `json:"modified"` // nanoseconds since 1970
	Changed  int64  `json:"changed"`
}

func stampOf(st fs.FileInfo) stamp {
	s := stamp{Size: st.Size(), Modified: st.ModTime().UnixNano()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		s.Inode, s.Changed = sys.Ino, sys.Ctim.Nano()
	}
	return s
}

// is reports whether the file is as it was when it was stamped.
func (s stamp) is(name string) bool {
	st, err := os.Stat(name)
	return err == nil && stampOf(st) == s
}

const entryVersion = 1

// An entry is what is known of one image.
type entry struct {
	Version int    `json:"version"`
	Source  string `json:"source"` // a path or a URL
	Stamp   stamp  `json:"stamp"`  // of the source, where that is a file
	// Served is what its server said of it, where the source is a URL.
	Served *served `json:"served,omitempty"`
	// Of an ISO that was taken out of a release: what it is called there, the name
	// of the file that it is now, and that file's stamp.
	Member string `json:"member,omitempty"`
	ISO    string `json:"iso,omitempty"`
	Copy   stamp  `json:"copy,omitzero"`

	Size   int64       `json:"size"`
	SHA256 string      `json:"sha256"`
	Volume site.Volume `json:"volume"`
}

// keyOf names an image's entry. Which ISO of a release is meant depends on the
// digest, too.
func keyOf(img site.Image) string {
	what := []string{"file", img.File, ""}
	switch {
	case img.Release != "":
		what = []string{"release", img.Release, img.SHA256}
	case img.URL != "":
		what = []string{"url", img.URL, ""}
	}
	b, _ := json.Marshal(what) // strings
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:12])
}

// lookUp gives what is known of an image that is here, if it still holds.
func (l *Library) lookUp(img site.Image) (entry, bool) {
	e, ok := l.get(keyOf(img))
	if !ok && img.Release != "" && img.SHA256 != "" {
		only := img // the only one that is in it
		only.SHA256 = ""
		if e, ok = l.get(keyOf(only)); e.SHA256 != img.SHA256 {
			ok = false
		}
	}
	switch {
	case !ok:
		return entry{}, false
	case img.Release == "":
		return e, e.Stamp.is(img.File)
	}
	return e, sameRelease(e, img) && e.Copy.is(filepath.Join(l.Dir, e.ISO))
}

// sameRelease reports whether an entry is of the release that is there now. One that
// was removed, to save its space, is still the one that it was.
func sameRelease(e entry, img site.Image) bool {
	_, err := os.Stat(img.Release)
	return errors.Is(err, fs.ErrNotExist) || e.Stamp.is(img.Release)
}

// get reads an entry. One that cannot be read is as if it were not there.
func (l *Library) get(key string) (entry, bool) {
	var e entry
	data, err := os.ReadFile(l.entryFile(key))
	if err == nil && json.Unmarshal(data, &e) == nil && e.Version == entryVersion && (e.ISO == "" || filepath.Base(e.ISO) == e.ISO) {
		return e, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.known[key]
	return e, ok
}

func (l *Library) entryFile(key string) string { return filepath.Join(l.Dir, key+".json") }

// put replaces an entry, whole or not at all. What cannot be written is remembered
// for as long as the Library lives.
func (l *Library) put(key string, e entry) error {
	e.Version = entryVersion
	l.remember(key, e)
	if l.Dir == "" {
		return nil
	}
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(l.Dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(data, '\n'))
	return publish(tmp, l.entryFile(key), err)
}

// remembers reports whether this Library has itself found the entry out.
func (l *Library) remembers(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.known[key]
	return ok
}

func (l *Library) remember(key string, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = make(map[string]entry)
	}
	l.known[key] = e
}

// publish gives a file that was written its name, once all of it is on the disk.
// After failed, or when that fails, it removes the file.
func publish(f *os.File, name string, failed error) error {
	err := failed
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // only synced
	return d.Sync()
}
