package bmcsim

import (
	"slices"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// powerState is the machine's power and how far its host has come.
type powerState struct {
	now    bmc.Power // PowerOn or PowerOff: the truth
	before bmc.Power // what it was until at, for a BMC whose readings lag
	at     time.Time
	phase  bmc.Phase
	post   time.Time // when POST began
	epoch  int       // grows with every change, so that late timers can tell
	booted Boot      // what the host runs, while phase is PhaseOS
}

// Power is the truth, whatever the BMC says of it.
func (m *Machine) Power() bmc.Power {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power.now
}

// Phase is how far the host has come, also on a BMC that does not tell.
func (m *Machine) Phase() bmc.Phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power.phase
}

// Booted tells what the host runs from; ok is false while it is off or in POST.
func (m *Machine) Booted() (b Boot, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power.booted, m.power.phase == bmc.PhaseOS
}

// SetPower is a finger on the machine's power button: PowerOn goes through POST,
// PowerOff cuts the power. It does nothing in the state already held.
func (m *Machine) SetPower(p bmc.Power) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case p == bmc.PowerOn && m.power.now == bmc.PowerOff:
		m.powerOn()
	case p == bmc.PowerOff && m.power.now == bmc.PowerOn:
		m.cutPower()
	}
}

// HostWentOff is how a host tells that it has switched the machine off itself,
// without being asked to. It does nothing unless an operating system runs.
func (m *Machine) HostWentOff() { m.hostEnded((*Machine).powerOffAfterShutdown) }

// HostReset likewise tells that the host has reset the machine: POST follows.
func (m *Machine) HostReset() { m.hostEnded((*Machine).restartAfterShutdown) }

func (m *Machine) hostEnded(then func(*Machine)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.power.phase == bmc.PhaseOS && !m.closed {
		then(m)
	}
}

// reset does what a ResetType asks for. The lock is held by the caller.
func (m *Machine) reset(resetType string) error {
	if !slices.Contains(m.resetTypes(), resetType) {
		return m.kind.refuse("ActionParameterValueNotInList", resetType, "ResetType", "ComputerSystem.Reset")
	}
	on := m.power.now == bmc.PowerOn
	do, known := resets[resetType]
	if !known {
		return nil // Nmi: the host does not mind
	}
	if do.wantsOff && !on && m.behaviour.PowerOnConflicts && time.Since(m.power.at) < m.timing.PowerLag && m.power.before == bmc.PowerOn {
		return m.kind.refuse("PowerConflict", resetType, "ResetType")
	}
	if on == do.wantsOff && !do.toggles {
		if do.restart || m.behaviour.RefuseSameState {
			return m.kind.refuse("InvalidOperationForSystemState", resetType)
		}
		return nil
	}
	do.act(m)
	return nil
}

const pushButton = "PushPowerButton"

// resets says what each ResetType does, and in which state it makes no sense.
var resets = map[string]struct {
	wantsOff bool // for a machine that is off
	restart  bool // refused by all in the wrong state, having nothing to restart
	toggles  bool // makes sense in both
	act      func(*Machine)
}{
	"On":               {wantsOff: true, act: (*Machine).powerOn},
	"ForceOn":          {wantsOff: true, act: (*Machine).powerOn},
	"ForceOff":         {act: (*Machine).cutPower},
	"Off":              {act: (*Machine).cutPower},
	"GracefulShutdown": {act: (*Machine).shutDown},
	"ForceRestart":     {restart: true, act: (*Machine).restart},
	"PowerCycle":       {restart: true, act: (*Machine).restart},
	"GracefulRestart":  {restart: true, act: (*Machine).shutDownAndRestart},
	// As a finger would: it switches on, and asks what runs to shut down.
	pushButton: {toggles: true, act: (*Machine).pushButton},
}

func (m *Machine) resetTypes() []string {
	if b := m.behaviour.ResetTypes; b != nil {
		return b
	}
	return m.kind.resetTypes
}

func (m *Machine) setPower(p bmc.Power) {
	if m.power.now != p {
		m.power.before, m.power.at = m.power.now, time.Now()
	}
	m.power.now = p
	m.power.epoch++
}

func (m *Machine) powerOn() {
	m.setPower(bmc.PowerOn)
	m.detachAtPowerOn()
	m.enterPost()
}

func (m *Machine) pushButton() {
	if m.power.now == bmc.PowerOn {
		m.shutDown()
		return
	}
	m.powerOn()
}

func (m *Machine) enterPost() {
	m.power.phase, m.power.post, m.power.booted = bmc.PhasePost, time.Now(), Boot{}
	m.ejectAfterSecondReset()
	epoch := m.power.epoch
	m.after(m.timing.Post, func() { m.endPost(epoch) })
}

func (m *Machine) cutPower() {
	m.setPower(bmc.PowerOff)
	m.stats.PowerCycles++
	m.power.phase, m.power.booted = bmc.PhaseOff, Boot{}
	m.tell(Host.Stop)
}

func (m *Machine) restart() {
	m.power.epoch++
	m.stats.PowerCycles++
	m.tell(Host.Stop)
	m.enterPost()
}

func (m *Machine) shutDown() { m.askHost((*Machine).powerOffAfterShutdown) }

func (m *Machine) shutDownAndRestart() { m.askHost((*Machine).restartAfterShutdown) }

// askHost asks the host to shut down, and goes on with then once it has. During
// POST nobody listens and nothing happens.
func (m *Machine) askHost(then func(*Machine)) {
	if m.power.phase != bmc.PhaseOS || m.behaviour.IgnoreShutdown {
		return
	}
	epoch := m.power.epoch
	off := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.after(m.timing.Shutdown, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.power.epoch == epoch && !m.closed {
				then(m)
			}
		})
	}
	m.tell(func(h Host) { h.Shutdown(off) })
}

func (m *Machine) powerOffAfterShutdown() {
	m.setPower(bmc.PowerOff)
	m.stats.Shutdowns++
	m.power.phase, m.power.booted = bmc.PhaseOff, Boot{}
}

func (m *Machine) restartAfterShutdown() {
	m.power.epoch++
	m.enterPost()
}

// endPost reads the boot override, which spends it, and boots.
func (m *Machine) endPost(epoch int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.power.epoch != epoch || m.closed {
		return
	}
	boot := Boot{}
	m.seenCD = m.media.now.inserted
	if m.takeOverride() && m.media.now.inserted && !m.behaviour.NeverAttaches {
		boot.Image = m.media.now.image
	}
	if boot.Image == "" || m.cfg.Fetch == nil {
		m.boot(boot)
		return
	}
	m.work(func() {
		if m.cfg.Fetch(m.ctx, boot.Image) != nil {
			boot = Boot{} // an image that cannot be read falls back to the disk (vendors.md 3.11)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.power.epoch == epoch && !m.closed {
			m.boot(boot)
		}
	})
}

func (m *Machine) boot(b Boot) {
	m.power.phase, m.power.booted = bmc.PhaseOS, b
	m.stats.Boots++
	if b.Image != "" {
		m.stats.MediaBoots++
	}
	m.tell(func(h Host) { h.Start(b) })
}

// shownPower is what the BMC says, which may lag behind the truth.
func (m *Machine) shownPower() bmc.Power {
	p, q := m.power, m.behaviour
	if p.before == "" || time.Since(p.at) >= m.timing.PowerLag {
		return p.now
	}
	switch {
	case q.PowerTransitions && p.now == bmc.PowerOn:
		return bmc.PoweringOn
	case q.PowerTransitions:
		return bmc.PoweringOff
	case q.PowerLags:
		return p.before
	}
	return p.now
}

// shownPhase is what a BMC that tells of POST says.
func (m *Machine) shownPhase() bmc.Phase {
	if !m.kind.tellsPost && !m.kind.progress {
		return bmc.PhaseUnknown
	}
	return m.power.phase
}
