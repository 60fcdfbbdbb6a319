package bmcsim

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Kind is a family of BMCs whose resources, names and errors a Machine
// copies.
type Kind string

// The kinds of BMC.
const (
	ILO5          Kind = "ilo5"           // HPE iLO 5 2.x (vendors.md 3.1)
	ILO4          Kind = "ilo4"           // HPE iLO 4: virtual media through Oem.Hp actions only (3.1)
	ILO5Early     Kind = "ilo5-early"     // HPE iLO 5 before 2: nameless, no graceful shutdown
	ILO6          Kind = "ilo6"           // HPE iLO 6 (3.1)
	ILO7          Kind = "ilo7"           // HPE iLO 7 (3.1)
	Gigabyte      Kind = "gigabyte"       // AMI MegaRAC SP-X 12.x on a Gigabyte board (3.2)
	Gigabyte13    Kind = "gigabyte13"     // likewise 13.x: a CD that needs time, UefiBootNext (3.2)
	DGX           Kind = "dgx"            // NVIDIA DGX H100, MegaRAC with a settings object (3.13)
	ASRockRack    Kind = "asrockrack"     // ASRockRack, MegaRAC (3.2)
	MegaRAC       Kind = "megarac"        // MegaRAC of other makers (3.2)
	TSM           Kind = "tsm"            // Lenovo's MegaRAC, no http (3.2)
	TSMEarly      Kind = "tsm-early"      // and with early firmware: NFS only
	IDRAC8        Kind = "idrac8"         // Dell iDRAC 8: virtual media are read-only (3.4)
	IDRAC9Old     Kind = "idrac9-5"       // Dell iDRAC 9 before 6.00.02: armed by attributes (3.4)
	IDRAC9        Kind = "idrac9"         // Dell iDRAC 9 6.x and 7.x: media on both sides (3.4)
	IDRAC10       Kind = "idrac10"        // Dell iDRAC 10: a settings object (3.4)
	SupermicroX10 Kind = "supermicro-x10" // Supermicro X10: CfgCD only (3.5)
	SupermicroX11 Kind = "supermicro-x11" // Supermicro late X11: CD1 (3.5)
	Supermicro    Kind = "supermicro"     // Supermicro X12 to X14 (3.5)
	SupermicroARS Kind = "supermicro-ars" // Supermicro ARS-111GL-NHR: Cd, where others want UsbCd (2.6)
	XCC           Kind = "xcc"            // Lenovo XClarity Controller: PATCH only (3.6)
	XCC2          Kind = "xcc2"           // its successor on V3 machines (3.6)
	XCC3          Kind = "xcc3"           // and on V4 ones (3.6)
	OpenBMC       Kind = "openbmc"        // OpenBMC built with virtual media: https only (3.3)
	OpenBMCStock  Kind = "openbmc-stock"  // OpenBMC built without (3.3)
	GB200         Kind = "gb200"          // NVIDIA GB200: OpenBMC, two systems (3.13)
	IRMC          Kind = "irmc"           // Fujitsu iRMC: BootConfig, no http (3.9)
	CIMC          Kind = "cimc"           // Cisco CIMC of a blade: one of five slots is for images (3.10)
	CIMCRack      Kind = "cimc-rack"      // and of a rack server: Virtual CD and Virtual HDD
	XFusion       Kind = "xfusion"        // xFusion iBMC: https only, odd tasks (3.11)
	IBMC          Kind = "ibmc"           // Huawei iBMC: VmmControl, no web servers (3.11)
	HDM           Kind = "hdm"            // H3C HDM: likewise (3.12)
	Inspur        Kind = "inspur"         // Inspur M6: NFS only (3.12)
	Intel         Kind = "intel"          // Intel S2600: no slots (3.7)
	CrayEX        Kind = "cray-ex"        // node card without virtual media or override (3.8)
	SushyTools    Kind = "sushy-tools"    // sushy-tools' emulator (3.14)
	Generic       Kind = "generic"        // nothing but the standard: media under the System
)

// Kinds lists every Kind.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// Boot is what a host was started from.
type Boot struct {
	Image string // the URL of the CD; "" stands for its disk
}

// A Host is the computer that a BMC governs. Its methods are called without the
// machine's lock, one at a time and in the order of events; they may call the
// machine's methods, but not Close. None may wait for the host to get anywhere:
// the next event is told only when it has returned.
type Host interface {
	// Start is called when POST has ended: boot from this.
	Start(Boot)
	// Shutdown is called when a graceful shutdown was asked for. The host calls
	// off once it is down, from any goroutine, or never.
	Shutdown(off func())
	// Stop is called when power was cut or the machine was reset.
	Stop()
}

// A DriveHost is a Host that sees the virtual CD change while it runs.
type DriveHost interface {
	Host
	// Drive is called when the CD slot may hold something else than before; image
	// is the URL of what it holds, "" when nothing.
	Drive(image string)
}

// Config describes a Machine. The zero value is an iLO 5 that is powered on and
// runs from its disk.
type Config struct {
	Kind Kind // "" stands for ILO5
	Host Host // nil: one that shuts down at once when asked

	Username string // "" stands for "root"
	Password string // "" stands for "redfish-secret"

	Behaviour Behaviour // on top of what the Kind always does
	Timing    Timing

	Serial string // of the system; "" stands for one made from Name
	Name   string // the system's HostName; "" stands for "node"

	// InitialPower is bmc.PowerOn or bmc.PowerOff; bmc.PowerUnknown stands for
	// PowerOn. A machine that starts powered on has ended its POST, and Host.Start
	// has been called with Running.
	InitialPower bmc.Power
	// Running is what the host runs at first. An image is then mounted as well.
	Running Boot

	// Fetch is how the BMC itself reads an image when it mounts it and when the
	// host boots it. An error fails the mount, and makes a boot fall back to the
	// disk. nil: images are never read. ctx ends with Close.
	Fetch func(ctx context.Context, url string) error
}

// Timing says how long a Machine takes. Zero stands for the default, a negative
// value for no time at all. The defaults are tens of milliseconds, where real
// machines take minutes, so that tests are fast.
type Timing struct {
	Post        time.Duration // power on or reset to boot
	Shutdown    time.Duration // the host is down to power off
	MediaTask   time.Duration // a media task's life
	EnableDelay time.Duration // EnableRMedia to slots listed
	MediaLag    time.Duration // Behaviour.InsertLags
	EjectLag    time.Duration // Behaviour.EjectLags
	PowerLag    time.Duration // Behaviour.PowerLags and PowerTransitions
	Settle      time.Duration // Behaviour.DetachAtPowerOn: how long after a mount power-on is harmful; default: forever
	Lockout     time.Duration // Behaviour.LockoutAfter
	BMCRestart  time.Duration // RestartBMC to answering again
}

func (t Timing) filled() Timing {
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{
		{&t.Post, 30 * time.Millisecond},
		{&t.Shutdown, 5 * time.Millisecond},
		{&t.MediaTask, 20 * time.Millisecond},
		{&t.EnableDelay, 20 * time.Millisecond},
		{&t.MediaLag, 30 * time.Millisecond},
		{&t.EjectLag, 30 * time.Millisecond},
		{&t.PowerLag, 20 * time.Millisecond},
		{&t.Lockout, 500 * time.Millisecond},
		{&t.BMCRestart, 50 * time.Millisecond},
	} {
		if *f.d == 0 {
			*f.d = f.v
		}
	}
	return t
}

// Stats counts what happened to a machine since New.
type Stats struct {
	Boots       int // POSTs that ended; the one before New is not counted
	MediaBoots  int // of these, from the virtual CD
	PowerCycles int // resets and power cuts while it was on: what a host notices
	Shutdowns   int // graceful shutdowns that ended in power off
	Inserts     int // images mounted
	Ejects      int // images taken out by request
	Sessions    int // sessions open now
	Logins      int // sessions created
	BadLogins   int // wrong passwords, and any login while locked out
	MaxInFlight int // most requests in flight at one moment
}

// A Machine is a simulated machine with its BMC. Its methods are safe for
// concurrent use.
type Machine struct {
	cfg    Config
	timing Timing
	kind   kind
	tree   map[string]resource

	ctx    context.Context //nolint:containedctx // ends with Close; for Fetch
	cancel context.CancelFunc
	wg     sync.WaitGroup // timers, host calls and fetches under way

	mu        sync.Mutex
	closed    bool
	timers    map[*time.Timer]struct{}
	hostQueue []func(Host)
	telling   bool

	asked        Behaviour // as configured
	behaviour    Behaviour // and with what the kind always does
	faults       []*scriptedFault
	requests     []*Request
	beforeAnswer func(Request)
	inFlight     int
	stats        Stats

	power    powerState
	media    mediaState
	override bmc.BootOverride
	bootNext string // the boot option that the target UefiBootNext means
	seenCD   bool   // firmware has seen the virtual CD, and lists it
	nextCD   bool   // Oem BootOnNextServerReset
	ejectDue bool   // nextCD was used: the reset after that ejects
	remote   bool   // remote media is on
	listed   bool   // and its slots are listed

	tasks    map[string]*task
	lastTask int
	auth     authState
	downTill time.Time // the BMC is restarting
}

// New starts a machine. Close ends it.
func New(cfg Config) *Machine {
	cfg = cfg.filled()
	k, ok := kinds[cfg.Kind]
	if !ok {
		panic(fmt.Sprintf("bmcsim: unknown kind %q", cfg.Kind))
	}
	m := &Machine{
		cfg: cfg, timing: cfg.Timing.filled(), kind: k,
		timers: map[*time.Timer]struct{}{}, tasks: map[string]*task{},
		auth:     authState{sessions: map[string]*session{}},
		override: bmc.BootOverride{Target: "None", Enabled: "Disabled", Mode: k.bootMode},
		remote:   true, listed: true,
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.tree = k.resources(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applyBehaviour(cfg.Behaviour)
	m.power = powerState{now: bmc.PowerOff, phase: bmc.PhaseOff}
	if cfg.Running.Image != "" {
		m.media.now, m.seenCD = mounted(cfg.Running.Image), true
	}
	if cfg.InitialPower != bmc.PowerOff {
		m.power = powerState{now: bmc.PowerOn, phase: bmc.PhaseOS, booted: cfg.Running}
		m.tell(func(h Host) { h.Start(cfg.Running) })
	}
	return m
}

func (c Config) filled() Config {
	for _, f := range []struct {
		s *string
		v string
	}{
		{(*string)(&c.Kind), string(ILO5)},
		{&c.Username, "root"},
		{&c.Password, "redfish-secret"},
		{&c.Name, "node"},
	} {
		if *f.s == "" {
			*f.s = f.v
		}
	}
	if c.Serial == "" {
		h := fnv.New32a()
		h.Write([]byte(c.Name))
		c.Serial = fmt.Sprintf("SIM%07d", h.Sum32()%10_000_000)
	}
	if c.Host == nil {
		c.Host = obedientHost{}
	}
	return c
}

// obedientHost is down as soon as it is asked.
type obedientHost struct{}

func (obedientHost) Start(Boot)          {}
func (obedientHost) Shutdown(off func()) { off() }
func (obedientHost) Stop()               {}

// Close stops the machine's timers and waits for calls to its Host and Fetch to
// return. The BMC answers nothing any more.
func (m *Machine) Close() {
	m.mu.Lock()
	m.closed = true
	m.hostQueue = nil
	for t := range m.timers {
		if t.Stop() {
			m.wg.Done()
		}
	}
	clear(m.timers)
	m.mu.Unlock()
	m.cancel()
	m.wg.Wait()
}

// after calls f, without the lock, in d. The lock is held by the caller.
func (m *Machine) after(d time.Duration, f func()) {
	if m.closed {
		return
	}
	m.wg.Add(1)
	var t *time.Timer
	t = time.AfterFunc(max(d, 0), func() {
		defer m.wg.Done()
		m.mu.Lock() // also orders this after the assignment of t
		delete(m.timers, t)
		closed := m.closed
		m.mu.Unlock()
		if !closed {
			f()
		}
	})
	m.timers[t] = struct{}{}
}

// work runs f in a goroutine that Close waits for. The lock is held by the
// caller.
func (m *Machine) work(f func()) {
	if m.closed {
		return
	}
	m.wg.Add(1)
	go func() {
		defer m.wg.Done()
		f()
	}()
}

// tell queues a call to the host. The lock is held by the caller.
func (m *Machine) tell(f func(Host)) {
	m.hostQueue = append(m.hostQueue, f)
	if m.telling {
		return
	}
	m.telling = true
	m.work(m.tellAll)
}

func (m *Machine) tellAll() {
	for {
		m.mu.Lock()
		if len(m.hostQueue) == 0 {
			m.telling = false
			m.mu.Unlock()
			return
		}
		f := m.hostQueue[0]
		m.hostQueue = m.hostQueue[1:]
		m.mu.Unlock()
		f(m.cfg.Host)
	}
}

// Credential is what the BMC accepts.
func (m *Machine) Credential() bmc.Credential {
	return bmc.Credential{Username: m.cfg.Username, Password: bmc.Secret(m.cfg.Password)}
}

// Kind tells the family.
func (m *Machine) Kind() Kind { return m.cfg.Kind }

// Stats counts what has happened so far.
func (m *Machine) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	m.sweepSessions()
	s.Sessions = len(m.auth.sessions)
	return s
}
