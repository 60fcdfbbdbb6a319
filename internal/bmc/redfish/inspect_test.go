package redfish_test

import (
	"context"
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

// inspect writes a BMC's card.
func inspect(t *testing.T, conf redfish.Config) bmc.Card {
	t.Helper()
	i, err := redfish.OpenInspector(t.Context(), conf)
	must(t, err)
	card := i.Inspect(t.Context())
	must(t, i.Close(context.WithoutCancel(t.Context())))
	return card
}

// What writes cards can do nothing else.
func TestInspectorHasNoMethodThatWrites(t *testing.T) {
	var methods []string
	for m := range reflect.TypeFor[*redfish.Inspector]().Methods() {
		methods = append(methods, m.Name)
	}
	if !slices.Equal(methods, []string{"Close", "Inspect"}) {
		t.Errorf("it has the methods %q", methods)
	}
}

// A card agrees with what a plan would see, on every kind of machine, and no
// request of it changes anything.
func TestCardAgreesWithObserve(t *testing.T) {
	machines := map[string]bmcsim.Config{
		"remote media off":  {Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{RemoteMediaOff: true}},
		"generic, USB":      {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{UsbCd: true, ResetActionInfo: true, SecondSystem: true}},
		"generic, by patch": {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{MediaByPatch: true, TrailingSlash: true}},
		"few resets":        {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceOn", "ForceOff", "PowerCycle"}}},
	}
	for _, k := range bmcsim.Kinds() {
		machines[string(k)] = bmcsim.Config{Kind: k}
	}
	for name, c := range machines {
		t.Run(name, func(t *testing.T) {
			m, s := machine(t, c)
			m.SetMounted("http://192.0.2.1/iso/pit.iso")
			state, err := open(t, s.config(t)).Observe(t.Context())
			must(t, err)
			m.ForgetRequests()
			card := inspect(t, s.config(t))
			if card.Err != nil || len(card.Unread) > 0 {
				t.Fatalf("%v, unread %+v", card.Err, card.Unread)
			}
			if card.Media == nil || card.Boot == nil {
				t.Fatalf("%+v", card)
			}
			if card.ID != state.ID || card.Power != state.Power || card.Media.Access != state.Media.Access ||
				!slices.Equal(card.Resets, state.Resets) || card.CannotMount != state.CannotMount || card.CannotArm != state.CannotArm ||
				card.Boot.Now != state.Boot || !slices.Equal(card.Media.Schemes, state.Schemes) || card.Row.Name != state.ID.Profile {
				t.Errorf("card\n%+v\nstate\n%+v", card, state)
			}
			i := slices.IndexFunc(card.Media.Slots, func(s bmc.SlotCard) bool { return s.Used })
			if (i >= 0) != (state.Media.Slot != "") {
				t.Errorf("slots %+v, want %q used", card.Media.Slots, state.Media.Slot)
			}
			if i >= 0 && (card.Media.Slots[i].ID != state.Media.Slot || card.Media.Slots[i].Image != state.Media.Image || card.Media.Slots[i].Inserted != state.Media.Inserted) {
				t.Errorf("slot %+v, media %+v", card.Media.Slots[i], state.Media)
			}
			if (card.Boot.Method != "") != state.CannotArm.None() {
				t.Errorf("%+v, but %+v", card.Boot, state.CannotArm)
			}
			seen := map[string]bool{}
			for _, r := range m.Requests() {
				if r.Method != http.MethodGet {
					t.Errorf("it sent %s %s", r.Method, r.Path)
				}
				if seen[r.Path] && !c.Behaviour.TrailingSlash {
					t.Errorf("it asked twice for %s", r.Path)
				}
				seen[r.Path] = true
			}
		})
	}
}

// A collection that is linked and not there is none, on the card as in the plan
// (OpenBMC without virtual media, iDRAC 7).
func TestCardOfALinkToNothing(t *testing.T) {
	s := newScript()
	delete(s.docs, "/redfish/v1/Managers/1/VirtualMedia")
	cl, conf := s.client(t, nil)
	st := observe(t, cl)
	wantNoMedia(t, st, bmc.KindUnsupported, "no virtual media slot")
	card := inspect(t, conf)
	if len(card.Unread) > 0 || card.CannotMount != st.CannotMount || card.Media == nil || card.Media.Access != bmc.AccessNone {
		t.Errorf("unread %+v, %+v, %+v, but %+v", card.Unread, card.CannotMount, card.Media, st.CannotMount)
	}
}

// A BMC that answers in part is a card with what is known and what is not.
func TestCardOfHalfABMC(t *testing.T) {
	whole := func(c bmc.Card) []string {
		var has []string
		for name, ok := range map[string]bool{
			"power": c.Power != "", "row": c.Row.Name != "", "slots": c.Media != nil, "resets": len(c.ResetTypes) > 0,
			"boot": c.Boot != nil, "firmware": c.ID.Firmware != "", "certificate": c.Certificate != nil, "clock": c.Clock != nil,
		} {
			if ok {
				has = append(has, name)
			}
		}
		slices.Sort(has)
		return has
	}
	for _, c := range []struct {
		path    string
		do      bmcsim.Do
		lacks   []string
		unread  string
		failing bmc.Kind
	}{
		{"Managers/Self$", status(500), []string{"firmware", "slots"}, "the manager", ""},
		{"VirtualMedia$", status(500), []string{"slots"}, "the virtual media", ""},
		{"VirtualMedia$", status(403), []string{"slots"}, "the virtual media", ""},
		{"VirtualMedia/CD1$", bmcsim.Do{What: bmcsim.DoHTML}, []string{"slots"}, "the virtual media", ""},
		{"ResetActionInfo$", status(404), nil, "", ""},
		{"Systems/Self$", status(500), []string{"power", "row", "slots", "resets", "boot"}, "", bmc.KindProtocol},
		{"Systems/Self$", bmcsim.Do{What: bmcsim.DoCloseBefore}, []string{"power", "row", "slots", "resets", "boot", "firmware"}, "", bmc.KindUnreachable},
		{"VirtualMedia$", bmcsim.Do{What: bmcsim.DoCloseBefore}, []string{"slots", "boot"}, "", bmc.KindUnreachable},
		{"v1$", status(500), []string{"power", "row", "slots", "resets", "boot", "firmware"}, "", bmc.KindProtocol},
		{"Systems/Self$", status(401), []string{"power", "row", "slots", "resets", "boot", "firmware"}, "", bmc.KindAuth},
	} {
		m, s := machine(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: plainly})
		all := whole(inspect(t, s.config(t)))
		m.Faults(fault(c.path, c.do))
		card := inspect(t, s.config(t))
		want := slices.DeleteFunc(slices.Clone(all), func(part string) bool { return slices.Contains(c.lacks, part) })
		if got := whole(card); !slices.Equal(got, want) {
			t.Errorf("%s %v: has %q, want %q", c.path, c.do, got, want)
		}
		if (card.Err != nil) != (c.failing != "") || card.Err != nil && bmc.KindOf(card.Err) != c.failing {
			t.Errorf("%s %v: ended by %v, want %q", c.path, c.do, card.Err, c.failing)
		}
		if card.Err != nil {
			wantError(t, card.Err, c.failing)
		}
		if (len(card.Unread) > 0) != (c.unread != "") || len(card.Unread) > 0 && (card.Unread[0].What != c.unread || bmc.HintOf(card.Unread[0].Err) == "") {
			t.Errorf("%s %v: unread %+v, want %q", c.path, c.do, card.Unread, c.unread)
		}
	}
}

// A certificate that is not accepted is shown all the same, and nothing is asked.
func TestCardOfAnotherCertificate(t *testing.T) {
	m, s := machine(t, bmcsim.Config{})
	conf := s.config(t)
	conf.TLS = redfish.TLS{Fingerprint: "sha256:" + strings.Repeat("0", 64)}
	card := inspect(t, conf)
	wantError(t, card.Err, bmc.KindTLS, "--replace")
	if card.Certificate == nil || card.Certificate.Fingerprint != s.pin() || len(m.Requests()) != 0 {
		t.Errorf("%+v after %q", card.Certificate, asked(m))
	}
	if card = inspect(t, s.config(t)); card.Certificate == nil || card.Certificate.Fingerprint != s.pin() {
		t.Errorf("of an accepted one: %+v", card.Certificate)
	}
}

// stamped answers as a BMC whose clock is off.
func stamped(h http.Handler, ahead time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		if ahead != 0 {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		}
		h.ServeHTTP(w, r)
	})
}

func TestCardClock(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name, manager string
		header        time.Duration
		want          time.Duration
		from          string
	}{
		{"header", "", -3 * hour, -3 * hour, "Date"},
		{"both", time.Now().Add(9 * hour).Format(time.RFC3339), 5 * hour, 5 * hour, "Date"},
		{"manager", time.Now().Add(9 * hour).Format(time.RFC3339), 0, 9 * hour, "DateTime"},
		{"manager, with an offset", time.Now().UTC().Add(2*hour).Format("2006-01-02T15:04:05") + "\",\"DateTimeLocalOffset\":\"+01:00", 0, hour, "DateTime"},
		{"never set", "1970-01-01T00:00:00Z", 0, time.Duration(0), "DateTime"},
		{"zeros", "0000-00-00T00:00:00+00:00", 0, 0, ""},
		{"none", "", 0, 0, ""},
	} {
		sc := newScript()
		sc.docs["/redfish/v1/Managers/1"] = `{"Model":"Anvil","FirmwareVersion":"v1.0","DateTime":"` + c.manager + `"}`
		s := serve(t, stamped(sc, c.header))
		conf := s.config(t)
		conf.Clock = bmc.SystemClock{}
		got := inspect(t, conf).Clock
		switch {
		case c.from == "" && got != nil, c.from != "" && (got == nil || got.From != c.from):
			t.Errorf("%s: %+v, want it from %q", c.name, got, c.from)
		case c.want != 0 && (got.Ahead-c.want).Abs() > 30*time.Second:
			t.Errorf("%s: %v, want %v", c.name, got.Ahead, c.want)
		case c.name == "never set" && got.Ahead > -40*365*24*hour:
			t.Errorf("%s: %v", c.name, got.Ahead)
		}
	}
}

// Consoles and licences where the standard has them.
func TestCardOfConsolesAndLicences(t *testing.T) {
	sc := newScript()
	sc.docs["/redfish/v1/"] = `{"Systems":{"@odata.id":"/redfish/v1/Systems"},"Managers":{"@odata.id":"/redfish/v1/Managers"},"LicenseService":{"@odata.id":"/redfish/v1/L"}}`
	sc.docs["/redfish/v1/L"] = `{"Licenses":{"@odata.id":"/redfish/v1/L/All"}}`
	sc.docs["/redfish/v1/L/All"] = members("/redfish/v1/L/1", "/redfish/v1/L/2", "/redfish/v1/L/3")
	sc.docs["/redfish/v1/L/1"] = `{"Name":"Anvil Enterprise","Status":{"State":"Enabled"}}`
	sc.docs["/redfish/v1/L/2"] = `{"Name":"Trial","Status":{"State":"Disabled"}}`
	sc.docs["/redfish/v1/L/3"] = `{"Name":"Extra\u001b[2J"}`
	sc.docs["/redfish/v1/Managers/1"] = `{"Model":"Anvil","FirmwareVersion":"v1.0",
		"SerialConsole":{"ServiceEnabled":false,"MaxConcurrentSessions":1,"ConnectTypesSupported":["IPMI"]},
		"CommandShell":{"ServiceEnabled":true,"MaxConcurrentSessions":-4,"ConnectTypesSupported":["SSH","Oem"]},
		"GraphicalConsole":{"ServiceEnabled":true,"MaxConcurrentSessions":4,"ConnectTypesSupported":["KVMIP"]}}`
	sc.docs[sysPath] = system(`"SerialConsole":{"MaxConcurrentSessions":15,"SSH":{"ServiceEnabled":true,"Port":2200},"IPMI":{"ServiceEnabled":true},"Telnet":7}`)
	card := inspect(t, serve(t, sc).config(t))
	if card.Licence != "Anvil Enterprise, Extra [2J" {
		t.Errorf("licence %q", card.Licence)
	}
	want := []bmc.ConsoleCard{
		{Kind: bmc.ConsoleSerial, Enabled: true, Types: []string{"IPMI", "SSH"}, Sessions: 15},
		{Kind: bmc.ConsoleShell, Enabled: true, Types: []string{"SSH", "Oem"}},
		{Kind: bmc.ConsoleGraphic, Enabled: true, Types: []string{"KVMIP"}, Sessions: 4},
	}
	if !reflect.DeepEqual(card.Consoles, want) {
		t.Errorf("got  %+v\nwant %+v", card.Consoles, want)
	}
	sc.docs["/redfish/v1/L/2"] = `[]`
	if card = inspect(t, serve(t, sc).config(t)); card.Err != nil || len(card.Unread) != 1 || card.Unread[0].Needed {
		t.Errorf("a licence that cannot be read: %v, %+v", card.Err, card.Unread)
	}
}

func TestCardOfNothing(t *testing.T) {
	s := serve(t, http.NotFoundHandler())
	conf := s.config(t)
	s.Close()
	card := inspect(t, conf)
	wantError(t, card.Err, bmc.KindUnreachable)
	if card.Certificate != nil {
		t.Errorf("%+v", card)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	conf.URL = strings.Replace(plain.URL, "http:", "https:", 1)
	wantError(t, inspect(t, conf).Err, bmc.KindTLS)
}
