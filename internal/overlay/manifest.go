package overlay

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// ManifestVersion is the version of the manifests that are written; others are
// not read.
const ManifestVersion = 1

// The files of a backup.
const (
	ArchiveFile  = "overlay.tar.zst"
	ManifestFile = "manifest.json"
	DeletedFile  = "deleted.lst" // names of the whiteouts, each ended by NUL
	OpaqueFile   = "opaque.lst"  // names of the opaque dirs, each ended by NUL
)

// A Manifest describes one backup. It is written last, so that a backup that has
// one is complete and was read back.
type Manifest struct {
	Version   int         `json:"version"`
	ID        string      `json:"id"` // 20261123T050000Z, or with a suffix -2, -3, …
	Node      string      `json:"node"`
	Site      string      `json:"site"`
	CreatedAt time.Time   `json:"createdAt"`
	Purpose   Purpose     `json:"purpose"`
	BootID    string      `json:"bootID"` // of the boot that was backed up
	Clock     Clock       `json:"clock"`  // the node's, before anything was read
	Image     string      `json:"image"`  // its name in the site file, or ""
	Volume    site.Volume `json:"volume"` // of the live medium; zero when unknown
	Kernel    string      `json:"kernel"` // its release
	UpperDir  string      `json:"upperDir"`
	Options   Options     `json:"options"`
	Excludes  []string    `json:"excludes"`

	// Portable tells that no member leaves data in the lower layer (xattrs
	// overlay.metacopy and overlay.redirect). Restore refuses what is not.
	Portable bool `json:"portable"`
	// Flattened counts the members that were read from the merged view, because
	// the upper dir has only part of them.
	Flattened int64 `json:"flattened"`
	// Partial tells that not all of some file could be read: it shrank while it
	// was read, twice, so that tar filled its end with zeros; or its medium failed.
	Partial bool   `json:"partial"`
	Counts  Counts `json:"counts"`

	// Changed names what was read again because it changed while it was read;
	// Skipped what no archive can hold, and why; LeftOut what matches Excludes.
	// Names are escaped: \ooo for what is not printable UTF-8, \\ for \. Each
	// list holds at most MaxNames; Omitted counts the rest.
	Changed []string  `json:"changed"`
	Skipped []Skipped `json:"skipped"`
	LeftOut []LeftOut `json:"leftOut"`
	Omitted int64     `json:"omitted"`
	// Warnings are what tar said beyond that, at most MaxWarnings.
	Warnings []string `json:"warnings"`

	// Base is the backup that unchanged members were copied from, "" if none.
	// This one holds all of them itself.
	Base       string `json:"base"`
	Copied     int64  `json:"copied"`     // members from Base
	MovedBytes int64  `json:"movedBytes"` // that the node sent

	RawBytes     int64  `json:"rawBytes"` // of the tar archive
	RawSHA256    string `json:"rawSHA256"`
	StoredBytes  int64  `json:"storedBytes"` // of overlay.tar.zst
	StoredSHA256 string `json:"storedSHA256"`
	ToolVersion  string `json:"toolVersion"`

	// Age is set by a store that encrypts. What is stored is then
	// overlay.tar.zst.age, and so on.
	Age *Age `json:"age,omitempty"`
}

// AgeSuffix ends the names of files that are stored encrypted.
const AgeSuffix = ".age"

// An Age tells of the encryption of a backup.
type Age struct {
	Recipients  []string `json:"recipients"` // public keys
	PlainBytes  int64    `json:"plainBytes"` // of overlay.tar.zst
	PlainSHA256 string   `json:"plainSHA256"`
}

// compressed is what overlay.tar.zst has to be, once it is decrypted.
func (m Manifest) compressed() (size int64, sha256 string) {
	if m.Age != nil {
		return m.Age.PlainBytes, m.Age.PlainSHA256
	}
	return m.StoredBytes, m.StoredSHA256
}

// MaxWarnings is how many warnings a manifest keeps; the last then says how
// many more there were.
const MaxWarnings = 200

// Encode gives the manifest as it is stored, and as SHA256SUMS counts it.
func (m Manifest) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// MaxNames is how many names each list of a manifest holds, as long as they come
// to less than maxNameBytes.
const (
	MaxNames     = 10_000
	maxNameBytes = 1 << 20
)

// A Skipped is a file that is not in the archive.
type Skipped struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}

// A LeftOut is a file that overlay.exclude left out of the archive.
type LeftOut struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // "" for what is no regular file
	Mode   string `json:"mode"`   // permission bits in octal: "0644"
	Owner  string `json:"owner"`  // "UID:GID"
	MTime  string `json:"mtime"`  // seconds since 1970, with nine decimals
}

// Counts tells what an archive holds.
type Counts struct {
	Entries     int64 `json:"entries"` // all members, whiteouts too
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	Symlinks    int64 `json:"symlinks"`
	HardLinks   int64 `json:"hardLinks"` // the second and later names of a file
	Special     int64 `json:"special"`   // devices and fifos
	Whiteouts   int64 `json:"whiteouts"`
	Opaque      int64 `json:"opaque"`
}

// Purpose says why a backup was made.
type Purpose string

// The purposes.
const (
	PurposeReset  Purpose = "reset" // a step will end the running system
	PurposeDue    Purpose = "due"   // the last one was older than overlay.every
	PurposeManual Purpose = "manual"
)

var (
	idForm   = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z(-[0-9]{1,4})?$`)
	nodeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$`)
)

// ValidID reports whether s has the form of a backup's ID. Such an ID is a
// plain file name.
func ValidID(s string) bool { return idForm.MatchString(s) }

// CompareIDs orders backups by the time in their IDs, then by the suffix as a
// number.
func CompareIDs(a, b string) int {
	at, an := splitID(a)
	bt, bn := splitID(b)
	return cmp.Or(strings.Compare(at, bt), an-bn)
}

func splitID(id string) (string, int) {
	at, suffix, _ := strings.Cut(id, "-")
	n, _ := strconv.Atoi(suffix) // 0 without one, and ValidID knows the rest
	return at, n
}

// ValidNode reports whether s may be a node's name in a store. Such a name is a
// plain file name that is not hidden.
func ValidNode(s string) bool { return nodeForm.MatchString(s) }
