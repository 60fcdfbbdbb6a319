package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stmcginnis/gofish"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Config says which BMC to talk to and how.
type Config struct {
	Node       string // for logs
	URL        string // https://HOST[:PORT]
	Credential bmc.Credential
	Auth       bmc.Auth // "" means bmc.AuthAuto
	TLS        TLS
	System     string // Id, URI or UUID of the system; "" if the BMC has one

	Profiles    []bmc.Profile // the rows; the first that matches is used
	ProfileName string        // the row to use instead, or ""
	NoKeepAlive bool          // a connection for each request
	Clock       bmc.Clock     // nil means the machine's
	Timeouts    Timeouts      // zero fields mean DefaultTimeouts
	Topology    *Topology     // what an earlier connection found; nil for none
	Log         func(Exchange)
	// Tap is put around what carries every request and answer, gofish's and our
	// own, to look on; nil for nothing. What it sees holds secrets.
	Tap func(http.RoundTripper) http.RoundTripper
}

// TLS says which certificate is accepted. At most one of CA, Fingerprint and
// Insecure is set; with none the system's certificate authorities decide.
type TLS struct {
	CA          *x509.CertPool
	Fingerprint string // "sha256:" and the hex digest of the leaf's DER
	Insecure    bool   // any certificate
	// OldCiphers takes TLS 1.2 ciphers too that Go counts as insecure, for BMCs
	// whose web servers know no better.
	OldCiphers bool
}

// Timeouts bound what a BMC may take.
type Timeouts struct {
	Connect  time.Duration // to be connected
	Read     time.Duration // to answer a GET
	Write    time.Duration // to answer anything else
	BusyRead time.Duration // to stop being busy, for a GET
	Busy     time.Duration // to stop being busy, for anything else
	Task     time.Duration // to end a task
	Close    time.Duration // to delete the session
}

// DefaultTimeouts are for hardware: vendors.md 9.1, and perf.md 5 for the short
// time to connect.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Connect: 5 * time.Second, Read: 30 * time.Second, Write: time.Minute,
		BusyRead: 30 * time.Second, Busy: 2 * time.Minute, Task: 5 * time.Minute, Close: 5 * time.Second,
	}
}

func (t Timeouts) orDefault() Timeouts {
	d := DefaultTimeouts()
	for _, f := range []struct{ own, def *time.Duration }{
		{&t.Connect, &d.Connect},
		{&t.Read, &d.Read},
		{&t.Write, &d.Write},
		{&t.BusyRead, &d.BusyRead},
		{&t.Busy, &d.Busy},
		{&t.Task, &d.Task},
		{&t.Close, &d.Close},
	} {
		if *f.own <= 0 {
			*f.own = *f.def
		}
	}
	return t
}

// An Exchange is one request and what became of it, for a log. It holds no
// header and no body, hence no secret.
type Exchange struct {
	Node, Method, URI string
	Status            int // 0 if no answer came
	Took              time.Duration
	Err               error
}

// Client is one connection to one BMC: a bmc.Client. It is not safe for
// concurrent use.
type Client struct {
	node     string
	endpoint host
	system   string
	profiles []bmc.Profile
	wanted   string // name of the profile to use, or ""
	clock    bmc.Clock
	timeouts Timeouts
	log      func(Exchange)

	auth     *authorizer
	wire     *wire
	api      *gofish.APIClient
	topology *Topology
	sessions *string // URI of the sessions collection, once the root was read

	tree    *tree     // where things are; nil before the first walk
	machine string    // whose they are
	walked  time.Time // when they were looked for
	doubted bool      // the BMC refused a write as nothing it knows

	media   *bmc.Media        // as last observed; nil before the first Observe
	boot    bootDoc           // the override as last read
	slot    mediaDoc          // the slot as last read
	ejected time.Time         // when the slot was last emptied on this connection
	noSlot  bmc.Refusal       // why there is none, when one was looked for last
	config  bootConfig        // what the row's own strategy for booting last read
	allow   string            // its Allow header
	etags   map[string]string // by URI, as last seen

	bootRead bool                       // boot was read on this connection
	slotRead string                     // the URI that slot was read from
	queries  queries                    // what the root offered, less what did not work
	kept     map[string]json.RawMessage // read ahead in this walk, by address
	slash    bool                       // the BMC redirects paths to the same with a slash
}

var _ bmc.Client = (*Client)(nil)

// Open prepares a connection. It sends nothing: an unreachable BMC shows at the
// first call. The errors are of type *bmc.Error.
func Open(ctx context.Context, conf Config) (bmc.Client, error) {
	c, err := newClient(ctx, conf)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func newClient(ctx context.Context, conf Config) (*Client, error) {
	endpoint, err := parseEndpoint(conf.URL)
	if err != nil {
		return nil, &bmc.Error{Op: "connect", Kind: bmc.KindUnreachable, Err: err, Hint: "correct bmc.address in the site file"}
	}
	if err := conf.checkProfile(); err != nil {
		return nil, err
	}
	c := &Client{
		node: conf.Node, endpoint: endpoint, system: conf.System,
		profiles: conf.Profiles, wanted: conf.ProfileName,
		clock: clockOr(conf.Clock), timeouts: conf.Timeouts.orDefault(), log: conf.Log,
		auth:     &authorizer{cred: conf.Credential, mode: conf.Auth},
		topology: conf.Topology, etags: map[string]string{},
	}
	if c.auth.mode == "" {
		c.auth.mode = bmc.AuthAuto
	}
	if c.topology == nil {
		c.topology = new(Topology)
	}
	if known := c.topology.load(); known.Tree != nil {
		c.tree, c.machine, c.walked = known.Tree, known.Machine, known.At
		c.auth.adopt(c.tree.Profile)
	}
	tlsConf, err := conf.TLS.config()
	if err != nil {
		return nil, err
	}
	return c, c.connect(ctx, tlsConf, conf)
}

// connect puts gofish on our transport.
func (c *Client) connect(ctx context.Context, tlsConf *tls.Config, conf Config) error {
	base := newTransport(c.timeouts, tlsConf)
	base.DisableKeepAlives = conf.NoKeepAlive
	c.wire = &wire{base: base, carrier: base, endpoint: c.endpoint, auth: c.auth, greeting: true}
	if conf.Tap != nil {
		c.wire.carrier = conf.Tap(base)
	}
	api, err := gofish.ConnectContext(ctx, gofish.ClientConfig{
		Endpoint:          c.endpoint.Scheme + "://" + c.endpoint.Host,
		HTTPClient:        &http.Client{Transport: c.wire, CheckRedirect: redirected(c.endpoint)},
		NoModifyTransport: true,
		ReuseConnections:  true,
	})
	if err != nil {
		return c.lost(ctx, "connect", request{method: http.MethodGet, uri: rootURI}, false, err)
	}
	c.api = api
	return nil
}

func (conf Config) checkProfile() error {
	if conf.ProfileName == "" {
		return nil
	}
	var names []string
	for _, p := range conf.Profiles {
		if p.Name == conf.ProfileName {
			return nil
		}
		names = append(names, p.Name)
	}
	return &bmc.Error{
		Op: "connect", Kind: bmc.KindUnsupported, Err: fmt.Errorf("there is no profile %q", conf.ProfileName),
		Hint: "bmc.profile is one of " + strings.Join(names, ", "),
	}
}

// config is a new tls.Config: gofish's own would share, and could change, the
// process's (vendors.md 7.3 row 1). The two classic curves keep the ClientHello
// within one segment (perf.md 2).
func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		RootCAs:          t.CA,
	}
	if t.OldCiphers {
		for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
			conf.CipherSuites = append(conf.CipherSuites, suite.ID)
		}
	}
	switch {
	case t.Fingerprint != "":
		want := "sha256:" + strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(t.Fingerprint), "sha256:"), ":", ""))
		if len(want) != len("sha256:")+64 {
			return nil, &bmc.Error{
				Op: "connect", Kind: bmc.KindTLS, Err: errors.New("the fingerprint is no SHA-256 in hex"),
				Hint: `write tls: {fingerprint: "sha256:` + "…" + `"} with 64 hex digits`,
			}
		}
		conf.InsecureSkipVerify = true // the pin below is stricter
		conf.VerifyConnection = func(s tls.ConnectionState) error {
			if got := Fingerprint(s.PeerCertificates[0]); got != want {
				return &bmc.CertificateChange{Accepted: want, Shown: got}
			}
			return nil
		}
	case t.Insecure:
		conf.InsecureSkipVerify = true
	}
	return conf, nil
}

// Close deletes the session, if one was opened, and closes the connection. It
// takes no longer than Timeouts.Close and works after ctx was cancelled.
func (c *Client) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timeouts.Close)
	defer cancel()
	defer c.wire.base.CloseIdleConnections()
	return c.logout(ctx)
}

// A Dialer opens connections that share their settings, and remembers for each
// BMC where its resources are, so that a second connection (apply's after
// plan's) need not look for them. It is safe for concurrent use.
type Dialer struct {
	Profiles []bmc.Profile
	Clock    bmc.Clock // nil means the machine's
	Timeouts Timeouts
	Log      func(Exchange)
	// Cache is the directory where what is remembered outlives the process; ""
	// for none. It holds no state and no secret, and may be deleted at any time.
	Cache string

	mu    sync.Mutex
	known map[string]*Topology
	rules string
}

// Dial is Open with the Dialer's settings in place of conf's.
func (d *Dialer) Dial(ctx context.Context, conf Config) (bmc.Client, error) {
	conf.Profiles, conf.Clock, conf.Timeouts, conf.Log = d.Profiles, d.Clock, d.Timeouts, d.Log
	conf.Topology = d.topology(conf)
	return Open(ctx, conf)
}

func (d *Dialer) topology(conf Config) *Topology {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[string]*Topology{}
		d.rules = rules(d.Profiles)
	}
	// Two nodes may share a BMC, and a changed site file the node's name.
	key := conf.URL + " " + conf.System + " " + conf.ProfileName
	t := d.known[key]
	if t == nil {
		t = new(Topology)
		if d.Cache != "" {
			name := sha256.Sum256([]byte(key))
			t.file = cacheFile{path: filepath.Join(d.Cache, hex.EncodeToString(name[:])+".json"), rules: d.rules}
			t.walked = t.file.read(clockOr(d.Clock).Now(), d.Profiles)
		}
		d.known[key] = t
	}
	return t
}

func clockOr(c bmc.Clock) bmc.Clock {
	if c == nil {
		return bmc.SystemClock{}
	}
	return c
}
