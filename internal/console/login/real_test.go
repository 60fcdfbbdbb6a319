package login

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// A box is a mount namespace with an /etc, a /root and PAM rules of its own, in
// which real agettys and logins run on pseudo-terminals.
type box struct {
	t   *testing.T
	dir string
}

// newBox makes one whose root has an empty password that has expired. quality is
// a line for pam_pwquality, or "".
func newBox(t *testing.T, quality string) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "a /etc/shadow of its own needs root")
	}
	for _, program := range []string{"agetty", "login", "unshare", "chage", "passwd", "ssh-keygen"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Unable(t, err.Error())
		}
	}
	if found, _ := filepath.Glob("/lib/*/security/pam_pwquality.so"); len(found) == 0 {
		testenv.Unable(t, "pam_pwquality is not installed")
	}
	b := &box{t: t, dir: t.TempDir()}
	b.run("cp -a /etc/. etc; mkdir -m 700 root; mkdir -p run/sshd", "mkdir -p etc/ssh; rm -f etc/ssh/ssh_host_* etc/nologin etc/profile.d/* etc/motd; ssh-keygen -q -t ed25519 -N '' -f etc/ssh/ssh_host_ed25519_key")
	b.write("etc/shadow", "root::0:0:99999:7:::\nsshd:!:19000::::::\n")
	b.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nsshd:x:110:65534::/run/sshd:/usr/sbin/nologin\n")
	b.write("etc/pam.d/login", "auth required pam_unix.so nullok\naccount required pam_unix.so\nsession required pam_permit.so\n"+quality+"password required pam_unix.so obscure "+useAuthtok(quality)+"yescrypt\n")
	b.write("etc/pam.d/passwd", "password required pam_unix.so yescrypt\n")
	b.write("etc/login.defs", "LOGIN_TIMEOUT 60\nLOGIN_RETRIES 3\nMOTD_FILE\n")
	b.write("etc/hostname", "pit\n")
	return b
}

func useAuthtok(quality string) string {
	if quality == "" {
		return ""
	}
	return "use_authtok try_first_pass "
}

func (b *box) write(name, text string) {
	b.t.Helper()
	mode := os.FileMode(0o644)
	if strings.HasSuffix(name, "shadow") {
		mode = 0o600
	}
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), mode); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) read(name string) string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// run runs scripts in the box's directory, outside of the namespace.
func (b *box) run(scripts ...string) {
	b.t.Helper()
	for _, s := range scripts {
		cmd := exec.Command("sh", "-ec", "mkdir -p etc; "+s)
		cmd.Dir = b.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			b.t.Fatalf("%s: %v: %s", s, err, out)
		}
	}
}

// inside is what comes before a program that shall run in the box.
const inside = `mount --make-rprivate / && mount --bind "$0/etc" /etc && mount --bind "$0/root" /root && mount --bind "$0/run" /run && exec "$@"`

// console runs a program on a serial line of the box, again and again as init
// does with getty, and returns our end of it.
func (b *box) console(argv ...string) *os.File {
	b.t.Helper()
	master, its, err := pty.Open()
	if err != nil {
		testenv.Unable(b.t, "no pseudo-terminal: "+err.Error())
	}
	// So that closing it ends a Read.
	fd, err := syscall.Dup(int(master.Fd()))
	if err == nil {
		err = errors.Join(syscall.SetNonblock(fd, true), master.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fd), "serial line")
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() {
		defer its.Close()
		var err error
		for ctx.Err() == nil && err == nil {
			cmd := exec.CommandContext(ctx, "unshare", append([]string{"-m", "sh", "-c", inside, b.dir}, argv...)...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = its, its, its
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			err = cmd.Run()
			if _, failed := errors.AsType[*exec.ExitError](err); failed || errors.Is(err, syscall.EIO) {
				err = nil // a login that was refused, or a terminal that is not free yet
			}
		}
		ended <- err
	}()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			b.t.Error(err)
		}
		ours.Close()
	})
	return ours
}

// getty is a serial line with a getty on it.
func (b *box) getty() *os.File {
	return b.console("agetty", "--noclear", "--noissue", "--keep-baud", "115200,38400", "-", "vt220")
}

func (b *box) login(l Login) (Result, error) {
	b.t.Helper()
	l.LiveOnly = false // its / is whatever this machine has
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := l.Run(ctx, b.getty())
	if err != nil && strings.Contains(err.Error(), wanted) {
		b.t.Errorf("the password is in the error: %v", err)
	}
	return r, err
}

// The whole of it, against the programs that a node has.
func TestRealLogin(t *testing.T) {
	t.Parallel()
	b := newBox(t, "")
	l := aLogin(t)
	l.Commands = []string{"printf '%s\\n' \"$LIVECD_SYNC_NODE\" \"$LIVECD_SYNC_ADDRESS\" 'it'\\''s a\ttest, üb!er' >/root/out", "stty -a <&2 >/dev/null 2>&1; sleep 1; echo done >>/root/out"}
	r, err := b.login(l)
	if err != nil {
		t.Fatalf("%v\n  → %s", err, bmc.HintOf(err))
	}
	host := strings.Join(strings.Fields(b.read("etc/ssh/ssh_host_ed25519_key.pub"))[:2], " ")
	if !r.Changed || !r.Added || len(r.HostKeys) != 1 || r.HostKeys[0] != host {
		t.Errorf("%+v", r)
	}
	if got := b.read("root/out"); got != "n1\n10.0.0.1\nit's a\ttest, üb!er\ndone\n" {
		t.Errorf("the commands wrote %q", got)
	}
	shadow := b.read("etc/shadow")
	if !strings.HasPrefix(shadow, "root:$y$") || strings.Contains(shadow, "\nroot:") || strings.Split(shadow, ":")[2] == "0" {
		t.Errorf("shadow: %s", shadow)
	}
	r, err = b.login(l)
	if err != nil || r.Changed || r.Added || b.read("etc/shadow") != shadow {
		t.Errorf("the second time: %+v, %v", r, err)
	}
	if got := b.read("root/.ssh/authorized_keys"); got != aKey+"\n" {
		t.Errorf("authorized_keys: %q", got)
	}
	for name, mode := range map[string]os.FileMode{"root/.ssh": 0o700, "root/.ssh/authorized_keys": 0o600} {
		if i, err := os.Stat(filepath.Join(b.dir, name)); err != nil || i.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
	if history, err := os.ReadFile(filepath.Join(b.dir, "root/.bash_history")); err == nil && strings.ContainsAny(string(history), "$/=") {
		t.Errorf("the shell kept what was done: %s", history)
	}
}

// What was in authorized_keys stays, whether or not its last line ends.
func TestRealKeys(t *testing.T) {
	t.Parallel()
	b := newBox(t, "")
	b.run("mkdir -m 755 root/.ssh; printf 'ssh-rsa AAAA one' >root/.ssh/authorized_keys; chmod 644 root/.ssh/authorized_keys")
	l := aLogin(t)
	l.Commands = nil
	if _, err := b.login(l); err != nil {
		t.Fatal(err)
	}
	if got := b.read("root/.ssh/authorized_keys"); got != "ssh-rsa AAAA one\n"+aKey+"\n" {
		t.Errorf("%q", got)
	}
}

// pam_pwquality refuses, in its own words; another password is taken then.
func TestRealPolicy(t *testing.T) {
	t.Parallel()
	b := newBox(t, "password requisite pam_pwquality.so retry=3 enforce_for_root minlen=12 dictcheck=0\n")
	l := aLogin(t)
	l.Commands, l.Password = nil, "t1ny"
	_, err := b.login(l)
	if bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(fmt.Sprint(err), "BAD PASSWORD: The password is shorter than") {
		t.Fatal(err)
	}
	if shadow := b.read("etc/shadow"); !strings.HasPrefix(shadow, "root::0:") {
		t.Fatal(shadow)
	}
	l.Password = wanted + "9Zq"
	if r, err := b.login(l); err != nil || !r.Changed {
		t.Errorf("%+v, %v", r, err)
	}
}

// A password that has not expired is changed by passwd; one that has is asked for.
func TestRealInitial(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]string{"expired": "0", "not expired": "19000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, "")
			hash, err := exec.Command("openssl", "passwd", "-6", "initial0").Output()
			if err != nil {
				testenv.Unable(t, "openssl: "+err.Error())
			}
			b.write("etc/shadow", "root:"+strings.TrimSpace(string(hash))+":"+age+":0:99999:7:::\n")
			l := aLogin(t)
			l.Initial, l.Commands = "initial0", nil
			r, err := b.login(l)
			if err != nil || !r.Changed || !strings.HasPrefix(b.read("etc/shadow"), "root:$y$") {
				t.Fatalf("%+v, %v\n%s", r, err, b.read("etc/shadow"))
			}
			l.Initial = ""
			l.Password = "other than it is"
			if _, err := b.login(l); bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(err.Error(), "Login incorrect") {
				t.Error(err)
			}
		})
	}
}

// Somebody has left a root shell open, with a line half typed; it is open after.
func TestRealShell(t *testing.T) {
	t.Parallel()
	b := newBox(t, "")
	line := b.console("bash", "--norc", "-i")
	if _, err := line.WriteString("touch /root/harm"); err != nil {
		t.Fatal(err)
	}
	l := aLogin(t)
	l.Commands = nil
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l.LiveOnly = false
	r, err := l.Run(ctx, keepOpen{line})
	if err != nil || !r.Changed || !r.Added {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "root/harm")); err == nil {
		t.Error("what was half typed was sent off")
	}
}

// keepOpen is a line that stays when a reader leaves it.
type keepOpen struct{ *os.File }

func (k keepOpen) Close() error { return k.SetReadDeadline(time.Unix(1, 0)) }
