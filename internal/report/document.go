package report

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// Version is the version of the documents that this package writes and reads.
// Names and values of a document do not change within a version.
const Version = 1

// A Document is what `plan -o json` and `apply -o json` print and what a plan
// file holds. docs/json.md describes it for those who read it with other tools.
type Document struct {
	Version    int       `json:"version"`
	Site       string    `json:"site"`
	SiteDigest string    `json:"siteDigest"` // of the site file, "sha256:…"
	ObservedAt time.Time `json:"observedAt"` // in UTC
	Summary    Summary   `json:"summary"`
	Nodes      []Node    `json:"nodes"` // in the order of the site file's nodes
}

// A Summary counts a document's nodes by state.
type Summary struct {
	Nodes   int `json:"nodes"`
	InSync  int `json:"inSync"`
	Change  int `json:"change"`
	Blocked int `json:"blocked"`
	Failed  int `json:"failed"`
}

// A Node is one node of a document. Its lists are empty, never null.
type Node struct {
	Name  string     `json:"name"`
	State plan.State `json:"state"`
	// Observed is absent when the BMC could not be read.
	Observed *Observed `json:"observed,omitempty"`
	Drift    []Drift   `json:"drift"`
	Steps    []Step    `json:"steps"`
	// Error says why the node is blocked or failed; after an apply, why it did not
	// converge.
	Error *Error     `json:"error,omitempty"`
	Notes []string   `json:"notes"`
	Proof plan.Proof `json:"proof"`
	// Converged is present after an apply only: the node was observed again and
	// nothing was left to do.
	Converged *bool `json:"converged,omitempty"`
}

// Observed is what a node's BMC, and the node itself, said.
type Observed struct {
	Vendor   string    `json:"vendor"`
	Product  string    `json:"product"`
	Model    string    `json:"model"`
	Firmware string    `json:"firmware"`
	Power    bmc.Power `json:"power"`
	Media    Media     `json:"media"`
	Boot     Boot      `json:"boot"`
	Running  Running   `json:"running"`
}

// Media is what the virtual CD holds, by the BMC's word.
type Media struct {
	Slot     string `json:"slot"`
	Image    string `json:"image"`
	Inserted bool   `json:"inserted"`
}

// Boot is the one-time boot setting.
type Boot struct {
	Target  string `json:"target"`
	Enabled string `json:"enabled"`
}

// Running is what the node said of itself over ssh.
type Running struct {
	Host Host `json:"host"`
	// Volume and Created identify the live medium's ISO 9660 volume.
	Volume  string `json:"volume,omitempty"`
	Created string `json:"created,omitempty"`
	BootID  string `json:"bootID,omitempty"`
	Upper   string `json:"upper,omitempty"` // the overlay's upper directory
	// Restored is the backup that this boot holds.
	Restored string `json:"restored,omitempty"`
	// Restoring is the backup whose restore onto this boot was cut off.
	Restoring string `json:"restoring,omitempty"`
	// Unsaved is what no backup has yet; absent when that is not known.
	Unsaved *Unsaved `json:"unsaved,omitempty"`
	Error   string   `json:"error,omitempty"` // of a node that did not answer
}

// Unsaved counts files that have changed since a backup.
type Unsaved struct {
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
	Since string `json:"since"` // the backup's ID; "": this boot has none
}

// Host says how a node answered.
type Host string

// The values of Host.
const (
	HostUnknown Host = "unknown" // there is no way to ask
	HostSilent  Host = "silent"  // asked, and no answer
	HostLocked  Host = "locked"  // up, and lets nobody in before its first login
	HostDisk    Host = "disk"    // runs, and not from a live medium
	HostLive    Host = "live"    // runs from a live medium
)

// A Drift is one difference between what is wanted and what is.
type Drift struct {
	Field string `json:"field"`
	Want  string `json:"want"`
	Got   string `json:"got"`
	At    string `json:"at"` // where the wanted value stands: "site.yaml:31:12"
}

// A Step is one step of a node's plan; after an apply, also how it ended.
type Step struct {
	Action  string      `json:"action"`
	Effect  plan.Effect `json:"effect"`
	Because string      `json:"because"`
	Arguments
	Outcome apply.Outcome `json:"outcome,omitempty"`
	Seconds *float64      `json:"seconds,omitempty"` // with Outcome
	Error   *Error        `json:"error,omitempty"`   // of a step that failed
}

// Arguments are what an action acts on. Each action uses a few of them.
type Arguments struct {
	Purpose plan.Purpose `json:"purpose,omitempty"` // backup-overlay
	Store   string       `json:"store,omitempty"`   // backup-overlay
	// MayFail: a person accepted that the overlay is lost if it cannot be saved.
	MayFail bool   `json:"mayFail,omitempty"` // backup-overlay
	Slot    string `json:"slot,omitempty"`    // eject-media
	Image   string `json:"image,omitempty"`   // eject-media, insert-media, await-boot
	URL     string `json:"url,omitempty"`     // insert-media
	// PoweredOn: the machine is on while its media is ejected.
	PoweredOn     bool    `json:"poweredOn,omitempty"`
	WithinSeconds float64 `json:"withinSeconds,omitempty"` // await-boot, login
	// From is the backup to restore; absent: the one made earlier in this plan.
	From string `json:"from,omitempty"` // restore-overlay
}

// An Error says why a node is blocked or failed, or a step failed.
type Error struct {
	Kind    bmc.Kind `json:"kind"`
	Message string   `json:"message"`
	Hint    string   `json:"hint"`
}

// Names returns the names of the document's nodes, in its order.
func (d Document) Names() []string {
	names := make([]string, len(d.Nodes))
	for i, n := range d.Nodes {
		names[i] = n.Name
	}
	return names
}
