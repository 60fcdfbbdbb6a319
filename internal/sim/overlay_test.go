package sim_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// dial connects to a node as livecd-sync does.
func dial(t *testing.T, s *sim.Site, n *sim.Node) *sshremote.Conn {
	t.Helper()
	host, port, err := net.SplitHostPort(n.SSHAddress())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c, err := sshremote.Dial(t.Context(), sshremote.Config{
		Address: host, Port: number, User: "root", HostKey: site.HostKey{Any: true},
		Identity: filepath.Join(filepath.Dir(s.SiteFile()), "secrets", "id_ed25519"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestOverlayIsSavedAndRestored runs the scripts of package overlay on a
// simulated node.
func TestOverlayIsSavedAndRestored(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: sim.InitialState{Image: "pit-1.6", Overlay: map[string]string{"etc/motd": "by hand\n", "srv/big.squashfs": "large\n"}}})
	backups, err := store.Open(site.Store{Name: "admin", URL: "file://" + filepath.Join(t.TempDir(), "backups")}, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, s, n)
	running, err := overlay.Probe(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	volume, err := media.ParseVolume(running.PVD)
	if err != nil || running.BootID != n.BootID() || volume != n.Volume() || !running.Live {
		t.Errorf("Probe = %+v with volume %+v, %v; the node runs %+v in boot %s", running, volume, err, n.Volume(), n.BootID())
	}
	m, err := overlay.Backup(t.Context(), conn, backups, overlay.BackupRequest{Node: n.Name(), Running: running, Exclude: []string{"*.squashfs"}})
	if err != nil {
		t.Fatal(err)
	}
	n.PowerCut()
	n.Machine().SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
	n.Machine().SetPower(bmc.PowerOn)
	await(t, n, bootsFrom(2, sim.RunningLive))
	if _, err := n.ReadOverlay("etc/motd"); err == nil {
		t.Fatal("the overlay survived a power cut")
	}
	conn = dial(t, s, n)
	report, err := overlay.Restore(t.Context(), conn, backups, overlay.RestoreRequest{Node: n.Name(), ID: m.ID})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Differences) > 0 || len(report.Warnings) > 0 {
		t.Errorf("Restore = %+v, want no differences and no warnings", report)
	}
	if got, err := n.ReadOverlay("etc/motd"); got != "by hand\n" {
		t.Errorf("etc/motd is %q, %v after the restore", got, err)
	}
	if _, err := n.ReadOverlay("srv/big.squashfs"); err == nil {
		t.Error("what was left out of the backup is there")
	}
	again, err := overlay.Probe(t.Context(), conn)
	if err != nil || again.Restored.ID != m.ID {
		t.Errorf("after the restore the node tells of backup %q, %v, want %q", again.Restored.ID, err, m.ID)
	}
	live := filepath.Join(filepath.Dir(s.SiteFile()), "nodes", n.Name(), "run", "initramfs", "live", "LiveOS")
	if err := errors.Join(os.MkdirAll(live, 0o755), os.WriteFile(filepath.Join(live, "big"), []byte("large\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if running, err = overlay.Probe(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	put, err := overlay.Repopulate(t.Context(), conn, running, m, func(name string) (overlay.Supply, bool) {
		return overlay.Supply{From: "the image", Medium: "/LiveOS/big"}, name == "/srv/big.squashfs"
	})
	if got, readErr := n.ReadOverlay("srv/big.squashfs"); err != nil || put.Put != 1 || got != "large\n" {
		t.Errorf("Repopulate = %+v, %v; it is %q, %v", put, err, got, readErr)
	}
}
