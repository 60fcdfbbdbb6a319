package overlay_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// later waits until what was done before is no longer looked at again.
func later() { time.Sleep(5 * time.Second) }

// TestSecondBackup changes everything that can be changed between two backups of
// a boot: the second one moves little, and is whole.
func TestSecondBackup(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run(`cd /lab && mkdir many && cd many && i=0 && while [ $i -lt 300 ]; do head -c 20000 /dev/urandom >$i; i=$((i+1)); done
ln 7 ../seven && ln 8 eight && ln 9 nine`)
	later()
	first, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	later()
	n.run(`cd /lab && echo x >>many/1 && rm many/2 && mv many/3 many/three && chmod 600 many/4 && setfattr -n user.later -v 1 many/5
rm many/7 && rm many/eight && ln many/9 many/neuf && touch -r many/10 ref && echo y >many/10 && touch -r ref many/10
rm kept/a/b/f && rm -rf 'odd names' && mkdir 'odd names' && echo z >'odd names/z' && mv moved moved-2 && setfacl -m u:99:r many/11 && rm fifo`)
	second, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	t.Logf("the first moved %d bytes, the second %d and copied %d of %d members", first.MovedBytes, second.MovedBytes, second.Copied, second.Counts.Entries)
	if second.Base != first.ID || second.Copied < 280 || second.MovedBytes*10 > first.MovedBytes || len(second.Warnings) > 0 {
		t.Errorf("the second: %+v", second)
	}
	before := n.view()
	// Whatever came before it may go.
	must(t, s.Delete(t.Context(), "n1", first.ID))
	later()
	third, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	if third.Base != second.ID || third.Counts != second.Counts {
		t.Errorf("the third: %+v", third)
	}

	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: third.ID})
	must(t, err)
	if len(report.Differences) > 0 {
		t.Errorf("report: %+v", report)
	}
	if list := differences(before, n.view()); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
	after, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	if after.Base != "" {
		t.Errorf("a backup of another boot leans on %s", after.Base)
	}
}

// TestRenamedSince gives directories and files names that the base has for others,
// of the same size and time: a rename leaves what lies in a directory as it was.
func TestRenamedSince(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && mkdir -p app/deep/er app.new/deep/er top/v1 top/v2 few && for d in app app.new top/v1 top/v2; do
	mkdir -p $d/deep/er && echo $d | md5sum >$d/bin && echo $d/f | md5sum >$d/deep/er/f; ln $d/bin $d/linked; done
echo one >few/a && echo two >few/b && find . -exec touch -h -d 2001-01-01 {} +`)
	later()
	base, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	later()
	n.run(`cd /lab && mv app app.old && mv app.new app && mv top/v1 v && mv top/v2 top/v1 && mv v top/v2
mv few/a few/c && mv few/b few/a && mv few/c few/b`) // no touch: it would move every ctime
	last, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	t.Logf("base %q, copied %d, warnings %q", last.Base, last.Copied, last.Warnings)
	before := n.view()
	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: last.ID})
	must(t, err)
	if list := differences(before, n.view()); len(list)+len(report.Differences) > 0 {
		t.Errorf("since %s: %d differences:\n%s\n%q", base.ID, len(list), strings.Join(list, "\n"), report.Differences)
	}
}

// TestResetReadsEverything: a write through a shared mapping moves no time on a
// tmpfs, and is in the backup that a reset relies on all the same.
func TestResetReadsEverything(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("cd /lab && head -c 4096 /dev/zero >mapped")
	f, err := os.OpenFile(n.root+"/lab/mapped", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(memory)
	memory[0] = 'a'
	later()
	_, err = overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	later()
	copy(memory, "by mapping")
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n = m.boot(t, "")
	_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
	must(t, err)
	if data := n.run("head -c 10 /lab/mapped"); data != "by mapping" || got.Base != "" {
		t.Errorf("restored %q, of base %q", data, got.Base)
	}
}

// TestBaseIsRefused looks at what makes an earlier backup of no use.
func TestBaseIsRefused(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	s := openStore(t, dir)
	n := m.boot(t, "")
	n.run("cd /lab && echo 1 >one && echo 2 >two.squashfs")
	base, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	again := func(change func(*overlay.BackupRequest)) overlay.Manifest {
		t.Helper()
		req := request(overlay.PurposeManual)
		req.Running = running
		change(&req)
		got, err := overlay.Backup(t.Context(), n.conn, s, req)
		must(t, err)
		must(t, s.Delete(t.Context(), "n1", got.ID))
		return got
	}
	if got := again(func(*overlay.BackupRequest) {}); got.Base != base.ID {
		t.Errorf("base %q, want %q", got.Base, base.ID)
	}
	for name, change := range map[string]func(*overlay.BackupRequest){
		"it was asked for":         func(r *overlay.BackupRequest) { r.Whole = true },
		"other excludes":           func(r *overlay.BackupRequest) { r.Exclude = []string{"*.squashfs"} },
		"the clock was set":        func(r *overlay.BackupRequest) { r.Running.Clock.Time += 60 },
		"the clock was set back":   func(r *overlay.BackupRequest) { r.Running.Clock.Time -= 60 },
		"the clock is not told":    func(r *overlay.BackupRequest) { r.Running.Clock = overlay.Clock{} },
		"another upper dir":        func(r *overlay.BackupRequest) { r.Path = "/run/overlay/overlayfs/../overlayfs/rw" },
		"of another site's backup": func(r *overlay.BackupRequest) { r.Site = "elsewhere" },
	} {
		if got := again(change); got.Base != "" {
			t.Errorf("%s: base %q", name, got.Base)
		}
	}
	name := fmt.Sprintf("%s/n1/%s/%s", dir, base.ID, overlay.ArchiveFile)
	archive, err := os.ReadFile(name)
	must(t, err)
	archive[len(archive)/2] ^= 1
	must(t, os.WriteFile(name, archive, 0o600))
	if got := again(func(*overlay.BackupRequest) {}); got.Base != "" || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], base.ID) {
		t.Errorf("from a damaged base: %+v", got)
	}
}

// TestWhatIsNotInIt names what no archive holds and what was left out.
func TestWhatIsNotInIt(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && mkdir iso && head -c 5000 /dev/zero >iso/a.squashfs && ln -s a.squashfs iso/b.squashfs && echo kept >iso/kept
echo secret >gone && (exec tail -f gone </dev/null >/dev/null 2>&1 & sleep 0.3) && rm gone
cat >sock.py <<'END'
import socket
socket.socket(socket.AF_UNIX).bind("sock")
END
python3 sock.py && rm sock.py`)
	req := request(overlay.PurposeReset)
	req.Exclude = []string{"*.squashfs"}
	got, err := overlay.Backup(t.Context(), n.conn, s, req)
	must(t, err)
	if len(got.LeftOut) != 2 || got.LeftOut[0].Path != "./lab/iso/a.squashfs" || got.LeftOut[0].Bytes != 5000 ||
		got.LeftOut[0].SHA256 != strings.Fields(n.run("head -c 5000 /dev/zero | sha256sum"))[0] || got.LeftOut[1].SHA256 != "" {
		t.Errorf("left out: %+v", got.LeftOut)
	}
	var skipped []string
	for _, k := range got.Skipped {
		skipped = append(skipped, k.Path)
	}
	if fmt.Sprint(skipped) != "[./lab/sock ./lab/gone]" {
		t.Errorf("skipped: %+v", got.Skipped)
	}
}
