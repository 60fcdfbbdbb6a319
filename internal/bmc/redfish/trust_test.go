package redfish_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// ears write down whatever a server is told.
type ears struct {
	mu    sync.Mutex
	heard []string
}

func (e *ears) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	e.heard = append(e.heard, fmt.Sprintf("%s %s %v %s", r.Method, r.URL.Path, r.Header, body))
	e.mu.Unlock()
	w.Header().Set("WWW-Authenticate", "Basic")
	w.WriteHeader(http.StatusUnauthorized)
}

func (e *ears) list() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard
}

// actions are all that a client does first on a connection.
var actions = map[string]func(t *testing.T, c bmc.Client) error{
	"observe": func(t *testing.T, c bmc.Client) error { _, err := c.Observe(t.Context()); return err },
	"insert":  func(t *testing.T, c bmc.Client) error { return c.InsertMedia(t.Context(), image) },
	"reset":   func(t *testing.T, c bmc.Client) error { return c.Reset(t.Context(), bmc.ForceOff) },
}

// A server with another certificate sees no request at all, and hence neither a
// header with credentials nor a login, whatever is asked first and however it
// is logged in.
func TestNothingIsSentToAnotherCertificate(t *testing.T) {
	wrong := certificateOf(t, "another authority")
	pool := x509.NewCertPool()
	pool.AddCert(wrong.Leaf)
	for name, trust := range map[string]redfish.TLS{
		"system authorities": {},
		"another pin":        {Fingerprint: redfish.Fingerprint(wrong.Leaf)},
		"another authority":  {CA: pool},
	} {
		for _, mode := range []bmc.Auth{bmc.AuthAuto, bmc.AuthBasic, bmc.AuthSession} {
			for what, do := range actions {
				t.Run(fmt.Sprint(name, ", ", mode, ", ", what), func(t *testing.T) {
					var e ears
					s := serve(t, &e)
					conf := s.config(t)
					conf.TLS, conf.Auth = trust, mode
					wantError(t, do(t, open(t, conf)), bmc.KindTLS, s.pin(), "trust -w node")
					if heard := e.list(); len(heard) > 0 {
						t.Errorf("it was told %q", heard)
					}
				})
			}
		}
	}
}

// A look at a certificate says nothing to the BMC, and tells whether the
// certificate is accepted as a connection would.
func TestShownBy(t *testing.T) {
	var e ears
	s := serve(t, &e)
	other := certificateOf(t, "other")
	for name, c := range map[string]struct {
		tls      redfish.TLS
		accepted bool
	}{
		"nothing": {}, "any": {redfish.TLS{Insecure: true}, true},
		"its pin": {redfish.TLS{Fingerprint: s.pin()}, true}, "another pin": {tls: redfish.TLS{Fingerprint: redfish.Fingerprint(other.Leaf)}},
		"its authority": {redfish.TLS{CA: s.pool()}, true}, "another authority": {tls: redfish.TLS{CA: x509.NewCertPool()}},
	} {
		conf := s.config(t)
		conf.TLS = c.tls
		shown, err := redfish.ShownBy(t.Context(), conf)
		must(t, err)
		if got := shown.Certificate; got.Fingerprint != s.pin() || got.NotAfter.IsZero() || !strings.HasPrefix(got.Key, "RSA ") || len(got.Names) == 0 || !got.SelfSigned {
			t.Errorf("%s: %+v", name, got)
		}
		if (shown.Refused == nil) != c.accepted {
			t.Errorf("%s: refused %v", name, shown.Refused)
		}
		if shown.Refused != nil {
			wantError(t, shown.Refused, bmc.KindTLS, s.pin())
		}
	}
	if heard := e.list(); len(heard) > 0 {
		t.Errorf("it was told %q", heard)
	}
	conf := s.config(t)
	s.Close()
	_, err := redfish.ShownBy(t.Context(), conf)
	wantError(t, err, bmc.KindUnreachable)
	plain := httptest.NewServer(&e)
	defer plain.Close()
	conf.URL = strings.Replace(plain.URL, "http:", "https:", 1)
	_, err = redfish.ShownBy(t.Context(), conf)
	wantError(t, err, bmc.KindTLS, "does not speak TLS")
}

// The certificate is looked at with each handshake: one that changes while a
// connection is being made anew is told nothing more.
func TestCertificateChangesInMidRun(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	first, second := certificateOf(t, "first"), certificateOf(t, "second")
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&first)
	s := httptest.NewUnstartedServer(m.Handler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*shown.Load()}}, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	conf := (&server{Server: s}).config(t)
	conf.TLS.Fingerprint = redfish.Fingerprint(first.Leaf)
	c := open(t, conf)
	observe(t, c)
	shown.Store(&second)
	s.CloseClientConnections()
	m.ForgetRequests()
	_, err := c.Observe(t.Context()) // a read finds out that the connection is gone, and makes another
	e := wantError(t, err, bmc.KindTLS)
	wantError(t, c.Reset(t.Context(), bmc.ForceOff), bmc.KindTLS)
	change, ok := errors.AsType[*bmc.CertificateChange](err)
	if !ok || change.Accepted != redfish.Fingerprint(first.Leaf) || change.Shown != redfish.Fingerprint(second.Leaf) || e.Uncertain {
		t.Errorf("%+v with %+v", e, change)
	}
	if len(m.Requests()) != 0 || m.Power() != bmc.PowerOn {
		t.Errorf("asked %q, power %s", asked(m), m.Power())
	}
}

// certificateOf makes a self-signed certificate for loopback.
func certificateOf(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A login that is redirected to another host does not get there, nor does a
// read with credentials.
func TestCredentialsStayOnTheHost(t *testing.T) {
	var other ears
	elsewhere := serve(t, &other)
	for _, c := range []struct {
		name, redirect string
		mode           bmc.Auth
	}{
		{"a read", "/redfish/v1/Systems", bmc.AuthBasic},
		{"a login", "/redfish/v1/SessionService/Sessions", bmc.AuthSession},
		{"the root", "/redfish/v1", bmc.AuthAuto},
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(c.name, ", ", status), func(t *testing.T) {
				m := bmcsim.New(bmcsim.Config{})
				t.Cleanup(m.Close)
				s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.TrimSuffix(r.URL.Path, "/") == c.redirect {
						w.Header().Set("Location", elsewhere.URL+r.URL.Path)
						w.WriteHeader(status)
						return
					}
					m.Handler().ServeHTTP(w, r)
				}))
				conf := s.config(t)
				conf.Auth = c.mode
				if _, err := open(t, conf).Observe(t.Context()); err == nil {
					t.Error("it was observed all the same")
				}
			})
		}
	}
	if heard := other.list(); len(heard) > 0 {
		t.Errorf("the other host was told %q", heard)
	}
}

// Logins go where the service root links sessions and nowhere else: neither to
// another host, nor to the paths where other families have theirs.
func TestLoginsGoWhereTheRootSays(t *testing.T) {
	var other ears
	elsewhere := serve(t, &other)
	for name, sessions := range map[string]any{
		"none": nil, "another host": map[string]string{"@odata.id": elsewhere.URL + "/redfish/v1/SessionService/Sessions"},
	} {
		t.Run(name, func(t *testing.T) {
			m := bmcsim.New(bmcsim.Config{})
			t.Cleanup(m.Close)
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.TrimSuffix(r.URL.Path, "/") != "/redfish/v1" {
					m.Handler().ServeHTTP(w, r)
					return
				}
				rec := httptest.NewRecorder()
				m.Handler().ServeHTTP(rec, r)
				var root map[string]any
				must(t, json.Unmarshal(rec.Body.Bytes(), &root))
				root["Links"] = map[string]any{"Sessions": sessions}
				_ = json.NewEncoder(w).Encode(root)
			}))
			must(t, open(t, s.config(t)).Reset(t.Context(), bmc.ForceOff))
			for _, r := range m.Requests() {
				if r.Method == http.MethodPost && !strings.HasSuffix(r.Path, "ComputerSystem.Reset") {
					t.Errorf("POST %s", r.Path)
				}
			}
			conf := s.config(t)
			conf.Auth = bmc.AuthSession
			if open(t, conf).Reset(t.Context(), bmc.PowerUp) == nil {
				t.Error("a session was opened somewhere")
			}
		})
	}
	if heard := other.list(); len(heard) > 0 {
		t.Errorf("the other host was told %q", heard)
	}
}

// What looks on sees all that is sent, gofish's and our own, and every answer.
func TestTapSeesEverything(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	var seen []string
	conf := s.config(t)
	conf.Tap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				seen = append(seen, fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", resp.StatusCode))
			}
			return resp, err
		})
	}
	c := open(t, conf)
	observe(t, c)
	must(t, c.InsertMedia(t.Context(), image))
	must(t, c.SetBootOnce(t.Context()))
	must(t, c.Reset(t.Context(), bmc.ForceOff))
	must(t, c.Close(t.Context()))
	var want []string
	for _, r := range m.Requests() {
		want = append(want, fmt.Sprint(r.Method, " ", r.URI(), " ", r.Status))
	}
	if len(want) < 9 || strings.Join(seen, "\n") != strings.Join(want, "\n") {
		t.Errorf("seen\n%s\nsent\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
