package sshremote_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server is a real sshd on a loopback port, with an RSA and an Ed25519 host
// key.
type server struct {
	dir          string
	config       sshremote.Config
	rsa, ed25519 ssh.PublicKey
	identity     crypto.PrivateKey
}

// start starts sshd. shadow, unless it is "", is put in place of root's line of
// /etc/shadow, in a namespace of its own.
func start(t *testing.T, shadow string) *server {
	t.Helper()
	s := &server{dir: t.TempDir()}
	must(t, os.Chmod(s.dir, 0o755))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s.ed25519 = s.writeKey(t, "host_ed25519", key)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	s.rsa = s.writeKey(t, "host_rsa", rsaKey)
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	s.identity = identity
	authorized := s.writeKey(t, "identity", identity)
	must(t, os.WriteFile(s.path("authorized"), ssh.MarshalAuthorizedKey(authorized), 0o644))
	me, err := user.Current()
	must(t, err)
	s.config = sshremote.Config{
		Address: "127.0.0.1", Port: testenv.FreePort(t), User: me.Username, Identity: s.path("identity"),
		HostKey: site.HostKey{Any: true}, Timeout: 30 * time.Second,
	}
	pam := "no"
	if shadow != "" { // what tells an expired password when a key is shown
		pam = "yes"
	}
	must(t, os.WriteFile(s.path("config"), fmt.Appendf(nil, `ListenAddress 127.0.0.1
Port %d
HostKey %s
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM %s
PermitRootLogin yes
PasswordAuthentication yes
PidFile none
`, s.config.Port, s.path("host_ed25519"), s.path("host_rsa"), s.path("authorized"), pam), 0o644))
	s.run(t, shadow)
	return s
}

func (s *server) run(t *testing.T, shadow string) {
	t.Helper()
	script := `exec /usr/sbin/sshd -D -e -f "$1"`
	args := []string{"-c", script, "sh", s.path("config")}
	name := "sh"
	if os.Geteuid() == 0 { // sshd then wants its directory below /run
		args[1] = `mount -t tmpfs tmpfs /run && mkdir /run/sshd || exit; if [ -n "$2" ]; then mount --bind "$2" /etc/shadow || exit; fi; ` + script
		name, args = "unshare", append([]string{"-m", "sh"}, args...)
	}
	if shadow != "" {
		if os.Geteuid() != 0 {
			testenv.Unable(t, "another /etc/shadow needs root")
		}
		must(t, os.WriteFile(s.path("shadow"), []byte(shadow+"\nsshd:*:19000:0:99999:7:::\n"), 0o600))
		args = append(args, s.path("shadow"))
	}
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		testenv.Unable(t, err.Error())
	}
	cmd := exec.Command(name, args...)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server listening on") {
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, stderr)
			}()
			return
		}
		said = append(said, lines.Text())
	}
	close(drained)
	testenv.Unable(t, "sshd did not start: "+strings.Join(said, "\n"))
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) writeKey(t *testing.T, name string, key crypto.PrivateKey) ssh.PublicKey {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	must(t, err)
	must(t, os.WriteFile(s.path(name), pem.EncodeToMemory(block), 0o600))
	signer, err := ssh.NewSignerFromKey(key)
	must(t, err)
	return signer.PublicKey()
}

func (s *server) dial(t *testing.T, c sshremote.Config) *sshremote.Conn {
	t.Helper()
	conn, err := sshremote.Dial(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	return conn
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// failure checks that err is of the kind, has a hint, and says all of what.
func failure(t *testing.T, err error, kind bmc.Kind, what ...string) {
	t.Helper()
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Kind != kind || e.Hint == "" {
		t.Errorf("got %#v: %v", e, err)
		return
	}
	for _, w := range what {
		if text := e.Error() + " " + e.Hint; !strings.Contains(text, w) {
			t.Errorf("%q is not in: %s", w, text)
		}
	}
}

func TestRun(t *testing.T) {
	s := start(t, "")
	conn := s.dial(t, s.config)
	var out, errs bytes.Buffer
	args := []string{"a b", "it's", "", "-n", "new\nline", `back\slash $HOME "x" *`}
	must(t, conn.Run(t.Context(), overlay.Command{
		Script: "# it's a script\nfor a; do printf '<%s>' \"$a\"; done; cat; echo said >&2",
		Args:   args, Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &errs,
	}))
	if want := "<" + strings.Join(args, "><") + ">input"; out.String() != want || errs.String() != "said\n" {
		t.Errorf("got %q and %q", out.String(), errs.String())
	}
	must(t, conn.Run(t.Context(), overlay.Command{Script: "cat; echo out; echo err >&2"}))

	err := conn.Run(t.Context(), overlay.Command{Script: `i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i + 1)); done >&2; printf '\033[31mred\377' >&2; exit 7`})
	exit, ok := errors.AsType[*overlay.ExitError](err)
	if !ok || exit.Status != 7 || !strings.HasSuffix(exit.Stderr, "line 2999; ?[31mred?") || len(exit.Stderr) > 200 {
		t.Errorf("got %#v, %v", exit, err)
	}
	err = conn.Run(t.Context(), overlay.Command{Script: "kill -TERM $$"})
	if exit, ok := errors.AsType[*overlay.ExitError](err); !ok || exit.Signal != "TERM" {
		t.Errorf("got %v", err)
	}
}

var errOurs = errors.New("ours")

type failing struct{}

func (failing) Read([]byte) (int, error)  { return 0, errOurs }
func (failing) Write([]byte) (int, error) { return 0, errOurs }

func TestRunEndsWithItsStreams(t *testing.T) {
	s := start(t, "")
	conn := s.dial(t, s.config)
	if err := conn.Run(t.Context(), overlay.Command{Script: "exec cat /dev/zero", Stdout: failing{}}); !errors.Is(err, errOurs) {
		t.Error(err)
	}
	if err := conn.Run(t.Context(), overlay.Command{Script: "exec cat", Stdin: failing{}}); !errors.Is(err, errOurs) {
		t.Error(err)
	}
	blocked, release := io.Pipe()
	defer release.Close()
	must(t, conn.Run(t.Context(), overlay.Command{Script: "exit 0", Stdin: blocked}))
	must(t, conn.Run(t.Context(), overlay.Command{Script: "head -c 10 >/dev/null", Stdin: io.LimitReader(zeros{}, 64<<20)}))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestCancel(t *testing.T) {
	s := start(t, "")
	conn := s.dial(t, s.config)
	ctx, cancel := context.WithCancelCause(t.Context())
	started := writerFunc(func(p []byte) (int, error) {
		cancel(errors.New("a reason"))
		return len(p), nil
	})
	err := conn.Run(ctx, overlay.Command{Script: "while echo; do sleep 0.1; done", Stdout: started}) // ends by SIGPIPE, with its reader
	failure(t, err, bmc.KindCancelled, "a reason")
	failure(t, conn.Run(t.Context(), overlay.Command{Script: "true"}), bmc.KindUnreachable, "a reason")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestHostKeys(t *testing.T) {
	s := start(t, "")
	other := s.writeKey(t, "other", func() crypto.PrivateKey { _, k, _ := ed25519.GenerateKey(rand.Reader); return k }())
	address := fmt.Sprintf("[127.0.0.1]:%d", s.config.Port)
	known := func(name string, lines ...string) site.HostKey {
		must(t, os.WriteFile(s.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
		return site.HostKey{KnownHosts: s.path(name)}
	}
	for name, key := range map[string]site.HostKey{
		"any":               {Any: true},
		"fingerprint":       {Fingerprint: ssh.FingerprintSHA256(s.ed25519)},
		"its RSA key's":     {Fingerprint: ssh.FingerprintSHA256(s.rsa)},
		"known hosts":       known("known", knownhosts.Line([]string{address}, s.ed25519)),
		"only the RSA key":  known("known_rsa", knownhosts.Line([]string{address}, s.rsa)),
		"hashed name, both": known("known_hashed", knownhosts.Line([]string{"elsewhere"}, other), knownhosts.HashHostname(address)+" "+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.rsa)))),
	} {
		c := s.config
		c.HostKey = key
		conn, err := sshremote.Dial(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		must(t, conn.Close())
	}
	for name, test := range map[string]struct {
		key  site.HostKey
		want []string
	}{
		"changed": {known("known_old", knownhosts.Line([]string{address}, other)), []string{
			"has changed", ssh.FingerprintSHA256(s.ed25519), ssh.FingerprintSHA256(other), "ssh.hostKey: any",
		}},
		"changed fingerprint": {site.HostKey{Fingerprint: ssh.FingerprintSHA256(other)}, []string{
			"has changed", ssh.FingerprintSHA256(s.ed25519), ssh.FingerprintSHA256(s.rsa), ssh.FingerprintSHA256(other),
		}},
		"unknown":   {known("known_none", ""), []string{"has none for it", "SHA256:", "ssh.hostKey: any"}},
		"revoked":   {known("known_revoked", "@revoked "+knownhosts.Line([]string{address}, s.ed25519)), []string{"revoked"}},
		"no file":   {site.HostKey{KnownHosts: s.path("absent")}, []string{"no such file"}},
		"not said":  {site.HostKey{}, []string{"ssh.hostKey"}},
		"not a key": {known("known_bad", "nonsense"), []string{"known_bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.config
			c.HostKey = test.key
			_, err := sshremote.Dial(t.Context(), c)
			failure(t, err, bmc.KindSSH, test.want...)
		})
	}
}

func TestAuthentication(t *testing.T) {
	s := start(t, "")
	c := s.config
	c.Identity = ""
	_, err := sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindAuth, "no key, agent or password")

	c.Password = "wrong-secret"
	_, err = sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindAuth, "the password")
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, c, err), "wrong-secret") {
		t.Error("the password was printed")
	}

	c.Password, c.Agent = "", serveAgent(t, s.identity)
	s.dial(t, c)
	c.Identity = s.path("absent")
	_, err = sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindAuth, "absent", "ssh.identity")

	block, err := ssh.MarshalPrivateKeyWithPassphrase(s.identity, "", []byte("phrase"))
	must(t, err)
	must(t, os.WriteFile(s.path("locked"), pem.EncodeToMemory(block), 0o600))
	c.Identity = s.path("locked")
	_, err = sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindAuth, "passphrase", "ssh-add")
	must(t, os.WriteFile(s.path("garbage"), []byte("garbage"), 0o600))
	c.Identity = s.path("garbage")
	_, err = sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindAuth, "no private key")
}

func serveAgent(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	keyring := agent.NewKeyring()
	must(t, keyring.Add(agent.AddedKey{PrivateKey: key}))
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_ = agent.ServeAgent(keyring, conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return socket
}

// TestPassword logs in with a password, then with a key although the password
// must be changed first, as that of a live system's root must at its first
// login.
func TestPassword(t *testing.T) {
	hash, err := exec.Command("openssl", "passwd", "-6", "secret").Output()
	if err != nil {
		testenv.Unable(t, "openssl passwd: "+err.Error())
	}
	line := "root:" + strings.TrimSpace(string(hash))
	s := start(t, line+":19000:0:99999:7:::")
	c := s.config
	c.Identity, c.Password, c.User = "", "secret", ""
	must(t, s.dial(t, c).Run(t.Context(), overlay.Command{Script: "true"}))

	s = start(t, line+":0:0:99999:7:::")
	err = s.dial(t, s.config).Run(t.Context(), overlay.Command{Script: "true"})
	failure(t, err, bmc.KindAuth, "has to be changed", "console")
}

func TestUnreachable(t *testing.T) {
	c := sshremote.Config{Address: "127.0.0.1", Port: testenv.FreePort(t), HostKey: site.HostKey{Any: true}}
	_, err := sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindUnreachable, "refused")

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	c.Port, c.Timeout = silent.Addr().(*net.TCPAddr).Port, 50*time.Millisecond
	_, err = sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindTimeout, "50ms")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = sshremote.Dial(ctx, c)
	failure(t, err, bmc.KindCancelled)
}

// A wire passes bytes on between a client and a server until it is cut, or
// swallows them once it is dead.
type wire struct {
	port  int
	mu    sync.Mutex
	dead  bool
	conns []net.Conn
}

func newWire(t *testing.T, port int) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{port: l.Addr().(*net.TCPAddr).Port}
	var copying sync.WaitGroup
	copying.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				client.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, client, server)
			w.mu.Unlock()
			copying.Go(func() { w.pass(client, server) })
			copying.Go(func() { w.pass(server, client) })
		}
	})
	t.Cleanup(func() { l.Close(); w.cut(); copying.Wait() })
	return w
}

func (w *wire) pass(from, to net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		dead := w.dead
		w.mu.Unlock()
		if !dead {
			_, _ = to.Write(buf[:n])
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
}

func (w *wire) die() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = true
}

func TestCutAndDeadConnections(t *testing.T) {
	s := start(t, "")
	for name, test := range map[string]struct {
		lose func(*wire)
		kind bmc.Kind
		what string
	}{
		"cut":  {(*wire).cut, bmc.KindSSH, "lost"},
		"dead": {(*wire).die, bmc.KindUnreachable, "no sign of life"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, s.config.Port)
			c := s.config
			c.Port, c.KeepAlive = w.port, 20*time.Millisecond
			if name == "cut" {
				c.KeepAlive = time.Hour
			}
			conn := s.dial(t, c)
			out := writerFunc(func(p []byte) (int, error) {
				test.lose(w)
				return len(p), nil
			})
			err := conn.Run(t.Context(), overlay.Command{Script: "echo begun; exec cat", Stdin: blockedReader(t), Stdout: out})
			failure(t, err, test.kind, test.what)
		})
	}
}

func blockedReader(t *testing.T) io.Reader {
	t.Helper()
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	return r
}
