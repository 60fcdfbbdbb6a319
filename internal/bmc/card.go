package bmc

import "time"

// A Card is what a BMC can do, and what it said of itself. What it did not say is
// the zero value; what could not be read is named in Unread.
type Card struct {
	ID      Identity // Profile is "" until a row was chosen
	Row     Profile  // the row; zero until one was chosen
	Power   Power
	Licence string // as the BMC words it

	Media       *MediaCard // nil: not read
	Boot        *BootCard  // nil: not read
	ResetTypes  []string   // as the BMC lists them
	Resets      []ResetKind
	Consoles    []ConsoleCard
	Clock       *ClockCard   // nil: the BMC did not tell the time
	Certificate *Certificate // nil: none was seen

	// CannotMount says why no image can be mounted, and CannotArm why the virtual
	// CD cannot be made the next boot's device.
	CannotMount, CannotArm Refusal

	Unread []Unread
	// Err ended the reading; what was read before is there. It is a *Error.
	Err error
}

// A MediaCard is the virtual media.
type MediaCard struct {
	Access  Access
	Slots   []SlotCard // of all collections, those of the side that is used first
	Schemes []string   // by which the BMC itself says that it mounts; nil if it does not say
}

// A SlotCard is one virtual media slot.
type SlotCard struct {
	URI      string
	ID       string
	Types    []string // MediaTypes, as the BMC spells them
	Used     bool     // it is the one that livecd-sync uses
	Why      string   // why it cannot be used; "" if it can
	Image    string   // what is in it, or its name; "" for nothing
	Inserted bool
}

// A BootCard is how the virtual CD can be made the next boot's device.
type BootCard struct {
	Method  string   // as a row names it: "override", "oem-next-reset", …; "" if there is none
	Target  string   // of the override that would be set
	Targets []string // that the BMC offers
	// Settings: the override is written to a settings object.
	Settings bool
	Now      BootOverride
}

// A ConsoleCard is one kind of console.
type ConsoleCard struct {
	Kind     ConsoleKind
	Enabled  bool
	Types    []string // the ways to connect: "SSH", "IPMI", "KVMIP", "Oem"
	Sessions int      // at most; 0 if it is not said
}

// ConsoleKind tells consoles apart (Redfish's Manager and ComputerSystem schemas).
type ConsoleKind string

// The kinds of console.
const (
	ConsoleSerial  ConsoleKind = "serial"
	ConsoleShell   ConsoleKind = "shell"
	ConsoleGraphic ConsoleKind = "graphic"
)

// A ClockCard compares a BMC's clock with ours.
type ClockCard struct {
	Ahead time.Duration // of the BMC; negative: it is behind. To the second.
	From  string        // where it was read: "Date" (the header), "DateTime" (the manager)
}

// Unread is a part that could not be read although the BMC has it.
type Unread struct {
	What   string // "the manager", "the virtual media", …
	Needed bool   // nothing can be done without it
	Err    error
}
