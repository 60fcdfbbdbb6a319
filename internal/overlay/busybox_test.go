package overlay_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/nodeside"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// gnu runs a script with the programs of the machine that the test runs on, for
// what an administrator does and the tests ask. busybox's own shell would run its
// applets whatever PATH says.
func (n *node) gnu(script string) string {
	n.t.Helper()
	var out, errs bytes.Buffer
	err := n.conn.Run(n.t.Context(), overlay.Command{
		Script: `PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec /bin/sh -c "$1"`,
		Args:   []string{script}, Stdout: &out, Stderr: &errs,
	})
	if err != nil {
		n.t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String()
}

// newBusyboxMachine makes a machine on whose nodes ssh finds the applets of
// busybox and no other program.
func newBusyboxMachine(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	if _, err := nodeside.Program("x86_64"); err != nil {
		testenv.Unable(t, err.Error()+": "+bmc.HintOf(err))
	}
	list, err := exec.CommandContext(t.Context(), busybox, "--list").Output()
	must(t, err)
	must(t, os.Mkdir(m.path("applets"), 0o755))
	for applet := range strings.FieldsSeq(string(list)) {
		must(t, os.Symlink(busybox, filepath.Join(m.path("applets"), applet)))
	}
	t.Setenv("SSHD", "SetEnv PATH="+m.path("applets"))
	return m
}

// changeAll makes changes of every kind with more than busybox.
func (n *node) changeAll() {
	n.t.Helper()
	script, err := os.ReadFile("testdata/change.sh")
	must(n.t, err)
	n.gnu(string(script))
}

// leftovers lists what the program left on the node: files, processes, mounts.
func (n *node) leftovers() string {
	n.t.Helper()
	return n.gnu(`ls -d /run/livecd-sync.* /dev/shm/livecd-sync.* /tmp/livecd-sync.* /var/tmp/livecd-sync.* /.livecd-sync.* 2>/dev/null
for p in /proc/[0-9]*; do
	case $(readlink "$p/exe") in */livecd-sync.*) echo "$p runs $(tr '\0' ' ' <"$p/cmdline")" ;; esac
done
grep /run/livecd-sync/root /proc/self/mountinfo
exit 0`)
}

// TestBusyboxRoundTrip does what TestRoundTrip does, with nodes that have only
// busybox, and twice, so that the second backup moves what has changed.
func TestBusyboxRoundTrip(t *testing.T) {
	m := newBusyboxMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.changeAll()
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.HasGNUTar() || running.HasZstd || !running.Root || !running.Live || running.Machine == "" || running.PVD == nil {
		t.Fatalf("probe: %+v", running)
	}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	if !manifest.Portable || manifest.Partial || len(manifest.Warnings) > 0 {
		t.Errorf("manifest: %+v", manifest)
	}
	first := manifest.MovedBytes
	n.gnu("cd /lab && sleep 4 && head -c 3000000 /dev/urandom >random && rm link-1 && touch 'odd names/a b'")
	diff, err := overlay.Diff(t.Context(), n.conn, running, s, manifest)
	must(t, err)
	if len(diff) < 3 || !slices.ContainsFunc(diff, func(d overlay.Difference) bool { return d.Path == "./lab/random" && d.Kind == overlay.Added }) {
		t.Errorf("diff: %+v", diff)
	}
	unsaved, err := overlay.FindUnsaved(t.Context(), n.conn, running, manifest, nil)
	must(t, err)
	if unsaved.Files < 2 || unsaved.Bytes < 3_000_000 {
		t.Errorf("unsaved: %+v", unsaved)
	}
	manifest, err = overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	t.Logf("moved %d bytes, then %d of %d", first, manifest.MovedBytes, manifest.RawBytes)
	if len(manifest.Warnings) > 0 || manifest.Base == "" {
		t.Errorf("manifest: %+v", manifest)
	}
	before := n.view()
	if got := n.leftovers(); got != "" {
		t.Errorf("left behind:\n%s", got)
	}

	n = m.boot(t, "")
	n.hold()
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if len(report.Differences) > 0 || len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
	if list := differences(before, n.view()); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
	var held []string
	for _, h := range report.Restart {
		held = append(held, h.Files...)
	}
	for _, want := range []string{"/lab/modified", "/lab/gone-file", "/lab/gone-dir", "/lab/opaque/sub"} {
		if !slices.Contains(held, want) {
			t.Errorf("%s is held, and not told: %q", want, held)
		}
	}
	running, err = overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.Restored.ID != manifest.ID {
		t.Errorf("the node tells that it holds %q", running.Restored.ID)
	}
	if got := n.leftovers(); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	n.gnu("cd /lab && echo more >>held/f && echo more >>appended && touch /usr/bin/lab-2 gone-file && mkdir -p gone-dir/deep && mv replaced again")
}

// TestBusyboxToGNU restores what a node with busybox was backed up to onto one
// with GNU tar, and the other way round; leaves out what is to be left out; and
// reads from the merged view what the upper dir has only part of.
func TestBusyboxToGNU(t *testing.T) {
	m := newBusyboxMachine(t)
	for _, from := range []string{"busybox", "GNU"} {
		t.Run("from "+from, func(t *testing.T) {
			line := os.Getenv("SSHD")
			other := map[string]string{"busybox": "", "GNU": line}[from]
			if from == "GNU" {
				t.Setenv("SSHD", "")
			}
			s := openStore(t, t.TempDir())
			n := m.boot(t, "metacopy=on,redirect_dir=on")
			n.changeAll()
			n.gnu("cd /lab && mv kept kept-2 && chmod 640 linked-lower && echo x >big.squashfs && echo y >kept-2/a/y.squashfs")
			before := n.view()
			req := request(overlay.PurposeReset)
			req.Exclude = []string{"*.squashfs"}
			manifest, err := overlay.Backup(t.Context(), n.conn, s, req)
			must(t, err)
			if !manifest.Portable || manifest.Flattened == 0 || len(manifest.Warnings) > 0 || len(manifest.LeftOut) != 2 {
				t.Errorf("manifest: %+v", manifest)
			}
			t.Setenv("SSHD", other)
			n = m.boot(t, "")
			report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
			must(t, err)
			if len(report.Differences) > 0 || len(report.Warnings) > 0 {
				t.Errorf("report: %+v", report)
			}
			delete(before, "lab/big.squashfs")
			delete(before, "lab/kept-2/a/y.squashfs")
			if list := differences(before, n.view()); len(list) > 0 {
				t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
			}
		})
	}
}

// TestBusyboxOffline restores into an upper dir without an overlay, which was cut
// off before, and compares contents, too.
func TestBusyboxOffline(t *testing.T) {
	m := newBusyboxMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.changeAll()
	n.gnu("rm /lab/huge; setfattr -n trusted.odd=name -v 0x0a00 /lab/xattrs")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	n.gnu("mkdir /run/offline")
	req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodOffline, Dir: "/run/offline/rw", Verify: true}
	boot := "00000000-0000-4000-8000-000000000002"
	cut := &pushCutting{Conn: n.redial(m), verb: "below " + boot + " /run/offline/rw.livecd-sync unpack", after: 2_600_000}
	if _, err := overlay.Restore(t.Context(), cut, s, req); err == nil {
		t.Error("a restore that was cut passed")
	}
	report, err := overlay.Restore(t.Context(), n.conn, s, req)
	must(t, err)
	if len(report.Differences) > 0 || len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
	if got := n.leftovers() + n.gnu("ls -A /run/offline; ls -A /run/offline/rw"); got != "rw\netc\nlab\nusr\n" && got != "rw\netc\nlab\nroot\nusr\n" {
		t.Errorf("there is %q", got)
	}
	n.gnu("mkdir /run/offline/work /run/merged && mount -t overlay overlay -o lowerdir=/run/lower:" + lowerOf(n) + ",upperdir=/run/offline/rw,workdir=/run/offline/work /run/merged")
	if list := differences(before, viewAt(t, n.root+"/run/merged")); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
	if _, err := overlay.Restore(t.Context(), n.conn, s, req); err == nil || !strings.Contains(err.Error(), "which is mounted") {
		t.Errorf("into an upper dir that is mounted: %v", err)
	}
}

// lowerOf is where the machine's own tree lies on the node.
func lowerOf(n *node) string {
	n.t.Helper()
	running, err := overlay.Probe(n.t.Context(), n.conn)
	must(n.t, err)
	return running.LowerDirs[len(running.LowerDirs)-1]
}

// TestBusyboxRepopulate puts back what was left out, with all its metadata, or
// says why not.
func TestBusyboxRepopulate(t *testing.T) {
	m := newBusyboxMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.gnu(`mkdir -p /lab/big/dir && cd /lab/big && printf right >dir/here && printf right >wrong
chown 12:34 dir/here && chmod 4750 dir/here && touch -d '1969-01-02 03:04:05.25' dir/here`)
	req := request(overlay.PurposeManual)
	req.Exclude = []string{"big"}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, req)
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	got, err := overlay.Repopulate(t.Context(), n.conn, running, manifest, func(name string) (overlay.Supply, bool) {
		text := strings.TrimPrefix(strings.Replace(filepath.Base(name), "here", "right", 1), "x")
		return overlay.Supply{From: "a test", Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		}}, true
	})
	must(t, err)
	if got.Put != 1 || len(got.Missing) != 1 || !strings.Contains(got.Missing[0], "digest is another") {
		t.Errorf("%+v", got)
	}
	if after := n.view(); before["lab/big/dir/here"] != after["lab/big/dir/here"] {
		t.Errorf("was %s, is %s", before["lab/big/dir/here"], after["lab/big/dir/here"])
	}
	if got := n.leftovers() + n.gnu("ls /lab/big"); got != "dir\n" {
		t.Errorf("left behind: %q", got)
	}
}

// pushCutting cuts the connection when so many bytes have gone to, or come from,
// the program that does a verb.
type pushCutting struct {
	*sshremote.Conn
	verb  string
	out   bool
	after int
}

// Run runs the command and cuts.
func (r *pushCutting) Run(ctx context.Context, c overlay.Command) error {
	if strings.HasPrefix(c.Script, "# push") && strings.HasPrefix(strings.Join(c.Args[3:], " ")+" ", r.verb+" ") {
		cut := func() { _ = r.Close() }
		if r.out {
			c.Stdout = &counted{w: c.Stdout, cut: cut, after: r.after}
		} else {
			c.Stdin = &counted{r: c.Stdin, cut: cut, after: r.after}
		}
	}
	return r.Conn.Run(ctx, c)
}

// TestBusyboxCut cuts the connection at many places. Nothing stays on the node,
// and what was cut is done again.
func TestBusyboxCut(t *testing.T) {
	m := newBusyboxMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.changeAll()
	n.gnu("head -c 8000000 /dev/urandom >/lab/random")
	program, err := nodeside.Program("x86_64")
	must(t, err)
	sent := len(program) + 64<<10 + 20
	settled := func(what string) {
		t.Helper()
		var got string
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			if got = n.leftovers(); got == "" {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Errorf("%s left behind:\n%s", what, got)
	}
	for _, cut := range []pushCutting{
		{verb: "create", after: 10},
		{verb: "create", after: 1_000_000},
		{verb: "create", after: len(program) + 100},
		{verb: "create", after: 1, out: true},
		{verb: "create", after: 4_000_000, out: true},
	} {
		cut.Conn = n.redial(m)
		_, err := overlay.Backup(t.Context(), &cut, s, request(overlay.PurposeReset))
		if list, listErr := s.List(t.Context(), "n1"); err == nil || listErr != nil || len(list.Backups) > 0 || cut.out && bmc.KindOf(err) != bmc.KindSSH {
			t.Errorf("%+v: %v, %v", cut, err, list)
		}
		settled("a backup that was cut")
	}
	boot := "00000000-0000-4000-8000-000000000001"
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	n.hold()
	boot = boot[:len(boot)-1] + "2"
	for _, cut := range []pushCutting{
		{verb: "merged " + boot + " clear", after: 1000},
		{verb: "merged " + boot + " clear", after: sent + 100},
		{verb: "merged " + boot + " clear", after: sent + 911},
		{verb: "merged " + boot + " extract", after: sent + 512},
		{verb: "merged " + boot + " extract", after: sent + 60_000},
		{verb: "merged " + boot + " extract", after: sent + 4_000_000},
		{verb: "merged " + boot + " list", after: sent + 30},
	} {
		cut.Conn = n.redial(m)
		if _, err := overlay.Restore(t.Context(), &cut, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID}); err == nil {
			t.Errorf("%s cut after %d bytes passed for a restore", cut.verb, cut.after)
		}
		settled("a restore that was cut")
	}
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if list := differences(before, n.view()); len(list) > 0 || len(report.Differences) > 0 {
		t.Errorf("%+v; %d differences:\n%s", report, len(list), strings.Join(list, "\n"))
	}
}

// TestNoTools refuses a node that has no GNU tar and is of a type that nothing
// was built for, before anything is done.
func TestNoTools(t *testing.T) {
	remote := scripted(func(c overlay.Command) error {
		t.Errorf("the node was asked to run %q", c.Script)
		return nil
	})
	var out bytes.Buffer
	must(t, remote.Run(t.Context(), overlay.Command{Script: "# probe", Stdout: &out}))
	running, err := overlay.Probe(t.Context(), remote)
	must(t, err)
	running.Tar, running.Machine = "tar (busybox) 1.35.0", "riscv64"
	req := request(overlay.PurposeReset)
	req.Running = running
	_, err = overlay.Backup(t.Context(), remote, openStore(t, t.TempDir()), req)
	if bmc.KindOf(err) != bmc.KindUnsupported || !strings.Contains(err.Error(), "riscv64") || bmc.HintOf(err) == "" {
		t.Error(err)
	}
}
