package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
)

// A layout is where kiwi's live images keep the overlay, and the BMC of the
// machine that boots them.
type layout struct {
	name     string
	kind     bmcsim.Kind
	old, new string // images
}

var layouts = []layout{
	{"kiwi", bmcsim.ILO5, "pit-1.6", "pit-1.7"},
	{"kiwi before 9.21.18", bmcsim.Gigabyte, "pit-old-1.6", "pit-old-1.7"},
}

// rootPassword is what the first login has to set.
const rootPassword = "e2e-Kiosk-7-plover"

// TestFlow drives the page that livecd-sync replaces, from a machine that is off
// to a new version of the image with every change back, by the program alone.
func TestFlow(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			f := newFlow(t, l)
			f.firstBoot()
			f.change()
			f.backUp()
			f.newVersion()
			f.nextRoot()
		})
	}
}

// TestCuts takes the power away in the middle of things, and spends a boot
// override on the disk; the next apply ends well each time.
func TestCuts(t *testing.T) {
	f := newFlow(t, layouts[0])
	f.firstBoot()
	f.change()
	f.wrongBootDevice()
	f.killedInMidBoot()
	f.killedInMidRestore()
	f.killedInMidBackup()
}

// firstBoot: power on from nothing, the image mounted and booted, the first login
// done on the console, all by one command.
func (f *flow) firstBoot() {
	f.step("plan of a machine that is off", func() {
		out := f.ok("plan", "-o", "text")
		f.says(out, "insert-media", "set-boot-once", "power-on", "await-boot", "login")
	})
	f.step("apply from power off", func() { f.ok("apply", "-y") })
	f.runs(f.old)
	f.step("status", func() { f.says(f.ok("status"), "in-sync") })
	f.step("a further plan", f.inSync)
}

// change makes changes of every kind, and has the services write.
func (f *flow) change() {
	f.step("changes of every kind", func() {
		script := f.read("../../internal/overlay/testdata/change.sh")
		// Linux 6.1, which the images run, has no extended attributes of users on
		// tmpfs, and sets no ACL on a file that is not copied up yet.
		f.script("chmod 644 /lab/acl-file && chmod 755 /lab/acl-dir\n"+drop(script, "setfattr -n user."), "")
		f.script("echo 'ntp = 10.252.0.1' >/etc/site/defaults.conf; echo '<p>the site</p>' >/var/www/html/site.html; head -c 60000000 /dev/urandom >/lab/bulk", "")
	})
	f.servicesWrite("before")
	f.before = f.view()
}

func (f *flow) backUp() {
	f.step("backup", func() { f.ok("backup") })
	f.step("backups verify --deep", func() { f.ok("backups", "verify", "--deep") })
	f.step("a second backup", func() { f.ok("backup") })
}

// newVersion: the site file names the next version, and one apply later the node
// runs that with everything back.
func (f *flow) newVersion() {
	f.want(f.new)
	f.script("echo later >/etc/site/later", "")
	f.before = f.view()
	f.step("plan of the new version", func() {
		f.says(f.ok("plan"), "backup-overlay", "DESTROYS", "restore-overlay", "not in a backup")
	})
	f.step("apply the new version", func() { f.ok("apply", "-y") })
	f.runs(f.new)
	f.allIsBack()
	f.servicesWrite("after")
	f.step("a further plan", f.inSync)
}

// nextRoot restores into a second root and reboots systemd into it.
func (f *flow) nextRoot() {
	f.step("backup", func() { f.ok("backup") })
	booted := f.script("cat /proc/sys/kernel/random/boot_id", "")
	f.script("rm -rf /lab/kept; echo lost >/lab/modified", "")
	f.step("restore into a next root", func() { f.ok("restore", "n1", "-y", "--method", "nextroot") })
	f.until("the node is back after its soft reboot", func() error {
		out, err := f.try("findmnt -no SOURCE /; systemctl is-system-running", "")
		if out != "livecd-sync\nrunning\n" {
			return fmt.Errorf("%q, %w", out, errors.Join(errNotYet, err))
		}
		return nil
	})
	if now := f.script("cat /proc/sys/kernel/random/boot_id", ""); now != booted {
		f.t.Errorf("the machine rebooted, and not systemd alone: %s, then %s", booted, now)
	}
	f.allIsBack()
	f.servicesWrite("next")
	f.step("backup of what runs in the next root", func() { f.ok("backup") })
}

// killedInMidBoot: the power goes while the image boots.
func (f *flow) killedInMidBoot() {
	f.want(f.other())
	f.before = f.view()
	f.step("power cut in mid-boot", func() {
		boots := strings.Count(f.screen(), "ISOLINUX")
		f.cutOff(func(string) bool { return strings.Count(f.screen(), "ISOLINUX") > boots })
	})
	f.step("apply after that", func() { f.ok("apply", "-y") })
	f.runs(f.wanted)
	f.allIsBack()
}

// killedInMidBackup: the power goes while the overlay is read. What was not in a
// backup by then is gone; what was is back.
func (f *flow) killedInMidBackup() {
	f.want(f.other())
	f.step("backup", func() { f.ok("backup") })
	f.before = f.view()
	f.step("power cut in mid-backup", func() {
		f.cutOff(func(said string) bool { return strings.Contains(said, "backup-overlay   started") })
	})
	f.step("apply after that", func() { f.ok("apply", "-y") })
	f.runs(f.wanted)
	// The boot that was lost is not one that livecd-sync ended: what to bring back is
	// for a person to say.
	f.step("restore", func() { f.ok("restore", "n1", "-y", "--onto-other-image") })
	f.allIsBack()
}

// killedInMidRestore: the power goes while the overlay is brought back.
func (f *flow) killedInMidRestore() {
	f.want(f.other())
	f.before = f.view()
	f.step("power cut in mid-restore", func() {
		f.cutOff(func(said string) bool { return strings.Contains(said, "restore-overlay  started") })
	})
	f.step("apply after that", func() { f.ok("apply", "-y") })
	f.runs(f.wanted)
	f.allIsBack()
	f.step("a further plan", f.inSync)
}

// wrongBootDevice: the override is spent on the disk. That is found out, said, and
// put right by the next apply.
func (f *flow) wrongBootDevice() {
	f.want(f.other())
	f.before = f.view()
	f.step("the override spent on the disk", func() {
		f.node.Machine().SetBehaviour(bmcsim.Behaviour{IgnoreCd: true})
		f.says(f.fails("apply", "-y"), "disk")
	})
	f.node.Machine().SetBehaviour(bmcsim.Behaviour{})
	f.step("apply after that", func() { f.ok("apply", "-y") })
	f.runs(f.wanted)
	f.allIsBack()
}

// A flow is a machine, the program that works on it, and a report.
type flow struct {
	layout
	machine
	dir, home, binary string
	wanted            string
	before            string // the view that is to come back
	report            *os.File
}

func newFlow(t *testing.T, l layout) *flow {
	t.Helper()
	f := &flow{layout: l, machine: newMachine(t, l.kind, l.old, l.new), wanted: l.old, home: t.TempDir()}
	f.dir = filepath.Dir(f.site.SiteFile())
	var err error
	f.binary, err = filepath.Abs("../../bin/livecd-sync")
	f.must(err)
	f.report, err = os.OpenFile(filepath.Join(os.Getenv(imagesEnv), "report.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	f.must(err)
	t.Cleanup(func() { f.report.Close() })
	f.line("%s, %s", l.name, l.kind)
	f.must(os.WriteFile(filepath.Join(f.dir, "secrets", "root"), []byte(rootPassword+"\n"), 0o600))
	f.edit(func(text string) string {
		text = swap(t, text, "hostKey: any", "hostKey: console")
		text = swap(t, text, "restore: latest}", "restore: latest, restart: true}\n  login: {password: {file: secrets/root}}")
		return text
	})
	return f
}

func swap(t *testing.T, text, was, is string) string {
	t.Helper()
	if !strings.Contains(text, was) {
		t.Fatalf("the site file does not say %q:\n%s", was, text)
	}
	return strings.ReplaceAll(text, was, is)
}

// edit changes the site file that the program is given.
func (f *flow) edit(change func(string) string) {
	f.t.Helper()
	name := filepath.Join(f.dir, "flow.yaml")
	text, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile(f.site.SiteFile())
	}
	f.must(err)
	f.must(os.WriteFile(name, []byte(change(string(text))), 0o644))
}

// want has the site file name another image.
func (f *flow) want(image string) {
	f.t.Helper()
	f.edit(func(text string) string { return swap(f.t, text, "  image: "+f.wanted+"\n", "  image: "+image+"\n") })
	f.wanted = image
}

// other is the image that is not wanted now.
func (f *flow) other() string {
	if f.wanted == f.new {
		return f.old
	}
	return f.new
}

func (f *flow) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// line writes a line of the report.
func (f *flow) line(format string, args ...any) {
	fmt.Fprintf(f.report, format+"\n", args...)
	f.t.Logf(format, args...)
}

// step reports how long something took, and how much of the image was read.
func (f *flow) step(what string, do func()) {
	f.t.Helper()
	read := func() int64 {
		return f.site.ImageBytes(f.old) + f.site.ImageBytes(f.new)
	}
	begun, before := time.Now(), read()
	do()
	bytes := ""
	if n := read() - before; n > 0 {
		bytes = fmt.Sprintf("%8.1f MB of the image read", float64(n)/1e6)
	}
	f.line("  %-34s %7.1f s%s", what, time.Since(begun).Seconds(), bytes)
}

// command is the program, as somebody who is called to nothing else runs it.
func (f *flow) command(args ...string) *exec.Cmd {
	c := exec.CommandContext(f.t.Context(), f.binary, append([]string{"-f", filepath.Join(f.dir, "flow.yaml")}, args...)...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.home}
	c.Dir = f.home
	return c
}

// ok runs the program, and gives what it printed.
func (f *flow) ok(args ...string) string {
	f.t.Helper()
	var out, errs bytes.Buffer
	c := f.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		f.t.Fatalf("livecd-sync %s: %v\n%s%s\nconsole: %s", strings.Join(args, " "), err, out.String(), errs.String(), last(f.screen(), 3000))
	}
	if text := out.String() + errs.String(); strings.Contains(text, rootPassword) {
		f.t.Errorf("livecd-sync %s tells the password", args[0])
	}
	return out.String() + errs.String()
}

// fails runs the program, and wants it to end with status 3: the node failed.
func (f *flow) fails(args ...string) string {
	f.t.Helper()
	var out bytes.Buffer
	c := f.command(args...)
	c.Stdout, c.Stderr = &out, &out
	f.wantFailure(c.Run(), out.String())
	return out.String()
}

func (f *flow) wantFailure(err error, said string) {
	f.t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 3 {
		f.t.Fatalf("apply: %v, want status 3\n%s", err, said)
	}
}

// cutOff runs apply, and cuts the node's power once what it said is as wanted.
func (f *flow) cutOff(now func(said string) bool) {
	f.t.Helper()
	name := filepath.Join(f.home, "said")
	out, err := os.Create(name)
	f.must(err)
	defer out.Close()
	c := f.command("apply", "-y")
	c.Stdout, c.Stderr = out, out
	f.must(c.Start())
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	f.until("the moment to cut the power", func() error {
		if len(ended) > 0 {
			f.t.Fatalf("apply ended before its time: %v\n%s", <-ended, f.read(name))
		}
		if !now(f.read(name)) {
			return errNotYet
		}
		return nil
	})
	f.node.PowerCut()
	f.wantFailure(<-ended, f.read(name))
}

var errNotYet = errors.New("not yet")

// until waits for something of the node.
func (f *flow) until(what string, look func() error) {
	f.t.Helper()
	const pause = 100 * time.Millisecond
	for begun := time.Now(); ; {
		err := look()
		if err == nil {
			return
		}
		if time.Since(begun) > bootWithin {
			f.t.Fatalf("%s: %v\nconsole: %s", what, err, last(f.screen(), 3000))
		}
		f.must(bmc.SystemClock{}.Sleep(f.t.Context(), pause))
	}
}

func (f *flow) says(text string, words ...string) {
	f.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			f.t.Errorf("it does not say %q:\n%s", w, text)
		}
	}
}

func (f *flow) inSync() {
	f.t.Helper()
	var doc struct {
		Summary struct{ Nodes, InSync int } `json:"summary"`
	}
	out := f.ok("plan", "-q", "-o", "json")
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Summary.InSync != 1 {
		f.t.Errorf("not in sync, %v:\n%s", err, out)
	}
}

// runs: the machine runs the image, started once since the last look.
func (f *flow) runs(image string) {
	f.t.Helper()
	if s := f.node.Status(); s.Running != sim.RunningLive || s.VolumeID != strings.ToUpper(image) {
		f.t.Fatalf("the node runs %+v, not %s", s, image)
	}
	version := image[len(image)-3:]
	if got := f.script("cat /etc/pit-release", ""); got != "PIT_VERSION="+version+"\n" {
		f.t.Errorf("the node says of itself %q, not %s", got, version)
	}
}

// allIsBack compares the view with the one before.
func (f *flow) allIsBack() {
	f.t.Helper()
	was, is := strings.Split(f.before, "\n"), strings.Split(f.view(), "\n")
	lost := 0
	for _, l := range was {
		if !slices.Contains(is, l) {
			lost++
			f.t.Errorf("not back: %s", l)
		}
		if lost > 20 {
			break
		}
	}
	f.line("  %-34s %5d of %d", "lines of the view that are back", len(was)-lost, len(was))
}

func (f *flow) view() string {
	f.t.Helper()
	return f.script(f.read("testdata/view.sh"), "")
}

func (f *flow) servicesWrite(mark string) {
	f.t.Helper()
	if got := f.script(f.read("testdata/services.sh"), mark); got != "rsyslog 1 lighttpd 1 dnsmasq 1\n" {
		f.t.Errorf("what the services wrote %s is not where it belongs: %s", mark, got)
	}
}

func (f *flow) read(name string) string {
	f.t.Helper()
	b, err := os.ReadFile(name)
	f.must(err)
	return string(b)
}

// script runs a script on the node.
func (f *flow) script(script, arg string) string {
	f.t.Helper()
	out, err := f.try(script, arg)
	if err != nil {
		f.t.Fatalf("a script on the node: %v\n%s", err, last(out, 3000))
	}
	return out
}

func (f *flow) try(script, arg string) (string, error) {
	key, err := os.ReadFile(f.machine.want.SSH.Identity)
	f.must(err)
	signer, err := ssh.ParsePrivateKey(key)
	f.must(err)
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.node.SSHAddress())
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, channels, requests, err := ssh.NewClientConn(conn, f.node.SSHAddress(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil }, // the program checks it
	})
	if err != nil {
		return "", err
	}
	client := ssh.NewClient(c, channels, requests)
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer session.Close()
	var out, errs bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader(script), &out, &errs
	err = session.Run("bash -s -- " + arg)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, last(errs.String(), 1000))
	}
	return out.String(), err
}

// drop leaves lines out that hold a word.
func drop(script, word string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		if !strings.Contains(line, word) {
			io.WriteString(&b, line)
		}
	}
	return b.String()
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }
