package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Node is one simulated machine with its BMC. Its methods are safe for
// concurrent use.
type Node struct {
	spec    NodeSpec
	dir     string // the node's directory
	address netip.Addr
	bmcAt   netip.Addr
	cert    certificate
	drive   drive

	computer   computer
	machine    *bmcsim.Machine
	attached   chan struct{} // closed once machine is set
	redfish    *web
	handshakes atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, whenever what runs has changed
}

// A computer is what a node's BMC governs: one in this process, or one in QEMU.
type computer interface {
	bmcsim.Host
	// describe fills in what runs.
	describe(*Status)
	// volume is the identity of the live image that runs, or zero.
	volume() site.Volume
	// inOverlay calls f with the overlay. The system neither comes nor goes
	// meanwhile.
	inOverlay(f func(*os.Root) error) error
	// close ends what runs.
	close() error
}

// Running is what a node runs.
type Running string

// What a node may run.
const (
	RunningNothing Running = ""     // off, in POST or still booting
	RunningLive    Running = "live" // the image on the virtual CD
	RunningDisk    Running = "disk"
)

// Status is a node at one moment.
type Status struct {
	Name       string      `json:"name"`
	Kind       bmcsim.Kind `json:"kind"`
	BMC        string      `json:"bmc"` // host:port of the Redfish service
	SSH        string      `json:"ssh"` // host:port of the ssh server
	Power      bmc.Power   `json:"power"`
	Mounted    string      `json:"mounted"` // the URL in the virtual drive
	Running    Running     `json:"running"`
	VolumeID   string      `json:"volumeId,omitempty"` // of the live image
	BootID     string      `json:"bootId,omitempty"`
	HostKey    string      `json:"hostKey,omitempty"` // SHA256:…
	Boots      int         `json:"boots"`
	Resets     int         `json:"resets"`     // resets and power cuts while it was on
	Handshakes int         `json:"handshakes"` // TLS handshakes begun with the BMC
	// Console is the path of the serial console's socket, of a node that has one. What
	// the BootID and HostKey of a node in QEMU are is known to its system alone.
	Console string `json:"console,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Name is the node's name in the site file.
func (n *Node) Name() string { return n.spec.Name }

// Machine is the node's BMC and power: what it does can be changed while it runs.
func (n *Node) Machine() *bmcsim.Machine { return n.machine }

// Upper is the directory that holds the node's overlay while it runs a live
// image. A node in QEMU has its overlay in its memory.
func (n *Node) Upper() string { return filepath.Join(n.dir, "upper") }

// Handshakes counts the TLS handshakes begun with the node's BMC.
func (n *Node) Handshakes() int { return int(n.handshakes.Load()) }

// BMCAddress is where the BMC listens, as host:port.
func (n *Node) BMCAddress() string { return hostPort(n.bmcAt, bmcPort) }

// SSHAddress is where the running node listens, as host:port.
func (n *Node) SSHAddress() string { return hostPort(n.address, sshPort) }

// PowerCut takes the node's power away; its BMC keeps running.
func (n *Node) PowerCut() { n.machine.SetPower(bmc.PowerOff) }

// BootID is that of the running system, "" when nothing runs.
func (n *Node) BootID() string { return n.Status().BootID }

// Boots counts the systems that came up, the first included.
func (n *Node) Boots() int { return n.Status().Boots }

// Volume is the identity of the live image that runs, or zero.
func (n *Node) Volume() site.Volume { return n.computer.volume() }

// Status tells how the node is now.
func (n *Node) Status() Status {
	s := Status{
		Name: n.spec.Name, Kind: n.spec.Kind, BMC: n.BMCAddress(), SSH: n.SSHAddress(),
		Power: n.machine.Power(), Mounted: n.machine.Mounted(), Resets: n.machine.Stats().PowerCycles, Handshakes: n.Handshakes(),
	}
	n.computer.describe(&s)
	return s
}

// Await returns once ok holds. It looks whenever a system has come up or gone
// down, and now and then for what the BMC does on its own. Its error is ctx's.
func (n *Node) Await(ctx context.Context, ok func(Status) bool) error {
	const pause = 20 * time.Millisecond
	again := time.NewTicker(pause)
	defer again.Stop()
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		s := n.Status()
		if ok(s) {
			return nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("sim: %s is not as awaited (power %q, runs %q, %d boots): %w", s.Name, s.Power, s.Running, s.Boots, ctx.Err())
		}
	}
}

// signal tells Await that what runs has changed.
func (n *Node) signal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.changed)
	n.changed = make(chan struct{})
}

// WriteOverlay writes a file into the overlay of a node that runs a live image.
// name is a path below /; directories are made as needed.
func (n *Node) WriteOverlay(name, content string) error {
	return n.inOverlay(name, func(root *os.Root, name string) error {
		if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		return root.WriteFile(name, []byte(content), 0o644)
	})
}

// ReadOverlay reads a file of the overlay of a node that runs a live image.
func (n *Node) ReadOverlay(name string) (content string, err error) {
	err = n.inOverlay(name, func(root *os.Root, name string) error {
		b, err := root.ReadFile(name)
		content = string(b)
		return err
	})
	return content, err
}

// inOverlay calls f with the overlay and a name in it.
func (n *Node) inOverlay(name string, f func(*os.Root, string) error) error {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return fmt.Errorf("sim: %s: that is the overlay itself, not a file in it", n.spec.Name)
	}
	return n.computer.inOverlay(func(root *os.Root) error {
		if err := f(root, name); err != nil {
			return fmt.Errorf("sim: the overlay of %s: %w", n.spec.Name, err)
		}
		return nil
	})
}

// DiskBoot powers the node off and on again, without its CD, and returns once it
// is up.
func (n *Node) DiskBoot(ctx context.Context) error {
	before := n.Boots()
	n.machine.SetPower(bmc.PowerOff)
	n.machine.SetOverride(bmc.BootOverride{Target: "None", Enabled: "Disabled"})
	n.machine.SetPower(bmc.PowerOn)
	return n.Await(ctx, func(s Status) bool { return s.Boots > before && s.Running == RunningDisk })
}

// serveBMC answers Redfish requests on l.
func (n *Node) serveBMC(l net.Listener) {
	n.redfish = serveWeb(l, n.machine.Handler(), &tls.Config{
		Certificates: []tls.Certificate{n.cert.tls},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			n.handshakes.Add(1)
			return nil, nil
		},
	})
}

// close ends the BMC and what runs.
func (n *Node) close() error {
	if n.redfish != nil {
		n.redfish.close()
	}
	n.machine.Close()
	return n.computer.close()
}

// prepare writes what the node's overlay holds at first.
func (n *Node) prepare() error {
	for name, content := range n.spec.Initial.Overlay {
		if err := n.WriteOverlay(name, content); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
