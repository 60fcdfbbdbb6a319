package console

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console/consoletest"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

const ipmiPassword = "ipmi-Passw0rd"

// serialPort gives a machine's serial port a TCP address.
func serialPort(t *testing.T, m *consoletest.Machine) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			port, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer port.Close(); m.Serve(port, "") }()
		}
	}()
	return l.Addr()
}

// ipmiSim starts OpenIPMI's simulated BMC, with a machine behind it, and says how
// to open its console.
func ipmiSim(t *testing.T, way bmc.ConsoleWay) (Target, *consoletest.Machine) {
	t.Helper()
	for _, program := range []string{"ipmi_sim", "ipmitool"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Unable(t, err.Error())
		}
	}
	m := new(consoletest.Machine)
	dir, port := t.TempDir(), freeUDPPort(t)
	config := fmt.Sprintf(`name "sim"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 %d
  priv_limit admin
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
sol "tcp:%v" 115200
user 2 true "root" %q admin 10 none md2 md5 straight
`, port, serialPort(t, m), ipmiPassword)
	write(t, filepath.Join(dir, "lan.conf"), config)
	write(t, filepath.Join(dir, "sim.emu"), "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n")
	cmd := exec.Command("ipmi_sim", "-n", "-c", filepath.Join(dir, "lan.conf"), "-f", filepath.Join(dir, "sim.emu"), "-s", dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ipmi_sim said: %s", said.String())
		}
	})
	awaitIPMI(t, port)
	return Target{
		Node: "n1", BMC: "https://127.0.0.1:8443", Credential: bmc.Credential{Username: "root", Password: ipmiPassword},
		// Without it ipmitool asks for cipher suites, which ipmi_sim does not answer,
		// for ten seconds.
		Console: site.Console{Way: way, Port: port, OldAlgorithms: true},
	}, m
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeUDPPort(t *testing.T) int {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// awaitIPMI sends RMCP pings until one is answered.
func awaitIPMI(t *testing.T, port int) {
	t.Helper()
	ping := []byte{0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, 0x80, 0x00, 0x00, 0x00}
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 200 {
		_, _ = c.Write(ping) // refused until it listens
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(make([]byte, 64)); err == nil && n > 0 {
			return
		} else if err != nil && strings.Contains(err.Error(), "refused") {
			time.Sleep(50 * time.Millisecond)
		}
	}
	t.Fatal("ipmi_sim does not answer")
}

func TestSOL(t *testing.T) {
	target, m := ipmiSim(t, bmc.ConsoleSOL)
	c := open(t, target)
	// ipmitool's own escapes, at the beginning, after an Enter, and cut in two.
	say(t, c, "~.~?\r")
	say(t, c, "~~.B\r\n")
	say(t, c, "~")
	say(t, c, ".\x00\x03\x1a\xff~tail")
	want := "~.~?\r~~.B\r\n~.\x00\x03\x1a\xff~tail"
	if heard := hear(t, c, "tail"); heard != want {
		t.Errorf("heard %q", heard)
	}
	if m.Heard() != want {
		t.Errorf("the machine heard %q, want %q", m.Heard(), want)
	}
	args := c.(*solConn).cmd.Args
	if slices.ContainsFunc(args, func(s string) bool { return strings.Contains(s, ipmiPassword) }) || !slices.Contains(args, "-E") {
		t.Errorf("ipmitool's arguments: %q", args)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// Closing ended the session, or else nobody would be let in.
	knock(t, open(t, target))
}

// knock types until the machine echoes. ipmi_sim drops the first packet of a
// session if it bears the number of the last of the session before.
func knock(t *testing.T, c Conn) {
	t.Helper()
	heard := make(chan struct{})
	var typing sync.WaitGroup
	typing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := c.Write([]byte("k")); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-heard:
				return
			case <-tick.C:
			}
		}
	})
	hear(t, c, "k")
	close(heard)
	typing.Wait()
}

func TestSOLBreak(t *testing.T) {
	target, _ := ipmiSim(t, bmc.ConsoleSOL)
	c := open(t, target)
	if err := c.(Breaker).Break(); err != nil {
		t.Error(err)
	}
	hear(t, c, "[send break]")
	say(t, c, "x")
	wantError(t, c.(Breaker).Break(), bmc.KindUnsupported, "at the beginning of a line", "Enter")
}

// A session whose program was killed sticks: the BMC goes on counting it.
func TestSOLStuck(t *testing.T) {
	target, _ := ipmiSim(t, bmc.ConsoleSOL)
	stick := func() {
		t.Helper()
		c, err := Open(t.Context(), target)
		if err != nil {
			t.Fatalf("%v; %s", err, bmc.HintOf(err))
		}
		_ = c.(*solConn).cmd.Process.Kill()
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a killed ipmitool goes on")
		}
		c.Close()
	}
	stick()
	refusal(t, target, bmc.KindBusy, "somebody else has it; it is a session of root", "livecd-sync console --take n1")

	var notes []string
	sticky := target
	sticky.Console.Way, sticky.Note = bmc.ConsoleStickySOL, func(s string) { notes = append(notes, s) }
	c := open(t, sticky)
	knock(t, c)
	if len(notes) != 1 || !strings.Contains(notes[0], "an earlier session on this console was ended: it is a session of root") {
		t.Errorf("notes: %q", notes)
	}
	c.Close()

	stick()
	target.Take = true
	knock(t, open(t, target))
}

// A session from elsewhere is somebody's, and left alone even where sessions stick.
func TestWhoseSession(t *testing.T) {
	own, other := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("10.1.1.2")
	for _, c := range []struct {
		h    holder
		ours bool
		says string
	}{
		{holder{}, true, "the BMC does not say whose session it is"},
		{holder{user: "root"}, true, "it is a session of root"},
		{holder{from: own}, true, "it is a session from 10.1.1.1"},
		{holder{"ops", other}, false, "it is a session of ops from 10.1.1.2"},
	} {
		if c.h.mayBeOurs(own) != c.ours || c.h.String() != c.says {
			t.Errorf("%+v: %v, %s", c.h, c.h.mayBeOurs(own), c.h)
		}
	}
	lan := []byte{1, 36, 2, 2, 4, 0x11, 10, 1, 1, 2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x12, 0x34}
	for _, c := range []struct {
		session []byte
		want    netip.Addr
	}{{lan, other}, {lan[:6], netip.Addr{}}, {append(slices.Clone(lan[:6]), make([]byte, 12)...), netip.Addr{}}} {
		if got := consoleAddress(c.session); got != c.want {
			t.Errorf("%v: %v", c.session, got)
		}
	}
}

func TestSOLRefused(t *testing.T) {
	target, _ := ipmiSim(t, bmc.ConsoleSOL)
	wrong := target
	wrong.Credential.Password = "wrong"
	refusal(t, wrong, bmc.KindUnreachable, "gives no IPMI session; ipmitool says: Error: Unable to establish", "whether bmc.username and bmc.password hold")
	nobody := target
	nobody.Credential = bmc.Credential{}
	refusal(t, nobody, bmc.KindAuth, "no user name for IPMI", "bmc.username")
	t.Setenv("PATH", t.TempDir())
	refusal(t, target, bmc.KindUnsupported, "the program ipmitool is not installed here", "apt-get")
}
