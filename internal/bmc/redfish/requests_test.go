package redfish_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

const image = "http://192.0.2.1/iso/pit.iso"

func observe(t *testing.T, c bmc.Client) bmc.State {
	t.Helper()
	s, err := c.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestObserveAsksSixThings(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Behaviour: plainly})
	c := open(t, s.config(t))
	observe(t, c)
	wantAsked(t, m,
		"GET /", "GET /Systems basic", "GET /Systems/1 basic", "GET /Managers/1 basic",
		"GET /Managers/1/VirtualMedia basic", "GET /Managers/1/VirtualMedia/2 basic")
	m.ForgetRequests()
	observe(t, c)
	wantAsked(t, m, "GET /Systems/1 basic", "GET /Managers/1/VirtualMedia/2 basic")
	m.ForgetRequests()
	if _, err := c.ObserveSystem(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAsked(t, m, "GET /Systems/1 basic")
	must(t, c.Close(t.Context()))
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d TLS handshakes, want 1", n)
	}
	if st := m.Stats(); st.Logins != 0 || st.MaxInFlight != 1 {
		t.Errorf("%d logins and %d requests at once, want none and 1", st.Logins, st.MaxInFlight)
	}
}

func TestObserveGigabyte(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{RemoteMediaOff: true}})
	c := open(t, s.config(t))
	if st := observe(t, c); st.Media.Access != bmc.AccessDisabled || st.ID.Profile != "ami-megarac-12" {
		t.Errorf("state %+v, want remote media disabled", st)
	}
	wantAsked(t, m,
		"GET /", "GET /Systems?only basic", "GET /Managers/Self basic",
		"GET /Systems/Self/ResetActionInfo basic", "GET /Managers/Self/VirtualMedia basic")
	m.SetRemoteMedia(true)
	m.ForgetRequests()
	observe(t, c)
	wantAsked(t, m, "GET /Systems/Self basic", "GET /Managers/Self/VirtualMedia basic", "GET /Managers/Self/VirtualMedia/CD1 basic")
	m.ForgetRequests()
	observe(t, c)
	wantAsked(t, m, "GET /Systems/Self basic", "GET /Managers/Self/VirtualMedia/CD1 basic")
}

// A plan's connection and an apply's share what was found; the whole cycle of
// the second is counted.
func TestCycleAsksNine(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	d := &redfish.Dialer{Profiles: profiles(t), Clock: newIdleClock()}
	dial := func() bmc.Client {
		c, err := d.Dial(t.Context(), s.config(t))
		must(t, err)
		return c
	}
	plan := dial()
	observe(t, plan)
	must(t, plan.Close(t.Context()))

	m.SetPower(bmc.PowerOff)
	m.ForgetRequests()
	before := s.conns.Load()
	c := dial()
	observe(t, c)
	must(t, c.InsertMedia(t.Context(), image))
	must(t, c.SetBootOnce(t.Context()))
	if st := observe(t, c); st.Media.Compare(image) != bmc.ImageMatch || !st.Boot.Armed([]string{"Cd"}) {
		t.Errorf("state %+v, want it mounted and armed", st)
	}
	must(t, c.Reset(t.Context(), bmc.PowerUp))
	must(t, c.Close(t.Context()))
	wantAsked(t, m,
		"GET /Systems/1 basic", "GET /Managers/1/VirtualMedia/2 basic",
		"POST /SessionService/Sessions",
		"POST /Managers/1/VirtualMedia/2/Actions/VirtualMedia.InsertMedia session",
		"PATCH /Systems/1 session",
		"GET /Systems/1 session", "GET /Managers/1/VirtualMedia/2 session",
		"POST /Systems/1/Actions/ComputerSystem.Reset session",
		"DELETE /SessionService/Sessions/root00000001 session")
	if n := s.conns.Load() - before; n != 1 {
		t.Errorf("%d TLS handshakes, want 1", n)
	}
	wantBodies(t, m,
		`{"Image":"http://192.0.2.1/iso/pit.iso"}`,
		`{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Cd"}}`,
		`{"ResetType":"On"}`)
}

// wantBodies checks what was written, logins left out, and that no action
// carried an If-Match.
func wantBodies(t *testing.T, m *bmcsim.Machine, want ...string) {
	t.Helper()
	var got []string
	for _, r := range m.Requests() {
		if r.Method == http.MethodPost && r.IfMatch != "" {
			t.Errorf("an action with If-Match: %+v", r)
		}
		if r.Body != "" && r.Path != "/redfish/v1/SessionService/Sessions" {
			got = append(got, r.Body)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("wrote %q, want %q", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("wrote %s, want %s", got[i], want[i])
		}
	}
}

func TestWritesGigabyte(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{FullBoot: true, IfMatch: 428}})
	c := open(t, s.config(t))
	observe(t, c)
	must(t, c.EnableMedia(t.Context()))
	must(t, c.InsertMedia(t.Context(), image))
	must(t, c.SetBootOnce(t.Context()))
	must(t, c.EjectMedia(t.Context()))
	wantBodies(t, m,
		`{"RMediaState":"Enable"}`,
		`{"Image":"http://192.0.2.1/iso/pit.iso","TransferProtocolType":"HTTP"}`,
		`{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Cd"}}`,
		`{}`)
}

func TestWritesILO4(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Kind: bmcsim.ILO4})
	c := open(t, s.config(t))
	must(t, c.InsertMedia(t.Context(), image))
	must(t, c.SetBootOnce(t.Context()))
	if st := observe(t, c); !st.Boot.Armed([]string{"Cd"}) {
		t.Errorf("boot %+v, want the medium armed", st.Boot)
	}
	wantBodies(t, m, `{"Image":"http://192.0.2.1/iso/pit.iso"}`, `{"Oem":{"Hp":{"BootOnNextServerReset":true}}}`)
}

// A path that is redirected to itself with a slash is asked with the slash from
// then on.
func TestTrailingSlashIsLearned(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	var redirects int
	conf := s.config(t)
	conf.Log = func(e redfish.Exchange) { redirects++ }
	c := open(t, conf)
	observe(t, c)
	plain := redirects
	m.SetBehaviour(bmcsim.Behaviour{TrailingSlash: true})
	m.ForgetRequests()
	observe(t, c)
	observe(t, c)
	if got := len(m.Requests()); got > 5 {
		t.Errorf("asked %d times for two observations, want at most one redirect:\n%v", got, asked(m))
	}
	if redirects-plain != 4 {
		t.Errorf("logged %d exchanges, want 4", redirects-plain)
	}
}

func TestTopologyIsDroppedOn404(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Kind: bmcsim.Gigabyte})
	c := open(t, s.config(t))
	observe(t, c)
	m.SetRemoteMedia(false) // the slot is gone
	if st := observe(t, c); st.Media.Access != bmc.AccessDisabled {
		t.Errorf("media %+v, want it disabled", st.Media)
	}
}

func TestNoSessionIsLeft(t *testing.T) {
	for name, do := range map[string]func(*testing.T, *bmcsim.Machine, bmc.Client) context.Context{
		"success": func(t *testing.T, m *bmcsim.Machine, c bmc.Client) context.Context {
			must(t, c.SetBootOnce(t.Context()))
			return t.Context()
		},
		"error": func(t *testing.T, m *bmcsim.Machine, c bmc.Client) context.Context {
			m.SetBehaviour(bmcsim.Behaviour{NoLicence: true})
			wantError(t, c.InsertMedia(t.Context(), image), bmc.KindLicence, "licence", "LicenseKeyRequired")
			return t.Context()
		},
		"cancellation": func(t *testing.T, m *bmcsim.Machine, c bmc.Client) context.Context {
			must(t, c.SetBootOnce(t.Context()))
			m.Faults(bmcsim.Fault{Method: "POST", Do: bmcsim.Do{What: bmcsim.DoHang}})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			e := wantError(t, c.Reset(ctx, bmc.ForceOff), bmc.KindCancelled)
			if !e.Uncertain || !errors.Is(e, context.Canceled) {
				t.Errorf("%+v, want it uncertain", e)
			}
			return ctx
		},
		"expiry": func(t *testing.T, m *bmcsim.Machine, c bmc.Client) context.Context {
			must(t, c.SetBootOnce(t.Context()))
			m.EndSessions()
			observe(t, c)
			if n := m.Stats().Logins; n != 2 {
				t.Errorf("%d logins, want 2", n)
			}
			return t.Context()
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, s := machine(t, bmcsim.Config{})
			c := open(t, s.config(t))
			observe(t, c)
			ctx := do(t, m, c)
			if m.Stats().Sessions == 0 && name != "error" {
				t.Error("no session was open: the test tests nothing")
			}
			must(t, c.Close(ctx))
			if n := m.Stats().Sessions; n != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}

// A cancellation that strikes during the login waits for its answer, so as to
// know the session and delete it.
func TestCancelledLoginLeavesNoSession(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/Sessions") {
			cancel()
		}
		m.Handler().ServeHTTP(w, r)
	}))
	c := open(t, s.config(t))
	observe(t, c)
	wantError(t, c.SetBootOnce(ctx), bmc.KindCancelled)
	if st := m.Stats(); st.Logins != 1 || st.Sessions != 1 {
		t.Errorf("%d logins and %d sessions: the test tests nothing", st.Logins, st.Sessions)
	}
	must(t, c.Close(ctx))
	if n := m.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions left", n)
	}
}
