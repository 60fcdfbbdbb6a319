package bmc

import (
	"context"
	"time"
)

// An Observer reads a BMC and never changes it.
type Observer interface {
	// Observe reads the machine's state. The errors it returns are of type
	// *Error. It sends GETs only.
	Observe(ctx context.Context) (State, error)
	// ObserveSystem reads the system again, power, phase and boot override, and
	// gives the media as it was last read: one request for a wait that does not
	// turn on media. Before the first Observe it is Observe.
	ObserveSystem(ctx context.Context) (State, error)
	// ObserveMedia reads the CD slot alone, for a wait that turns on nothing
	// else. Before the first Observe it asks all that Observe asks.
	ObserveMedia(ctx context.Context) (Media, error)
}

// An Actuator changes a machine through its BMC. Every method returns once the
// BMC has taken the request and any task it started has ended; whether the
// change took effect is for Observe to tell. The errors are of type *Error; one
// whose Uncertain is true may have acted and must be read back, not repeated.
//
// All methods but Reset are idempotent.
type Actuator interface {
	// EnableMedia switches remote media on where the BMC has it switched off
	// (AMI's RMedia, vendors.md 3.2).
	EnableMedia(ctx context.Context) error
	// InsertMedia mounts the image in the slot that takes a CD.
	InsertMedia(ctx context.Context, image string) error
	// EjectMedia empties the slot.
	EjectMedia(ctx context.Context) error
	// SetBootOnce makes the next boot, and only that, use the virtual CD.
	SetBootOnce(ctx context.Context) error
	// ClearBoot takes SetBootOnce back.
	ClearBoot(ctx context.Context) error
	// Reset asks for a change of power. It is never sent a second time without
	// observing first.
	Reset(ctx context.Context, kind ResetKind) error
}

// A Client is one connection to one BMC, for one pass. It is not safe for
// concurrent use: a BMC is asked one thing at a time.
type Client interface {
	Observer
	Actuator
	// Close ends the session, if one was opened, and the connection. It works
	// on its own short deadline, also after ctx was cancelled.
	Close(ctx context.Context) error
}

// State is what a BMC says of its machine at one moment.
type State struct {
	ID     Identity
	Power  Power
	Media  Media
	Boot   BootOverride
	Phase  Phase
	Resets []ResetKind // what the machine's BMC offers, mapped to our kinds

	// CannotMount says why no image can be mounted, and CannotArm why the virtual
	// CD cannot be made the next boot's device. The zero value: it can.
	CannotMount, CannotArm Refusal
	// Schemes lists what the BMC itself says that it mounts by, in lower case; nil
	// if it does not say.
	Schemes []string
}

// Identity tells which BMC answered.
type Identity struct {
	Vendor   string // "HPE", "GIGABYTE"
	Product  string // "iLO 5", "MegaRAC"
	Model    string // the machine's: "ProLiant DL325 Gen10 Plus"
	Firmware string // as the BMC spells it, without the product's name
	Profile  string // the name of the row of profiles.cue that was used
	System   string // the Redfish URI of the system, as the BMC spells it
}

// Power is a machine's power state (Redfish Resource.PowerState).
type Power string

// The power states of Redfish's Resource schema. PowerUnknown stands for null,
// for an absent value and for any other.
const (
	PowerUnknown Power = ""
	PowerOn      Power = "On"
	PowerOff     Power = "Off"
	PoweringOn   Power = "PoweringOn"
	PoweringOff  Power = "PoweringOff"
)

// Media is the one virtual media slot that livecd-sync uses: the CD.
type Media struct {
	Access    Access
	Slot      string // the slot's Id: "2", "CD1"; "" while Access is not AccessReady
	Image     string // as the BMC echoes it, empty forms made ""; see ImageState
	ImageName string // likewise
	Inserted  bool
	// Detail is what the BMC says of the redirection, if anything (AMI's
	// Oem.Ami.RedirectionStatus, vendors.md 3.2).
	Detail string
}

// Access tells whether the CD slot can be used.
type Access int

// The cases of Access.
const (
	// AccessReady: a slot is there to be used.
	AccessReady Access = iota
	// AccessDisabled: the BMC has remote media switched off; EnableMedia
	// switches it on.
	AccessDisabled
	// AccessNone: there is no slot, and no way to get one; State.CannotMount says
	// why.
	AccessNone
)

// BootOverride is the one-time boot setting (Redfish ComputerSystem.Boot).
type BootOverride struct {
	Target  string // "None", "Cd", "UsbCd", …; stale while Enabled is "Disabled"
	Enabled string // "Disabled", "Once", "Continuous"
	Mode    string // "UEFI", "Legacy", or ""
}

// Armed tells whether the next boot will use the virtual CD, as far as the
// override says. Enabled decides: a disabled override may keep a stale target
// (Supermicro, vendors.md 3.5).
func (b BootOverride) Armed(targets []string) bool {
	if b.Enabled != "Once" && b.Enabled != "Continuous" {
		return false
	}
	for _, t := range targets {
		if b.Target == t {
			return true
		}
	}
	return false
}

// Phase is how far the host has come since its last reset, where the BMC says
// so (vendors.md 2.8).
type Phase string

// The phases of a host.
const (
	PhaseUnknown Phase = ""     // the BMC does not tell
	PhasePost    Phase = "post" // firmware is running
	PhaseOS      Phase = "os"   // firmware has handed over; to whom is not said
	PhaseOff     Phase = "off"
)

// ResetKind is what the applier asks for; a Profile and what the BMC offers
// decide which Redfish ResetType is sent.
type ResetKind string

// The kinds of reset.
const (
	GracefulShutdown ResetKind = "graceful-shutdown"
	ForceOff         ResetKind = "force-off"
	PowerUp          ResetKind = "on"
	Restart          ResetKind = "restart"
)

// Can reports whether the BMC offers the reset.
func (s State) Can(k ResetKind) bool {
	for _, r := range s.Resets {
		if r == k {
			return true
		}
	}
	return false
}

// A Credential says who to be. Its password is never printed.
type Credential struct {
	Username string
	Password Secret
}

// A Secret is a string that shows itself to nobody: not by fmt, not as JSON,
// not in a log.
type Secret string

// Reveal returns the secret, for the one place that sends it.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "(secret)" }

// MarshalText hides the secret from JSON and text encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// Auth says how a client proves who it is.
type Auth string

// The ways to authenticate.
const (
	AuthAuto    Auth = "auto" // Basic for reads; a session from the first write on
	AuthBasic   Auth = "basic"
	AuthSession Auth = "session"
)

// A Clock tells the time and waits. Tests put their own in its place.
type Clock interface {
	Now() time.Time
	// Sleep returns early, with ctx's error, when ctx ends.
	Sleep(ctx context.Context, d time.Duration) error
}
