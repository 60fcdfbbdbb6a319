package sim_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm/vmtest"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// inQEMU is a site of one node in QEMU, with an image and a disk that boot.
func inQEMU(t *testing.T, spec sim.NodeSpec) (*sim.Site, *sim.Node) {
	t.Helper()
	if err := vm.Installed(); err != nil {
		testenv.Unable(t, err.Error())
	}
	dir := t.TempDir()
	var iso bytes.Buffer
	if err := vmtest.CD(&iso, "TINY-1", "tiny", time.Date(2026, 11, 2, 16, 30, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tiny.iso"), iso.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := vmtest.Disk(filepath.Join(dir, "disk.img"), "disk"); err != nil {
		t.Fatal(err)
	}
	cfg := fast(filepath.Join(dir, "site"))
	spec.Name, spec.QEMU = "n1", true
	cfg.Nodes, cfg.Want = []sim.NodeSpec{spec}, "tiny"
	cfg.Images = []sim.ImageSpec{{Name: "tiny", File: filepath.Join(dir, "tiny.iso")}}
	cfg.QEMU = sim.QEMU{Disk: filepath.Join(dir, "disk.img"), MemoryMiB: 64, CPUs: 1}
	s := start(t, cfg)
	return s, s.Node("n1")
}

var off = sim.InitialState{Off: true}

// fromCD mounts the image and powers the node on, as an administrator does.
func fromCD(t *testing.T, s *sim.Site, n *sim.Node) {
	t.Helper()
	client := n.Machine().Client()
	for _, step := range []func() error{
		func() error { return client.InsertMedia(t.Context(), s.ImageURL("tiny")) },
		func() error { return client.SetBootOnce(t.Context()) },
		func() error { return client.Reset(t.Context(), bmc.PowerUp) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// press types a key on the node's console.
func press(t *testing.T, n *sim.Node, key string) {
	t.Helper()
	c, err := net.Dial("unix", n.Status().Console)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write([]byte(key)); err != nil {
		t.Fatal(err)
	}
}

func isOff(s sim.Status) bool { return s.Power == bmc.PowerOff && s.Running == sim.RunningNothing }

func TestQEMUBootsWhatIsMounted(t *testing.T) {
	for _, kind := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.Gigabyte} {
		t.Run(string(kind), func(t *testing.T) {
			s, n := inQEMU(t, sim.NodeSpec{Kind: kind, Initial: off})
			fromCD(t, s, n)
			st := await(t, n, bootsFrom(1, sim.RunningLive))
			if st.VolumeID != "TINY-1" || n.Volume().Created != "2026-11-02T16:30:00.00+00:00" || st.Error != "" {
				t.Errorf("the node runs %+v, volume %+v", st, n.Volume())
			}
			if reads, bytes := s.ImageReads("tiny"), s.ImageBytes("tiny"); reads < 2 || bytes < 2048 {
				t.Errorf("%d range requests for %d bytes of the image", reads, bytes)
			}
			// The override is spent: a reset boots the disk.
			if err := n.Machine().Client().Reset(t.Context(), bmc.Restart); err != nil {
				t.Fatal(err)
			}
			if st = await(t, n, bootsFrom(2, sim.RunningDisk)); st.Resets != 1 || st.VolumeID != "" || st.Mounted == "" {
				t.Errorf("after the reset: %+v", st)
			}
		})
	}
}

func TestQEMUShutsDownWhenAsked(t *testing.T) {
	_, n := inQEMU(t, sim.NodeSpec{})
	if st := n.Status(); st.Running != sim.RunningDisk {
		t.Fatalf("at first the node is %+v", st)
	}
	client := n.Machine().Client()
	if err := client.Reset(t.Context(), bmc.GracefulShutdown); err != nil {
		t.Fatal(err)
	}
	await(t, n, isOff)
	if n.Machine().Stats().Shutdowns != 1 || n.Machine().Stats().PowerCycles != 0 {
		t.Errorf("the BMC counts %+v", n.Machine().Stats())
	}
}

func TestQEMUEndsItself(t *testing.T) {
	_, n := inQEMU(t, sim.NodeSpec{})
	press(t, n, "r")
	if st := await(t, n, bootsFrom(2, sim.RunningDisk)); st.Power != bmc.PowerOn || st.Resets != 0 {
		t.Errorf("after a reset of its own the node is %+v", st)
	}
	press(t, n, "p")
	await(t, n, isOff)
}

func TestQEMUPowerCut(t *testing.T) {
	s, n := inQEMU(t, sim.NodeSpec{Initial: off})
	for range 5 { // in mid-boot, wherever it is
		fromCD(t, s, n)
		n.PowerCut()
		if st := n.Status(); st.Power != bmc.PowerOff {
			t.Errorf("after the power cut: %+v", st)
		}
		if err := n.Machine().Client().EjectMedia(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	fromCD(t, s, n)
	await(t, n, bootsFrom(1, sim.RunningLive))
	n.PowerCut()
	await(t, n, isOff)
}

func TestQEMUWithoutAReadableCDRunsItsDisk(t *testing.T) {
	for name, prepare := range map[string]func(*sim.Site, *sim.Node){
		"unreadable": func(s *sim.Site, n *sim.Node) { n.Machine().SetMounted(s.ImageURL("no-such")) },
		"ignored": func(s *sim.Site, n *sim.Node) {
			n.Machine().SetMounted(s.ImageURL("tiny"))
			n.Machine().SetBehaviour(bmcsim.Behaviour{IgnoreCd: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, n := inQEMU(t, sim.NodeSpec{Initial: off})
			prepare(s, n)
			n.Machine().SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
			n.Machine().SetPower(bmc.PowerOn)
			await(t, n, bootsFrom(1, sim.RunningDisk))
		})
	}
}

func TestQEMUSeesTheDriveChange(t *testing.T) {
	s, n := inQEMU(t, sim.NodeSpec{Initial: sim.InitialState{Image: "tiny"}})
	if st := n.Status(); st.Running != sim.RunningLive {
		t.Fatalf("at first the node is %+v", st)
	}
	client := n.Machine().Client()
	if err := client.EjectMedia(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.InsertMedia(t.Context(), s.ImageURL("tiny")); err != nil {
		t.Fatal(err)
	}
	n.Machine().SetMounted(s.ImageURL("no-such"))
	if st := await(t, n, func(st sim.Status) bool { return st.Error != "" }); !strings.Contains(st.Error, "404") {
		t.Errorf("with an image that is not there: %+v", st)
	}
}

func TestQEMUSiteFile(t *testing.T) {
	s, n := inQEMU(t, sim.NodeSpec{Initial: off})
	loaded, err := siteload.Load(s.SiteFile())
	if err != nil {
		t.Fatal(err)
	}
	node := loaded.Nodes[0]
	if node.Console.Socket != n.Status().Console || n.Status().Console == "" || node.Boot.Within != 10*time.Minute {
		t.Errorf("the site file has %+v", node)
	}
	if err := n.WriteOverlay("etc/motd", "x"); err == nil || !strings.Contains(err.Error(), n.Status().Console) {
		t.Errorf("WriteOverlay = %v", err)
	}
	if _, err := sim.Start(t.Context(), sim.Config{
		Dir: t.TempDir(), Site: "x", Images: []sim.ImageSpec{{Name: "own", File: s.SiteFile()}},
	}); err == nil || !strings.Contains(err.Error(), "no ISO image") {
		t.Errorf("a site file served as an image: %v", err)
	}
}

// TestOwnImageIsNeverWrittenTo: the next simulation in the directory makes an
// image of the same name.
func TestOwnImageIsNeverWrittenTo(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "own.iso")
	var iso bytes.Buffer
	if err := vmtest.CD(&iso, "OWN", "own", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, iso.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, image := range []sim.ImageSpec{{Name: "pit", File: own}, {Name: "pit", VolumeID: "PIT"}, {Name: "pit", File: own}} {
		s, err := sim.Start(t.Context(), sim.Config{Dir: filepath.Join(dir, "site"), Site: "x", Images: []sim.ImageSpec{image}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(own); err != nil || !bytes.Equal(b, iso.Bytes()) {
		t.Errorf("the image was written to: %v", err)
	}
}
