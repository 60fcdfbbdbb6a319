package e2e_test

import (
	"bytes"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
)

func isUp(s sim.Status) bool { return s.Running != sim.RunningNothing || s.Error != "" }

// TestLiveImageBoots: from power off to a login prompt and back, in both layouts.
func TestLiveImageBoots(t *testing.T) {
	for _, boot := range []struct {
		image string
		kind  bmcsim.Kind
	}{{"pit-1.7", bmcsim.ILO5}, {"pit-old-1.7", bmcsim.Gigabyte}} {
		t.Run(boot.image, func(t *testing.T) {
			image := boot.image
			m := newMachine(t, boot.kind, image)
			c := m.bmc()
			m.switchOn(c, image)
			took := m.await(isUp)
			s := m.node.Status()
			t.Logf("%-28s %6.1f s, %.1f MB of the image in %d requests", "boot to a login prompt",
				took.Seconds(), float64(m.site.ImageBytes(image))/1e6, m.site.ImageReads(image))
			if s.Running != sim.RunningLive || s.VolumeID != strings.ToUpper(image) || s.Error != "" {
				t.Errorf("the node runs %+v", s)
			}
			if !strings.Contains(m.screen(), "PIT 1.7 pit ttyS0") {
				t.Errorf("the console showed %q", m.screen())
			}
			m.shutDown(c)
		})
	}
}

// TestDiskBootsInstead: a BMC that spends the override on the disk.
func TestDiskBootsInstead(t *testing.T) {
	m := newMachine(t, bmcsim.ILO5, "pit-1.7")
	m.node.Machine().SetBehaviour(bmcsim.Behaviour{IgnoreCd: true})
	c := m.bmc()
	m.switchOn(c, "pit-1.7")
	took := m.await(isUp)
	t.Logf("%-28s %6.1f s", "boot to a login prompt", took.Seconds())
	if s := m.node.Status(); s.Running != sim.RunningDisk || s.Mounted == "" {
		t.Errorf("the node runs %+v", s)
	}
	if got := m.ssh("hostname; grep ' / ' /proc/mounts"); !strings.HasPrefix(got, "disk\n/dev/vda2 / ext4 ") {
		t.Errorf("over ssh the node says %q", got)
	}
	m.shutDown(c)
}

// TestPowerIsCutInMidBoot: nothing is left of the boot, and the next one is as any.
func TestPowerIsCutInMidBoot(t *testing.T) {
	m := newMachine(t, bmcsim.ILO5, "pit-1.7")
	m.node.Machine().SetMounted(m.site.ImageURL("pit-1.7"))
	m.node.Machine().SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
	m.node.Machine().SetPower(bmc.PowerOn)
	const kernelAndInitrd = 40e6 // bytes: then the image's own system begins
	m.await(func(sim.Status) bool { return m.site.ImageBytes("pit-1.7") > kernelAndInitrd })
	m.node.PowerCut()
	if s := m.node.Status(); s.Power != bmc.PowerOff {
		t.Errorf("after the power cut: %+v", s)
	}
	m.node.Machine().SetPower(bmc.PowerOn)
	m.await(isUp)
	if s := m.node.Status(); s.Running != sim.RunningDisk || s.Boots != 1 {
		t.Errorf("the override was spent, and yet the node runs %+v", s)
	}
}

// ssh runs a command on the node, as root with the site's identity.
func (m machine) ssh(command string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.want.SSH.Identity)
	if err != nil {
		m.t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		m.t.Fatal(err)
	}
	c := m.dial(&ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: time.Minute,
		HostKeyCallback: func(string, net.Addr, ssh.PublicKey) error { return nil }, // made at this boot
	})
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		m.t.Fatal(err)
	}
	defer session.Close()
	var out, errs bytes.Buffer
	session.Stdout, session.Stderr = &out, &errs
	if err := session.Run(command); err != nil {
		m.t.Fatalf("%s: %v: %s", command, err, errs.String())
	}
	return out.String()
}

// dial waits for an ssh server. The port is forwarded as long as the power is on,
// whether or not somebody listens in the guest.
func (m machine) dial(conf *ssh.ClientConfig) *ssh.Client {
	m.t.Helper()
	const pause = 200 * time.Millisecond
	for begun := time.Now(); ; {
		c, err := ssh.Dial("tcp", m.node.SSHAddress(), conf)
		if err == nil {
			return c
		}
		if time.Since(begun) > bootWithin {
			m.t.Fatal(err)
		}
		if err := (bmc.SystemClock{}).Sleep(m.t.Context(), pause); err != nil {
			m.t.Fatal(err)
		}
	}
}
