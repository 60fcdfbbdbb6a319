// The program that livecd-sync sends to nodes that have no GNU tar. It does what
// the scripts of package overlay do, with the same exit statuses, and removes
// itself when it is started.
//
//	create BOOT UPPER NEWER [PATTERN]...   backup.sh, uncompressed
//	again BOOT UPPER                       again.sh
//	names BOOT UPPER [PATTERN]...          names.sh
//	extract BOOT UPPER                     into an upper dir that is not mounted
//	unnamed                                unnamed.sh
//	merged BOOT clear                      merged.sh with clear.sh
//	merged BOOT extract                    merged.sh with extract.sh
//	merged BOOT list                       merged.sh with list.sh
//	merged BOOT digest                     merged.sh with digest.sh
//	merged BOOT whole RECURSION [PATTERN]...   merged.sh with whole.sh
//	check                                  nothing: it runs
//
// What a verb reads from stdin comes after a line of its own: see skipTo.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay/uppertar"
)

// The exit statuses of the scripts.
const (
	statusUsage      = 64
	statusNotRoot    = 65
	statusOtherBoot  = 66
	statusNoUpperDir = 68
	statusNoBind     = 69
	statusXargs      = 123 // of xargs, when a command that it ran failed
)

// Variables, so that tests can have others.
var (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	bindPoint  = "/run/livecd-sync/root"
)

func main() {
	// What is done to the mount namespace is done to this thread alone.
	runtime.LockOSThread()
	removeSelf()
	// One directory is open for each level. Where the limit may not be raised, as
	// many levels are reached as it lets, and the rest is told.
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// removeSelf removes the program and its directory, so that nothing is left on
// the node however it ends.
func removeSelf() {
	self, err := os.Readlink("/proc/self/exe")
	if dir := filepath.Dir(self); err == nil && strings.HasPrefix(filepath.Base(dir), "livecd-sync.") && len(os.Args) > 1 && os.Args[1] != "check" {
		_ = os.Remove(self)
		_ = os.Remove(dir) // what cannot be removed here, the shell removes
	}
}

// A failure ends the program with a status; its text may be empty.
type failure struct {
	status int
	text   string
}

func (f failure) Error() string { return f.text }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{""}
	}
	status, err := verb(args[0], args[1:], stdin, stdout, stderr)
	if err == nil {
		return status
	}
	if err.Error() != "" {
		fmt.Fprintln(stderr, err)
	}
	var f failure
	if errors.As(err, &f) {
		return f.status
	}
	return 2
}

// verb does what is asked. An error without a status of its own is one with
// which tar would end.
func verb(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	switch {
	case name == "check" && len(args) == 0:
		return 0, nil
	case name == "unnamed" && len(args) == 0:
		return 0, unnamed("/proc", stdout)
	case name == "merged" && len(args) >= 2:
		return merged(args[0], args[1], args[2:], stdin, stdout, stderr)
	case name == "create" && len(args) >= 3, (name == "again" || name == "extract") && len(args) == 2, name == "names" && len(args) >= 2:
		return inUpper(name, args[0], args[1], args[2:], stdin, stdout, stderr)
	}
	return 0, failure{statusUsage, "livecd-sync's program on the node was not called as it should be"}
}

// sameBoot refuses another user than root, and another boot.
func sameBoot(boot string) error {
	if os.Getuid() != 0 {
		return failure{statusNotRoot, ""}
	}
	is, err := os.ReadFile(bootIDFile)
	if err != nil || strings.TrimSpace(string(is)) != boot {
		return failure{statusOtherBoot, ""}
	}
	return nil
}

// inUpper does what is done in the upper dir.
func inUpper(name, boot, upper string, args []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if err := sameBoot(boot); err != nil {
		return 0, err
	}
	dir, err := os.Open(upper)
	if err != nil {
		return 0, failure{statusNoUpperDir, err.Error()}
	}
	defer dir.Close() //nolint:errcheck // it was only read
	if st, err := dir.Stat(); err != nil || !st.IsDir() {
		return 0, failure{statusNoUpperDir, ""}
	}
	o := uppertar.WriteOptions{Messages: stderr}
	var outcome uppertar.Outcome
	switch name {
	case "create":
		bePolite()
		o.Exclude = args[1:]
		if args[0] != "" {
			newer, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return 0, failure{statusUsage, err.Error()}
			}
			o.Newer = &newer
		}
		outcome, err = uppertar.Write(stdout, dir, o)
	case "names":
		o.Exclude = args
		outcome, err = uppertar.Names(stdout, dir, o)
	case "again":
		o.Names, o.IgnoreUnreadable = skipTo(stdin), true
		outcome, err = uppertar.Write(stdout, dir, o)
	case "extract":
		outcome, err = uppertar.Extract(skipTo(stdin), dir, uppertar.ExtractOptions{Upper: true, Messages: stderr})
	}
	return outcome.Status(), err
}

// bePolite lets others go first. A thread has a priority of its own, and new ones
// have that of the one that starts them.
func bePolite() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return // it may be impolite, then
	}
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, 10)
		}
	}
}

// merged does what is done in the merged view: the file system of "/" and nothing
// that is mounted in it.
func merged(boot, name string, args []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if err := sameBoot(boot); err != nil {
		return 0, err
	}
	dir, err := bindRoot()
	if err != nil {
		return 0, failure{statusNoBind, err.Error()}
	}
	defer dir.Close() //nolint:errcheck // what was written was closed
	in := skipTo(stdin)
	var outcome uppertar.Outcome
	switch {
	case name == "extract" && len(args) == 0:
		outcome, err = uppertar.Extract(in, dir, uppertar.ExtractOptions{Messages: stderr})
		return outcome.Status(), err
	case name == "whole" && len(args) > 0:
		o := uppertar.WriteOptions{Names: in, Exclude: args[1:], IgnoreUnreadable: true, Messages: stderr}
		o.Recurse = args[0] == "--recursion"
		outcome, err = uppertar.Write(stdout, dir, o)
		return outcome.Status(), err
	case name == "clear" && len(args) == 0:
		outcome, err = uppertar.Clear(in, dir, stderr)
	case name == "list" && len(args) == 0:
		outcome, err = uppertar.List(in, stdout, dir, stderr)
	case name == "digest" && len(args) == 0:
		outcome, err = digest(in, stdout, dir, stderr)
	default:
		return 0, failure{statusUsage, "there is nothing called " + name + " to be done in the merged view"}
	}
	if err != nil {
		return 0, failure{statusXargs, err.Error()}
	}
	if outcome.Failed > 0 {
		return statusXargs, nil
	}
	return 0, nil
}

// bindRoot binds the merged view in a mount namespace of its own, which ends with
// the program. The namespace still has copies of all mounts, so the kernel goes
// on refusing to remove a directory on which something is mounted. There is no
// chroot: package uppertar opens nothing but what is below the directory.
func bindRoot() (*os.File, error) {
	if err := os.MkdirAll(bindPoint, 0o700); err != nil {
		return nil, err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("/", bindPoint, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("bind / to %s: %w", bindPoint, err)
	}
	return os.Open(bindPoint)
}

// The line after which stdin is the verb's own; package nodeside writes it.
const inputLine = "\nlivecd-sync: input\n"

// skipTo returns what follows inputLine. Before it there is what a head(1) may
// have left of the zeros that were sent for it: busybox's reads ahead.
func skipTo(stdin io.Reader) io.Reader {
	in := bufio.NewReaderSize(stdin, 64<<10)
	for {
		if err := upTo(in, '\n'); err != nil {
			return broken{err}
		}
		rest := inputLine[1:]
		got, err := in.Peek(len(rest))
		if err != nil {
			return broken{io.ErrUnexpectedEOF}
		}
		if string(got) == rest {
			_, _ = in.Discard(len(rest)) // of what was just peeked at
			return in
		}
	}
}

func upTo(in *bufio.Reader, end byte) error {
	for n := 0; ; n++ {
		c, err := in.ReadByte()
		if err != nil || n > 1<<20 {
			return io.ErrUnexpectedEOF
		}
		if c == end {
			return nil
		}
	}
}

// broken is a stdin that has no input in it.
type broken struct{ err error }

// Read fails.
func (b broken) Read([]byte) (int, error) { return 0, b.err }
