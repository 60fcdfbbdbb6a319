package redfish_test

import (
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// dialerOf has the settings of conf, for a Dialer's connections.
func dialerOf(conf redfish.Config) *redfish.Dialer {
	return &redfish.Dialer{Profiles: conf.Profiles, Clock: conf.Clock, Timeouts: conf.Timeouts}
}

func TestConsoleOfRow(t *testing.T) {
	for kind, want := range map[bmcsim.Kind]bmc.ConsoleWay{bmcsim.ILO5: bmc.ConsoleVSP, bmcsim.ILO4: bmc.ConsoleVSP, bmcsim.Gigabyte: bmc.ConsoleStickySOL} {
		m, s := machine(t, bmcsim.Config{Kind: kind})
		conf := s.config(t)
		d := dialerOf(conf)
		row, _, err := d.Console(t.Context(), conf)
		must(t, err)
		if row.Console != want {
			t.Errorf("%s: %s has the way %q, want %s", kind, row.Name, row.Console, want)
		}
		if n := len(m.Requests()); n > 4 {
			t.Errorf("%s: asked %q", kind, asked(m))
		}
		m.ForgetRequests()
		// What another connection has found is enough.
		c, err := d.Dial(t.Context(), conf)
		must(t, err)
		observe(t, c)
		must(t, c.Close(t.Context()))
		m.ForgetRequests()
		again, _, err := d.Console(t.Context(), conf)
		must(t, err)
		if again.Name != row.Name || len(m.Requests()) != 0 {
			t.Errorf("%s: %s, asked %q", kind, again.Name, asked(m))
		}
		conf.ProfileName = "supermicro"
		if named, _, err := dialerOf(conf).Console(t.Context(), conf); err != nil || named.Name != "supermicro" || len(m.Requests()) != 0 {
			t.Errorf("%s: %s, %v, asked %q", kind, named.Name, err, asked(m))
		}
	}
}

// A row that names no way leaves it to the BMC, which need not have virtual media.
func TestConsoleOfBMC(t *testing.T) {
	for _, c := range []struct {
		says string
		want bmc.SerialConsole
	}{
		{`"PowerState":"Off"`, bmc.SerialConsole{}},
		{
			`"SerialConsole":{"MaxConcurrentSessions":15,"SSH":{"ServiceEnabled":true,"Port":2200},"IPMI":{"ServiceEnabled":true}}`,
			bmc.SerialConsole{SSH: bmc.ConsoleService{Enabled: true, Port: 2200}, IPMI: bmc.ConsoleService{Enabled: true}},
		},
		{
			`"SerialConsole":{"SSH":{"ServiceEnabled":true,"Port":22,"ConsoleEntryCommand":"cd system1/sol1; start"}}`,
			bmc.SerialConsole{SSH: bmc.ConsoleService{Enabled: true, Port: 22, Entry: "cd system1/sol1; start"}},
		},
		{
			`"SerialConsole":{"SSH":{"ServiceEnabled":true,"Port":99999,"ConsoleEntryCommand":"start\rreset"},"IPMI":7}`,
			bmc.SerialConsole{SSH: bmc.ConsoleService{Enabled: true}},
		},
	} {
		s := newScript()
		s.docs[sysPath] = system(c.says)
		s.docs["/redfish/v1/Managers/1"] = `{"Model":"Anvil","FirmwareVersion":"v1.0"}`
		_, conf := s.client(t, nil)
		row, says, err := dialerOf(conf).Console(t.Context(), conf)
		must(t, err)
		if row.Name != "generic" || says != c.want {
			t.Errorf("%s: %+v, want %+v", c.says, says, c.want)
		}
	}
	s := newScript()
	delete(s.docs, "/redfish/v1/Systems")
	_, conf := s.client(t, nil)
	_, _, err := dialerOf(conf).Console(t.Context(), conf)
	wantError(t, err, bmc.KindProtocol, "404")
}
