package redfish_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

func TestWhichSystem(t *testing.T) {
	const second = "/redfish/v1/Systems/2"
	two := func() *script {
		s := newScript()
		s.docs["/redfish/v1/Systems"] = members(second, sysPath)
		s.docs[sysPath] = system(`"UUID":"AAAA-1","PowerState":"Off"`)
		s.docs[second] = strings.Replace(system(`"UUID":"bbbb-2","PowerState":"Off"`), `"Id":"1"`, `"Id":"2"`, 1)
		return s
	}
	for _, c := range []struct {
		name   string
		change func(*script)
		system string
		want   string
		kind   bmc.Kind
		words  []string
	}{
		{"both could be", nil, "", "", bmc.KindUnsupported, []string{"several systems: 2, 1", "bmc.system"}},
		{"by Id", nil, "1", sysPath, "", nil},
		{"by URI", nil, second + "/", second, "", nil},
		{"by UUID", nil, "BBBB-2", second, "", nil},
		{"by no Id", nil, "3", "", bmc.KindUnsupported, []string{`no system "3"`, "2, 1"}},
		{"the other is a board", func(s *script) { s.docs[second] = `{"Id":"2"}` }, "", sysPath, "", nil},
		{"the other fails", func(s *script) { s.writes["GET "+second] = []reply{{status: 500}} }, "", sysPath, "", nil},
		{"the wanted one fails", func(s *script) { s.writes["GET "+second] = []reply{{status: 500}} }, "2", "", bmc.KindProtocol, []string{"500"}},
		{"both fail", func(s *script) { delete(s.docs, second); s.writes["GET "+sysPath] = []reply{{status: 500}} }, "", "", bmc.KindProtocol, []string{"404"}},
		{"none can be reset", func(s *script) { s.docs[second], s.docs[sysPath] = `{}`, `{}` }, "", "", bmc.KindUnsupported, []string{"none of the systems 2, 1"}},
		{"too many", func(s *script) {
			var all []string
			for i := range 20 {
				all = append(all, fmt.Sprintf("/redfish/v1/Systems/%d", i))
			}
			s.docs["/redfish/v1/Systems"] = members(all...)
		}, "", "", bmc.KindUnsupported, []string{"20 systems", "bmc.system"}},
		{"far too many", func(s *script) { s.docs["/redfish/v1/Systems"] = members(make1001()...) }, "", "", bmc.KindProtocol, []string{"1000"}},
		{"on another host", func(s *script) { s.docs["/redfish/v1/Systems"] = members("https://192.0.2.9/redfish/v1/Systems/1") }, "", "", bmc.KindProtocol, []string{"another host"}},
		{"listed twice", func(s *script) { s.docs["/redfish/v1/Systems"] = members(sysPath, sysPath+"/") }, "", sysPath, "", nil},
		{"the other is a DPU", func(s *script) {
			s.docs[second] = strings.Replace(s.docs[second], `"Id"`, `"SystemType":"DPU","Id"`, 1)
		}, "", sysPath, "", nil},
		{"alone, and without boot settings", func(s *script) {
			s.docs["/redfish/v1/Systems"] = members(sysPath)
			s.docs[sysPath] = strings.Replace(s.docs[sysPath], `"Boot"`, `"Boots"`, 1)
		}, "", sysPath, "", nil},
		{"alone, and without a reset", func(s *script) {
			s.docs["/redfish/v1/Systems"] = members(sysPath)
			s.docs[sysPath] = strings.Replace(s.docs[sysPath], "#ComputerSystem.Reset", "#ComputerSystem.Decommission", 1)
		}, "", sysPath, "", nil},
		{"alone, and without a power state", func(s *script) {
			s.docs["/redfish/v1/Systems"], s.docs[sysPath] = members(sysPath), `{"Id":"1"}`
		}, "", "", bmc.KindUnsupported, []string{"none of the systems 1"}},
		{"one of its managers is elsewhere", func(s *script) {
			s.docs[sysPath] = strings.Replace(s.docs[sysPath], `[{"@odata.id"`, `[{"@odata.id":"https://192.0.2.9/redfish/v1/Managers/1"},{"@odata.id"`, 1)
		}, "1", sysPath, "", nil},
		{"its manager is elsewhere", func(s *script) {
			s.docs[sysPath] = strings.Replace(s.docs[sysPath], `{"@odata.id":"/redfish`, `{"@odata.id":"https://192.0.2.9/redfish`, 1)
		}, "1", "", bmc.KindProtocol, []string{"names a manager that cannot be used"}},
		{"the root without its slash", func(s *script) {
			s.docs["/redfish/v1"] = s.docs["/redfish/v1/"]
			delete(s.docs, "/redfish/v1/")
		}, "1", sysPath, "", nil},
		{"its manager is not there", func(s *script) { s.docs[sysPath] = strings.Replace(s.docs[sysPath], "Managers/1", "Managers/2", 1) }, "1", sysPath, "", nil},
		{"links in other shapes", func(s *script) {
			s.docs["/redfish/v1/Systems"] = `{"Members":[null,7,"` + sysPath + `",{"href":"` + sysPath + `"}]}`
			s.docs[sysPath] = strings.Replace(s.docs[sysPath], `[{"@odata.id":"/redfish/v1/Managers/1"}]`, `{"@odata.id":"/redfish/v1/Managers/1"}`, 1)
		}, "", sysPath, "", nil},
		{"no systems", func(s *script) { s.docs["/redfish/v1/"] = `{}` }, "", "", bmc.KindUnsupported, []string{"links no Systems"}},
		{"a link of the wrong type", func(s *script) { s.docs["/redfish/v1/"] = `{"Systems":7}` }, "", "", bmc.KindProtocol, []string{"the service root holds a Systems of the wrong type"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := two()
			if c.change != nil {
				c.change(s)
			}
			_, conf := s.client(t, nil)
			conf.System = c.system
			st, err := open(t, conf).Observe(t.Context())
			if c.kind != "" {
				wantError(t, err, c.kind, c.words...)
				return
			}
			must(t, err)
			if st.ID.System != c.want {
				t.Errorf("system %s, want %s", st.ID.System, c.want)
			}
		})
	}
}

// TestWithoutReset: a machine that can be given an image and not be reset is for
// reset: never, and its plan says so.
func TestWithoutReset(t *testing.T) {
	s := newScript()
	s.docs[sysPath] = strings.Replace(system(`"PowerState":"On"`), "#ComputerSystem.Reset", "#ComputerSystem.Decommission", 1)
	cl, _ := s.client(t, nil)
	st := observe(t, cl)
	if np := planOf(t, st, image); np.Err == nil || np.Err.Kind != bmc.KindUnsupported || !strings.Contains(np.Err.Hint, "reset: never") {
		t.Errorf("the plan is %s %q, %v", np.State, stepsOf(np), np.Err)
	}
	wantError(t, cl.Reset(t.Context(), bmc.Restart), bmc.KindUnsupported, "it takes no reset", "by hand")
	s.writes["POST "+insertPath] = []reply{{status: 204}}
	must(t, cl.InsertMedia(t.Context(), image))
}

func make1001() []string {
	all := make([]string, 1001)
	for i := range all {
		all[i] = fmt.Sprintf("/redfish/v1/Systems/%d", i)
	}
	return all
}

// A second System answers 500 while the host is off (vendors.md 3.2 point 10).
func TestSecondSystemOff(t *testing.T) {
	m, s := machine(t, bmcsim.Config{Behaviour: bmcsim.Behaviour{SecondSystem: true}, InitialPower: bmc.PowerOff})
	c := open(t, s.config(t))
	if st := observe(t, c); st.Power != bmc.PowerOff || st.Phase != bmc.PhaseOff {
		t.Errorf("state %+v, want it off", st)
	}
	m.ForgetRequests()
	observe(t, c)
	if n := len(m.Requests()); n != 2 {
		t.Errorf("asked %q, want two", asked(m))
	}
}

func TestWhichSlot(t *testing.T) {
	const media = "/redfish/v1/Managers/1/VirtualMedia"
	cd := func(id, more string) string {
		return `{"Id":"` + id + `",` + more + `"Inserted":false,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/x"}}}`
	}
	for _, c := range []struct {
		name  string
		slots map[string]string
		want  string
		words string
	}{
		{"the CD", map[string]string{"1": cd("1", `"MediaTypes":["Floppy"],`), "2": cd("2", `"MediaTypes":["DVD"],`)}, "2", ""},
		{"the lowest", map[string]string{"CD10": cd("CD10", `"MediaTypes":["CD"],`), "CD2": cd("CD2", `"MediaTypes":["CD"],`)}, "CD2", ""},
		{"by its name", map[string]string{"A": cd("A", `"Name":"Virtual DVD",`)}, "A", ""},
		{"not a proxy", map[string]string{
			"Slot0": `{"Id":"Slot0","MediaTypes":["CD"],"Actions":{"#VirtualMedia.EjectMedia":{"target":"/y"}}}`,
			"Slot1": cd("Slot1", `"MediaTypes":["CD"],`),
		}, "Slot1", ""},
		{"one that fails", map[string]string{"A": `nonsense`, "B": cd("B", `"MediaTypes":["CD"],`)}, "B", ""},
		{"no CD", map[string]string{"1": cd("1", `"MediaTypes":["Floppy","USBStick"],`)}, "", "1 (Floppy/USBStick)"},
		{"nothing", map[string]string{}, "", "lists no virtual media slot"},
		{"odd types", map[string]string{"CD": `{"Id":7,"Image":9,"Actions":{"#VirtualMedia.InsertMedia":{"target":"/x"}},"MediaTypes":["CD"]}`}, "", "Managers/1/VirtualMedia/CD holds a Image of the wrong type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript()
			var all []string
			for id, doc := range c.slots {
				all = append(all, media+"/"+id)
				s.docs[media+"/"+id] = doc
			}
			s.docs[media] = members(all...)
			cl, _ := s.client(t, nil)
			st, err := cl.Observe(t.Context())
			if c.want == "" && err == nil {
				wantNoMedia(t, st, bmc.KindUnsupported, c.words)
				return
			}
			if c.want == "" {
				wantError(t, err, bmc.KindOf(err), c.words)
				return
			}
			must(t, err)
			if st.Media.Slot != c.want {
				t.Errorf("slot %q, want %q", st.Media.Slot, c.want)
			}
		})
	}
}

// wantNoMedia checks that the BMC's state says why no image can be mounted.
func wantNoMedia(t *testing.T, st bmc.State, kind bmc.Kind, words ...string) {
	t.Helper()
	why := st.CannotMount
	if st.Media.Access != bmc.AccessNone || why.Kind != kind || why.Hint == "" {
		t.Errorf("media %+v, %+v, want none, and why", st.Media, why)
	}
	for _, w := range words {
		if !strings.Contains(why.Why, w) {
			t.Errorf("%q does not say %q", why.Why, w)
		}
	}
}

func TestPhases(t *testing.T) {
	for more, want := range map[string]bmc.Phase{
		`"PowerState":"Off","BootProgress":{"LastState":"OSRunning"}`:                                      bmc.PhaseOff,
		`"PowerState":"On","Oem":{"Hpe":{"PostState":"InPostDiscoveryComplete"}}`:                          bmc.PhasePost,
		`"PowerState":"On","Oem":{"Hpe":{"PostState":"FinishedPost"}},"BootProgress":{"LastState":"None"}`: bmc.PhaseOS,
		`"PowerState":"On","Oem":{"Hpe":{"PostState":"Unknown"}},"BootProgress":{"LastState":"OSRunning"}`: bmc.PhaseUnknown,
		`"PowerState":"On","BootProgress":{"LastState":"MemoryInitializationStarted"}`:                     bmc.PhasePost,
		`"PowerState":"On","BootProgress":{"LastState":"SystemHardwareInitializationComplete"}`:            bmc.PhaseUnknown,
		`"PowerState":"On","BootProgress":{"LastState":"OSBootStarted"}`:                                   bmc.PhaseOS,
		`"PowerState":"On","Oem":{"Cisco":{"PostCompletionStatus":false}}`:                                 bmc.PhasePost,
		`"PowerState":"on","Oem":{"Cisco":{"PostCompletionStatus":true}}`:                                  bmc.PhaseOS,
		`"PowerState":"On","BootProgress":null`:                                                            bmc.PhaseUnknown,
		`"PowerState":null`:                                                                                bmc.PhaseUnknown,
		`"PowerState":"Paused","Oem":[]`:                                                                   bmc.PhaseUnknown,
	} {
		s := newScript()
		s.docs[sysPath] = system(more)
		cl, _ := s.client(t, nil)
		if got := observe(t, cl).Phase; got != want {
			t.Errorf("%s: phase %q, want %q", more, got, want)
		}
	}
}

func TestNeededFieldsOfTheWrongType(t *testing.T) {
	for field, doc := range map[string]string{
		"PowerState":                     system(`"PowerState":3`),
		"Boot.BootSourceOverrideEnabled": strings.Replace(system(`"PowerState":"On"`), `"Disabled"`, `false`, 1),
		"VirtualMedia":                   system(`"PowerState":"On","VirtualMedia":[]`),
		"target":                         strings.Replace(system(`"PowerState":"On"`), `"`+resetPath+`"`, `{}`, 1),
	} {
		s := newScript()
		s.docs[sysPath] = doc
		cl, _ := s.client(t, nil)
		_, err := cl.Observe(t.Context())
		wantError(t, err, bmc.KindProtocol, "Systems/1", field)
	}
}

// What a BMC says is shown on one line, bounded, without the password.
func TestQuotesAreClean(t *testing.T) {
	s := newScript()
	s.writes["POST "+resetPath] = []reply{says(400, "X.1.0.Odd", "\x1b[31mred\nredfish-secret \u202e"+strings.Repeat("long ", 100))}
	cl, _ := s.client(t, nil)
	e := wantError(t, cl.Reset(t.Context(), bmc.PowerUp), bmc.KindProtocol, "[31mred (secret) long", "…")
	if n := len(e.Error()); n > 400 {
		t.Errorf("%d bytes", n)
	}
}

// TestWhoSays is where a BMC may say whose it is.
func TestWhoSays(t *testing.T) {
	put := func(uri, old, with string) func(*script) {
		return func(s *script) { s.docs[uri] = strings.Replace(s.docs[uri], old, with, 1) }
	}
	for name, c := range map[string]struct {
		change func(*script)
		want   string
	}{
		"nowhere":                      {func(*script) {}, "generic"},
		"the root's Vendor":            {put("/redfish/v1/", `{`, `{"Vendor":"Dell",`), "dell-idrac9"},
		"the root's Oem":               {put("/redfish/v1/", `{`, `{"Oem":{"Dell":{}},`), "dell-idrac9"},
		"the system's Manufacturer":    {put(sysPath, `{`, `{"Manufacturer":"Dell Inc.",`), "dell-idrac9"},
		"the system's Oem":             {put(sysPath, `{`, `{"Oem":{"Supermicro":{}},`), "supermicro"},
		"the manager's Oem":            {put("/redfish/v1/Managers/1", `{`, `{"Oem":{"Cisco":null},`), "cisco-cimc"},
		"an Oem of the wrong type":     {put("/redfish/v1/", `{`, `{"Oem":["Dell"],`), "generic"},
		"a Vendor of the wrong type":   {put("/redfish/v1/", `{`, `{"Vendor":{"Dell":1},`), "generic"},
		"a board of Lenovo's with AMI": {put(sysPath, `{`, `{"Manufacturer":"Lenovo","Model":"HG634N_V2","Oem":{"Ami":{}},`), "ami-megarac"},
		"a TSM":                        {put(sysPath, `{`, `{"Manufacturer":"Lenovo","Model":"ThinkSystem SR635","Oem":{"Ami":{}},`), "lenovo-tsm"},
		"the version's product": {func(s *script) {
			put("/redfish/v1/", `{`, `{"Oem":{"Hpe":{}},`)(s)
			s.docs["/redfish/v1/Managers/1"] = `{"FirmwareVersion":"iLO 5 v1.45"}`
		}, "hpe-ilo5"},
		"a framework of another maker": {put("/redfish/v1/", `{`, `{"Oem":{"Intel_RackScale":{}},`), "generic"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript()
			s.docs["/redfish/v1/Managers/1"] = strings.Replace(s.docs["/redfish/v1/Managers/1"], `"v1.0"`, `"70.1"`, 1)
			c.change(s)
			conf := serve(t, s).config(t)
			st, err := open(t, conf).Observe(t.Context())
			must(t, err)
			if st.ID.Profile != c.want {
				t.Errorf("the row is %s, not %s", st.ID.Profile, c.want)
			}
		})
	}
}
