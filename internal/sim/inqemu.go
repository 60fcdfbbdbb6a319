package sim

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// inQEMU is a computer that is really there. A system has come up when it asks
// for a login on the serial console.
type inQEMU struct {
	node    *Node
	machine *vm.Machine
	drive   sync.Mutex // one change of the CD at a time

	mu      sync.Mutex
	run     *vm.Run // nil while it is off
	off     func()  // tells the BMC that a shutdown it asked for has ended
	running Running
	image   site.Volume // of the live image that runs
	failed  error
	started int
	cancel  context.CancelFunc
	booting sync.WaitGroup
}

// qmpWithin is how long QEMU may take to do what it does at once.
const qmpWithin = 20 * time.Second

func newInQEMU(ctx context.Context, n *Node, q QEMU, authorizedKey []byte) (*inQEMU, error) {
	m, err := vm.New(ctx, vm.Config{
		Name: n.spec.Name, Dir: n.dir, Disk: q.Disk, AuthorizedKeys: authorizedKey,
		SSH: netip.AddrPortFrom(n.address, sshPort), MemoryMiB: q.MemoryMiB, CPUs: q.CPUs,
	})
	if err != nil {
		return nil, err
	}
	return &inQEMU{node: n, machine: m}, nil
}

func (q *inQEMU) describe(s *Status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Boots, s.Running, s.VolumeID = q.started, q.running, q.image.ID
	s.Console = q.machine.Console().Path()
	if q.failed != nil {
		s.Error = q.failed.Error()
	}
}

func (q *inQEMU) volume() site.Volume {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.image
}

func (q *inQEMU) inOverlay(func(*os.Root) error) error {
	return fmt.Errorf("sim: the overlay of %s is in the memory of a machine in QEMU: use ssh, or its console %s",
		q.node.spec.Name, q.machine.Console().Path())
}

// Start switches the machine on; it returns at once.
func (q *inQEMU) Start(b bmcsim.Boot) {
	ctx, cancel := context.WithCancel(context.Background())
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancel = cancel
	q.booting.Go(func() {
		err := q.boot(ctx, b)
		if ctx.Err() == nil && err != nil {
			q.change(func() { q.failed = err })
		}
	})
}

// change changes what Status tells.
func (q *inQEMU) change(f func()) {
	q.mu.Lock()
	f()
	q.mu.Unlock()
	q.node.signal()
}

// boot follows a machine from power on to power off.
func (q *inQEMU) boot(ctx context.Context, b bmcsim.Boot) error {
	select {
	case <-q.node.attached:
	case <-ctx.Done():
		return ctx.Err()
	}
	cd := q.node.machine.Mounted()
	r, err := q.machine.Start(ctx, vm.Boot{CD: cd, FromCD: b.Image != ""})
	if err != nil {
		return err
	}
	q.change(func() { q.run, q.failed = r, r.CDError() })
	if q.node.machine.Mounted() != cd { // Drive came too early for this run
		q.load(ctx, r)
	}
	select {
	case <-r.Prompted():
		q.up(ctx, r, b)
	case <-r.Done():
	}
	<-r.Done()
	q.down(r)
	return r.Err()
}

// up notes which system has come up. What the BMC wanted is not enough: firmware
// that finds nothing to boot on the CD goes on to the disk.
func (q *inQEMU) up(ctx context.Context, r *vm.Run, b bmcsim.Boot) {
	running, volume := RunningDisk, site.Volume{}
	n, err := r.Reads(ctx)
	if err == nil && b.Image != "" && n.CD > n.Disk {
		running = RunningLive
		volume, err = q.node.drive.volume(ctx, b.Image)
	}
	if ctx.Err() != nil || r.End() != vm.EndNone {
		return
	}
	q.change(func() {
		q.running, q.image = running, volume
		q.started++
		if err != nil {
			q.failed = err
		}
	})
}

// down notes that a machine is off. Where it went off by itself its BMC is told.
func (q *inQEMU) down(r *vm.Run) {
	var off func()
	q.change(func() {
		off = q.off
		q.run, q.off, q.running, q.image = nil, nil, RunningNothing, site.Volume{}
	})
	switch r.End() {
	case vm.EndShutdown:
		if off == nil {
			off = q.node.machine.HostWentOff
		}
		off()
	case vm.EndReset:
		q.node.machine.HostReset()
	case vm.EndNone, vm.EndPower, vm.EndCrash:
	}
}

// Shutdown presses the power button. A system that is not up yet may not notice.
func (q *inQEMU) Shutdown(off func()) {
	q.mu.Lock()
	r := q.run
	if r != nil {
		q.off = off
	}
	q.mu.Unlock()
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), qmpWithin)
	defer cancel()
	_ = r.PressPowerButton(ctx) // fails on a machine that is going off, which down tells
}

// Stop cuts the power, and returns once the machine is off.
func (q *inQEMU) Stop() {
	q.mu.Lock()
	if q.cancel != nil {
		q.cancel()
	}
	r := q.run
	q.mu.Unlock()
	if r != nil {
		r.Kill()
	}
	q.booting.Wait()
}

// Drive changes what is in the virtual drive of a machine that is on; it returns
// at once.
func (q *inQEMU) Drive(string) {
	q.mu.Lock()
	r := q.run
	q.mu.Unlock()
	if r != nil { // else the next boot looks into the drive
		q.booting.Go(func() { q.load(context.Background(), r) })
	}
}

// load puts into the drive what the BMC has mounted now.
func (q *inQEMU) load(ctx context.Context, r *vm.Run) {
	q.drive.Lock()
	defer q.drive.Unlock()
	ctx, cancel := context.WithTimeout(ctx, qmpWithin)
	defer cancel()
	if err := r.SetCD(ctx, q.node.machine.Mounted()); err != nil && r.End() == vm.EndNone {
		q.change(func() { q.failed = err })
	}
}

func (q *inQEMU) close() error {
	q.Stop()
	return q.machine.Close()
}
