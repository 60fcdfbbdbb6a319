package e2e_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/secret"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// imagesEnv names the directory that build-iso filled.
const imagesEnv = "LIVECD_SYNC_E2E"

func TestMain(m *testing.M) {
	if os.Getenv(imagesEnv) == "" {
		fmt.Println("no machine is booted: make e2e does that")
		return
	}
	goleak.VerifyTestMain(m)
}

// bootWithin is how long a boot may take: 35 s on a quiet machine of two
// processors, several times that on a busy one.
const bootWithin = 5 * time.Minute

// machine is a site of one node in QEMU, powered off.
type machine struct {
	t    *testing.T
	site *sim.Site
	node *sim.Node
	want site.Node // as the site file has it
}

func newMachine(t *testing.T, kind bmcsim.Kind, images ...string) machine {
	t.Helper()
	dir := os.Getenv(imagesEnv)
	cfg := sim.Default(t.TempDir())
	cfg.Nodes = []sim.NodeSpec{{Name: "n1", Kind: kind, QEMU: true, Initial: sim.InitialState{Off: true}}}
	cfg.QEMU, cfg.Images, cfg.Want = sim.QEMU{Disk: filepath.Join(dir, "disk.img")}, nil, images[0]
	for _, name := range images {
		cfg.Images = append(cfg.Images, sim.ImageSpec{Name: name, File: filepath.Join(dir, name+".iso")})
	}
	s, err := sim.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	loaded, err := siteload.Load(s.SiteFile())
	if err != nil {
		t.Fatal(err)
	}
	return machine{t: t, site: s, node: s.Node("n1"), want: loaded.Nodes[0]}
}

// bmc connects to the BMC as the program does.
func (m machine) bmc() bmc.Client {
	m.t.Helper()
	profiles, err := siteload.Profiles()
	if err != nil {
		m.t.Fatal(err)
	}
	password, err := new(secret.Keeper).Get(m.t.Context(), m.want.BMC.Password)
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := redfish.Open(m.t.Context(), redfish.Config{
		Node: m.want.Name, URL: m.want.BMC.URL, TLS: m.trust(), ProfileName: m.want.BMC.Profile,
		Credential: bmc.Credential{Username: m.want.BMC.Username, Password: password}, Profiles: profiles,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (m machine) trust() redfish.TLS {
	m.t.Helper()
	tls := redfish.TLS{Fingerprint: m.want.BMC.TLS.Fingerprint}
	if m.want.BMC.TLS.CA == "" {
		return tls
	}
	pem, err := os.ReadFile(m.want.BMC.TLS.CA)
	if err != nil {
		m.t.Fatal(err)
	}
	tls.CA = x509.NewCertPool()
	tls.CA.AppendCertsFromPEM(pem)
	return tls
}

// await waits until the node is as wanted, and gives how long that took.
func (m machine) await(ok func(sim.Status) bool) time.Duration {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), bootWithin)
	defer cancel()
	begun := time.Now()
	if err := m.node.Await(ctx, ok); err != nil {
		m.t.Log(m.screen())
		m.t.Fatal(err)
	}
	return time.Since(begun)
}

// screen is what the console showed.
func (m machine) screen() string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(m.node.Status().Console), "console.log"))
	return string(b)
}

// step does one thing to the BMC, and tells how long it took.
func (m machine) step(what string, err error, begun time.Time) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%s: %v", what, err)
	}
	m.t.Logf("%-28s %6.1f s", what, time.Since(begun).Seconds())
}

// switchOn mounts the image for the next boot, and powers the machine on.
func (m machine) switchOn(c bmc.Client, image string) {
	m.t.Helper()
	now := time.Now()
	m.step("insert "+image, c.InsertMedia(m.t.Context(), m.site.ImageURL(image)), now)
	now = time.Now()
	m.step("boot once from the CD", c.SetBootOnce(m.t.Context()), now)
	now = time.Now()
	m.step("power on", c.Reset(m.t.Context(), bmc.PowerUp), now)
}

func (m machine) shutDown(c bmc.Client) {
	m.t.Helper()
	if err := c.Reset(m.t.Context(), bmc.GracefulShutdown); err != nil {
		m.t.Fatal(err)
	}
	took := m.await(func(s sim.Status) bool { return s.Power == bmc.PowerOff })
	m.t.Logf("%-28s %6.1f s", "graceful shutdown", took.Seconds())
	if n := m.node.Machine().Stats(); n.Shutdowns != 1 || n.PowerCycles != 0 {
		m.t.Errorf("the machine did not shut down by itself: %+v", n)
	}
}
