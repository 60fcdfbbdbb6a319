package overlay_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/localremote"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// scratchDir is a directory that an upper dir may lie in.
func scratchDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		testenv.Unable(t, "no tmpfs can be mounted: "+err.Error())
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

// TestVerifyDeep restores a backup of a running system here, into an overlay of
// its own.
func TestVerifyDeep(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run("rm /lab/huge") // all of it would be read
	made, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	dir := scratchDir(t)
	var sent int64
	notes, err := overlay.VerifyDeep(t.Context(), localremote.Remote{}, s, "n1", made.ID, dir, func(n int64) { sent = n })
	must(t, err)
	if len(notes) > 0 || sent == 0 {
		t.Errorf("%d bytes restored; not compared: %q", sent, notes)
	}
	for _, name := range []string{"rw/lab/capable", "rw/lab/opaque/new"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	if strings.Contains(string(mounts), dir+"/merged") {
		t.Error("the scratch overlay is still mounted")
	}
	// A directory that is not empty is not written into.
	if _, err := overlay.VerifyDeep(t.Context(), localremote.Remote{}, s, "n1", made.ID, dir, nil); err == nil {
		t.Error("it was restored over what was there")
	}
}

// TestVerifyContentsOfNothing: a backup without a regular file has no contents to
// compare, which is no fault of it.
func TestVerifyContentsOfNothing(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("mkdir /lab/only-a-dir")
	made, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	if made.Counts.Files > 0 {
		t.Fatalf("there are files: %+v", made.Counts)
	}
	_, err = overlay.VerifyDeep(t.Context(), localremote.Remote{}, s, "n1", made.ID, scratchDir(t), nil)
	must(t, err)
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: made.ID, Verify: true})
	must(t, err)
	if len(report.Differences) > 0 {
		t.Errorf("report: %+v", report)
	}
}
