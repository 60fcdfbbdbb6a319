package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// inProcess is a computer whose systems run in this process.
type inProcess struct {
	node     *Node
	login    login
	bootTime time.Duration // POST's end to ssh
	serial   *serial       // nil without a first login

	mu      sync.Mutex
	running *system // nil while nothing runs
	failed  error   // why the last boot came to nothing
	started int     // boots that came up
	cancel  context.CancelFunc
	booting sync.WaitGroup
}

func (p *inProcess) describe(s *Status) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Boots = p.started
	if p.serial != nil {
		s.Console = p.serial.path()
	}
	if p.failed != nil {
		s.Error = p.failed.Error()
	}
	if r := p.running; r != nil {
		s.Running, s.VolumeID, s.BootID = RunningDisk, r.volume.ID, r.bootID
		s.HostKey = ssh.FingerprintSHA256(r.sshd.hostKey)
		if r.live {
			s.Running = RunningLive
		}
	}
}

func (p *inProcess) volume() site.Volume {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return site.Volume{}
	}
	return p.running.volume
}

func (p *inProcess) inOverlay(f func(*os.Root) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := p.node.spec.Name
	if p.running == nil || !p.running.live {
		return fmt.Errorf("sim: %s runs no live image: it has no overlay now", name)
	}
	root, err := os.OpenRoot(p.node.Upper())
	if err != nil {
		return fmt.Errorf("sim: open the overlay of %s: %w", name, err)
	}
	defer root.Close()
	return f(root)
}

// Start boots; it returns at once.
func (p *inProcess) Start(b bmcsim.Boot) {
	ctx, cancel := context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = cancel
	p.booting.Go(func() {
		err := p.boot(ctx, b.Image)
		if err != nil && ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.failed = err
		p.mu.Unlock()
		p.node.signal()
	})
}

// Shutdown ends what runs.
func (p *inProcess) Shutdown(off func()) {
	p.Stop()
	off()
}

// Stop ends what runs, or boots, and returns once it is gone.
func (p *inProcess) Stop() {
	p.mu.Lock()
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.booting.Wait()
	p.mu.Lock()
	gone := p.running
	p.running, p.cancel = nil, nil
	p.mu.Unlock()
	p.node.signal()
	if gone != nil {
		gone.sshd.stop()
	}
}

func (p *inProcess) close() error {
	var err error
	if p.serial != nil {
		err = p.serial.close()
	}
	p.Stop()
	return err
}

// system is what runs, or nil.
func (p *inProcess) system() *system {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// who may log in over ssh to a system.
func (p *inProcess) who(s *system) login {
	who := p.login
	if p.serial != nil && s.live {
		who.password = "" // nobody's
		who.letsIn = func(key ssh.PublicKey) bool { return p.serial.letsIn(s, key) }
	}
	return who
}

// boot brings a system up: from the image at the URL, or from the disk.
func (p *inProcess) boot(ctx context.Context, image string) error {
	n := p.node
	select {
	case <-n.attached:
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.machine.Stats().Boots > 0 { // else it is what runs at the start
		if err := (bmc.SystemClock{}).Sleep(ctx, p.bootTime); err != nil {
			return err
		}
	}
	m, live := n.read(ctx, image)
	s, err := newSystem(n.spec.Name, n.dir, m, live)
	if err != nil {
		return err
	}
	l, err := listen(ctx, n.address, sshPort)
	if err != nil {
		return err
	}
	if s.sshd, err = startSSH(l, s, p.who(s)); err != nil { //nolint:contextcheck // the system runs until it is switched off, not until it has booted
		_ = l.Close()
		return err
	}
	if p.serial != nil && live {
		hostKey := filepath.Join(n.Upper(), "etc/ssh/ssh_host_ed25519_key.pub")
		if err := writeFile(hostKey, string(ssh.MarshalAuthorizedKey(s.sshd.hostKey))); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = s
	p.started++
	return nil
}

// read reads the image that is booted. One that cannot be read leaves the node
// with its disk. A system on the disk sees what is in the drive nevertheless.
func (n *Node) read(ctx context.Context, image string) (m *medium, live bool) {
	live = image != ""
	if !live {
		image = n.machine.Mounted()
	}
	if image == "" {
		return nil, false
	}
	got, err := n.drive.boot(ctx, image)
	if err != nil {
		return nil, false
	}
	return &got, live
}
