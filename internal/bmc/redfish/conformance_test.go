package redfish_test

import (
	"slices"
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

// TestConformance runs the suite over TLS, with the rows that the program ships.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		kind bmcsim.Kind
		b    bmcsim.Behaviour
	}{
		{"ilo5", bmcsim.ILO5, bmcsim.Behaviour{}},
		{"ilo5 as reported", bmcsim.ILO5, bmcsim.Reported(bmcsim.ILO5)},
		{"ilo5 with trailing slashes", bmcsim.ILO5, bmcsim.Behaviour{TrailingSlash: true, IfMatch: 412}},
		{"ilo5 without the mode", bmcsim.ILO5, bmcsim.Behaviour{RefuseBootMode: true, RefuseIfMatchOnActions: true}},
		{"ilo5 without sessions to give", bmcsim.ILO5, bmcsim.Behaviour{NoToken: true}},
		{"ilo4", bmcsim.ILO4, bmcsim.Behaviour{}},
		{"ilo4 as reported", bmcsim.ILO4, bmcsim.Reported(bmcsim.ILO4)},
		{"gigabyte", bmcsim.Gigabyte, bmcsim.Behaviour{}},
		{"gigabyte as reported", bmcsim.Gigabyte, bmcsim.Reported(bmcsim.Gigabyte)},
		{"generic", bmcsim.Generic, bmcsim.Behaviour{}},
		{"generic, tasks by monitor", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskLocation, EjectTask: bmcsim.TaskLocation, AbsoluteLocation: true}},
		{"generic, tasks as a resource", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskResource, EjectTask: bmcsim.TaskResource, MessagesAsObject: true}},
		{"generic, tasks in the body", bmcsim.Generic, bmcsim.Behaviour{InsertTask: bmcsim.TaskInBody, EjectTask: bmcsim.TaskInBody}},
		{"media by patch", bmcsim.Generic, bmcsim.Behaviour{MediaByPatch: true, IfMatch: 428}},
		{"insert needs more", bmcsim.Generic, bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType"}}},
		{"insert needs all", bmcsim.Generic, bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType", "TransferMethod", "Inserted", "WriteProtected"}}},
		{"insert refuses", bmcsim.Generic, bmcsim.Behaviour{InsertRefuses: []string{"Inserted", "WriteProtected", "TransferMethod"}}},
		{"full boot", bmcsim.Generic, bmcsim.Behaviour{FullBoot: true, IfMatch: 428}},
		{"UsbCd, no eject when empty", bmcsim.Generic, bmcsim.Behaviour{UsbCd: true, EjectActionVanishes: true}},
		{"refuses to eject nothing", bmcsim.Generic, bmcsim.Behaviour{RefuseEmptyEject: true, RefuseSameState: true}},
		{"lags", bmcsim.Generic, bmcsim.Behaviour{InsertLags: true, EjectLags: true, PowerTransitions: true}},
		{"power lags", bmcsim.Generic, bmcsim.Behaviour{PowerLags: true, ResetActionInfo: true}},
		{"button only", bmcsim.Generic, bmcsim.Behaviour{ResetTypes: []string{"ForceOn", "ForceOff", "PowerCycle"}}},
		{"override stays", bmcsim.Generic, bmcsim.Behaviour{OverrideStays: true, OverrideReadsContinuous: true}},
		{"boots the disk", bmcsim.Generic, bmcsim.Behaviour{IgnoreCd: true}},
		{"blank echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoBlank}},
		{"no port in the echo", bmcsim.Generic, bmcsim.Behaviour{Echo: bmcsim.EchoNoPort, NoMediaTypes: true}},
		{"a second system", bmcsim.Generic, bmcsim.Behaviour{SecondSystem: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.b.RemoteMediaOff = false // a Harness starts with a slot
			bmctest.Run(t, func(t *testing.T) bmctest.Harness { return harness(t, c.kind, c.b) })
		})
	}
}

func harness(t *testing.T, k bmcsim.Kind, b bmcsim.Behaviour) bmctest.Harness {
	t.Helper()
	h := &host{}
	m, s := machine(t, bmcsim.Config{Kind: k, Host: h, Behaviour: b})
	conf := s.config(t)
	conf.Clock = hastyClock{time.Now()}
	conf.Timeouts = redfish.Timeouts{Close: 200 * time.Millisecond}
	out := bmctest.Harness{
		Dial: func(t testing.TB) bmc.Client {
			c, err := redfish.Open(t.Context(), conf)
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Images:     [2]string{"http://192.0.2.1/iso/one.iso", "http://192.0.2.1/iso/two.iso"},
		Power:      m.Power,
		Mounted:    m.Mounted,
		Boots:      h.list,
		Sessions:   func() int { return m.Stats().Sessions },
		SetMounted: m.SetMounted,
		SetPower:   m.SetPower,
		Hang: func(writesOnly bool) {
			method := ""
			if writesOnly {
				method = "POST"
			}
			m.Faults(bmcsim.Fault{Method: method, Count: -1, Do: bmcsim.Do{What: bmcsim.DoHang}})
		},
		Methods: func() (methods []string) {
			for _, r := range m.Requests() {
				methods = append(methods, r.Method)
			}
			return methods
		},
		BootsDisk: b.IgnoreCd, KeepsOverride: b.OverrideStays, EchoesNothing: b.Echo == bmcsim.EchoBlank,
	}
	if k == bmcsim.Gigabyte {
		out.SetRemote = m.SetRemoteMedia
	}
	return out
}
