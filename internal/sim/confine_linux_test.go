package sim_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

func TestNothingLeavesTheNodesDirectory(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	outside := t.TempDir()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "esc/f", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	mustRun(t, s, n, "ln -s "+outside+" /esc && cd / && ln -s ../../../../../../../../.."+outside+" rel", nil)
	for _, script := range []string{
		"echo x >/esc/f", "echo x >/rel/f", "echo x >" + outside + "/f", "touch /esc/f", "cd / && touch esc/f",
		"touch ../../../../../../.." + outside + "/f", "echo " + outside + "/f | xargs touch",
		"dd if=/proc/cmdline of=/esc/f", "chroot /esc touch f", "mv /etc/hostname /esc/f", "mkdir /esc/f",
	} {
		_, _, _ = run(t, s, n, script, nil)
		if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
			t.Fatalf("%s wrote outside: %v, %v", script, left, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		testenv.Unable(t, "this kernel has no Landlock, which keeps tar from following links")
	}
	_, _, status := run(t, s, n, "cd / && tar xf -", &archive)
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 || status == 0 {
		t.Errorf("tar wrote outside: %v, %v, status %d", left, err, status)
	}
}

func TestFIFODoesNotBlock(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	if err := unix.Mkfifo(filepath.Join(n.Upper(), "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := mustRun(t, s, n, "cat /fifo; cat </fifo", nil); got != "" {
		t.Errorf("a FIFO without a writer gives %q", got)
	}
}
