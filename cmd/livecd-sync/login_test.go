package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console/login"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/secret"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

const newPassword = "Korrekt'Horse 9"

// A node is a real sshd with real PAM, in a mount namespace with its own /etc, /root
// and /run, whose root's password has expired.
type node struct {
	t   *testing.T
	dir string
	site.Node
	key string // for authorized_keys
}

// newNode starts one. hash is that of root's password, and config more of sshd's.
func newNode(t *testing.T, hash, config string) *node {
	t.Helper()
	for _, program := range []string{"/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/bin/unshare", "/usr/bin/passwd"} {
		if _, err := os.Stat(program); err != nil || os.Geteuid() != 0 {
			testenv.Unable(t, fmt.Sprintf("a node with its own /etc/shadow needs root and %s: %v", program, err))
		}
	}
	n := &node{t: t, dir: t.TempDir()}
	port := freePort(t)
	n.identity()
	n.Node = site.Node{
		Name: "n1", Login: &site.Login{},
		SSH: &site.SSH{Address: "127.0.0.1", Port: port, User: "root", Identity: filepath.Join(n.dir, "id"), HostKey: site.HostKey{Any: true}},
	}
	n.script(`mkdir -m 700 root; mkdir -p root/.ssh run/sshd; cp -a /etc etc; rm -rf etc/profile.d/* etc/ssh/*_config.d etc/ssh/ssh_host_* etc/nologin etc/update-motd.d
ssh-keygen -q -t ed25519 -N '' -f host; cp host.pub etc/ssh/ssh_host_ed25519_key.pub; chmod go-w .`)
	n.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nsshd:x:110:65534::/run/sshd:/usr/sbin/nologin\n")
	n.write("etc/shadow", "root:"+hash+":0:0:99999:7:::\nsshd:!:19000::::::\n")
	n.write("etc/pam.d/sshd", "auth required pam_unix.so nullok\naccount required pam_unix.so\nsession required pam_permit.so\npassword required pam_unix.so\n")
	n.write("etc/pam.d/passwd", "password required pam_unix.so yescrypt minlen=8\n")
	n.write("sshd_config", fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %s/host\nPermitRootLogin yes\nStrictModes no\nPrintMotd no\nPidFile none\n%s\n", port, n.dir, config))
	n.start()
	return n
}

func (n *node) identity() {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		n.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		n.t.Fatal(err)
	}
	n.write("id", string(pem.EncodeToMemory(block)))
	n.key = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func (n *node) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) read(name string) string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(b)
}

func (n *node) script(text string) {
	n.t.Helper()
	cmd := exec.Command("sh", "-ec", text)
	cmd.Dir = n.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
}

func (n *node) start() {
	n.t.Helper()
	cmd := exec.Command("unshare", "-m", "sh", "-ec", `mount --make-rprivate /; for d in etc root run; do mount --bind "$0/$d" "/$d"; done; exec /usr/sbin/sshd -D -e -f "$0/sshd_config"`, n.dir)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	listening, drained := make(chan struct{}), make(chan struct{})
	var said []string
	go func() {
		defer close(drained)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if strings.Contains(lines.Text(), "Server listening on") {
				close(listening)
			}
			said = append(said, lines.Text())
		}
	}()
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Log(strings.Join(said, "\n"))
		}
	})
	select {
	case <-listening:
	case <-drained:
		testenv.Unable(n.t, "sshd did not start: "+strings.Join(said, "\n"))
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(l.Addr())
	}
	return a.Port
}

// Where ssh lets root in to change an expired password, the first login is done there:
// with a key that the image has, with or without a password before, and with an empty
// password that sshd takes. Without PAM sshd ends the session then.
func TestLoginInside(t *testing.T) {
	for _, c := range []struct {
		name, hash, config string
		hasKey             bool
	}{
		{"a key, and an empty password", "", "UsePAM yes", true},
		{"a key, and a password", "initial0", "UsePAM yes", true},
		{"an empty password", "", "UsePAM yes\nPermitEmptyPasswords yes", false},
		{"an empty password, and a session that ends with the change", "", "UsePAM no\nPermitEmptyPasswords yes", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			hash := c.hash
			if hash != "" {
				out, err := exec.Command("openssl", "passwd", "-6", hash).Output()
				if err != nil {
					testenv.Unable(t, "openssl: "+err.Error())
				}
				hash = strings.TrimSpace(string(out))
			}
			n := newNode(t, hash, c.config)
			if c.hasKey {
				n.write("root/.ssh/authorized_keys", n.key+"\n")
			}
			nodes := &nodes{site: &site.Site{Name: "test"}, secrets: new(secret.Keeper), clock: bmc.SystemClock{}}
			if h, err := nodes.Host(t.Context(), n.Node); err != nil || !isLocked(h) {
				t.Fatalf("before its first login it is %#v, %v", h, err)
			}
			want := login.Login{
				Node: "n1", Password: newPassword, Initial: bmc.Secret(c.hash), AuthorizedKey: n.key + " admin",
				Commands: []string{"echo done >>/root/ran"}, Address: "127.0.0.1",
			}
			r, done, err := nodes.loginInside(t.Context(), n.Node, want)
			if err != nil || !done || !r.Changed || r.Added == c.hasKey || len(r.HostKeys) != 1 {
				t.Fatalf("%+v, %v, %v", r, done, err)
			}
			if got := n.read("root/ran") + strings.ReplaceAll(n.read("root/.ssh/authorized_keys"), " admin", ""); got != "done\n"+n.key+"\n" {
				t.Errorf("the node has %q", got)
			}
			if !strings.HasPrefix(n.read("etc/shadow"), "root:$") {
				t.Error(n.read("etc/shadow"))
			}
			if h, err := nodes.Host(t.Context(), n.Node); err != nil || isLocked(h) {
				t.Errorf("after it it is %#v, %v", h, err)
			}
		})
	}
}

func isLocked(h plan.Host) bool { _, is := h.(plan.HostLocked); return is }

// What ssh does not let in at all is left to the console, and one who is not given
// the password changes nothing.
func TestLoginInsideRefused(t *testing.T) {
	n := newNode(t, "", "UsePAM yes")
	nodes := &nodes{site: &site.Site{Name: "test"}, secrets: new(secret.Keeper), clock: bmc.SystemClock{}}
	want := login.Login{Node: "n1", Password: newPassword, AuthorizedKey: n.key}
	if r, done, err := nodes.loginInside(t.Context(), n.Node, want); done || err == nil || r.Changed {
		t.Errorf("without a key: %+v, %v, %v", r, done, err)
	}
	n.write("root/.ssh/authorized_keys", n.key+"\n")
	want.Password = "short"
	_, done, err := nodes.loginInside(t.Context(), n.Node, want)
	if !done || bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(err.Error(), "refuses the new password") {
		t.Errorf("a password that is too short: %v, %v", done, err)
	}
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Hint == "" || strings.Contains(e.Error()+e.Hint, "short\n") {
		t.Error(err)
	}
	if !strings.HasPrefix(n.read("etc/shadow"), "root::0:") {
		t.Error(n.read("etc/shadow"))
	}
}

// A node whose host key is to be read on the console is locked once it shows a key,
// and silent before: what does not answer may still be in its firmware.
func TestHostKeyNotReadYet(t *testing.T) {
	n := newNode(t, "*", "UsePAM no")
	n.SSH.HostKey = site.HostKey{Console: true}
	nodes := &nodes{site: &site.Site{Name: "test"}, secrets: new(secret.Keeper), clock: bmc.SystemClock{}, state: t.TempDir()}
	h, err := nodes.Host(t.Context(), n.Node)
	if locked, is := h.(plan.HostLocked); err != nil || !is || !errors.Is(locked.Err, errNoHostKey) {
		t.Errorf("a node that is up: %#v, %v", h, err)
	}
	other := n.Node
	ssh := *n.SSH
	ssh.Port = freePort(t)
	other.SSH = &ssh
	if h, err := nodes.Host(t.Context(), other); h != nil || bmc.KindOf(err) != bmc.KindUnreachable || bmc.HintOf(err) == "" {
		t.Errorf("one that is not: %#v, %v", h, err)
	}
}
