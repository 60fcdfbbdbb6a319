// Package site holds the desired state of a site as plain values: what the site
// file says once its defaults are filled in, its ranges expanded and its names
// resolved. siteload makes it; everything else reads it.
package site

import (
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Site is a valid site file.
type Site struct {
	Name   string
	File   string // as it was named to Load
	Digest string // "sha256:…" of the file's bytes
	Images map[string]Image
	Stores map[string]Store
	Serve  *Serve // nil when the file has none
	Watch  Watch
	Lock   *Lock  // nil: locks are kept on each host
	Nodes  []Node // in the order of their names, numbers by value (n2 before n10)
	// Groups maps a group to the names of its nodes, in the order of Nodes.
	Groups map[string][]string
}

// NodeNames lists the names of the nodes in their order.
func (s *Site) NodeNames() []string {
	names := make([]string, len(s.Nodes))
	for i, n := range s.Nodes {
		names[i] = n.Name
	}
	return names
}

// A Pos is where a value stands in the site file: "site.yaml:31:12".
type Pos string

// An Image is a live ISO. Exactly one of URL, File and Release is set.
type Image struct {
	Name    string
	URL     string
	File    string // absolute
	Release string // absolute
	SHA256  string // lower-case hex, or ""
	Pos     Pos
}

// A Store keeps backups.
type Store struct {
	Name string
	// URL is file:///absolute/path, sftp://user@host[:port]/absolute/path or
	// s3://bucket[/prefix].
	URL string
	SSH *SSH // how to reach the server of an sftp store; else nil
	S3  *S3  // how to reach the server of an S3 store; else nil
	Age *Age // nil: backups are not encrypted
	Pos Pos
}

// S3 is how to reach an S3 server.
type S3 struct {
	Endpoint             string // http(s)://host[:port]
	Region               string
	AccessKey, SecretKey SecretRef
	TLS                  TLS
}

// An Age says to whom a store's backups are encrypted (age-encryption.org/v1).
type Age struct {
	Recipients []string // public keys, age1… or age1pq1…; at least one
	// Identity is the private key, without which backups can be made and not
	// restored.
	Identity SecretRef
}

// Secrets are where the store's secrets are to be had, by the name of the key.
func (s Store) Secrets() map[string]SecretRef {
	refs := map[string]SecretRef{}
	if s.SSH != nil {
		refs["ssh.password"] = s.SSH.Password
	}
	if s.S3 != nil {
		refs["accessKey"], refs["secretKey"] = s.S3.AccessKey, s.S3.SecretKey
	}
	if s.Age != nil {
		refs["age.identity"] = s.Age.Identity
	}
	return refs
}

// Serve says how livecd-sync serves images itself.
type Serve struct {
	Listen string
	URL    string
}

// A Node is one machine. Absent sections are nil.
type Node struct {
	Name   string
	Groups []string
	BMC    BMC
	SSH    *SSH
	// Login is the first login of what it boots; nil: none is done.
	Login *Login
	// Console is what the site file says of the serial console; its zero value
	// leaves it to the BMC's family.
	Console Console
	// Image is the image's name, "none", or "" when media is not managed.
	Image   string
	Reset   Reset
	Boot    Boot
	Overlay *Overlay // nil when the site file gives the node no overlay section
	Pos     map[string]Pos
}

// A Volume is the identity of an ISO 9660 file system: what tells one image from
// the next wherever it is read, from a web server or on the node that runs it.
type Volume struct {
	ID string `json:"id"` // the primary volume descriptor's identifier, right-trimmed
	// Created is the descriptor's creation date in the form
	// "2026-11-23T05:00:00.00+01:00", or "" when the descriptor has none
	// (ECMA-119 8.4.26.1).
	Created string `json:"created"`
}

// NoImage is the Image of a node that shall have nothing mounted.
const NoImage = "none"

// At returns where the node's field stands in the site file, for example
// "image" or "bmc.address"; a value that was inherited stands where the defaults
// have it. For a field the file does not have it is the node's own place.
func (n Node) At(field string) Pos {
	if p, ok := n.Pos[field]; ok {
		return p
	}
	return n.Pos[""]
}

// A BMC is how to reach a node's BMC.
type BMC struct {
	URL      string // https://host[:port], never with a path
	System   string // the Id or URI of the system, when the BMC has several
	Username string
	Password SecretRef
	TLS      TLS
	Auth     bmc.Auth
	Profile  string // the name of a profile row, or ""
	// NoKeepAlive opens a connection for each request.
	NoKeepAlive bool
	// OldCiphers takes TLS 1.2 ciphers too that are no longer safe.
	OldCiphers bool
}

// TLS says which certificate a BMC must show. At most one field is set; with
// none the system's certificate authorities decide.
type TLS struct {
	CA          string // absolute path of a PEM file
	Fingerprint string // "sha256:" and the hex digest of the leaf's DER
	Pins        string // absolute path of a file that package pinfile reads; of BMCs only
	Insecure    bool
}

// SSH is how to reach a running node.
type SSH struct {
	Address  string
	Port     int
	User     string
	Identity string // absolute path of a private key, or ""
	Password SecretRef
	HostKey  HostKey
}

// A Console is how to reach a node's serial console. At most one of Socket,
// Command and Way is set; with none the BMC's family decides.
type Console struct {
	Socket  string         // absolute path of a unix socket
	Command []string       // a program and its arguments
	Way     bmc.ConsoleWay // how the BMC gives it
	Port    int            // on the BMC; 0: the usual one
	// HostKey is what the BMC's ssh server must show; its zero value stands for
	// what the user's ~/.ssh/known_hosts has.
	HostKey       HostKey
	OldAlgorithms bool // use broken ssh algorithms too
}

// IsZero reports whether neither the site file nor what it inherits says what
// the console is.
func (c Console) IsZero() bool { return c.Socket == "" && len(c.Command) == 0 && c.Way == "" }

// A Login says how the first login of a live image is done.
type Login struct {
	Password      SecretRef // that root shall have
	Initial       SecretRef // that the image comes with; zero: an empty one
	AuthorizedKey string    // absolute path of a public key, or ""
	Commands      []string
	Within        time.Duration // 10m by default
}

// HostKey says which host key a node must show. Exactly one field is set.
type HostKey struct {
	Console     bool   // the one that was read over the serial console
	KnownHosts  string // absolute path of a known_hosts file
	Fingerprint string // "SHA256:…" as ssh-keygen prints it
	Any         bool
}

// A SecretRef says where a secret is to be had. Its zero value is no secret.
type SecretRef struct {
	Env     string
	File    string // absolute
	Command []string
}

// IsZero reports whether there is no secret.
func (r SecretRef) IsZero() bool { return r.Env == "" && r.File == "" && len(r.Command) == 0 }

// String tells where the secret is, never what.
func (r SecretRef) String() string {
	switch {
	case r.Env != "":
		return "$" + r.Env
	case r.File != "":
		return r.File
	case len(r.Command) > 0:
		return fmt.Sprintf("the output of %q", r.Command[0])
	}
	return "no secret"
}

// Reset says whether livecd-sync may reset a node.
type Reset string

// The values of a node's reset.
const (
	ResetNeeded Reset = "needed"
	ResetNever  Reset = "never"
)

// Boot bounds a boot.
type Boot struct {
	Within time.Duration // 30m by default
}

// An Overlay says how a node's overlay is kept.
type Overlay struct {
	Store   string // the name of a store
	Path    string // absolute path on the node, or "": found on the node
	Exclude []string
	Keep    int // 5 by default
	// KeepWithin is the age up to which backups beyond Keep are kept; 0: none.
	KeepWithin time.Duration
	Every      time.Duration // 0: only when a step would end the running image
	// Restore is "latest", "none" or the ID of a backup.
	Restore string
	// Restart: after a restore, services are restarted whose files were replaced.
	Restart bool
	// Repopulate says where what Exclude left out is to be had again, by the
	// pattern or path that was left out.
	Repopulate map[string]Source
}

// A Source is where an excluded file is to be had. Exactly one field is set.
type Source struct {
	URL   string
	Image string // a path in the node's image
	File  string // absolute, on this machine
}

// The words a node's overlay.restore may have instead of an ID.
const (
	RestoreLatest = "latest"
	RestoreNone   = "none"
)

// OverlayManaged reports whether the node's overlay can be backed up and
// restored: it can be reached, and there is a store.
func (n Node) OverlayManaged() bool { return n.SSH != nil && n.Overlay != nil && n.Overlay.Store != "" }
