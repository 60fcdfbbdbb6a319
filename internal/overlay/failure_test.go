package overlay_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// scripted is a Remote that answers the probe of a live system and leaves the
// rest to a function.
type scripted func(c overlay.Command) error

const scriptedBoot = "8283fe11-7f7c-4a38-882a-a9f6b13f1b47"

// Run answers.
func (f scripted) Run(_ context.Context, c overlay.Command) error {
	switch name, _, _ := strings.Cut(strings.TrimPrefix(c.Script, "# "), " "); strings.TrimSuffix(name, ":") {
	case "size":
		_, err := io.WriteString(c.Stdout, "8\t/run/overlayfs/rw\n")
		return err
	case "names":
		return nil
	case "unnamed":
		_, err := io.WriteString(c.Stdout, "\x00")
		return err
	case "probe":
	default:
		return f(c)
	}
	_, err := io.WriteString(c.Stdout, "== boot-id\n"+scriptedBoot+`
== uid
0
== tar
tar (GNU tar) 1.34
== mountinfo
40 30 7:0 / /run/rootfsbase ro - squashfs /dev/loop0 ro
30 1 0:25 / / rw - overlay o rw,lowerdir=/run/rootfsbase,upperdir=/run/overlayfs/rw,workdir=/run/overlayfs/work
`)
	return err
}

// pack makes an archive of one file of size random bytes, and a whiteout.
func pack(t testing.TB, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755}),
		w.WriteHeader(&tar.Header{Name: "./gone", Typeflag: tar.TypeChar}),
		w.WriteHeader(&tar.Header{Name: "./f", Typeflag: tar.TypeReg, Size: size}))
	_, err2 := io.CopyN(w, rand.Reader, size)
	if err := errors.Join(err, err2, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sends makes a Remote whose tar writes out and says on stderr, then ends.
func sends(out []byte, stderr string, end error) scripted {
	return func(c overlay.Command) error {
		if _, err := c.Stdout.Write(out); err != nil {
			return err
		}
		if _, err := io.WriteString(c.Stderr, stderr); err != nil {
			return err
		}
		return end
	}
}

func TestBackupRefuses(t *testing.T) {
	whole := pack(t, 3000)
	lost := &bmc.Error{Op: "ssh", Kind: bmc.KindSSH, Err: errors.New("lost"), Hint: "look"}
	for name, test := range map[string]struct {
		remote overlay.Remote
		kind   bmc.Kind
		want   string
	}{
		"no closing blocks":  {sends(whole[:len(whole)-1024], "", nil), bmc.KindOverlay, "closing blocks"},
		"one closing block":  {sends(whole[:len(whole)-512], "", nil), bmc.KindOverlay, "closing blocks"},
		"nothing":            {sends(nil, "", nil), bmc.KindOverlay, "closing blocks"},
		"a greeting":         {sends(append([]byte("Welcome!\n"), whole...), "", nil), bmc.KindOverlay, "not the archive"},
		"no status":          {sends(whole, "", lost), bmc.KindSSH, "lost"},
		"cut, no status":     {sends(whole[:2000], "", lost), bmc.KindSSH, "lost"},
		"status 2":           {sends(whole, "", &overlay.ExitError{Status: 2, Stderr: "tar: ./x: Cannot open"}), bmc.KindOverlay, "./x: Cannot open"},
		"killed":             {sends(whole[:2000], "", &overlay.ExitError{Signal: "KILL"}), bmc.KindOverlay, "signal KILL"},
		"another boot":       {sends(nil, "", &overlay.ExitError{Status: 66}), bmc.KindOverlay, "booted anew"},
		"no GNU tar":         {sends(nil, "", &overlay.ExitError{Status: 67}), bmc.KindUnsupported, "GNU tar"},
		"upper dir is gone":  {sends(nil, "", &overlay.ExitError{Status: 68}), bmc.KindOverlay, "upper dir"},
		"sh is not there":    {sends(nil, "", &overlay.ExitError{Status: 127, Stderr: "sh: not found"}), bmc.KindOverlay, "not found"},
		"status 1, cut":      {sends(whole[:2000], "", &overlay.ExitError{Status: 1}), bmc.KindOverlay, "closing blocks"},
		"shrank, both times": {sends(whole, "tar: ./f: File shrank by 5 bytes; padding with zeros\n", &overlay.ExitError{Status: 1}), bmc.KindOverlay, "shrank"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			m, err := overlay.Backup(t.Context(), test.remote, s, request(overlay.PurposeReset))
			if bmc.KindOf(err) != test.kind || bmc.HintOf(err) == "" || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			list, listErr := s.List(t.Context(), "n1")
			must(t, listErr)
			if m.Partial { // stored for what it is worth, and relied upon by nobody
				if _, err := overlay.Restore(t.Context(), test.remote, s, overlay.RestoreRequest{Node: "n1", ID: m.ID}); err == nil || len(list.Backups) != 1 {
					t.Errorf("a partial backup was restored: %v", err)
				}
				return
			}
			if files := stored(t, dir); len(list.Backups) != 0 || len(files) > 1 {
				t.Errorf("left behind: %q", files)
			}
		})
	}
}

func TestBackupWarnings(t *testing.T) {
	whole := pack(t, 3000)
	s := openStore(t, t.TempDir())
	passes := 0
	shrinksOnce := scripted(func(c overlay.Command) error {
		passes++
		if passes == 1 {
			return sends(whole, "tar: ./f: File shrank by 5 bytes; padding with zeros\ntar: ./log\\nline: file changed as we read it\ntar: ./gone: File removed before we read it\ntar: ./s: socket ignored\ntar: Exiting with failure status due to previous errors\n", &overlay.ExitError{Status: 1})(c)
		}
		asked, err := io.ReadAll(c.Stdin)
		if string(asked) != "./f\x00./log\nline\x00" || err != nil {
			t.Errorf("read again: %q, %v", asked, err)
		}
		return sends(whole, "tar: ./f: file changed as we read it\n", &overlay.ExitError{Status: 1})(c)
	})
	m, err := overlay.Backup(t.Context(), shrinksOnce, s, request(overlay.PurposeReset))
	must(t, err)
	if fmt.Sprint(m.Warnings) != "[./gone: File removed before we read it]" || m.Partial || passes != 2 ||
		fmt.Sprint(m.Changed) != `[./f ./log\012line]` || len(m.Skipped) != 1 || m.Skipped[0].Path != "./s" {
		t.Errorf("%d passes: %+v", passes, m)
	}
	got, err := overlay.Check(t.Context(), s, "n1", m.ID)
	must(t, err)
	if fmt.Sprint(got) != fmt.Sprint(m) {
		t.Errorf("stored %+v, returned %+v", got, m)
	}
	many := strings.Repeat("tar: ./log: File removed before we read it\n", 1000)
	m, err = overlay.Backup(t.Context(), sends(whole, many, &overlay.ExitError{Status: 1}), s, request(overlay.PurposeDue))
	must(t, err)
	if n := len(m.Warnings); n != overlay.MaxWarnings || m.Warnings[n-1] != "… and 801 more" {
		t.Errorf("%d warnings", n)
	}
}

// TestFlippedBits changes each of many places of a stored backup: a restore
// refuses it before it asks anything of the node.
func TestFlippedBits(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	m, err := overlay.Backup(t.Context(), sends(pack(t, 3000), "", nil), s, request(overlay.PurposeReset))
	must(t, err)
	untouched := scripted(func(c overlay.Command) error {
		t.Errorf("the node was asked to run %q", c.Script)
		return nil
	})
	name := filepath.Join(dir, "n1", m.ID, overlay.ArchiveFile)
	whole, err := os.ReadFile(name)
	must(t, err)
	refuses := func(what string, b []byte) {
		must(t, os.WriteFile(name, b, 0o600))
		_, err := overlay.Restore(t.Context(), untouched, s, overlay.RestoreRequest{Node: "n1", ID: m.ID})
		if bmc.KindOf(err) != bmc.KindOverlay || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := 0; at < len(whole); at += 97 {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		refuses(fmt.Sprintf("a bit of byte %d", at), b)
	}
	refuses("a byte less", whole[:len(whole)-1])
	refuses("a byte more", append(bytes.Clone(whole), 0))
	refuses("nothing", nil)
	must(t, os.WriteFile(name, whole, 0o600))
	_, err = overlay.Check(t.Context(), s, "n1", m.ID)
	must(t, err)
}

// mountTmpfs mounts a small file system for the length of a test.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "a file system of a given size needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		testenv.Unable(t, "mount is refused: "+err.Error())
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

func TestStoreFull(t *testing.T) {
	for _, size := range []string{"size=16k", "size=256k", "size=1m"} {
		dir := mountTmpfs(t, size)
		s := openStore(t, dir)
		_, err := overlay.Backup(t.Context(), sends(pack(t, 4<<20), "", nil), s, request(overlay.PurposeReset))
		if bmc.KindOf(err) != bmc.KindOverlay || !strings.Contains(fmt.Sprint(err), "full") || !strings.Contains(bmc.HintOf(err), "make room") {
			t.Errorf("%s: %v", size, err)
		}
		if files := stored(t, dir); len(files) > 1 {
			t.Errorf("left behind: %q", files)
		}
	}
}

func TestStoreReadOnly(t *testing.T) {
	dir := mountTmpfs(t, "size=1m")
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, err := overlay.Backup(t.Context(), sends(pack(t, 10), "", nil), openStore(t, dir), request(overlay.PurposeReset))
	if bmc.KindOf(err) != bmc.KindOverlay || !strings.Contains(fmt.Sprint(err), "read-only") {
		t.Error(err)
	}
}

// cutting cuts the connection once so many bytes have passed in one direction.
type cutting struct {
	*sshremote.Conn
	script string // the beginning of the script that is cut
	after  int
}

// Run runs the command and cuts.
func (r *cutting) Run(ctx context.Context, c overlay.Command) error {
	body := c.Script
	for _, around := range []string{"# merged", "# below", "# inside"} {
		if strings.HasPrefix(c.Script, around) {
			body = c.Args[len(c.Args)-1]
		}
	}
	if strings.HasPrefix(body, r.script) {
		if r.script == "# backup" {
			c.Stdout = &counted{w: c.Stdout, cut: r.cut, after: r.after}
		} else {
			c.Stdin = &counted{r: c.Stdin, cut: r.cut, after: r.after}
		}
	}
	return r.Conn.Run(ctx, c)
}

func (r *cutting) cut() { _ = r.Close() }

type counted struct {
	r     io.Reader
	w     io.Writer
	cut   func()
	after int
}

// Read reads what is left before the cut.
func (c *counted) Read(p []byte) (int, error) {
	if c.after <= 0 {
		c.cut()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.r.Read(p[:min(len(p), c.after)])
	c.after -= n
	return n, err
}

// Write passes on what is left before the cut.
func (c *counted) Write(p []byte) (int, error) {
	if c.after -= len(p); c.after <= 0 {
		c.cut()
	}
	return c.w.Write(p)
}

func (n *node) redial(m *machine) *sshremote.Conn {
	n.t.Helper()
	config := m.config
	config.Port = n.port
	conn, err := sshremote.Dial(n.t.Context(), config)
	must(n.t, err)
	n.t.Cleanup(func() { conn.Close() })
	return conn
}

// readers gives the programs of a backup that still run on the node once they
// have had the time to notice that nobody reads.
func (n *node) readers() string {
	n.t.Helper()
	return n.run(`i=0; while [ $i -lt 50 ]; do
	left=
	for p in /proc/[0-9]*; do
		read -r name <"$p/comm" && case $name in tar | zstd | find | du) left="$left $name" ;; esac
	done 2>/dev/null
	[ -n "$left" ] || exit 0
	sleep 0.1; i=$((i+1))
done; echo "$left"`)
}

// TestCutConnections cuts backups and restores of a real node at many places. A
// backup that was cut is none; a restore that was cut is done again.
func TestCutConnections(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	n := m.boot(t, "")
	n.change()
	n.run("head -c 8000000 /dev/urandom >/lab/random") // more than can be on its way when the cut comes
	for _, after := range []int{1, 511, 40_000, 1e6, 2e6, 3e6, 4e6, 5e6, 6e6, 7e6} {
		_, err := overlay.Backup(t.Context(), &cutting{n.redial(m), "# backup", after}, s, request(overlay.PurposeReset))
		if bmc.KindOf(err) != bmc.KindSSH {
			t.Errorf("a backup cut after %d bytes: %v", after, err)
		}
		if files := stored(t, dir); len(files) > 1 {
			t.Errorf("left behind: %q", files)
		}
		if left := n.readers(); left != "" {
			t.Errorf("after a backup cut after %d bytes there still run: %s", after, left)
		}
	}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	n.hold()
	n.run("mkdir -p /lab/gone && echo stays >/lab/gone/f && echo stays >/lab/gone-dir-2")
	for _, cut := range []cutting{
		{script: "# clear", after: 100},
		{script: "# clear", after: 911},
		{script: "# extract", after: 512},
		{script: "# extract", after: 60_000},
		{script: "# extract", after: 1e6},
		{script: "# extract", after: 2e6},
		{script: "# extract", after: 3e6},
		{script: "# extract", after: 4e6},
		{script: "# extract", after: 5e6},
		{script: "# extract", after: 6e6},
		{script: "# extract", after: 7e6},
		{script: "# list", after: 30},
	} {
		cut.Conn = n.redial(m)
		_, err := overlay.Restore(t.Context(), &cut, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
		if err == nil {
			t.Errorf("%s cut after %d bytes passed for a restore", cut.script, cut.after)
		}
		running, err := overlay.Probe(t.Context(), n.conn)
		must(t, err)
		if running.Restored.ID != "" || running.Restoring.ID != manifest.ID || running.Whole() == nil {
			t.Errorf("after a cut in %s the node holds %q and receives %q: %v", cut.script, running.Restored.ID, running.Restoring.ID, running.Whole())
		}
	}
	_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, BootID: "another"})
	if err == nil || !strings.Contains(err.Error(), "booted anew") {
		t.Errorf("another boot: %v", err)
	}
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if !strings.Contains(fmt.Sprint(report.Notes), "had been cut off") {
		t.Errorf("notes: %q", report.Notes)
	}
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.Restored.ID != manifest.ID || running.Whole() != nil {
		t.Errorf("after the restore: holds %q, %v", running.Restored.ID, running.Whole())
	}
	n.run("rm -r /lab/gone/f /lab/gone-dir-2 && rmdir /lab/gone && touch -d @" + strings.Fields(before["lab"])[2] + " /lab")
	if list := differences(before, n.view()); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
}

// TestTarKilled kills tar on the node in the middle of a backup.
func TestTarKilled(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	n := m.boot(t, "")
	n.run("head -c 16000000 /dev/urandom >/lab/random")
	killer := n.redial(m)
	killed := false
	req := request(overlay.PurposeReset)
	req.Progress = func(int64) {
		if killed {
			return
		}
		killed = true
		err := killer.Run(t.Context(), overlay.Command{Script: `for p in /proc/[0-9]*; do
	if read -r name <"$p/comm" && [ "$name" = tar ]; then kill -KILL "${p#/proc/}"; fi
done`})
		if err != nil {
			t.Error(err)
		}
	}
	_, err := overlay.Backup(t.Context(), n.conn, s, req)
	if err == nil || !strings.Contains(err.Error(), "KILL") && !strings.Contains(err.Error(), "137") {
		t.Errorf("got %v", err)
	}
	if files := stored(t, dir); len(files) > 1 {
		t.Errorf("left behind: %q", files)
	}
}

// TestExclude leaves files out, whatever their names are.
func TestExclude(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("cd /lab && echo 1 >big.squashfs && mkdir sub && echo 2 >sub/other.squashfs && echo 3 >'it'\\''s' && echo 4 >kept-file")
	req := request(overlay.PurposeManual)
	req.Exclude = []string{"*.squashfs", "./lab/it's"}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, req)
	must(t, err)
	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if got := n.run("cd /lab && ls -d big.squashfs sub/* \"it's\" kept-file 2>/dev/null; true"); got != "kept-file\n" || len(report.Differences) > 0 {
		t.Errorf("got %q, %q", got, report.Differences)
	}
}

func BenchmarkBackup(b *testing.B) {
	archive := pack(b, 64<<20)
	s := openStore(b, b.TempDir())
	b.SetBytes(int64(len(archive)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := overlay.Backup(b.Context(), sends(archive, "", nil), s, request(overlay.PurposeManual))
		must(b, err)
		must(b, s.Delete(b.Context(), "n1", m.ID))
	}
}
