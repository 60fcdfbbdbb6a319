package redfish_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmctest"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// host obeys and remembers what it was started from after the first time, which
// is before the test.
type host struct {
	mu      sync.Mutex
	started bool
	images  []string
}

func (h *host) Start(boot bmcsim.Boot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started {
		h.images = append(h.images, boot.Image)
	}
	h.started = true
}

func (h *host) Shutdown(off func()) { off() }
func (h *host) Stop()               {}

func (h *host) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.images)
}

// An entry is a line of the matrix: a family, and how it behaves beyond what it
// always does.
type entry struct {
	name string // of the behaviour; "" for none
	kind bmcsim.Kind
	b    bmcsim.Behaviour
}

// families are the kinds that images can be mounted on, as they are.
func families() []entry {
	var out []entry
	for _, k := range bmcsim.Kinds() {
		if _, refused := refusals[k]; !refused {
			out = append(out, entry{kind: k})
		}
	}
	return out
}

// behaviours are what BMCs do beyond that, seen in one family or another.
var behaviours = []entry{
	{"as reported", bmcsim.ILO5, bmcsim.Reported(bmcsim.ILO5)},
	{"as reported", bmcsim.ILO4, bmcsim.Reported(bmcsim.ILO4)},
	{"as reported", bmcsim.Gigabyte, bmcsim.Reported(bmcsim.Gigabyte)},
	{"trailing slashes", bmcsim.ILO5, bmcsim.Behaviour{TrailingSlash: true, IfMatch: 412}},
	{"the mode is refused", bmcsim.ILO5, bmcsim.Behaviour{RefuseBootMode: true, RefuseIfMatchOnActions: true}},
	{"a session without token", bmcsim.ILO5, bmcsim.Behaviour{NoToken: true}},
	{"no sessions", bmcsim.Generic, bmcsim.Behaviour{NoSessions: true}},
	{"the token in the body", bmcsim.Generic, bmcsim.Behaviour{TokenInBody: true}},
	{"one session at a time", bmcsim.ILO5, bmcsim.Behaviour{SessionLimit: 1}},
	{"sessions that end in a moment", bmcsim.ILO5, bmcsim.Behaviour{SessionIdle: 150 * time.Millisecond}},
	{"tasks by monitor", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskLocation, EjectTask: bmcsim.TaskLocation, AbsoluteLocation: true}},
	{"tasks as a resource", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskResource, EjectTask: bmcsim.TaskResource, MessagesAsObject: true}},
	{"tasks in the body", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskInBody, EjectTask: bmcsim.TaskInBody}},
	{"media by PATCH", bmcsim.Generic, bmcsim.Behaviour{MediaByPatch: true, IfMatch: 428}},
	{"an insert needs the protocol", bmcsim.Generic, bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType"}}},
	{"an insert needs everything", bmcsim.Generic, bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType", "TransferMethod", "Inserted", "WriteProtected", "UserName", "Password"}}},
	{"and tells so in an ActionInfo", bmcsim.Generic, bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType", "TransferMethod", "Inserted", "WriteProtected"}, InsertInfo: true}},
	{"an insert refuses fields", bmcsim.CIMC, bmcsim.Behaviour{InsertRefuses: []string{"Inserted", "WriteProtected", "TransferMethod", "TransferProtocolType"}}},
	{"the whole override", bmcsim.Generic, bmcsim.Behaviour{FullBoot: true, IfMatch: 428}},
	{"UsbCd, no eject when empty", bmcsim.Generic, bmcsim.Behaviour{UsbCd: true, EjectActionVanishes: true}},
	{"nothing to eject is an error", bmcsim.Generic, bmcsim.Behaviour{RefuseEmptyEject: true, RefuseSameState: true}},
	{"media lag", bmcsim.Generic, bmcsim.Behaviour{InsertLags: true, EjectLags: true, PowerTransitions: true}},
	{"power lags", bmcsim.Generic, bmcsim.Behaviour{PowerLags: true, ResetActionInfo: true}},
	{"other resets", bmcsim.Generic, bmcsim.Behaviour{ResetTypes: []string{"ForceOn", "ForceOff", "PowerCycle"}}},
	{"the button only", bmcsim.Generic, bmcsim.Behaviour{ResetTypes: []string{"PushPowerButton", "ForceOff", "ForceRestart"}}},
	{"the override is never used up", bmcsim.Generic, bmcsim.Behaviour{OverrideStays: true, OverrideReadsContinuous: true}},
	{"Cd boots the disk", bmcsim.Generic, bmcsim.Behaviour{IgnoreCd: true}},
	{"a blank echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoBlank}},
	{"no port in the echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoNoPort, NoMediaTypes: true}},
	{"the name stays", bmcsim.Generic, bmcsim.Behaviour{NameNeverClears: true, EjectActionVanishes: true}},
	{"a board for a second system", bmcsim.Generic, bmcsim.Behaviour{SecondSystem: true}},
	{"two hosts", bmcsim.Generic, bmcsim.Behaviour{TwinSystem: true}},
	{"a settings object", bmcsim.Generic, bmcsim.Behaviour{SettingsObject: "Settings"}},
	{"dates of zeros", bmcsim.Generic, bmcsim.Behaviour{ZeroDates: true}},
	{"only and $expand are offered", bmcsim.Generic, bmcsim.Behaviour{MaxLevels: 2}},
	{"https only", bmcsim.Generic, bmcsim.Behaviour{HTTPSOnly: true}},
	{"http only", bmcsim.Generic, bmcsim.Behaviour{HTTPOnly: true}},
	{"a doubled name in the echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoDoubled}},
	{"None in the echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoNone, NoneWhenEmpty: true}},
	{"a name that wants a second eject", bmcsim.Generic, bmcsim.Behaviour{EjectKeepsName: true}},
	{"a power on that conflicts", bmcsim.Generic, bmcsim.Behaviour{PowerOnConflicts: true}},
	{"busy in POST", bmcsim.Generic, bmcsim.Behaviour{BusyInPost: true, RetryAfter: 1}},
	{"what a session inserts goes with it", bmcsim.XCC, bmcsim.Behaviour{SessionUnmounts: true}},
}

// TestConformance runs the suite over TLS with the rows that the program ships,
// against each family and each behaviour, and in memory against each family; the
// table of it is a part of docs/bmcs.md.
func TestConformance(t *testing.T) {
	m := newMatrix()
	over, within := append(families(), behaviours...), families()
	m.want = len(over) + len(within)
	t.Run("all", func(t *testing.T) {
		for _, e := range over {
			t.Run(strings.TrimSpace(string(e.kind)+" "+e.name), func(t *testing.T) {
				t.Parallel()
				row := observe(t, harness(t, e).Dial(t)).ID.Profile
				m.add("redfish", e, row, bmctest.Run(t, func(t *testing.T) bmctest.Harness { return harness(t, e) }))
			})
		}
		for _, e := range within {
			t.Run("in memory "+string(e.kind), func(t *testing.T) {
				t.Parallel()
				m.add("memory", e, "", bmctest.Run(t, func(t *testing.T) bmctest.Harness { return inMemory(t, e) }))
			})
		}
		for k := range refusals {
			t.Run("refused "+string(k), func(t *testing.T) {
				t.Parallel()
				m.refuse(t, k)
			})
		}
	})
	m.publish(t)
}

// traits is what the kind does always; a harness has to know some of it.
func traits(k bmcsim.Kind, b bmcsim.Behaviour) bmcsim.Behaviour {
	among := func(all ...bmcsim.Kind) bool { return slices.Contains(all, k) }
	b.OverrideStays = b.OverrideStays || among(bmcsim.SushyTools)
	b.NameNeverClears = b.NameNeverClears || among(bmcsim.Supermicro, bmcsim.SupermicroARS, bmcsim.SupermicroX11)
	b.HTTPSOnly = b.HTTPSOnly || among(bmcsim.OpenBMC, bmcsim.GB200, bmcsim.IRMC, bmcsim.XFusion, bmcsim.TSM)
	if among(bmcsim.IDRAC10) {
		b.Echo = bmcsim.EchoBlank
	}
	return b
}

// bare is a machine and what can be seen of it past a client.
func bare(t *testing.T, e entry) (*bmcsim.Machine, *host, bmctest.Harness) {
	t.Helper()
	e.b.RemoteMediaOff = false // a Harness starts with a slot
	h := &host{}
	const tick = 8 * time.Millisecond
	m := bmcsim.New(bmcsim.Config{Kind: e.kind, Host: h, Behaviour: e.b, Timing: bmcsim.Timing{
		Post: tick, MediaTask: tick, EnableDelay: tick, MediaLag: tick, EjectLag: tick, PowerLag: tick,
	}})
	t.Cleanup(m.Close)
	is := traits(e.kind, e.b)
	out := bmctest.Harness{
		Images:     [2]string{"http://192.0.2.1/iso/one.iso", "http://192.0.2.1/iso/two.iso"},
		Power:      m.Power,
		Mounted:    m.Mounted,
		Boots:      h.list,
		Sessions:   func() int { return m.Stats().Sessions },
		SetMounted: m.SetMounted,
		SetPower:   m.SetPower,
		Hang: func(writesOnly bool) {
			f := bmcsim.Fault{Count: -1, Do: bmcsim.Do{What: bmcsim.DoHang}}
			if writesOnly {
				f.Method = "POST"
			}
			m.Faults(f)
		},
		Relent: func() { m.Faults() },
		Methods: func() (methods []string) {
			for _, r := range m.Requests() {
				methods = append(methods, r.Method)
			}
			return methods
		},
		KeepsName: is.NameNeverClears, ManySlots: e.kind == bmcsim.OpenBMC,
		BootsDisk: is.IgnoreCd, KeepsOverride: is.OverrideStays, EchoesNothing: is.Echo == bmcsim.EchoBlank || is.Echo == bmcsim.EchoNone,
	}
	if is.HTTPSOnly {
		for i, image := range out.Images {
			out.Images[i] = "https" + strings.TrimPrefix(image, "http")
		}
	}
	if slices.Contains([]bmcsim.Kind{bmcsim.Gigabyte, bmcsim.Gigabyte13, bmcsim.DGX, bmcsim.ASRockRack, bmcsim.MegaRAC, bmcsim.TSM}, e.kind) {
		out.SetRemote = m.SetRemoteMedia
	}
	return m, h, out
}

// misfortunes are what a write may meet, and how.
var misfortunes = map[bmctest.Misfortune]bmcsim.Do{
	{Name: "the connection is closed before"}:            {What: bmcsim.DoCloseBefore},
	{Name: "the connection is closed after", Acts: true}: {What: bmcsim.DoCloseAfter},
	{Name: "half an answer", Acts: true}:                 {What: bmcsim.DoHalfBody},
	{Name: "an answer of wrong types", Acts: true}:       {What: bmcsim.DoWrongTypes},
	{Name: "a page for people"}:                          {What: bmcsim.DoHTML},
	{Name: "401"}:                                        {What: bmcsim.DoStatus, Status: 401},
	{Name: "403"}:                                        {What: bmcsim.DoStatus, Status: 403},
	{Name: "404"}:                                        {What: bmcsim.DoStatus, Status: 404},
	{Name: "409", Passes: true}:                          {What: bmcsim.DoStatus, Status: 409},
	{Name: "412"}:                                        {What: bmcsim.DoStatus, Status: 412},
	{Name: "500"}:                                        {What: bmcsim.DoStatus, Status: 500},
	{Name: "503 and when to come again", Passes: true}:   {What: bmcsim.DoStatus, Status: 503, RetryAfter: time.Second},
	{Name: "a redirection to another host"}:              {What: bmcsim.DoRedirect, To: "https://192.0.2.9/redfish/v1"},
}

// harness is a family behind a real server.
func harness(t *testing.T, e entry) bmctest.Harness {
	t.Helper()
	m, _, out := bare(t, e)
	s := serve(t, m.Handler())
	t.Cleanup(m.Close) // before the server's, which waits for hanging requests
	conf := s.config(t)
	conf.Clock = hastyClock{time.Now()}
	if e.b.TwinSystem {
		conf.System = "1"
	}
	out.Dial = func(t testing.TB) bmc.Client {
		c, err := redfish.Open(t.Context(), conf)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if e.name == "" {
		for f := range misfortunes {
			out.Misfortunes = append(out.Misfortunes, f)
		}
		out.Strike = func(name string) {
			for f, do := range misfortunes {
				if f.Name == name {
					m.Faults(bmcsim.Fault{Writes: true, Do: do})
				}
			}
		}
	}
	return out
}

// inMemory is a family behind the client that the simulation has itself.
func inMemory(t *testing.T, e entry) bmctest.Harness {
	t.Helper()
	m, _, out := bare(t, e)
	out.Dial = func(testing.TB) bmc.Client { return m.Client() }
	return out
}
