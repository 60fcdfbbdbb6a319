// The program that livecd-sync sends to nodes that have no GNU tar. It does what
// the scripts of package overlay do, with the same exit statuses, and removes
// itself when it is started.
//
//	create BOOT UPPER NEWER [PATTERN]...   backup.sh, uncompressed
//	again BOOT UPPER                       again.sh
//	names BOOT UPPER [PATTERN]...          names.sh
//	survey BOOT UPPER                      survey.sh
//	unsaved BOOT UPPER SINCE               unsaved.sh
//	unnamed                                unnamed.sh
//	holders                                holders.sh
//	merged BOOT BODY [ARGUMENT]...         merged.sh with another script, see within
//	below BOOT DIR BODY                    below.sh with another script
//	medium BOOT PATH BODY [ARGUMENT]...    medium.sh with another script
//	offline-look DIR                       offline-look.sh
//	offline-begin BOOT DIR ID              offline-begin.sh
//	offline-end BOOT PART DIR              offline-end.sh
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
	statusNoFile     = 71
	statusOtherFile  = 72
	statusNoDir      = 73
	statusNotOurs    = 74
	statusXargs      = 123 // of xargs, when a command that it ran failed
)

// Variables, so that tests can have others.
var (
	bootIDFile = "/proc/sys/kernel/random/boot_id"
	bindPoint  = "/run/livecd-sync/root"
	restored   = "/run/livecd-sync/restored"
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
	status, err := do(args[0], args[1:], stdin, stdout, stderr)
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

// A verb is something to be done with so many arguments.
type verb struct {
	least, most int
	do          func(*call) (uppertar.Outcome, error)
}

// A call is a verb with what it works on.
type call struct {
	name           string
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
	dir            *os.File
}

const many = 1 << 20 // arguments

// verbs are what is done for any user, and below no directory of its own.
func verbs() map[string]verb {
	return map[string]verb{
		"check":         {0, 0, func(*call) (uppertar.Outcome, error) { return uppertar.Outcome{}, nil }},
		"unnamed":       {0, 0, func(c *call) (uppertar.Outcome, error) { return uppertar.Outcome{}, unnamed("/proc", c.stdout) }},
		"holders":       {0, 0, func(c *call) (uppertar.Outcome, error) { return uppertar.Outcome{}, holders("/proc", c.stdout) }},
		"create":        {3, many, inUpper},
		"again":         {2, 2, inUpper},
		"names":         {2, many, inUpper},
		"survey":        {2, 2, inUpper},
		"unsaved":       {3, 3, inUpper},
		"merged":        {2, many, merged},
		"below":         {3, many, below},
		"medium":        {3, many, medium},
		"offline-look":  {1, 1, offlineLook},
		"offline-begin": {3, 3, offlineBegin},
		"offline-end":   {3, 3, offlineEnd},
	}
}

// do does what is asked. An error without a status of its own is one with which
// tar would end.
func do(name string, args []string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	v, ok := verbs()[name]
	if !ok || len(args) < v.least || len(args) > v.most {
		return 0, failure{statusUsage, "livecd-sync's program on the node was not called as it should be"}
	}
	outcome, err := v.do(&call{name: name, args: args, stdin: stdin, stdout: stdout, stderr: stderr})
	return outcome.Status(), err
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

// open opens a directory.
func (c *call) open(name string, missing int) error {
	dir, err := os.Open(name)
	if err != nil {
		return failure{missing, err.Error()}
	}
	if st, err := dir.Stat(); err != nil || !st.IsDir() {
		_ = dir.Close() // it was not even read
		return failure{missing, name + " is no directory"}
	}
	c.dir = dir
	return nil
}

func (c *call) close() {
	if c.dir != nil {
		_ = c.dir.Close() // what was written was closed
	}
}

// inUpper does what is done in the upper dir: BOOT UPPER and more.
func inUpper(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	if err := c.open(c.args[1], statusNoUpperDir); err != nil {
		return outcome, err
	}
	defer c.close()
	args := c.args[2:]
	o := uppertar.WriteOptions{Messages: c.stderr}
	switch c.name {
	case "create":
		bePolite()
		o.Exclude = args[1:]
		if args[0] != "" {
			newer, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return outcome, failure{statusUsage, err.Error()}
			}
			o.Newer = &newer
		}
		return uppertar.Write(c.stdout, c.dir, o)
	case "names":
		o.Exclude = args
		return uppertar.Names(c.stdout, c.dir, o)
	case "again":
		o.Names, o.IgnoreUnreadable = skipTo(c.stdin), true
		return uppertar.Write(c.stdout, c.dir, o)
	case "survey":
		return uppertar.Survey(c.stdout, c.dir, c.stderr)
	default:
		return outcome, unsaved(c.stdout, c.dir, args[0])
	}
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
// that is mounted in it. BOOT BODY and more.
func merged(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	if c.dir, err = bindRoot(); err != nil {
		return outcome, failure{statusNoBind, err.Error()}
	}
	defer c.close()
	return within(c, skipTo(c.stdin), c.args[1], c.args[2:])
}

// below does what is done in a directory that is no part of the running system.
func below(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	if err := c.open(c.args[1], statusNoDir); err != nil {
		return outcome, err
	}
	defer c.close()
	return within(c, skipTo(c.stdin), c.args[2], c.args[3:])
}

// within does what is done below a directory, called as the scripts are.
func within(c *call, in io.Reader, name string, args []string) (outcome uppertar.Outcome, err error) {
	switch {
	case name == "extract" && len(args) == 0, name == "unpack" && len(args) == 0:
		return uppertar.Extract(in, c.dir, uppertar.ExtractOptions{Upper: name == "unpack", Messages: c.stderr})
	case name == "whole" && len(args) > 0:
		o := uppertar.WriteOptions{Names: in, Exclude: args[1:], IgnoreUnreadable: true, Messages: c.stderr}
		o.Recurse = args[0] == "--recursion"
		return uppertar.Write(c.stdout, c.dir, o)
	case name == "put" && len(args) == 5:
		return outcome, put(in, c.dir, args)
	case len(args) == 0:
		return asXargs(c, name, in)
	}
	return outcome, failure{statusUsage, "there is no " + name + " to be done there"}
}

// asXargs does what a script does by xargs, and ends as that does.
func asXargs(c *call, name string, in io.Reader) (outcome uppertar.Outcome, err error) {
	switch name {
	case "clear":
		outcome, err = uppertar.Clear(in, c.dir, c.stderr)
	case "list":
		outcome, err = uppertar.List(in, c.stdout, c.dir, c.stderr)
	case "xattrs":
		outcome, err = uppertar.Xattrs(in, c.stdout, c.dir, c.stderr)
	case "digest":
		outcome, err = digest(in, c.stdout, c.dir, c.stderr)
	default:
		return outcome, failure{statusUsage, "there is no " + name + " to be done there"}
	}
	switch {
	case err != nil:
		return outcome, failure{statusXargs, err.Error()}
	case outcome.Failed > 0:
		return outcome, failure{statusXargs, ""}
	}
	return outcome, nil
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
