package redfish_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// What each misfortune of a read turns into.
func TestFaultsOnRead(t *testing.T) {
	const sys = "^/redfish/v1/Systems/1$"
	for _, c := range []struct {
		name  string
		fault bmcsim.Fault
		kind  bmc.Kind
		words []string
	}{
		{"401", fault(sys, bmcsim.Do{What: bmcsim.DoStatus, Status: 401}), bmc.KindAuth, []string{"401", "bmc.password"}},
		{"403", fault(sys, bmcsim.Do{What: bmcsim.DoStatus, Status: 403}), bmc.KindAuth, []string{"403", "privileges"}},
		{"404", fault(sys, bmcsim.Do{What: bmcsim.DoStatus, Status: 404}), bmc.KindProtocol, []string{"GET Systems/1 with 404"}},
		{"500", fault(sys, bmcsim.Do{What: bmcsim.DoStatus, Status: 500}), bmc.KindProtocol, []string{"500 Internal Server Error"}},
		{"503", fault(sys, bmcsim.Do{What: bmcsim.DoStatus, Status: 503}), bmc.KindBusy, []string{"503", "busy"}},
		{"HTML", fault(sys, bmcsim.Do{What: bmcsim.DoHTML}), bmc.KindProtocol, []string{"Systems/1 sent HTML or XML where a JSON object belongs"}},
		{"half a body", fault(sys, bmcsim.Do{What: bmcsim.DoHalfBody}), bmc.KindProtocol, []string{"Systems/1 broke off after"}},
		{"50 MB", fault(sys, bmcsim.Do{What: bmcsim.DoHuge}), bmc.KindProtocol, []string{"Systems/1 sent more than 8 MiB"}},
		{"another host", fault(sys, bmcsim.Do{What: bmcsim.DoRedirect, To: "https://192.0.2.9/redfish/v1"}), bmc.KindProtocol, []string{"another host"}},
		{"dropped", fault(sys, bmcsim.Do{What: bmcsim.DoCloseBefore}), bmc.KindUnreachable, []string{"dropped the connection"}},
		{"member loop", fault("^/redfish/v1/Systems$", bmcsim.Do{What: bmcsim.DoMemberLoop}), bmc.KindUnsupported, []string{"none of the systems Systems has Boot settings and can be reset"}},
		{"next page loop", fault("^/redfish/v1/Systems$", bmcsim.Do{What: bmcsim.DoNextLinkLoop}), bmc.KindProtocol, []string{"circles"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, s := machine(t, bmcsim.Config{Behaviour: plainly})
			m.Faults(c.fault)
			_, err := open(t, s.config(t)).Observe(t.Context())
			wantError(t, err, c.kind, c.words...)
			if n := len(m.Requests()); n > 40 {
				t.Errorf("asked %d times", n)
			}
			for _, r := range m.Requests() {
				if r.Method != http.MethodGet {
					t.Errorf("a read sent %s %s", r.Method, r.Path)
				}
			}
		})
	}
}

// A collection of slots that has itself for a member has no slot.
func TestSlotLoop(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	m.Faults(fault("VirtualMedia$", bmcsim.Do{What: bmcsim.DoMemberLoop}))
	wantNoMedia(t, observe(t, open(t, s.config(t))), bmc.KindUnsupported, "VirtualMedia (no MediaTypes)")
	if n := len(m.Requests()); n > 40 {
		t.Errorf("asked %d times", n)
	}
}

func fault(path string, do bmcsim.Do) bmcsim.Fault {
	return bmcsim.Fault{PathPattern: path, Count: -1, Do: do}
}

func TestWrongTypes(t *testing.T) {
	for _, path := range []string{"", "/Systems", "/Systems/1", "/Managers/1", "/Managers/1/VirtualMedia", "/Managers/1/VirtualMedia/2"} {
		m, s := machine(t, bmcsim.Config{})
		m.Faults(fault("^/redfish/v1"+path+"$", bmcsim.Do{What: bmcsim.DoWrongTypes}))
		if _, err := open(t, s.config(t)).Observe(t.Context()); err != nil {
			if k := bmc.KindOf(err); k != bmc.KindProtocol && k != bmc.KindUnsupported {
				t.Errorf("%q with wrong types: %s: %v", path, k, err)
			}
			wantError(t, err, bmc.KindOf(err))
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	clock := conf.Clock.(*idleClock)
	c := open(t, conf)
	observe(t, c)
	m.Faults(bmcsim.Fault{Method: "POST", PathPattern: "InsertMedia$", Count: 2, Do: bmcsim.Do{What: bmcsim.DoStatus, Status: 503, RetryAfter: 20 * time.Second}})
	must(t, c.InsertMedia(t.Context(), image))
	if got := clock.slept(); got != 40*time.Second {
		t.Errorf("waited %v, want 40 s", got)
	}
	m.Faults(bmcsim.Fault{Method: "POST", PathPattern: "EjectMedia$", Do: bmcsim.Do{What: bmcsim.DoStatus, Status: 503, RetryAfter: 3 * time.Minute}})
	e := wantError(t, c.EjectMedia(t.Context()), bmc.KindBusy)
	if e.RetryAfter != 3*time.Minute || clock.slept() != 40*time.Second {
		t.Errorf("%+v after %v, want it at once with its RetryAfter", e, clock.slept())
	}
}

func TestBusyEnds(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	clock := conf.Clock.(*idleClock)
	c := open(t, conf)
	observe(t, c)
	m.Faults(fault("InsertMedia$", bmcsim.Do{What: bmcsim.DoStatus, Status: 503}))
	wantError(t, c.InsertMedia(t.Context(), image), bmc.KindBusy)
	if got := clock.slept(); got > 2*time.Minute || got < time.Minute {
		t.Errorf("waited %v, want up to 2 minutes", got)
	}
}

// A BMC that answers nothing at all.
func TestUnreachable(t *testing.T) {
	s := serve(t, http.NotFoundHandler())
	conf := s.config(t)
	s.Close()
	_, err := open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindUnreachable, "bmc.address", "refused")

	conf.URL = "https://no-such-bmc.invalid"
	_, err = open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindUnreachable, "no-such-bmc.invalid")
}

func TestHang(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	m.Faults(fault("", bmcsim.Do{What: bmcsim.DoHang}))
	conf := s.config(t)
	conf.Timeouts.Read = 30 * time.Millisecond
	_, err := open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTimeout, "no answer")
}

// The BMC takes the connection and says nothing, not even a TLS greeting.
func TestHangInHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	conf := serve(t, http.NotFoundHandler()).config(t)
	conf.URL = "https://" + l.Addr().String()
	conf.Timeouts.Connect = 20 * time.Millisecond
	_, err = open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTimeout)
}

func TestNotTLS(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	conf := serve(t, http.NotFoundHandler()).config(t)
	conf.URL = strings.Replace(s.URL, "http:", "https:", 1)
	_, err := open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTLS, "does not speak TLS")
}

func TestCertificates(t *testing.T) {
	_, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	for _, ok := range []redfish.TLS{{Fingerprint: s.pin()}, {Fingerprint: strings.ToUpper(s.pin())}, {CA: s.pool()}, {Insecure: true}} {
		conf.TLS = ok
		observe(t, open(t, conf))
	}
	conf.TLS = redfish.TLS{}
	_, err := open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTLS, s.pin(), "livecd-sync trust -w node", "compare")
	conf.TLS = redfish.TLS{Fingerprint: "sha256:" + strings.Repeat("0", 64)}
	_, err = open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTLS, s.pin(), strings.Repeat("0", 64), "--replace node", "somebody may be in between")
	conf.TLS = redfish.TLS{Fingerprint: "sha256:beef"}
	_, err = redfish.Open(t.Context(), conf)
	wantError(t, err, bmc.KindTLS, "fingerprint")
	if conf := http.DefaultTransport.(*http.Transport).TLSClientConfig; conf != nil && conf.InsecureSkipVerify {
		t.Error("the process's own transport was changed")
	}
}

// The password never reaches a BMC with the wrong certificate.
func TestNothingIsSentBeforeTheCertificate(t *testing.T) {
	var asked atomic.Int64
	s := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	conf := s.config(t)
	conf.TLS = redfish.TLS{}
	c := open(t, conf)
	wantError(t, c.Reset(t.Context(), bmc.ForceOff), bmc.KindTLS)
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestHTTP1AndOneConnection(t *testing.T) {
	var proto, curves atomic.Value
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		m.Handler().ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		curves.Store(fmt.Sprint(h.SupportedCurves))
		return nil, nil
	}}
	s.StartTLS()
	t.Cleanup(s.Close)
	conf := (&server{Server: s}).config(t)
	observe(t, open(t, conf))
	if proto.Load() != "HTTP/1.1" || curves.Load() != "[X25519 CurveP256]" {
		t.Errorf("%v with the curves %v", proto.Load(), curves.Load())
	}
}

// A BMC that chokes on a connection which stays open gets one for each request.
func TestNoKeepAlive(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	conf.NoKeepAlive = true
	c := open(t, conf)
	observe(t, c)
	must(t, c.SetBootOnce(t.Context()))
	must(t, c.Close(t.Context()))
	if conns, asked := int(s.conns.Load()), len(m.Requests()); conns != asked || asked < 7 {
		t.Errorf("%d connections for %d requests", conns, asked)
	}
	if n := m.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}

// A web server that knows no safe cipher is spoken to only where the site file
// says so.
func TestOldCiphers(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	s := httptest.NewUnstartedServer(m.Handler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA256}}
	s.StartTLS()
	t.Cleanup(s.Close)
	conf := (&server{Server: s}).config(t)
	_, err := open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindTLS, "bmc.oldCiphers")
	if len(m.Requests()) > 0 {
		t.Errorf("asked %q", asked(m))
	}
	conf.TLS.OldCiphers = true
	observe(t, open(t, conf))
}

// Credentials go to the BMC's own scheme and host, and a POST is never turned
// into a GET.
func TestRedirects(t *testing.T) {
	var leaked atomic.Int64
	other := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { leaked.Add(1) }))
	for _, c := range []struct {
		name   string
		status int
		to     string
		kind   bmc.Kind
	}{
		{"307 to another host", 307, other.URL + "/redfish/v1/x", bmc.KindProtocol},
		{"308 to plain http", 308, "", bmc.KindProtocol},
		{"301 on the same host", 301, "/redfish/v1/Systems/1", bmc.KindProtocol},
		{"307 in circles", 307, "self", bmc.KindProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := bmcsim.New(bmcsim.Config{})
			t.Cleanup(m.Close)
			var gets atomic.Int64
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "ComputerSystem.Reset") {
					if r.Method == http.MethodGet {
						gets.Add(1)
					}
					m.Handler().ServeHTTP(w, r)
					return
				}
				to := c.to
				switch to {
				case "":
					to = "http://" + r.Host + r.URL.Path + "/"
				case "self":
					to = r.URL.Path
				}
				w.Header().Set("Location", to)
				w.WriteHeader(c.status)
			}))
			cl := open(t, s.config(t))
			observe(t, cl)
			before := gets.Load()
			e := wantError(t, cl.Reset(t.Context(), bmc.ForceOff), c.kind)
			if e.Uncertain || gets.Load() != before || m.Power() != bmc.PowerOn {
				t.Errorf("uncertain %v, %d reads, power %s", e.Uncertain, gets.Load()-before, m.Power())
			}
		})
	}
	if leaked.Load() != 0 {
		t.Error("another host was asked")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "bmc", "http://bmc", "https://", "https://root:secret@bmc", "https://bmc/redfish", "https://bmc?x", "https://bmc:x"} {
		_, err := redfish.Open(t.Context(), redfish.Config{URL: url})
		e := wantError(t, err, bmc.KindUnreachable, "bmc.address")
		if strings.Contains(e.Error(), "secret") {
			t.Error(e)
		}
	}
	_, err := redfish.Open(t.Context(), redfish.Config{URL: "https://bmc", ProfileName: "ilo9", Profiles: profiles(t)})
	wantError(t, err, bmc.KindUnsupported, "ilo9", "hpe-ilo5")
}

func TestCancelled(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	c := open(t, s.config(t))
	observe(t, c)
	m.ForgetRequests()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, c.Reset(ctx, bmc.ForceOff), bmc.KindCancelled)
	if len(m.Requests()) != 0 {
		t.Errorf("asked %q", asked(m))
	}
}
