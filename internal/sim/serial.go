package sim

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// consoleFile is the serial console's socket, below the node's directory.
const consoleFile = "console.sock"

// A serial is the serial console of a node whose live images want a first login:
// root has an empty password that has expired, and ssh lets nobody in before it
// is changed. What runs from the disk says nothing there.
type serial struct {
	node     *Node
	listener net.Listener
	system   func() *system // what runs, or nil
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex
	account map[*system]string // root's password of each boot, once it was changed
}

// passwordLeast is how long a new password has to be at least.
const passwordLeast = 8

// openSerial listens on the node's console.
func openSerial(n *Node, running func() *system) (*serial, error) {
	path := filepath.Join(n.dir, consoleFile)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, fmt.Errorf("sim: make a place for the console of %s: %w", n.spec.Name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("sim: take an old console away: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("sim: open the console of %s: %w", n.spec.Name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &serial{node: n, listener: l, system: running, cancel: cancel, account: map[*system]string{}}
	s.wg.Go(func() { s.accept(ctx) })
	return s, nil
}

func (s *serial) path() string { return filepath.Join(s.node.dir, consoleFile) }

func (s *serial) close() error {
	s.cancel()
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

// accept serves one after the other: a serial line has one end.
func (s *serial) accept(ctx context.Context) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		t := &terminal{serial: s, conn: c, keys: bufio.NewReader(c)}
		t.serve(ctx)
		stop()
		_ = c.Close()
	}
}

// letsIn reports whether ssh lets a key in on a boot: after the first login, and if
// it was put in place.
func (s *serial) letsIn(boot *system, key ssh.PublicKey) bool {
	s.mu.Lock()
	_, changed := s.account[boot]
	s.mu.Unlock()
	lines, err := os.ReadFile(filepath.Join(s.node.Upper(), "root/.ssh/authorized_keys"))
	if !changed || err != nil {
		return false
	}
	for len(lines) > 0 {
		known, _, _, rest, err := ssh.ParseAuthorizedKey(lines)
		if err != nil {
			return false
		}
		if string(known.Marshal()) == string(key.Marshal()) {
			return true
		}
		lines = rest
	}
	return false
}

// A terminal is somebody at the console.
type terminal struct {
	*serial
	conn io.ReadWriter
	keys *bufio.Reader
	echo bool
}

// Write shows a text.
func (t *terminal) Write(p []byte) (int, error) {
	_, err := io.WriteString(t.conn, strings.ReplaceAll(string(p), "\n", "\r\n"))
	return len(p), err
}

func (t *terminal) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var greeting sync.WaitGroup
	defer greeting.Wait()
	defer cancel()
	greeting.Go(func() {
		if t.node.Await(ctx, func(s Status) bool { return s.Running == RunningLive }) == nil {
			fmt.Fprintf(t, "\nWelcome to the simulated toolkit\n\n%s login: ", t.node.spec.Name)
		}
	})
	for {
		t.echo = true
		name, err := t.line()
		if err != nil {
			return
		}
		boot := t.system()
		if boot == nil || !boot.live {
			continue
		}
		if name != "" {
			if err := t.login(ctx, boot, name); err != nil {
				return
			}
		}
		fmt.Fprintf(t, "\n%s login: ", t.node.spec.Name)
	}
}

// errAborted is Ctrl-D.
var errAborted = errors.New("aborted")

// line reads a line as a terminal in line mode does.
func (t *terminal) line() (string, error) {
	var line []byte
	for {
		c, err := t.keys.ReadByte()
		if err != nil {
			return "", err
		}
		switch c {
		case 0x15, 0x03:
			line = line[:0]
		case 0x04:
			if len(line) == 0 {
				return "", errAborted
			}
		case '\r', '\n':
			if t.echo {
				_, _ = t.Write(line)
			}
			_, err := t.Write([]byte("\n"))
			return string(line), err
		default:
			line = append(line, c)
		}
	}
}

// secret asks for a password.
func (t *terminal) secret(prompt string) (string, error) {
	fmt.Fprint(t, prompt)
	t.echo = false
	defer func() { t.echo = true }()
	return t.line()
}

// login lets root in. Its error is the end of the line.
func (t *terminal) login(ctx context.Context, boot *system, name string) error {
	t.mu.Lock()
	password, changed := t.account[boot]
	t.mu.Unlock()
	var err error
	switch {
	case changed || name != "root":
		var given string
		if given, err = t.secret("Password: "); err == nil && (name != "root" || given != password) {
			fmt.Fprint(t, "\nLogin incorrect\n")
			return nil
		}
	default:
		fmt.Fprint(t, "You are required to change your password immediately (administrator enforced).\n")
		changed, err = t.change(boot)
	}
	if err == nil && changed {
		err = t.session(ctx, boot)
	}
	if errors.Is(err, errAborted) {
		return nil
	}
	return err
}

// change is the forced change of the password, with three tries.
func (t *terminal) change(boot *system) (bool, error) {
	for range 3 {
		fresh, err := t.secret("New password: ")
		if err != nil {
			return false, err
		}
		if len(fresh) < passwordLeast {
			fmt.Fprintf(t, "BAD PASSWORD: The password is shorter than %d characters\n", passwordLeast)
			continue
		}
		again, err := t.secret("Retype new password: ")
		if err != nil {
			return false, err
		}
		if again != fresh {
			fmt.Fprint(t, "Sorry, passwords do not match.\n")
			continue
		}
		t.mu.Lock()
		t.account[boot] = fresh
		t.mu.Unlock()
		return true, nil
	}
	fmt.Fprint(t, "Authentication token manipulation error\n")
	return false, nil
}

// session is root's shell, and the shells that are started in it.
func (t *terminal) session(ctx context.Context, boot *system) error {
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer func() { _ = nothing.Close() }()
	sh := shell{system: boot, view: boot.view}
	p := process{dir: "/", env: environment(boot.node), streams: streams{in: nothing, out: t, err: t}}
	first, err := sh.runner(nil, p)
	if err != nil {
		return err
	}
	shells := []*interp.Runner{first}
	for {
		r := shells[len(shells)-1]
		fmt.Fprint(t, prompt(boot, r))
		line, err := t.line()
		switch {
		case err != nil:
			return err
		case t.system() != boot: // it was reset meanwhile
			return nil
		case line == "sh":
			inner, err := sh.runner(nil, p)
			if err != nil {
				return err
			}
			shells = append(shells, inner)
			continue
		}
		t.obey(line)
		sh.typed(ctx, r, line, p)
		if r.Exited() {
			if shells = shells[:len(shells)-1]; len(shells) == 0 {
				return nil
			}
		}
	}
}

// obey does what stty would do to the terminal.
func (t *terminal) obey(line string) {
	switch {
	case strings.Contains(line, "stty -echo"):
		t.echo = false
	case strings.Contains(line, "stty echo"):
		t.echo = true
	}
}

// prompt is what the shell says before it reads a line.
func prompt(boot *system, r *interp.Runner) string {
	if v, ok := r.Vars["PS1"]; ok {
		return v.Str
	}
	return boot.node + ":~ # "
}

// typed runs a line that was typed.
func (sh shell) typed(ctx context.Context, r *interp.Runner, line string, p process) {
	line = strings.TrimPrefix(line, "set +o emacs +o vi 2>/dev/null; ") // editing that it has not
	for stmt, err := range syntax.NewParser(syntax.Variant(language)).StmtsSeq(strings.NewReader(line + "\n")) {
		if err != nil {
			fmt.Fprintf(p.err, "sh: %v\n", err)
			return
		}
		sh.run(ctx, r, stmt, p)
		if r.Exited() || ctx.Err() != nil {
			return
		}
	}
}
