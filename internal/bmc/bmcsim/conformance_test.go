package bmcsim_test

import (
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmctest"
)

// TestConformance runs the suite against the in-memory client, for each kind
// that has virtual media, well behaved and as the field reports it.
func TestConformance(t *testing.T) {
	for _, k := range []bmcsim.Kind{bmcsim.ILO5, bmcsim.ILO4, bmcsim.Gigabyte, bmcsim.Generic} {
		t.Run(string(k), func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, func(t *testing.T) bmctest.Harness { return memHarness(t, k, bmcsim.Behaviour{}) })
		})
		t.Run(string(k)+" as reported", func(t *testing.T) {
			t.Parallel()
			b := bmcsim.Reported(k)
			b.RemoteMediaOff = false // a Harness starts with a slot
			bmctest.Run(t, func(t *testing.T) bmctest.Harness { return memHarness(t, k, b) })
		})
	}
}

// TestConformanceOfBehaviours runs it where the BMC misbehaves.
func TestConformanceOfBehaviours(t *testing.T) {
	for name, c := range map[string]struct {
		behaviour bmcsim.Behaviour
		adapt     func(*bmctest.Harness)
	}{
		"tasks and lags": {bmcsim.Behaviour{InsertTask: bmcsim.TaskLocation, EjectTask: bmcsim.TaskLocation, InsertLags: true, EjectLags: true, PowerLags: true}, nil},
		"power in steps": {bmcsim.Behaviour{PowerTransitions: true, RefuseSameState: true}, nil},
		"blank echo":     {bmcsim.Behaviour{Echo: bmcsim.EchoBlank}, func(h *bmctest.Harness) { h.EchoesNothing = true }},
		"stuck override": {bmcsim.Behaviour{OverrideStays: true}, func(h *bmctest.Harness) { h.KeepsOverride = true }},
		"Cd is ignored":  {bmcsim.Behaviour{IgnoreCd: true}, func(h *bmctest.Harness) { h.BootsDisk = true }},
		"UsbCd":          {bmcsim.Behaviour{UsbCd: true, FullBoot: true}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bmctest.Run(t, func(t *testing.T) bmctest.Harness {
				h := memHarness(t, bmcsim.Generic, c.behaviour)
				if c.adapt != nil {
					c.adapt(&h)
				}
				return h
			})
		})
	}
}

func memHarness(t *testing.T, k bmcsim.Kind, b bmcsim.Behaviour) bmctest.Harness {
	t.Helper()
	boots := &boots{}
	m := bmcsim.New(bmcsim.Config{Kind: k, Host: boots, Behaviour: b})
	t.Cleanup(m.Close)
	h := bmctest.Harness{
		Patience:   5 * time.Second,
		Dial:       func(testing.TB) bmc.Client { return m.Client() },
		Images:     [2]string{"http://192.0.2.1/iso/one.iso", "http://192.0.2.1/iso/two.iso"},
		Power:      m.Power,
		Mounted:    m.Mounted,
		Boots:      boots.list,
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
	}
	if k == bmcsim.Gigabyte {
		h.SetRemote = m.SetRemoteMedia
	}
	return h
}
