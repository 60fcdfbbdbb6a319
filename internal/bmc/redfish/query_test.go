package redfish_test

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// A first look takes as few requests as the service root offers, and where what it
// offers does not work, one more than without.
func TestFirstLookByQuery(t *testing.T) {
	const only = "GET /Systems?only basic"
	for _, c := range []struct {
		name string
		conf bmcsim.Config
		want []string
	}{
		{
			"two levels",
			bmcsim.Config{Behaviour: bmcsim.Behaviour{MaxLevels: 2}},
			[]string{"GET /", only, "GET /Managers/1?$expand=.($levels=2) basic"},
		},
		{
			"six levels",
			bmcsim.Config{Kind: bmcsim.GB200, Behaviour: bmcsim.Behaviour{MaxLevels: 6}},
			[]string{
				"GET /", only, "GET /Systems?$expand=. basic", "GET /Managers/BMC_0?$expand=.($levels=2) basic",
				"GET /Systems/System_0/ResetActionInfo basic",
			},
		},
		{
			"media under the system",
			bmcsim.Config{Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{MaxLevels: 2}},
			[]string{"GET /", only, "GET /Managers/BMC basic", "GET /Systems/1/VirtualMedia?$expand=. basic"},
		},
		{
			"one level",
			bmcsim.Config{},
			[]string{"GET /", only, "GET /Managers/1 basic", "GET /Managers/1/VirtualMedia?$expand=. basic"},
		},
		{
			"only, and nothing else",
			bmcsim.Config{Kind: bmcsim.OpenBMC},
			[]string{
				"GET /", only, "GET /Managers/bmc basic", "GET /Systems/system/ResetActionInfo basic", "GET /Managers/bmc/VirtualMedia basic",
				"GET /Managers/bmc/VirtualMedia/Slot_0 basic", "GET /Managers/bmc/VirtualMedia/Slot_1 basic", "GET /Managers/bmc/VirtualMedia/Slot_2 basic",
			},
		},
		{
			"nothing",
			bmcsim.Config{Behaviour: plainly},
			[]string{
				"GET /", "GET /Systems basic", "GET /Systems/1 basic", "GET /Managers/1 basic",
				"GET /Managers/1/VirtualMedia basic", "GET /Managers/1/VirtualMedia/2 basic",
			},
		},
		{
			"two hosts",
			bmcsim.Config{Behaviour: bmcsim.Behaviour{TwinSystem: true}},
			[]string{
				"GET /", only, "GET /Systems/1 basic", "GET /Managers/1 basic", "GET /Managers/1/VirtualMedia?$expand=. basic",
			},
		},
		{
			"a board for a second system",
			bmcsim.Config{Behaviour: bmcsim.Behaviour{SecondSystem: true}},
			[]string{
				"GET /", only, "GET /Systems?$expand=. basic", "GET /Managers/1 basic", "GET /Managers/1/VirtualMedia?$expand=. basic",
			},
		},
		{
			"a row that forbids it",
			bmcsim.Config{Kind: bmcsim.Gigabyte},
			[]string{
				"GET /", only, "GET /Managers/Self basic", "GET /Systems/Self/ResetActionInfo basic",
				"GET /Managers/Self/VirtualMedia basic", "GET /Managers/Self/VirtualMedia/CD1 basic",
			},
		},
		{
			"slashes",
			bmcsim.Config{Behaviour: bmcsim.Behaviour{TrailingSlash: true}},
			[]string{
				"GET /", "GET /Systems/?only basic", "GET /Managers/1/ basic", "GET /Managers/1/VirtualMedia/?$expand=. basic",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, s := machine(t, c.conf)
			conf := s.config(t)
			if c.conf.Behaviour.TwinSystem {
				conf.System = "1"
			}
			got := observe(t, open(t, conf))
			wantAsked(t, m, c.want...)
			if n := s.conns.Load(); n != 1 {
				t.Errorf("%d TLS handshakes, want 1", n)
			}
			wantSameWithout(t, m, conf, got)
		})
	}
}

// wantSameWithout checks that a walk without query options finds the same.
func wantSameWithout(t *testing.T, m *bmcsim.Machine, conf redfish.Config, got bmc.State) {
	t.Helper()
	b := m.Behaviour()
	b.Queries, b.MaxLevels = bmcsim.QueriesAbsent, 0
	m.SetBehaviour(b)
	m.ForgetRequests()
	want := observe(t, open(t, conf))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, r := range m.Requests() {
		if r.Query != "" {
			t.Errorf("asked %s", r.URI())
		}
	}
}

// What is offered and does not work is asked for once in a process.
func TestQueriesThatDoNotWork(t *testing.T) {
	const only, deep = "GET /Systems?only basic", "GET /Managers/1?$expand=.($levels=2) basic"
	plain := []string{
		"GET /Systems basic", "GET /Systems/1 basic", "GET /Managers/1 basic", "GET /Managers/1/VirtualMedia basic", "GET /Managers/1/VirtualMedia/2 basic",
	}
	list := func(then ...string) []string { return append([]string{"GET /", only}, then...) }
	for how, want := range map[bmcsim.Queries][]string{
		bmcsim.QueriesIgnored: list(plain[1:]...),
		bmcsim.QueriesRefused: list(plain...),
		bmcsim.QueriesUnbuilt: list(plain...),
		bmcsim.QueriesSilent:  list(plain...),
		bmcsim.QueriesClose:   list(append([]string{only}, plain...)...), // net/http sends a read again
		bmcsim.QueriesTooBig:  list(append([]string{deep}, plain[2:]...)...),
		bmcsim.QueriesPartly:  list(deep, plain[4]),
		bmcsim.QueriesShallow: list(deep, plain[4]),
		bmcsim.QueriesCut:     list(deep, plain[3], plain[4]),
	} {
		t.Run(string(how), func(t *testing.T) {
			b := bmcsim.Behaviour{MaxLevels: 2, Queries: how}
			m, s := machine(t, bmcsim.Config{Behaviour: b})
			conf := s.config(t)
			conf.Timeouts.Read = 200 * time.Millisecond
			conf.Topology = new(redfish.Topology)
			got := observe(t, open(t, conf))
			wantAsked(t, m, want...)

			again := open(t, conf)
			m.ForgetRequests()
			m.Faults(bmcsim.Fault{PathPattern: "/Systems/1$", Do: status(http.StatusNotFound)})
			observe(t, again)
			if have := asked(m); len(have) != 7 || slices.ContainsFunc(have, func(r string) bool { return strings.Contains(r, "?") }) {
				t.Errorf("asked again %q", have)
			}
			m.Faults()
			conf.Topology = nil
			wantSameWithout(t, m, conf, got)
		})
	}
}

// Queries that meet what any read may meet say so, and are not sent again.
func TestQueryThatNothingHelps(t *testing.T) {
	for _, c := range []struct {
		do   bmcsim.Do
		kind bmc.Kind
	}{
		{status(http.StatusUnauthorized), bmc.KindAuth},
		{status(http.StatusForbidden), bmc.KindAuth},
	} {
		m, s := machine(t, bmcsim.Config{})
		m.Faults(bmcsim.Fault{PathPattern: "/Systems$", Count: -1, Do: c.do})
		_, err := open(t, s.config(t)).Observe(t.Context())
		wantError(t, err, c.kind)
		wantAsked(t, m, "GET /", "GET /Systems?only basic")
	}
}

// An answer that no service should give is read again, without the query.
func TestOddAnswersToQueries(t *testing.T) {
	for name, odd := range map[string]struct{ query, answer string }{
		"a member without address": {"only", `{"Id":"1","PowerState":"On"}`},
		"a member elsewhere":       {"only", `{"@odata.id":"https://192.0.2.9/redfish/v1/Systems/1","Id":"1","PowerState":"On"}`},
		"nothing":                  {"only", `{}`},
		"a list":                   {"only", `[]`},
		"a page for people":        {"only", `<html>`},
		"members of a wrong type":  {"only", `{"Members":"none"}`},
		"names only": {"$expand", `{"@odata.id":"/redfish/v1/Managers/1/VirtualMedia","Members@odata.count":2,"Members":[
			{"@odata.id":"/redfish/v1/Managers/1/VirtualMedia/1","Id":"1","Name":"Floppy"},{"@odata.id":"/redfish/v1/Managers/1/VirtualMedia/2","Id":"2","Name":"CD"}]}`},
		"numbers for members": {"$expand", `{"Members":[1,2]}`},
		"no members":          {"$expand", `{"Members":[],"Members@odata.count":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			m := bmcsim.New(bmcsim.Config{})
			t.Cleanup(m.Close)
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.RawQuery, odd.query) {
					m.Handler().ServeHTTP(w, r)
					return
				}
				m.Handler().ServeHTTP(httptest.NewRecorder(), r)
				_, _ = w.Write([]byte(odd.answer))
			}))
			conf := s.config(t)
			got := observe(t, open(t, conf))
			if n := len(m.Requests()); n > 7 {
				t.Errorf("asked %q, more than one in vain", asked(m))
			}
			wantSameWithout(t, m, conf, got)
		})
	}
}

// The pages behind an expanded one are expanded, too.
func TestExpandedPages(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{Kind: bmcsim.ILO5})
	t.Cleanup(m.Close)
	slot := func(id string) string {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/redfish/v1/Managers/1/VirtualMedia/"+id, nil)
		r.SetBasicAuth("root", "redfish-secret")
		m.Handler().ServeHTTP(rec, r)
		return rec.Body.String()
	}
	pages := map[string]string{
		"$expand=.":         `{"Members@odata.nextLink":"/redfish/v1/Managers/1/VirtualMedia?$expand=.&$skip=1","Members@odata.count":2,"Members":[` + slot("1") + `]}`,
		"$expand=.&$skip=1": `{"Members@odata.count":2,"Members":[` + slot("2") + `]}`,
	}
	m.ForgetRequests()
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if page, ok := pages[r.URL.RawQuery]; ok {
			m.Handler().ServeHTTP(httptest.NewRecorder(), r)
			_, _ = w.Write([]byte(page))
			return
		}
		m.Handler().ServeHTTP(w, r)
	}))
	conf := s.config(t)
	got := observe(t, open(t, conf))
	wantAsked(t, m, "GET /", "GET /Systems?only basic", "GET /Managers/1 basic",
		"GET /Managers/1/VirtualMedia?$expand=. basic", "GET /Managers/1/VirtualMedia?$expand=.&$skip=1 basic")
	wantSameWithout(t, m, conf, got)
}

// What was read ahead and not used is not taken for what is there later.
func TestNothingReadAheadIsUsedLater(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	c := open(t, s.config(t))
	observe(t, c)
	m.SetMounted(image)
	m.SetPower(bmc.PowerOff)
	if st := observe(t, c); st.Media.Compare(image) != bmc.ImageMatch || st.Power != bmc.PowerOff {
		t.Errorf("%+v, want what is there now", st)
	}
}
