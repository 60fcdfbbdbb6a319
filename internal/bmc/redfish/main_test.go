package redfish_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests here wait for machines more than they compute.
	if p := flag.Lookup("test.parallel"); p.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = p.Value.Set("8")
	}
	goleak.VerifyTestMain(m)
}

// profiles are the rows that the program ships.
func profiles(t testing.TB) []bmc.Profile {
	t.Helper()
	all, err := siteload.Profiles()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// hastyClock runs a hundred times as fast as the machine's, so that a client's
// waits are short and a machine that takes tens of milliseconds still is in
// time.
type hastyClock struct{ start time.Time }

const haste = 100

func (c hastyClock) Now() time.Time { return c.start.Add(haste * time.Since(c.start)) }

func (c hastyClock) Sleep(ctx context.Context, d time.Duration) error {
	return bmc.SystemClock{}.Sleep(ctx, d/haste)
}

// idleClock stands still but for the waits, which take no time.
type idleClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
}

func newIdleClock() *idleClock {
	return &idleClock{now: time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)}
}

func (c *idleClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *idleClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

// slept is how long the client has waited in all.
func (c *idleClock) slept() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var sum time.Duration
	for _, d := range c.waits {
		sum += d
	}
	return sum
}

// server is a BMC's HTTPS service in a test.
type server struct {
	*httptest.Server
	conns atomic.Int64 // accepted, each of which is a TLS handshake
}

func serve(t testing.TB, h http.Handler) *server {
	t.Helper()
	s := &server{Server: httptest.NewUnstartedServer(h)}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.conns.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// pin is the server's certificate as a site file names it.
func (s *server) pin() string {
	sum := sha256.Sum256(s.Certificate().Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (s *server) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Certificate())
	return p
}

// config is how to reach the server; the password is right for bmcsim.
func (s *server) config(t testing.TB) redfish.Config {
	t.Helper()
	return redfish.Config{
		Node: "node", URL: s.URL, TLS: redfish.TLS{Fingerprint: s.pin()},
		Credential: bmc.Credential{Username: "root", Password: "redfish-secret"},
		Profiles:   profiles(t), Clock: newIdleClock(),
	}
}

// open connects and closes at the end of the test.
func open(t testing.TB, conf redfish.Config) bmc.Client {
	t.Helper()
	c, err := redfish.Open(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.WithoutCancel(t.Context())) })
	return c
}

// plainly is a machine that offers no query options: it is walked link by link.
var plainly = bmcsim.Behaviour{Queries: bmcsim.QueriesAbsent}

// machine is a simulated one behind a real server.
func machine(t testing.TB, conf bmcsim.Config) (*bmcsim.Machine, *server) {
	t.Helper()
	m := bmcsim.New(conf)
	s := serve(t, m.Handler())
	t.Cleanup(m.Close) // before the server's, which waits for hanging requests
	return m, s
}

// asked lists what a machine was asked: method, path and how it was signed.
func asked(m *bmcsim.Machine) []string {
	var out []string
	for _, r := range m.Requests() {
		out = append(out, strings.TrimSpace(r.Method+" "+strings.TrimPrefix(r.URI(), "/redfish/v1")+" "+r.Auth))
	}
	return out
}

func wantAsked(t *testing.T, m *bmcsim.Machine, want ...string) {
	t.Helper()
	if got := asked(m); !slices.Equal(got, want) {
		t.Errorf("asked\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantError checks the kind of an error, and that it is fit to be shown.
func wantError(t *testing.T, err error, kind bmc.Kind, words ...string) *bmc.Error {
	t.Helper()
	e, ok := err.(*bmc.Error) //nolint:errorlint // it shall be one, not hold one
	if !ok {
		t.Fatalf("got %v (%T), want a *bmc.Error of kind %s", err, err, kind)
	}
	if e.Kind != kind {
		t.Errorf("kind %s, want %s: %v", e.Kind, kind, err)
	}
	if e.Op == "" || e.Hint == "" {
		t.Errorf("an error without operation or hint: %+v", e)
	}
	all := e.Error() + " | " + e.Hint
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%q does not say %q", all, w)
		}
	}
	if strings.Contains(all, "redfish-secret") || strings.ContainsAny(all, "\n\x1b") {
		t.Errorf("%q is not fit to be shown", all)
	}
	return e
}
