package overlay

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Running is what a node said of itself.
type Running struct {
	BootID  string // new at each boot
	Clock   Clock
	Kernel  string // its release
	Machine string // its type, as "uname -m" says it
	Cmdline string
	// Live: "/" is an overlay and the system came from a live medium.
	Live bool
	// UpperDir, WorkDir and LowerDirs are those of the overlay that is "/", as
	// mountinfo has them; empty when "/" is no overlay.
	UpperDir  string
	WorkDir   string
	LowerDirs []string
	Options   Options
	// PVD is the primary volume descriptor of the live medium, 2048 bytes; nil
	// when there is none, or when its volume is not the one that the kernel's
	// command line says was booted.
	PVD    []byte
	Medium Medium
	// Root: the user that logged in is root, which backup and restore need.
	Root    bool
	Tar     string // the first line of tar --version, "" without tar
	HasZstd bool
	// Restored is the backup that the running overlay holds; its ID is "" when
	// none was restored onto it.
	Restored Restored
	// Restoring is the backup that a restore began to put onto the running
	// overlay and did not finish; its ID is "" otherwise. See Whole.
	Restoring Restored
}

// HasGNUTar reports whether the node's tar is GNU's. Others lose xattrs, ACLs,
// sparse files and large user IDs without a word.
func (r Running) HasGNUTar() bool { return strings.Contains(r.Tar, "GNU tar") }

// A Clock is what a node's clocks showed at one moment.
type Clock struct {
	Time   int64 `json:"time"`   // seconds since 1970; 0: not known
	Uptime int64 `json:"uptime"` // seconds since the boot
}

// step is how far the clock was set forward between two moments of a boot,
// in seconds.
func (c Clock) step(then Clock) int64 { return c.Time - c.Uptime - (then.Time - then.Uptime) }

// Options are those of an overlay mount, or the kernel module's defaults for
// what mountinfo does not show: "on", "off", "follow", "nofollow".
type Options struct {
	Metacopy    string `json:"metacopy"`
	RedirectDir string `json:"redirectDir"`
	Index       string `json:"index"`
}

// Medium tells where a primary volume descriptor was read.
type Medium struct {
	Device string // "/dev/sr0", or "" when there was none
	// Mounted: the device is mounted as iso9660. Otherwise the system may have
	// come from another one: it runs from memory, or the medium was changed.
	Mounted bool
}

// Restored names the backup that Restore put onto a node.
type Restored struct{ ID string }

// Probe asks a node what it runs, in one session. It writes nothing. It works
// for any user; a root that is no overlay is no error.
func Probe(ctx context.Context, remote Remote) (Running, error) {
	const op = "probe the node"
	out := capture{limit: 4 << 20}
	if err := remote.Run(ctx, Command{Script: probeScript, Stdout: &out}); err != nil {
		return Running{}, remoteError(op, err)
	}
	if out.full {
		return Running{}, &bmc.Error{
			Op: op, Kind: bmc.KindSSH,
			Err:  errors.New("the node wrote more than 4 MiB"),
			Hint: "log in by hand and see what its shell prints at login",
		}
	}
	r := parseProbe(out.String())
	if r.BootID == "" {
		return Running{}, &bmc.Error{
			Op: op, Kind: bmc.KindSSH,
			Err:  errors.New("the node did not tell its boot ID"),
			Hint: "log in by hand and see whether /proc/sys/kernel/random/boot_id can be read",
		}
	}
	return r, nil
}

func parseProbe(text string) Running {
	s := sections(text)
	mounts := parseMounts(s["mountinfo"])
	r := Running{
		BootID:  strings.TrimSpace(s["boot-id"]),
		Kernel:  strings.TrimSpace(s["kernel"]),
		Machine: strings.TrimSpace(s["machine"]),
		Cmdline: strings.TrimSpace(s["cmdline"]),
		Root:    strings.TrimSpace(s["uid"]) == "0",
		HasZstd: strings.TrimSpace(s["zstd"]) != "",
	}
	r.Clock = parseClock(s["clock"])
	r.Tar, _, _ = strings.Cut(strings.TrimSpace(s["tar"]), "\n")
	r.readOverlay(rootMount(mounts), s["parameters"])
	r.Live = r.UpperDir != "" && isLive(mounts, r.Cmdline)
	r.readMedium(s["medium"])
	r.readMarks(s)
	return r
}

// parseClock reads "SECONDS UPTIME IDLE", zero if that is not what there is.
func parseClock(text string) Clock {
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return Clock{}
	}
	now, err := strconv.ParseInt(fields[0], 10, 64)
	up, err2 := strconv.ParseFloat(fields[1], 64)
	if err != nil || err2 != nil {
		return Clock{}
	}
	return Clock{Time: now, Uptime: int64(up)}
}

// sections splits the probe's output at its "== name" lines.
func sections(text string) map[string]string {
	found := make(map[string]string)
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "== "); ok {
			name = strings.TrimSpace(rest)
			continue
		}
		found[name] += line
	}
	return found
}

func (r *Running) readOverlay(root mount, parameters string) {
	if root.fstype != "overlay" {
		return
	}
	defaults := make(map[string]string)
	for line := range strings.Lines(parameters) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		defaults[name] = onOff(value)
	}
	r.Options = Options{
		Metacopy: defaults["metacopy"], RedirectDir: defaults["redirect_dir"], Index: defaults["index"],
	}
	for _, o := range root.options() {
		switch o.name {
		case "upperdir":
			r.UpperDir = layer(o.value)
		case "workdir":
			r.WorkDir = layer(o.value)
		case "lowerdir":
			r.LowerDirs = splitLayers(o.value)
		case "lowerdir+", "datadir+": // since Linux 6.7, one option each
			r.LowerDirs = append(r.LowerDirs, layer(o.value))
		case "metacopy":
			r.Options.Metacopy = onOff(o.value)
		case "redirect_dir":
			r.Options.RedirectDir = onOff(o.value)
		case "index":
			r.Options.Index = onOff(o.value)
		}
	}
}

// layer removes the backslashes that mount options need before "," and ":".
func layer(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\:`, `:`).Replace(s)
}

func onOff(s string) string {
	switch s {
	case "Y", "y", "1":
		return "on"
	case "N", "n", "0":
		return "off"
	}
	return s
}

// isLive tells a live system from any other that has an overlay as its root, a
// container for example: a live medium's file system stays mounted, or else the
// kernel's command line asked for it.
func isLive(mounts []mount, cmdline string) bool {
	for _, m := range mounts {
		if m.fstype == "squashfs" || m.fstype == "iso9660" || m.fstype == "erofs" {
			return true
		}
	}
	for word := range strings.FieldsSeq(cmdline) {
		if strings.HasPrefix(word, "root=live:") || strings.HasPrefix(word, "rd.live.") || word == "boot=live" {
			return true
		}
	}
	return false
}

const (
	sectorBytes      = 2048
	pvdSignature     = "\x01CD001\x01" // type and identifier (ECMA-119 8.4.1)
	volumeIDAt       = 40
	volumeIDEnd      = 72
	maxVolumeIDMatch = 16 // a Joliet label, which udev prefers, has no more
)

func (r *Running) readMedium(text string) {
	head, dump, _ := strings.Cut(text, "\n")
	how, device, _ := strings.Cut(head, " ")
	pvd, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
	if err != nil || len(pvd) != sectorBytes || !bytes.HasPrefix(pvd, []byte(pvdSignature)) {
		return
	}
	id := strings.TrimRight(string(pvd[volumeIDAt:volumeIDEnd]), " \x00")
	if booted, ok := bootLabel(r.Cmdline); ok && !sameLabel(booted, id) {
		return // put in after the boot
	}
	r.PVD, r.Medium = pvd, Medium{Device: device, Mounted: how == "mounted"}
}

// bootLabel returns the label in the command line's root=live:CDLABEL=.
func bootLabel(cmdline string) (string, bool) {
	for word := range strings.FieldsSeq(cmdline) {
		for _, prefix := range []string{"root=live:CDLABEL=", "root=live:LABEL="} {
			if label, ok := strings.CutPrefix(word, prefix); ok {
				return label, true
			}
		}
	}
	return "", false
}

// sameLabel compares as much as survives udev's encoding and the shorter Joliet
// label.
func sameLabel(a, b string) bool {
	a, b = plainLabel(a), plainLabel(b)
	return a == b
}

func plainLabel(s string) string {
	s = strings.ReplaceAll(s, `\x20`, " ")
	plain := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, s)
	return plain[:min(len(plain), maxVolumeIDMatch)]
}

// remoteError makes what Run returned a *bmc.Error about op.
func remoteError(op string, err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		return e
	}
	exit, ok := errors.AsType[*ExitError](err)
	if !ok {
		return &bmc.Error{Op: op, Kind: bmc.KindSSH, Err: err, Hint: "run the command again"}
	}
	e := &bmc.Error{Op: op, Kind: bmc.KindOverlay}
	switch exit.Status {
	case statusNotRoot:
		e.Err, e.Hint = errors.New("the ssh user is not root"), "set ssh.user: root"
	case statusOtherBoot:
		e.Err, e.Hint = errors.New("the node was booted anew in the meantime"), "run the command again"
	case statusNoGNUTar:
		e.Kind, e.Err = bmc.KindUnsupported, errors.New("the node has no GNU tar")
		e.Hint = "put GNU tar into the image; the tar of busybox loses extended attributes, ACLs and sparse files"
	case statusNoUpperDir:
		e.Err, e.Hint = errors.New("the upper dir is not there"), "see overlay.path in the site file, or leave it out"
	case statusNoBind:
		e.Err, e.Hint = errors.New("the node refused to bind the merged view: "+exit.Stderr), "log in by hand and try: mount --bind / /mnt"
	case statusPipe:
		e.Err, e.Hint = errors.New("tar on the node was killed: "+exit.Stderr), "see the node's kernel log: dmesg"
	case statusNoRun:
		e.Err, e.Hint = errors.New("the node could not write below /run: "+exit.Stderr), "log in by hand and see df /run"
	default:
		e.Err, e.Hint = fmt.Errorf("the node's shell ended with %w", exit), "log in by hand and see what is wrong"
	}
	return e
}

// The exit statuses of the scripts, away from those of tar, xargs and a shell.
const (
	statusNotRoot    = 65
	statusOtherBoot  = 66
	statusNoGNUTar   = 67
	statusNoUpperDir = 68
	statusNoBind     = 69
	statusNoRun      = 70
	statusPipe       = 74 // never a script's own
)

// capture keeps what is written to it, up to limit bytes.
type capture struct {
	bytes.Buffer
	limit int
	full  bool
}

// Write takes everything and keeps what fits.
func (c *capture) Write(p []byte) (int, error) {
	room := c.limit - c.Len()
	if len(p) > room {
		c.full = true
		c.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return c.Buffer.Write(p)
}
