package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay/uppertar"
)

// marker is what a restore into a directory leaves in it until it is complete.
const marker = ".livecd-sync-restoring"

// kindOf tells what a directory of the node is: absent, empty, full, cut-off,
// link or other.
func kindOf(name string) string {
	st, err := os.Lstat(name)
	switch {
	case err != nil:
		return "absent"
	case st.Mode()&os.ModeSymlink != 0:
		return "link"
	case !st.IsDir():
		return "other"
	}
	entries, err := os.ReadDir(name)
	switch {
	case err != nil:
		return "full"
	case len(entries) == 0:
		return "empty"
	}
	for _, e := range entries {
		if e.Name() == marker {
			return "cut-off"
		}
	}
	return "full"
}

// offlineLook tells what a directory is, what it lies in, and what those on stdin
// are: see offline-look.sh.
func offlineLook(c *call) (outcome uppertar.Outcome, err error) {
	out := bufio.NewWriter(c.stdout)
	dir := c.args[0]
	kind := kindOf(dir)
	switch kind {
	case "absent":
		switch part := kindOf(dir + ".livecd-sync"); part {
		case "link", "full", "other":
			kind = "part-" + part
		}
		dir = filepath.Dir(dir)
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			kind = "noparent"
		}
	case "link", "other":
		dir = "/"
	}
	fmt.Fprintf(out, "%s\x00", kind)
	if kind == "noparent" {
		return outcome, out.Flush()
	}
	here, err := filepath.EvalSymlinks(dir)
	if err == nil {
		err = lookUp(out, here)
	}
	if err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	err = uppertar.EachRecord(skipTo(c.stdin), func(name string) error {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil {
			fmt.Fprintf(out, "%d:%d %s\x00", st.Dev, st.Ino, name)
		}
		return nil
	})
	return outcome, errors.Join(err, out.Flush())
}

// lookUp writes how much room there is in a directory, and who it and all that it
// lies in are.
func lookUp(out *bufio.Writer, here string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(here, &fs); err != nil {
		return err
	}
	kind := "other"
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		kind = "overlayfs"
	}
	fmt.Fprintf(out, "%s\x00%d %d %s\x00", here, fs.Bavail, fs.Frsize, kind)
	for {
		var st unix.Stat_t
		if err := unix.Stat(here, &st); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d:%d %s\x00", st.Dev, st.Ino, here)
		if here == "/" {
			return out.WriteByte(0)
		}
		here = filepath.Dir(here)
	}
}

// offlineBegin makes a directory, or empties it of what a restore that was cut
// off left in it, and marks it: BOOT DIR ID.
func offlineBegin(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	name, id := c.args[1], c.args[2]
	switch kindOf(name) {
	case "absent":
		if err := os.Mkdir(name, 0o755); err != nil { //nolint:gosec // an upper dir is what "/" will be
			return outcome, failure{statusNoDir, err.Error()}
		}
	case "empty", "cut-off":
	default:
		return outcome, failure{statusNotOurs, ""}
	}
	if err := os.WriteFile(filepath.Join(name, marker), []byte(id+"\n"), 0o600); err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	if err := c.open(name, statusNoDir); err != nil {
		return outcome, err
	}
	defer c.close()
	entries, err := c.dir.Readdirnames(-1)
	if err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	var records strings.Builder
	for _, e := range entries {
		if e != marker {
			records.WriteString("x./" + e + "//\x00")
		}
	}
	outcome, err = uppertar.Clear(strings.NewReader(records.String()), c.dir, c.stderr)
	if outcome.Failed > 0 {
		return outcome, failure{1, ""} // as find ends
	}
	return outcome, err
}

// offlineEnd gives what was restored its name, and takes away its mark: BOOT PART
// DIR.
func offlineEnd(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	part, name := c.args[1], c.args[2]
	if err := c.open(part, statusNoDir); err != nil {
		return outcome, err
	}
	defer c.close()
	fd := int(c.dir.Fd())
	if err := unix.Syncfs(fd); err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	if part != name {
		if _, err := os.Lstat(name); err == nil {
			return outcome, failure{statusNotOurs, ""}
		}
		if err := os.Rename(part, name); err != nil {
			return outcome, failure{statusNoDir, err.Error()}
		}
	}
	// Removing the mark must not change the directory's time, which was restored.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	err = unix.Unlinkat(fd, marker, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		err = unix.UtimesNanoAt(fd, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
	if err == nil {
		err = unix.Syncfs(fd)
	}
	if err != nil {
		return outcome, failure{statusNoDir, err.Error()}
	}
	return outcome, nil
}
