package overlay

import (
	"context"
	"errors"
	"io"
	"time"
)

// A Store keeps the backups of nodes. Only verified, complete backups are ever
// listed. All errors are of type *bmc.Error; names that are not valid are
// refused. A Store is safe for concurrent use.
type Store interface {
	// List returns the node's backups; none is no error, and neither is one whose
	// manifest cannot be read.
	List(ctx context.Context, node string) (Listing, error)
	// Get returns one backup's manifest. Its error wraps ErrNoBackup when there
	// is none of that ID.
	Get(ctx context.Context, node, id string) (Manifest, error)
	// Open opens one file of a backup as it is stored. Check reads and compares.
	Open(ctx context.Context, node, id, name string) (io.ReadCloser, error)
	// Delete removes a backup; it is no longer listed from the first moment.
	Delete(ctx context.Context, node, id string) error

	// Lock takes the node's lock, which backups, restores and removals hold, until
	// free is called. doing tells others what its holder does, as "restoring it".
	// Its error has KindBusy while another has the lock, and names that one.
	Lock(ctx context.Context, node, doing string) (free func() error, err error)
	// Create starts a backup. It holds the node's lock until the draft is
	// published or discarded, and removes what killed runs left behind. Its
	// error is as Lock's.
	Create(ctx context.Context, node string, at time.Time) (Draft, error)

	// SetReboot notes, on stable storage, that a reset of the node is about to
	// begin.
	SetReboot(ctx context.Context, node string, r Reboot) error
	// Reboot returns what SetReboot noted, and false when there is nothing.
	Reboot(ctx context.Context, node string) (Reboot, bool, error)
	// ClearReboot removes the note, if there is one.
	ClearReboot(ctx context.Context, node string) error

	// SetVerified notes when backups of the node, by ID, were last verified. It
	// takes the place of the note before.
	SetVerified(ctx context.Context, node string, v map[string]Verified) error
	// Verified returns what SetVerified noted; none is no error.
	Verified(ctx context.Context, node string) (map[string]Verified, error)
}

// A Listing is what a store has of a node, newest first.
type Listing struct {
	Backups []Manifest
	// Unreadable are the backups of which nothing is known but that they are
	// there: their manifests are damaged, or of a version that is not known.
	Unreadable []Unreadable
}

// An Unreadable is a backup without a manifest that can be read.
type Unreadable struct {
	ID   string
	Site string // as far as its manifest tells, or ""
	Err  error
}

// Verified tells of the last time that a backup was verified after it was made.
type Verified struct {
	At   time.Time `json:"at"`
	Deep bool      `json:"deep"` // it was restored into a scratch overlay
	// Damaged says what was found; "": it was whole. What was found damaged is no
	// node's latest good backup.
	Damaged string `json:"damaged,omitempty"`
}

// A Draft is a backup that is being written: nobody else sees it until it is
// published. It is used by one goroutine at a time.
type Draft interface {
	// ID is what the backup will be called.
	ID() string
	// Write makes one file of the backup. Closing it brings it to stable
	// storage; making it again starts it anew.
	Write(name string) (io.WriteCloser, error)
	// Read opens one file of the draft, from the medium where possible rather
	// than from memory.
	Read(name string) (io.ReadCloser, error)
	// Publish writes the manifest and makes the backup visible, all at once.
	Publish(m Manifest) error
	// Discard removes the draft and frees the node's lock. After Publish it
	// does nothing.
	Discard() error
}

// RebootVersion is the version of the reboot notes that are written.
const RebootVersion = 1

// A Reboot is written before the first step that disrupts a node and removed
// after its overlay was restored, so that a run that was killed in between is
// seen for what it left behind.
type Reboot struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
	// BootID is the boot that was running, "" if the node was off.
	BootID string `json:"bootID"`
	Image  string `json:"image"` // the name of the image that is to boot
	// Backup is the ID of the backup made for this reboot, "" if none.
	Backup string `json:"backup"`
	// Restore is the ID of the backup to restore, "" if none.
	Restore string `json:"restore"`
	// Started: the machine was about to be started, or was.
	Started bool `json:"started"`
}

// ErrNoBackup is wrapped by the errors of Latest and Store.Get.
var ErrNoBackup = errors.New("there is no such backup")

// ErrNoKey is wrapped by the error of Store.Open for a file that is encrypted, and
// that the site file has no key for. It is stored under its name and AgeSuffix,
// and can be opened so.
var ErrNoKey = errors.New("it is encrypted, and there is no key to it")
