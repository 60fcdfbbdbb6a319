package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console/consoletest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// targetOf is a server's console.
func targetOf(s *consoletest.BMC, way bmc.ConsoleWay) Target {
	return Target{
		Node: "n1", BMC: "https://127.0.0.1:8443", Credential: bmc.Credential{Username: consoletest.Username, Password: consoletest.Password},
		Console: site.Console{Way: way, Port: s.Port, HostKey: site.HostKey{Fingerprint: ssh.FingerprintSHA256(s.Key)}},
	}
}

// speak types what a terminal might swallow, and wants it at the machine as it is.
func speak(t *testing.T, s *consoletest.BMC, c Conn) {
	t.Helper()
	if heard := hear(t, c, "n1 login: "); strings.TrimSpace(strings.TrimSuffix(heard, "n1 login: ")) != "" {
		t.Errorf("what the BMC said is taken for the machine's: %q", heard)
	}
	const typed = "root\r~.~\x00\x03\x04\x1c\xff tail"
	say(t, c, typed)
	if heard := hear(t, c, "tail"); heard != typed || s.Heard() != typed {
		t.Errorf("heard %q, the machine %q", heard, s.Heard())
	}
}

func TestVSP(t *testing.T) {
	for _, keyboard := range []bool{false, true} {
		s := consoletest.New(t, "127.0.0.1", consoletest.ILO)
		s.AsksForPassword = keyboard
		c := open(t, targetOf(s, bmc.ConsoleVSP))
		speak(t, s, c)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		<-s.Freed // by ESC ( or by the end of the session
		if heard := s.Heard(); strings.Contains(heard, "\x1b") {
			t.Errorf("what leaves the console went to the machine: %q", heard)
		}
	}
}

func TestVSPTaken(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.ILO)
	first := open(t, targetOf(s, bmc.ConsoleVSP))
	hear(t, first, "login: ")
	refusal(t, targetOf(s, bmc.ConsoleVSP), bmc.KindBusy, "somebody else has it; the BMC says: Virtual Serial Port is currently in use by another session.", "livecd-sync console --take n1")

	var notes []string
	target := targetOf(s, bmc.ConsoleVSP)
	target.Take, target.Note = true, func(n string) { notes = append(notes, n) }
	second := open(t, target)
	speak(t, s, second)
	if len(notes) != 1 {
		t.Errorf("notes: %q", notes)
	}
	if _, err := io.ReadAll(first); err == nil {
		t.Error("the first session ended without a word")
	} else {
		wantError(t, err, bmc.KindUnreachable, "the BMC ended the connection", "open it again")
	}
}

// On iLO 7 nothing ends another's session.
func TestVSPCannotBeTaken(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", func(_ *consoletest.BMC, term *consoletest.Terminal) {
		for {
			term.Say("</>hpiLO-> ")
			line, err := term.ReadLine()
			if err != nil {
				return
			}
			answer := map[string]string{"VSP": "Virtual Serial Port is currently in use by another session."}[line]
			if answer == "" {
				answer = "unknown command"
			}
			term.Say("%s\r\n\r\n", answer)
		}
	})
	target := targetOf(s, bmc.ConsoleVSP)
	target.Take = true
	refusal(t, target, bmc.KindBusy, "somebody else has it; the BMC says: Virtual Serial Port is currently", "on the BMC")
}

func TestVSPRefused(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", func(_ *consoletest.BMC, term *consoletest.Terminal) {
		term.Say("</>hpiLO-> ")
		_, _ = term.ReadLine()
		term.Say("\x1b[31mThe virtual serial port\r\nis disabled.\x07\r\n\r\n</>hpiLO-> ")
		_, _ = term.ReadLine()
	})
	refusal(t, targetOf(s, bmc.ConsoleVSP), bmc.KindUnsupported, `the BMC did not start it, and said "The virtual serial port is disabled."`, "console:")
}

func TestSMASH(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.SMASH)
	c := open(t, targetOf(s, bmc.ConsoleSMASH))
	speak(t, s, c)
	refusal(t, targetOf(s, bmc.ConsoleSMASH), bmc.KindBusy, "somebody else has it; the BMC says: The SOL session is already in use", "on the BMC")
	c.Close()
	<-s.Freed
	// What the BMC says is typed there takes the place of what is usual.
	target := targetOf(s, bmc.ConsoleSMASH)
	target.Says.SSH = bmc.ConsoleService{Enabled: true, Entry: "cd system1/sol1; start"}
	hear(t, open(t, target), "login: ")
	target.Says.SSH.Entry = "start /elsewhere"
	refusal(t, target, bmc.KindUnsupported, "COMMAND NOT SUPPORTED", "console:")
}

func TestSSHConsole(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	c := open(t, targetOf(s, bmc.ConsoleSSH))
	hear(t, open(t, targetOf(s, bmc.ConsoleSSH)), "login: ") // there may be more than one
	if err := c.(Breaker).Break(); err != nil {
		t.Error(err)
	}
	<-s.Breaks
	hear(t, c, "login: ")
	say(t, c, "x\r~.")
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the shell ended in good order: %v", err)
	}
}

// What the row, the site file and the BMC say of the way.
func TestWhichWay(t *testing.T) {
	at := func(port int) bmc.ConsoleService { return bmc.ConsoleService{Enabled: true, Port: port} }
	for _, c := range []struct {
		name   string
		target Target
		want   string
	}{
		{"the row", Target{Profile: bmc.Profile{Console: bmc.ConsoleVSP}}, "VSP, ssh to bmc1:22"},
		{"the file wins", Target{Profile: bmc.Profile{Console: bmc.ConsoleVSP}, Console: site.Console{Way: bmc.ConsoleSOL}}, "IPMI serial over LAN at bmc1:623"},
		{"a socket wins", Target{Profile: bmc.Profile{Console: bmc.ConsoleVSP}, Console: site.Console{Socket: "/run/x"}}, "the socket /run/x"},
		{"a command wins", Target{Profile: bmc.Profile{Console: bmc.ConsoleVSP}, Console: site.Console{Command: []string{"conman", "n1"}}}, "the program conman"},
		{"the usual port", Target{Profile: bmc.Profile{Console: bmc.ConsoleSSH}}, "the console's own ssh server, ssh to bmc1:2200"},
		{"the BMC's port", Target{Profile: bmc.Profile{Console: bmc.ConsoleSSH}, Says: bmc.SerialConsole{SSH: at(2201)}}, "the console's own ssh server, ssh to bmc1:2201"},
		{"the file's port", Target{Console: site.Console{Port: 1022}, Profile: bmc.Profile{Console: bmc.ConsoleSSH}, Says: bmc.SerialConsole{SSH: at(2201)}}, "the console's own ssh server, ssh to bmc1:1022"},
		{"the BMC says ssh", Target{Says: bmc.SerialConsole{SSH: at(2200), IPMI: at(623)}}, "the console's own ssh server, ssh to bmc1:2200"},
		{"its ssh is the command line", Target{Says: bmc.SerialConsole{SSH: at(22), IPMI: at(624)}}, "IPMI serial over LAN at bmc1:624"},
		{"nothing is on", Target{Says: bmc.SerialConsole{SSH: bmc.ConsoleService{Port: 2200}}}, "no way"},
	} {
		c.target.BMC = "https://bmc1:8443"
		if got := c.target.Describe(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	refusal(t, Target{Node: "n1", Profile: bmc.Profile{Name: "generic"}}, bmc.KindUnsupported, "of the family generic it is not known", "console: {way: WAY}")
	refusal(t, Target{Node: "n1", Profile: bmc.Profile{Console: "semaphore"}}, bmc.KindUnsupported, `no way "semaphore"`, "console: {way: WAY}")
}

func TestHostKey(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	line := knownhosts.Line([]string{fmt.Sprintf("[127.0.0.1]:%d", s.Port)}, s.Key)
	known := filepath.Join(dir, ".ssh", "known_hosts")
	if err := os.Mkdir(filepath.Dir(known), 0o700); err != nil {
		t.Fatal(err)
	}
	with := func(key site.HostKey) Target {
		target := targetOf(s, bmc.ConsoleSSH)
		target.Console.HostKey = key
		return target
	}
	refusal(t, with(site.HostKey{}), bmc.KindSSH, "read "+known+": no such file", "compare it with the key")
	write(t, known, "")
	refusal(t, with(site.HostKey{}), bmc.KindSSH, "the BMC shows the host key "+ssh.FingerprintSHA256(s.Key)+", and "+known+" has none for it", "console.hostKey: {fingerprint:")
	write(t, known, line+"\n")
	hear(t, open(t, with(site.HostKey{})), "login: ")
	hear(t, open(t, with(site.HostKey{KnownHosts: known})), "login: ")
	hear(t, open(t, with(site.HostKey{Any: true})), "login: ")
	other := "SHA256:" + strings.Repeat("A", 43)
	refusal(t, with(site.HostKey{Fingerprint: other}), bmc.KindSSH, "the BMC's host key has changed: it shows "+ssh.FingerprintSHA256(s.Key)+" where console.hostKey has "+other, "own web page")
}

// What is broken is used only when the site file says so.
func TestOldAlgorithms(t *testing.T) {
	s := consoletest.NewOld(t, "127.0.0.1", consoletest.ILO)
	keys := map[string]site.HostKey{"any": {Any: true}, "fingerprint": {Fingerprint: ssh.FingerprintSHA256(s.Key)}}
	known := filepath.Join(t.TempDir(), "known_hosts")
	write(t, known, knownhosts.Line([]string{fmt.Sprintf("[127.0.0.1]:%d", s.Port)}, s.Key)+"\n")
	keys["known_hosts"] = site.HostKey{KnownHosts: known}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			target := targetOf(s, bmc.ConsoleVSP)
			target.Console.HostKey = key
			refusal(t, target, bmc.KindSSH, "the BMC knows only algorithms that are not safe any more", "console.oldAlgorithms: true")
			target.Console.OldAlgorithms = true
			c := open(t, target)
			hear(t, c, "login: ")
			c.Close()
			<-s.Freed
		})
	}
}

func TestSSHRefused(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	wrong := targetOf(s, bmc.ConsoleSSH)
	wrong.Credential.Password = "wrong-Passw0rd"
	refusal(t, wrong, bmc.KindAuth, "the BMC let root in with none of: the password", "bmc.username and bmc.password")
	nobody := targetOf(s, bmc.ConsoleSSH)
	nobody.Credential = bmc.Credential{}
	refusal(t, nobody, bmc.KindAuth, "no user name", "bmc.username")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	off := targetOf(s, bmc.ConsoleSSH)
	off.Console.Port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	refusal(t, off, bmc.KindUnreachable, "connection refused", "whether the BMC has ssh switched on")

	_, err = Open(t.Context(), wrong)
	if strings.Contains(fmt.Sprintf("%+v %#v", err, err), "wrong-Passw0rd") {
		t.Error("the password is in the error")
	}
}

// A command line that says nothing is not waited for beyond the context.
func TestSilentCommandLine(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", func(_ *consoletest.BMC, term *consoletest.Terminal) {
		term.Say("please stand by")
		_, _ = io.Copy(io.Discard, term)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-s.Started
		cancel(errors.New("enough"))
	}()
	_, err := Open(ctx, targetOf(s, bmc.ConsoleVSP))
	wantError(t, err, bmc.KindCancelled, "enough", "again")

	s = consoletest.New(t, "127.0.0.1", func(_ *consoletest.BMC, term *consoletest.Terminal) { term.Say("no shell for \x1b[1myou") })
	refusal(t, targetOf(s, bmc.ConsoleVSP), bmc.KindProtocol, `gave no prompt: it ended; it said "no shell for you"`, "by hand")
}

// The BMC goes away while the console is open.
func TestSSHLost(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	relay, cut := relayTo(t, s.Port)
	target := targetOf(s, bmc.ConsoleSSH)
	target.Console.Port = relay
	c := open(t, target)
	hear(t, c, "login: ")
	cut()
	_, err := io.ReadAll(c)
	wantError(t, err, bmc.KindUnreachable, "the BMC ended the connection", "open it again")
	c.Close()
	_, err = c.Read(make([]byte, 1))
	wantError(t, err, bmc.KindCancelled, "it was closed", "again")
	_, err = c.Write([]byte("x"))
	wantError(t, err, bmc.KindCancelled, "it was closed", "again")
}

// relayTo passes one connection on to a port, until it is cut.
func relayTo(t *testing.T, port int) (at int, cut func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	near, far := make(chan net.Conn, 1), make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			c.Close()
			return
		}
		near <- c
		far <- to
		go func() { _, _ = io.Copy(to, c) }()
		_, _ = io.Copy(c, to)
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port, func() { (<-near).Close(); (<-far).Close() }
}
