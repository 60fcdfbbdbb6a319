package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay/uppertar"
)

// digest writes the SHA-256 of each file that it reads the name of, as sha256sum
// -z does.
func digest(in io.Reader, stdout io.Writer, dir *os.File, stderr io.Writer) (uppertar.Outcome, error) {
	var outcome uppertar.Outcome
	err := uppertar.EachRecord(in, func(name string) error {
		sum, err := sumOf(dir, name)
		if err != nil {
			outcome.Failed++
			fmt.Fprintf(stderr, "sha256sum: %q: %v\n", name, err)
			return nil
		}
		_, err = fmt.Fprintf(stdout, "%s  %s\x00", sum, name)
		return err
	})
	return outcome, err
}

func sumOf(dir *os.File, name string) (string, error) {
	f, err := uppertar.Open(dir, name)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it was only read
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// unsaved writes sizes and names of files that have changed since a time in seconds, or
// since "restored", when the backup that this boot holds was put back.
func unsaved(stdout io.Writer, dir *os.File, since string) error {
	var after unix.Timespec
	if since == "restored" {
		var st unix.Stat_t
		if err := unix.Stat(restored, &st); err != nil {
			return nil //nolint:nilerr // none was; find, too, then lists nothing
		}
		after = st.Mtim
	} else {
		sec, err := strconv.ParseInt(since, 10, 64)
		if err != nil {
			return failure{statusUsage, err.Error()}
		}
		after.Sec = sec
	}
	return uppertar.Changed(stdout, dir, after)
}

// deletedMark is what the kernel puts behind the name of a file that has none.
const deletedMark = " (deleted)"

// deletedLinks calls each for what processes have open, and the directories that
// they are in, when those are deleted.
func deletedLinks(proc string, each func(link, to string)) ([]string, error) {
	all, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var processes []string
	for _, p := range all {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		dir := filepath.Join(proc, p.Name())
		processes = append(processes, dir)
		links := []string{filepath.Join(dir, "cwd")}
		open, err := os.ReadDir(filepath.Join(dir, "fd"))
		if err != nil {
			continue // it has ended
		}
		for _, fd := range open {
			links = append(links, filepath.Join(dir, "fd", fd.Name()))
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && strings.HasSuffix(to, deletedMark) {
				each(link, to)
			}
		}
	}
	return processes, nil
}

// holders writes what is deleted and still held: open or as a directory, then an
// empty record, then what is mapped.
func holders(proc string, stdout io.Writer) error {
	out := bufio.NewWriter(stdout)
	processes, err := deletedLinks(proc, func(link, to string) { fmt.Fprintf(out, "%s %s\x00", link, to) })
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\x00")
	for _, dir := range processes {
		name := filepath.Join(dir, "maps")
		maps, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(maps)) {
			if strings.HasSuffix(line, deletedMark+"\n") {
				fmt.Fprintf(out, "%s:%s", name, line)
			}
		}
	}
	return out.Flush()
}

// unnamed writes the files that programs have open and nobody can name any more,
// then an empty name, then the mounts.
func unnamed(proc string, stdout io.Writer) error {
	var found []string
	_, err := deletedLinks(proc, func(link, to string) {
		if filepath.Base(link) != "cwd" {
			found = append(found, to)
		}
	})
	if err != nil {
		return err
	}
	slices.Sort(found)
	out := bufio.NewWriter(stdout)
	for _, name := range slices.Compact(found) {
		_, _ = out.WriteString(name + "\x00") // Flush tells of an error
	}
	_, _ = out.WriteString("\x00")
	mounts, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return err
	}
	_, _ = out.Write(mounts)
	return out.Flush()
}
