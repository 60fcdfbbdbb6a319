package console

import (
	"bufio"
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

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const sshPassword = "ssh-Passw0rd"

// A bmcServer is the ssh server of a BMC, with one machine behind it. It speaks as
// its shell does, which is handed a terminal.
type bmcServer struct {
	machine
	shell func(*bmcServer, *terminal)
	// keyboard: the password is asked for, as some servers do, and not taken as such.
	keyboard bool
	config   *ssh.ServerConfig
	key      ssh.PublicKey
	port     int

	holding sync.Mutex // whose console it is
	holder  *terminal
	freed   chan struct{} // is sent to whenever the console is given free
	breaks  chan struct{}
	started chan struct{} // is sent to whenever a shell was asked for
	ignored atomic.Int64  // requests that were not answered
}

// A terminal is one session of a bmcServer.
type terminal struct {
	ssh.Channel
	in *bufio.Reader
}

// readLine reads a line and echoes it, as a command line does.
func (t *terminal) readLine() (string, error) {
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

func (t *terminal) say(format string, args ...any) { _, _ = fmt.Fprintf(t, format, args...) }

// newBMC starts a server on loopback.
func newBMC(t *testing.T, shell func(*bmcServer, *terminal)) *bmcServer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return startBMC(t, &bmcServer{shell: shell}, signer, &ssh.ServerConfig{})
}

// newOldBMC knows nothing but what was good enough in 2010.
func newOldBMC(t *testing.T, shell func(*bmcServer, *terminal)) *bmcServer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	return startBMC(t, &bmcServer{shell: shell}, old, &ssh.ServerConfig{Config: ssh.Config{
		KeyExchanges: []string{ssh.InsecureKeyExchangeDH1SHA1, ssh.InsecureKeyExchangeDH14SHA1},
		Ciphers:      []string{ssh.InsecureCipherAES128CBC, ssh.InsecureCipherTripleDESCBC},
		MACs:         []string{ssh.InsecureHMACSHA196, ssh.HMACSHA1},
	}})
}

func startBMC(t *testing.T, s *bmcServer, key ssh.Signer, config *ssh.ServerConfig) *bmcServer {
	t.Helper()
	s.key, s.config = key.PublicKey(), config
	s.freed, s.breaks, s.started = make(chan struct{}, 100), make(chan struct{}, 100), make(chan struct{}, 100)
	right := func(user, password string) (*ssh.Permissions, error) {
		if user != "root" || password != sshPassword {
			return nil, errors.New("no")
		}
		return nil, nil
	}
	config.PasswordCallback = func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if s.keyboard {
			return nil, errors.New("ask")
		}
		return right(c.User(), string(password))
	}
	config.KeyboardInteractiveCallback = func(c ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask("", "", []string{"Password: "}, []bool{false})
		if err != nil || len(answers) != 1 || !s.keyboard {
			return nil, errors.New("no")
		}
		return right(c.User(), answers[0])
	}
	config.AddHostKey(key)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
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
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return s
}

func (s *bmcServer) serve(c net.Conn) {
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

func (s *bmcServer) session(channel ssh.Channel, requests <-chan *ssh.Request) {
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
				s.shell(s, &terminal{channel, bufio.NewReader(channel)})
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
				channel.Close()
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
func (s *bmcServer) take(t *terminal) bool {
	s.holding.Lock()
	defer s.holding.Unlock()
	if s.holder != nil {
		return false
	}
	s.holder = t
	return true
}

// release takes it from whoever has it.
func (s *bmcServer) release() *terminal {
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
// leave it. It reports whether they were.
func (s *bmcServer) console(t *terminal, leave string) bool {
	t.say("n1 login: ")
	var typed []byte
	for {
		b, err := t.in.ReadByte()
		if err != nil {
			return false
		}
		typed = append(typed, b)
		if leave != "" && strings.HasSuffix(string(typed), leave) {
			return true
		}
		if leave != "" && strings.HasPrefix(leave, string(b)) {
			continue // it may begin what leaves
		}
		s.mu.Lock()
		s.typed.WriteByte(b)
		s.mu.Unlock()
		_, _ = t.Write([]byte{b})
	}
}

// iloShell is that of HPE's iLO 3 to 5, by what the field shows of it.
func iloShell(s *bmcServer, t *terminal) {
	t.say("User:root logged-in to ILO.example.org(10.1.1.7 / FE80::1)\r\n\r\niLO Advanced 2.46 at  May 12 2021\r\nServer Name: n1\r\nServer Power: On\r\n\r\n</>")
	for {
		t.say("hpiLO-> ")
		line, err := t.readLine()
		if err != nil {
			return
		}
		switch command := strings.ToLower(strings.TrimSpace(line)); {
		case command == "vsp" && s.take(t):
			t.say("\r\nVirtual Serial Port Active: COM2\r\n\r\nStarting virtual serial port.\r\nPress 'ESC (' to return to the CLI Session.\r\n\r\n")
			left := s.console(t, "\x1b(")
			s.release()
			if !left {
				return
			}
		case command == "vsp":
			t.say("\r\nVirtual Serial Port is currently in use by another session.\r\n")
		case command == "stop /system1/oemhp_vsp1":
			if other := s.release(); other != nil {
				other.Close()
			}
			t.say("status=0\r\nstatus_tag=COMMAND COMPLETED\r\n")
		case command == "exit":
			return
		default:
			t.say("status=2\r\nstatus_tag=COMMAND PROCESSING FAILED\r\nerror_tag=COMMAND NOT RECOGNIZED\r\n")
		}
		t.say("\r\n</>")
	}
}

// smashShell is that of Supermicro.
func smashShell(s *bmcServer, t *terminal) {
	t.say("\r\nInsyde SMASH-CLP System Management Shell, versions\r\nCopyright (c) 2015-2016 by Insyde International CO., Ltd.\r\nAll Rights Reserved \r\n\r\n")
	at := "/"
	for {
		t.say("\r\n-> ")
		line, err := t.readLine()
		if err != nil {
			return
		}
		switch line {
		case "cd system1/sol1":
			at = "/system1/sol1"
			t.say("%s\r\n", at)
		case "start":
			if at != "/system1/sol1" || !s.take(t) {
				t.say("The SOL session is already in use\r\n")
				continue
			}
			t.say("%s\r\n\r\npress <Enter>, <Esc>, and then <T> to terminate session\r\n(press the keys in sequence, one after the other)\r\n", at)
			s.console(t, "")
			s.release()
			return
		default:
			t.say("COMMAND NOT SUPPORTED\r\n")
		}
	}
}

// consoleShell is that of OpenBMC's port 2200: the console, for as many as like.
func consoleShell(s *bmcServer, t *terminal) { s.console(t, "\r~.") }

// target is the server's console.
func (s *bmcServer) target(way bmc.ConsoleWay) Target {
	return Target{
		Node: "n1", BMC: "https://127.0.0.1:8443", Credential: bmc.Credential{Username: "root", Password: sshPassword},
		Console: site.Console{Way: way, Port: s.port, HostKey: site.HostKey{Fingerprint: ssh.FingerprintSHA256(s.key)}},
	}
}
