package plan

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Observed is what was read of a site at one moment.
type Observed struct {
	At     time.Time
	Nodes  map[string]Facts
	Images map[string]ImageFacts // by name; absent: nobody needed to know
}

// Facts is what was read of one node. A node that could not be read is a fact
// too: Err says why.
type Facts struct {
	BMC     bmc.State
	Profile bmc.Profile // the row that BMC.ID.Profile names
	Err     error
	Host    Host
	Overlay OverlayFacts
}

// A Host is what the node itself says over ssh. The set is closed: HostUnknown,
// HostSilent, HostLocked, HostDisk and HostLive.
//
//sumtype:decl
type Host interface{ host() }

// The cases of Host.
type (
	// HostUnknown says that the site file gives no way to ask.
	HostUnknown struct{}
	// HostSilent says that it was asked and did not answer.
	HostSilent struct{ Err error }
	// HostLocked says that it is up and lets nobody in before its first login, which
	// the site file says how to do.
	HostLocked struct{ Err error }
	// HostDisk says that it runs, and not from a live medium.
	HostDisk struct{ BootID string }
	// HostLive says that it runs from a live medium.
	HostLive struct {
		BootID string
		Volume site.Volume // zero when the medium could not be read
		Upper  string      // the overlay's upper dir
		// Restored is the ID of the backup that this boot holds, or "".
		Restored string
		// Restoring is the ID of the backup whose restore onto this boot was cut
		// off, so that it holds part of it only; or "".
		Restoring string
		// Unsaved is what its overlay holds and the last backup does not; nil when
		// that is not known.
		Unsaved *Unsaved
	}
)

// Unsaved counts what a reset would lose if nothing were backed up before.
type Unsaved struct {
	Files, Bytes int64
	Since        string // the backup that was compared with, or ""
}

func (HostUnknown) host() {}
func (HostSilent) host()  {}
func (HostLocked) host()  {}
func (HostDisk) host()    {}
func (HostLive) host()    {}

// ImageFacts is what an image says of itself, read from its URL or file.
type ImageFacts struct {
	Volume site.Volume
	// Err says why the image could not be read from here. Where it is of kind
	// media the image itself is at fault; otherwise a BMC might still reach it.
	Err error
}

// OverlayFacts is what the node's store holds for it.
type OverlayFacts struct {
	Err error
	// NoKey: the store encrypts, and the site file has no key to read it with.
	NoKey  bool
	Latest *Backup // the newest good backup, or nil
	// Damaged are the backups that nobody may rely on, newest first.
	Damaged []Damage
	// Reboot is what a run wrote down before it ended the running image and has
	// not yet finished; nil when nothing is left over.
	Reboot *Reboot
}

// A Backup is a good backup of a node's overlay.
type Backup struct {
	ID      string
	At      time.Time
	BootID  string // of the boot it was taken from
	Image   string
	Purpose Purpose
}

// A Damage is a backup that is not what was written.
type Damage struct {
	ID  string
	Why string // what was found, for people
}

// A Reboot is a run's note to the one that may have to finish its work.
type Reboot struct {
	At      time.Time
	BootID  string // of the boot that was running; "" when the machine was off
	Image   string // the image that was to be booted
	Backup  string // the backup made of that boot; "" if none was
	Restore string // the backup to restore afterwards; "" if none
	Started bool   // the machine was about to be started, or was
}
