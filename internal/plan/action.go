package plan

import (
	"fmt"
	"time"
)

// Effect is what a step does to whatever runs on the node.
type Effect string

// The effects, from harmless to final.
const (
	Safe     Effect = "safe"
	Disrupts Effect = "disrupts"
	Destroys Effect = "destroys"
)

// An Action is one thing to do to a node. The set is closed.
//
//sumtype:decl
type Action interface {
	// Name is the action's stable name in plans and on the command line.
	Name() string
	Effect() Effect
	// String is the action in words, with what it acts on.
	String() string
	action()
}

// The actions, in the order in which a node may need them.
type (
	// BackupOverlay streams the running node's upper dir into its store.
	BackupOverlay struct {
		Purpose Purpose
		Store   string
		// MayFail: a person accepted that the overlay is lost, so the plan goes on
		// without a backup if none can be made.
		MayFail bool
	}
	// PowerOff shuts the machine down, by force when asking does not help.
	PowerOff struct{}
	// EnableMedia switches the BMC's remote media on.
	EnableMedia struct{}
	// EjectMedia empties the CD slot.
	EjectMedia struct {
		Slot      string
		Image     string // what is in it, as the BMC says
		PoweredOn bool   // the machine is on while it is done
	}
	// InsertMedia mounts an image in the CD slot.
	InsertMedia struct{ Image, URL string }
	// SetBootOnce makes the next boot use the virtual CD.
	SetBootOnce struct{}
	// ClearBoot takes that back.
	ClearBoot struct{}
	// PowerOn starts the machine.
	PowerOn struct{}
	// Reset restarts the machine in place, for BMCs that cannot switch it off.
	Reset struct{}
	// AwaitBoot waits until the node is seen running the image.
	AwaitBoot struct {
		Image  string
		Within time.Duration
	}
	// Login does the first login over the serial console, where it is needed.
	Login struct {
		// Image is what the node shall be seen running then; "": whatever it runs.
		Image  string
		Within time.Duration
	}
	// RestoreOverlay puts a backup back through the merged view.
	RestoreOverlay struct {
		// From is a backup's ID, or "" for the one made earlier in this plan.
		From string
	}
	// Repopulate fetches what the backup left out, from where the site file says.
	Repopulate struct {
		// From is as of RestoreOverlay.
		From string
	}
)

// Purpose says why a backup is made.
type Purpose string

// The purposes of a backup.
const (
	ForReset Purpose = "reset"  // a later step ends the running image
	Due      Purpose = "due"    // overlay.every has passed
	Manual   Purpose = "manual" // a person asked
)

func (BackupOverlay) Name() string  { return "backup-overlay" }
func (PowerOff) Name() string       { return "power-off" }
func (EnableMedia) Name() string    { return "enable-media" }
func (EjectMedia) Name() string     { return "eject-media" }
func (InsertMedia) Name() string    { return "insert-media" }
func (SetBootOnce) Name() string    { return "set-boot-once" }
func (ClearBoot) Name() string      { return "clear-boot" }
func (PowerOn) Name() string        { return "power-on" }
func (Reset) Name() string          { return "reset" }
func (AwaitBoot) Name() string      { return "await-boot" }
func (Login) Name() string          { return "login" }
func (RestoreOverlay) Name() string { return "restore-overlay" }
func (Repopulate) Name() string     { return "repopulate" }

func (BackupOverlay) Effect() Effect { return Safe }
func (PowerOff) Effect() Effect      { return Destroys }
func (EnableMedia) Effect() Effect   { return Safe }
func (EjectMedia) Effect() Effect    { return Disrupts }
func (InsertMedia) Effect() Effect   { return Safe }
func (SetBootOnce) Effect() Effect   { return Safe }
func (ClearBoot) Effect() Effect     { return Safe }

// PowerOn destroys nothing by itself, but what it starts cannot be called back;
// product.md counts it with the resets.
func (PowerOn) Effect() Effect        { return Destroys }
func (Reset) Effect() Effect          { return Destroys }
func (AwaitBoot) Effect() Effect      { return Safe }
func (Login) Effect() Effect          { return Safe }
func (RestoreOverlay) Effect() Effect { return Safe }
func (Repopulate) Effect() Effect     { return Safe }

func (a BackupOverlay) String() string {
	return fmt.Sprintf("back the overlay up to store %s", a.Store)
}
func (PowerOff) String() string      { return "shut the machine down" }
func (EnableMedia) String() string   { return "switch remote media on" }
func (a EjectMedia) String() string  { return "eject " + orWhatever(a.Image) + " from slot " + a.Slot }
func (a InsertMedia) String() string { return "mount " + a.Image + " (" + a.URL + ")" }
func (SetBootOnce) String() string   { return "boot the virtual CD once" }
func (ClearBoot) String() string     { return "no longer boot the virtual CD" }
func (PowerOn) String() string       { return "power the machine on" }
func (Reset) String() string         { return "restart the machine" }
func (a AwaitBoot) String() string {
	return fmt.Sprintf("wait up to %s until it runs %s", a.Within, a.Image)
}

func (Login) String() string {
	return "do the first login over the serial console, if it is needed"
}

func (a RestoreOverlay) String() string {
	if a.From == "" {
		return "restore the overlay just backed up"
	}
	return "restore the overlay from backup " + a.From
}

func (a Repopulate) String() string {
	if a.From == "" {
		return "fetch what the backup left out"
	}
	return "fetch what backup " + a.From + " left out"
}

func orWhatever(image string) string {
	if image == "" {
		return "what is mounted"
	}
	return image
}

func (BackupOverlay) action()  {}
func (PowerOff) action()       {}
func (EnableMedia) action()    {}
func (EjectMedia) action()     {}
func (InsertMedia) action()    {}
func (SetBootOnce) action()    {}
func (ClearBoot) action()      {}
func (PowerOn) action()        {}
func (Reset) action()          {}
func (AwaitBoot) action()      {}
func (Login) action()          {}
func (RestoreOverlay) action() {}
func (Repopulate) action()     {}
