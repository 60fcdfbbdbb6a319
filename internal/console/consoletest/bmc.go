// Package consoletest has ssh servers that give serial consoles as BMCs do, for
// tests: real ssh, and state.
package consoletest

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Username and Password let in, unless a BMC has another password.
const (
	Username = "root"
	Password = "ssh-Passw0rd"
)

// Greeting is what a machine says to who begins to listen.
const Greeting = "n1 login: "

// A Machine is the serial port of a machine: it echoes what is typed, and remembers
// it. It is safe for concurrent use.
type Machine struct {
	mu    sync.Mutex
	typed bytes.Buffer
}

// Heard is what was typed so far.
func (m *Machine) Heard() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.typed.String()
}

func (m *Machine) hear(typed []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.typed.Write(typed)
}

// Serve says a greeting and echoes, until the port is closed.
func (m *Machine) Serve(port io.ReadWriter, greeting string) {
	_, err := io.WriteString(port, greeting)
	buf := make([]byte, 256)
	for err == nil {
		var n int
		n, err = port.Read(buf)
		m.hear(buf[:n])
		if _, writeErr := port.Write(buf[:n]); err == nil {
			err = writeErr
		}
	}
}

// A Shell is what a BMC's ssh server gives to who has logged in.
type Shell func(*BMC, *Terminal)

// A BMC is the ssh server of a BMC, with one machine behind it. What it is set to
// is not changed once somebody logs in.
type BMC struct {
	Machine
	// AsksForPassword: the password is asked for, as some servers do, and not taken
	// as such.
	AsksForPassword bool
	Password        string
	Key             ssh.PublicKey
	Port            int
	Freed           <-chan struct{} // sends whenever the console is given free
	Breaks          <-chan struct{} // and at every break
	Started, Ended  <-chan struct{} // and when a shell begins, and has ended

	shell  Shell
	config *ssh.ServerConfig

	freed, breaks, started, ended chan struct{}

	holding sync.Mutex // whose console it is
	holder  *Terminal
	ignored atomic.Int64 // requests that were not answered
}

// A Terminal is one session of a BMC.
type Terminal struct {
	ssh.Channel
	in *bufio.Reader
}

// ReadLine reads a line and echoes it, as a command line does.
func (t *Terminal) ReadLine() (string, error) {
	var line []byte
	for {
		b, err := t.in.ReadByte()
		if err != nil {
			return "", err
		}
		if b == '\r' {
			_, err := io.WriteString(t, "\r\n")
			return string(line), err
		}
		line = append(line, b)
		if _, err := t.Write([]byte{b}); err != nil {
			return "", err
		}
	}
}

// Say writes a text.
func (t *Terminal) Say(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) }

// New starts a server at an IP address of this machine, on a free port.
func New(t testing.TB, ip string, shell Shell) *BMC {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return start(t, ip, shell, signer, &ssh.ServerConfig{})
}

// NewOld starts one that knows nothing but what was good enough in 2010.
func NewOld(t testing.TB, ip string, shell Shell) *BMC {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	old, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA}) //nolint:errcheck // every key of Go's is one
	must(t, err)
	return start(t, ip, shell, old, &ssh.ServerConfig{Config: ssh.Config{
		KeyExchanges: []string{ssh.InsecureKeyExchangeDH1SHA1, ssh.InsecureKeyExchangeDH14SHA1},
		Ciphers:      []string{ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC},
		MACs:         []string{ssh.InsecureHMACSHA196, ssh.HMACSHA1},
	}})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, ip string, shell Shell, key ssh.Signer, config *ssh.ServerConfig) *BMC {
	t.Helper()
	const most = 100 // events that a test does not take
	s := &BMC{
		Password: Password, Key: key.PublicKey(), shell: shell, config: config,
		freed: make(chan struct{}, most), breaks: make(chan struct{}, most),
		started: make(chan struct{}, most), ended: make(chan struct{}, most),
	}
	s.Freed, s.Breaks, s.Started, s.Ended = s.freed, s.breaks, s.started, s.ended
	config.PasswordCallback = s.password
	config.KeyboardInteractiveCallback = s.question
	config.AddHostKey(key)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", net.JoinHostPort(ip, "0"))
	must(t, err)
	s.Port = l.Addr().(*net.TCPAddr).Port //nolint:errcheck // it is TCP
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() }) //nolint:errcheck // it listens no more
	return s
}

// Fingerprint is that of the server's key, as ssh-keygen prints it.
func (s *BMC) Fingerprint() string { return ssh.FingerprintSHA256(s.Key) }

var errRefused = errors.New("no")

func (s *BMC) password(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
	if s.AsksForPassword || c.User() != Username || string(password) != s.Password {
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil
}

func (s *BMC) question(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	answers, err := ask("", "", []string{"Password: "}, []bool{false})
	if err != nil || !s.AsksForPassword || c.User() != Username || len(answers) != 1 || answers[0] != s.Password {
		return nil, errRefused
	}
	return &ssh.Permissions{}, nil
}

func (s *BMC) serve(c net.Conn) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer conn.Close()
	sessions.Go(func() {
		for range requests { // such as a question for a sign of life
			s.ignored.Add(1)
		}
	})
	for ch := range channels {
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() { s.session(channel, requests) })
	}
}

func (s *BMC) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	var shell sync.WaitGroup
	defer shell.Wait()
	defer channel.Close()
	pty := false
	for r := range requests {
		switch r.Type {
		case "pty-req":
			pty = true
			_ = r.Reply(true, nil)
		case "shell":
			_ = r.Reply(pty, nil)
			s.started <- struct{}{}
			shell.Go(func() {
				s.shell(s, &Terminal{channel, bufio.NewReader(channel)})
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
				channel.Close()
				s.ended <- struct{}{}
			})
		case "break":
			s.breaks <- struct{}{}
			_ = r.Reply(true, nil)
		default:
			_ = r.Reply(false, nil)
		}
	}
}

// take gives a terminal the machine's console, unless another has it.
func (s *BMC) take(t *Terminal) bool {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.holder != nil {
		return false
	}
	s.holder = t
	return true
}

// release takes it from whoever has it.
func (s *BMC) release() *Terminal {
	s.holding.Lock()
	defer s.holding.Unlock()
	t := s.holder
	s.holder = nil
	if t != nil {
		s.freed <- struct{}{}
	}
	return t
}

// console connects a terminal with the machine, until the keys are typed that
// leave it, if need be at the beginning of a line. It reports whether they were.
func (s *BMC) console(t *Terminal, leave string, onNewLine bool) bool {
	t.Say(Greeting)
	var held []byte
	fresh := true
	for {
		b, err := t.in.ReadByte()
		if err != nil {
			return false
		}
		held = append(held, b)
		if string(held) == leave {
			return true
		}
		if strings.HasPrefix(leave, string(held)) && (fresh || !onNewLine || len(held) > 1) {
			continue
		}
		fresh = b == '\r'
		s.hear(held)
		_, _ = t.Write(held)
		held = held[:0]
	}
}

// ILO is the shell of HPE's iLO 3 to 5, by what the field shows of it.
func ILO(s *BMC, t *Terminal) {
	t.Say("User:root logged-in to ILO.example.org(10.1.1.7 / FE80::1)\r\n\r\niLO Advanced 2.46 at  May 12 2021\r\nServer Name: n1\r\nServer Power: On\r\n\r\n</>")
	for {
		t.Say("hpiLO-> ")
		line, err := t.ReadLine()
		if err != nil {
			return
		}
		switch command := strings.ToLower(strings.TrimSpace(line)); {
		case command == "vsp" && s.take(t):
			t.Say("\r\nVirtual Serial Port Active: COM2\r\n\r\nStarting virtual serial port.\r\nPress 'ESC (' to return to the CLI Session.\r\n\r\n")
			left := s.console(t, "\x1b(", false)
			s.release()
			if !left {
				return
			}
		case command == "vsp":
			t.Say("\r\nVirtual Serial Port is currently in use by another session.\r\n")
		case command == "stop /system1/oemhp_vsp1":
			if other := s.release(); other != nil {
				other.Close()
			}
			t.Say("status=0\r\nstatus_tag=COMMAND COMPLETED\r\n")
		case command == "exit":
			return
		default:
			t.Say("status=2\r\nstatus_tag=COMMAND PROCESSING FAILED\r\nerror_tag=COMMAND NOT RECOGNIZED\r\n")
		}
		t.Say("\r\n</>")
	}
}

// SMASH is the shell of Supermicro.
func SMASH(s *BMC, t *Terminal) {
	t.Say("\r\nInsyde SMASH-CLP System Management Shell, versions\r\nCopyright (c) 2015-2016 by Insyde International CO., Ltd.\r\nAll Rights Reserved \r\n\r\n")
	at := "/"
	for {
		t.Say("\r\n-> ")
		line, err := t.ReadLine()
		if err != nil {
			return
		}
		switch line {
		case "cd system1/sol1":
			at = "/system1/sol1"
			t.Say("%s\r\n", at)
		case "start":
			if at != "/system1/sol1" || !s.take(t) {
				t.Say("The SOL session is already in use\r\n")
				continue
			}
			t.Say("%s\r\n\r\npress <Enter>, <Esc>, and then <T> to terminate session\r\n(press the keys in sequence, one after the other)\r\n", at)
			s.console(t, "", false)
			s.release()
			return
		default:
			t.Say("COMMAND NOT SUPPORTED\r\n")
		}
	}
}

// OpenBMC is the shell at port 2200 of OpenBMC: the console, for as many as like.
func OpenBMC(s *BMC, t *Terminal) { s.console(t, "~.", true) }
