package redfish

import (
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Topology is where one BMC keeps its resources. The first Observe of a
// connection fills it; a later connection that is given it reads the System and
// the slot only. It is dropped when one of its resources is not found any more,
// when another machine answers than the one that was walked, and when the BMC
// refuses a write as nothing it knows. It holds no state and no secret. It is
// safe for concurrent use.
type Topology struct {
	mu     sync.Mutex
	walked walk
	plain  bool      // its query options do not do what it says
	file   cacheFile // where it outlives the process; "" for nowhere
}

// A walk is what was found, when, and on which machine.
type walk struct {
	Tree    *tree // nil before the first
	Machine string
	At      time.Time
}

// tree is what a walk found. It is not changed once it is in a Topology.
type tree struct {
	Sessions string // collection; "" if not linked
	ID       bmc.Identity
	Profile  bmc.Profile `json:"-"` // the row that ID names
	System   string
	Settings string // where the boot override is written; "" if on the system
	Reset    resetAction
	Media    []string // virtual media collections, in the profile's order
	Slot     string   // the CD; "" while remote media is switched off
	Enable   string   // target of the action that switches remote media on
	Protocol string   // the manager's NetworkProtocol; "" if not linked
	BootAt   string   // what a row's own strategy arms the CD by; "" for none
	Schemes  []string // what the slot's insert says that it mounts by; nil if it does not
	Needs    []string // what it says that it requires

	Cannot bmc.Refusal // why no image can be mounted, as far as the walk tells
	looked []string    // what was looked at for virtual media, in a walk
}

// resetAction is ComputerSystem.Reset of the system.
type resetAction struct {
	Target string
	Types  []string // the ResetTypes it takes
}

func (t *Topology) load() walk {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.walked
}

// store keeps what was found. The zero walk drops what was kept.
func (t *Topology) store(found walk) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.walked == found {
		return
	}
	t.walked = found
	t.file.write(found)
}

// spoil has no query option be used on this BMC any more.
func (t *Topology) spoil() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.plain = true
}

func (t *Topology) plainly() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.plain
}
