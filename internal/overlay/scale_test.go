package overlay_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// TestManySmallFiles takes 200,000 files there and back.
func TestManySmallFiles(t *testing.T) {
	const dirs, each = 200, 1000
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	for i := range dirs {
		dir := fmt.Sprintf("%s/lab/many/%d", n.root, i)
		must(t, os.MkdirAll(dir, 0o755))
		for j := range each {
			must(t, os.WriteFile(fmt.Sprintf("%s/file-%d", dir, j), fmt.Appendf(nil, "%d of %d", j, i), 0o644))
		}
	}
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	if got.Counts.Files != dirs*each {
		t.Errorf("counts: %+v", got.Counts)
	}
	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
	must(t, err)
	if len(report.Differences)+len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
	if data, err := os.ReadFile(n.root + "/lab/many/199/file-999"); string(data) != "999 of 199" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

// TestHugeSparseFile takes a file of 5 GiB that is holes but for its ends there
// and back: neither the node nor the store ever holds it in full.
func TestHugeSparseFile(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("cd /lab && printf begin >huge && truncate -s 5G huge && printf end >>huge")
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	if got.RawBytes > 64<<20 || got.StoredBytes > 1<<20 {
		t.Errorf("%d bytes, %d of them stored: the holes are in it", got.RawBytes, got.StoredBytes)
	}
	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
	must(t, err)
	if len(report.Differences)+len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
	var st unix.Stat_t
	must(t, unix.Stat(n.root+"/lab/huge", &st))
	if st.Size != 5<<30+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	f, err := os.Open(n.root + "/lab/huge")
	must(t, err)
	defer f.Close()
	begin, end := make([]byte, 5), make([]byte, 3)
	_, err = f.ReadAt(begin, 0)
	must(t, err)
	_, err = f.ReadAt(end, 5<<30)
	must(t, err)
	if string(begin)+string(end) != "beginend" {
		t.Errorf("%q, %q", begin, end)
	}
}

// TestFilesThatComeAndGo backs up while files shrink, are replaced and vanish:
// what is called good is what a restore brings back.
func TestFilesThatComeAndGo(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && mkdir busy && head -c 20000000 /dev/urandom >bulk
(cd busy; i=0; while :; do i=$((i+1)); echo $i >f$((i%300)); rm -f f$(((i*7)%300)); mkdir -p d$((i%9))/x; rm -rf d$(((i*5)%9)); done) </dev/null >/dev/null 2>&1 &
(while :; do truncate -s 30000000 shrinks; truncate -s 100 shrinks; done) </dev/null >/dev/null 2>&1 &`)
	req := request(overlay.PurposeManual)
	req.AllowPartial = true
	for range 3 {
		req.Whole = true
		got, err := overlay.Backup(t.Context(), n.conn, s, req)
		must(t, err)
		t.Logf("changed %q, partial %v, warnings %d", got.Changed, got.Partial, len(got.Warnings))
		if got.Partial && !strings.Contains(strings.Join(got.Warnings, " "), "shrinks") {
			t.Errorf("partial, and why is not told: %q", got.Warnings)
		}
		if _, err := overlay.Verify(t.Context(), s, "n1", got.ID); err != nil {
			t.Error(err)
		}
		if got.Partial {
			continue
		}
		fresh := m.boot(t, "")
		report, err := overlay.Restore(t.Context(), fresh.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
		must(t, err)
		if len(report.Differences) > 0 {
			t.Errorf("differences: %q", report.Differences)
		}
	}
}

// TestNoRoom refuses a backup before anything is read when it cannot fit.
func TestNoRoom(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		testenv.Unable(t, err.Error())
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	n := m.boot(t, "")
	n.run("head -c 40000000 /dev/zero >/lab/zeros")
	read := int64(0)
	req := request(overlay.PurposeReset)
	req.Progress = func(n int64) { read = n }
	_, err := overlay.Backup(t.Context(), n.conn, openStore(t, dir), req)
	if err == nil || !strings.Contains(err.Error(), "it has room for") || read > 0 {
		t.Errorf("%v, after %d bytes", err, read)
	}
}
