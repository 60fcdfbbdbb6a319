package console

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console/consoletest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// open opens a console that is closed at the end of the test.
func open(t *testing.T, target Target) Conn {
	t.Helper()
	c, err := Open(t.Context(), target)
	if err != nil {
		t.Fatalf("%v; %s", err, bmc.HintOf(err))
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// say types a text.
func say(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// hear reads until the console has said a text, and returns all that it said.
func hear(t *testing.T, c io.Reader, want string) string {
	t.Helper()
	var heard bytes.Buffer
	buf := make([]byte, 512)
	for !strings.Contains(heard.String(), want) {
		n, err := c.Read(buf)
		heard.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v, before %q was said: %q", err, want, heard.String())
		}
	}
	return heard.String()
}

// refusal opens a console that must not open, and wants a kind, a part of the
// message and a part of the hint.
func refusal(t *testing.T, target Target, kind bmc.Kind, message, hint string) {
	t.Helper()
	c, err := Open(t.Context(), target)
	if err == nil {
		c.Close()
		t.Fatal("it opened")
	}
	wantError(t, err, kind, message, hint)
}

func wantError(t *testing.T, err error, kind bmc.Kind, message, hint string) {
	t.Helper()
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Error(), message) || !strings.Contains(e.Hint, hint) || e.Hint == "" {
		t.Errorf("got %#v: %v\nwant %s: …%s…; …%s…", err, err, kind, message, hint)
	}
	if !strings.HasPrefix(err.Error(), "console of n1: ") {
		t.Errorf("it does not say whose console: %v", err)
	}
}

// serial is a machine's serial port behind a unix socket: it greets, and then
// answers each line with what it heard.
func serial(t *testing.T, greeting string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "serial")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); new(consoletest.Machine).Serve(c, greeting) }()
		}
	}()
	return path
}

func socketTarget(path string) Target {
	return Target{Node: "n1", Console: site.Console{Socket: path}}
}

func TestSocket(t *testing.T) {
	c := open(t, socketTarget(serial(t, "n1 login: ")))
	hear(t, c, "n1 login: ")
	say(t, c, "root\x00\x03\x04\xff\r")
	hear(t, c, "root\x00\x03\x04\xff\r")
}

func TestSocketEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serial")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = io.WriteString(c, "last words")
			c.Close()
		}
	}()
	c := open(t, socketTarget(path))
	if said, err := io.ReadAll(c); err != nil || string(said) != "last words" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestSocketRefused(t *testing.T) {
	dir := t.TempDir()
	refusal(t, socketTarget(filepath.Join(dir, "absent")), bmc.KindUnreachable, "there is no socket "+dir, "console.socket")
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	refusal(t, socketTarget(stale), bmc.KindUnreachable, "nobody listens at "+stale, "start the machine")
	refusal(t, socketTarget("/"+strings.Repeat("long/", 40)), bmc.KindUnreachable, "invalid argument", "console.socket")
}

func TestNoWay(t *testing.T) {
	refusal(t, Target{Node: "n1"}, bmc.KindUnsupported, "nothing says how this BMC gives its console", "write console: {way: WAY}")
}

func commandTarget(argv ...string) Target {
	return Target{Node: "n1", BMC: "https://[2001:db8::7]:8443", Console: site.Console{Command: argv}}
}

// What a terminal usually does to what goes through it must not happen: no echo,
// no lines, no signals, no new ends of lines.
func TestCommand(t *testing.T) {
	c := open(t, commandTarget("cat"))
	all := "\x03\x04\x1a\r\n\x13\x11\xff~.tail"
	say(t, c, all)
	if heard := hear(t, c, "tail"); heard != all {
		t.Errorf("heard %q", heard)
	}
}

func TestCommandEnvironment(t *testing.T) {
	c := open(t, commandTarget("sh", "-c", `test -t 0 && echo "$0 $1: $LIVECD_SYNC_NODE at $LIVECD_SYNC_BMC"; tty >/dev/tty`, "a b", "$HOME"))
	said, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(said), "a b $HOME: n1 at 2001:db8::7\n/dev/") {
		t.Errorf("%q, %v", said, err)
	}
}

func TestCommandFails(t *testing.T) {
	c := open(t, commandTarget("sh", "-c", "echo no such console; exit 7"))
	said, err := io.ReadAll(c)
	wantError(t, err, bmc.KindProtocol, "sh ended: exit status 7", "by hand")
	if string(said) != "no such console\n" {
		t.Errorf("%q", said)
	}
	refusal(t, commandTarget("no-such-program"), bmc.KindUnsupported, "no-such-program could not be started: executable file not found", "console.command")
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refusal(t, commandTarget(plain), bmc.KindUnsupported, "permission denied", "console.command")
}

// Closing hangs up, and ends a program that does not listen.
func TestCommandIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"listens": `trap 'echo hung up >"$0"; exit' HUP; echo ready; while :; do read -r line; done`,
		"deaf":    `trap '' HUP; echo hung up >"$0"; echo ready; while :; do sleep 0.1; done`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mark := filepath.Join(t.TempDir(), "mark")
			// Started by nohup, a test has children that cannot be hung up.
			c, err := Open(t.Context(), commandTarget("env", "--default-signal=HUP", "sh", "-c", script, mark))
			if err != nil {
				t.Fatal(err)
			}
			hear(t, c, "ready")
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(mark); err != nil || string(b) != "hung up\n" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// Closing ends a Read that waits, and can be done again.
func TestCloseEndsRead(t *testing.T) {
	for name, target := range map[string]Target{"socket": socketTarget(serial(t, "")), "command": commandTarget("cat")} {
		t.Run(name, func(t *testing.T) {
			c := open(t, target)
			read := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				read <- err
			}()
			if err := errors.Join(c.Close(), c.Close()); err != nil {
				t.Error(err)
			}
			if err := <-read; err == nil {
				t.Error("it read something")
			}
			if _, err := c.Write([]byte("x")); err == nil {
				t.Error("it wrote something")
			}
		})
	}
}
