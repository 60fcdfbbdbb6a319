package redfish_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// A refused password is tried once, whatever is asked for afterwards.
func TestWrongPasswordIsTriedOnce(t *testing.T) {
	for _, mode := range []bmc.Auth{bmc.AuthAuto, bmc.AuthBasic, bmc.AuthSession} {
		t.Run(string(mode), func(t *testing.T) {
			m, s := machine(t, bmcsim.Config{})
			conf := s.config(t)
			conf.Auth, conf.Credential.Password = mode, "wrong-redfish-secret"
			c := open(t, conf)
			for range 3 {
				_, err := c.Observe(t.Context())
				wantError(t, err, bmc.KindAuth, "401", "bmc.password")
			}
			wantError(t, c.Reset(t.Context(), bmc.ForceOff), bmc.KindAuth)
			wantError(t, c.InsertMedia(t.Context(), image), bmc.KindAuth)
			must(t, c.Close(t.Context()))
			if n := m.Stats().BadLogins; n != 1 {
				t.Errorf("%d bad logins, want 1: %q", n, asked(m))
			}
		})
	}
}

func TestAuthModes(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   bmc.Auth
		b      bmcsim.Behaviour
		fault  bmcsim.Do
		logins int
		how    string // of the write
		kind   bmc.Kind
	}{
		{name: "auto", mode: bmc.AuthAuto, logins: 1, how: "session"},
		{name: "basic", mode: bmc.AuthBasic, how: "basic"},
		{name: "session", mode: bmc.AuthSession, logins: 1, how: "session"},
		{name: "session without Basic", mode: bmc.AuthSession, b: bmcsim.Behaviour{NoBasic: true}, logins: 1, how: "session"},
		{name: "auto, no sessions", mode: bmc.AuthAuto, fault: status(404), how: "basic"},
		{name: "auto, sessions forbidden", mode: bmc.AuthAuto, fault: status(405), how: "basic"},
		{name: "auto, sessions not built", mode: bmc.AuthAuto, fault: status(501), how: "basic"},
		{name: "auto, all sessions taken", mode: bmc.AuthAuto, fault: status(503), how: "basic"},
		{name: "auto, domain wanted", mode: bmc.AuthAuto, fault: status(401), how: "basic"},
		{name: "auto, no token", mode: bmc.AuthAuto, b: bmcsim.Behaviour{NoToken: true}, logins: 1, how: "basic"},
		{name: "session, all taken", mode: bmc.AuthSession, fault: status(503), kind: bmc.KindBusy},
		{name: "session, no token", mode: bmc.AuthSession, b: bmcsim.Behaviour{NoToken: true}, logins: 1, kind: bmc.KindProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, s := machine(t, bmcsim.Config{Behaviour: c.b})
			if c.fault.Status != 0 {
				m.Faults(bmcsim.Fault{Method: "POST", PathPattern: "Sessions$", Count: -1, Do: c.fault})
			}
			conf := s.config(t)
			conf.Auth = c.mode
			cl := open(t, conf)
			err := cl.Reset(t.Context(), bmc.ForceOff)
			if c.kind != "" {
				wantError(t, err, c.kind)
			} else {
				must(t, err)
				if i := slices.IndexFunc(asked(m), func(a string) bool { return strings.HasSuffix(a, "ComputerSystem.Reset "+c.how) }); i < 0 {
					t.Errorf("asked %q, want the reset by %s", asked(m), c.how)
				}
			}
			must(t, cl.Close(t.Context()))
			if st := m.Stats(); st.Logins != c.logins || st.Sessions != 0 {
				t.Errorf("%d logins and %d sessions left, want %d and none", st.Logins, st.Sessions, c.logins)
			}
		})
	}
}

func status(code int) bmcsim.Do { return bmcsim.Do{What: bmcsim.DoStatus, Status: code} }

// The session ends in the middle of a wait, and the password was changed
// meanwhile: one more login, and no other try.
func TestExpiredSessionAndNewPassword(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	c := open(t, s.config(t))
	must(t, c.SetBootOnce(t.Context()))
	m.EndSessions()
	m.Faults(bmcsim.Fault{Method: "POST", PathPattern: "Sessions$", Count: -1, Do: status(401)})
	m.ForgetRequests()
	_, err := c.Observe(t.Context())
	wantError(t, err, bmc.KindAuth)
	_, err = c.Observe(t.Context())
	wantError(t, err, bmc.KindAuth)
	wantAsked(t, m, "GET /Systems/1 session", "POST /SessionService/Sessions")
}

// A reset refused for want of a session did nothing and is sent again.
func TestResetAfterSessionExpired(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	c := open(t, s.config(t))
	must(t, c.SetBootOnce(t.Context()))
	m.EndSessions()
	must(t, c.Reset(t.Context(), bmc.ForceOff))
	if m.Stats().PowerCycles != 1 {
		t.Errorf("%+v, want one power cut", m.Stats())
	}
}

// A root that wants to know who asks.
func TestRootWithCredentials(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok && r.URL.Path == "/redfish/v1/" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		m.Handler().ServeHTTP(w, r)
	}))
	for _, mode := range []bmc.Auth{bmc.AuthAuto, bmc.AuthBasic, bmc.AuthSession} {
		conf := s.config(t)
		conf.Auth = mode
		observe(t, open(t, conf))
	}
}

func TestFamilyThatWantsBasic(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	row := conf.Profiles[0]
	row.Auth = bmc.AuthBasic
	conf.Profiles = []bmc.Profile{row}
	must(t, open(t, conf).InsertMedia(t.Context(), image))
	if n := m.Stats().Logins; n != 0 {
		t.Errorf("%d logins, want none", n)
	}
}

func TestExchangesHoldNoSecret(t *testing.T) {
	_, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	var log []redfish.Exchange
	conf.Log = func(e redfish.Exchange) { log = append(log, e) }
	c := open(t, conf)
	must(t, c.SetBootOnce(t.Context()))
	must(t, c.Close(t.Context()))
	if len(log) < 5 {
		t.Fatalf("logged %v", log)
	}
	for _, e := range log {
		if e.Node != "node" || e.Status == 0 || e.Err != nil || strings.Contains(e.URI, "secret") {
			t.Errorf("logged %+v", e)
		}
	}
}
