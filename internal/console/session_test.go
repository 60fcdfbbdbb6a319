package console

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console/consoletest"
)

// A person is who sits at a Session: what was shown and told, and keys to press.
type person struct {
	mu    sync.Mutex
	shown bytes.Buffer
	seen  chan struct{} // is sent to whenever something was shown or told
	keys  *io.PipeWriter
	told  []string
}

func (p *person) Write(said []byte) (int, error) {
	p.mu.Lock()
	p.shown.Write(said)
	p.mu.Unlock()
	p.seen <- struct{}{}
	return len(said), nil
}

func (p *person) tell(line string) {
	p.mu.Lock()
	p.told = append(p.told, line)
	p.mu.Unlock()
	p.seen <- struct{}{}
}

func (p *person) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String() + "|" + strings.Join(p.told, "|")
}

// await waits until a text was shown or told.
func (p *person) await(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(p.all(), text) {
		select {
		case <-p.seen:
		case <-t.Context().Done():
			t.Fatalf("%q was not shown: %q", text, p.all())
		}
	}
}

func (p *person) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(p.keys, keys); err != nil {
		t.Fatal(err)
	}
}

// sit begins a session; what it returns waits for its end.
func sit(t *testing.T, ctx context.Context, s Session) (*person, func() error) { //nolint:revive // t comes first in tests here
	t.Helper()
	in, keys := io.Pipe()
	p := &person{keys: keys, seen: make(chan struct{}, 1000)}
	s.In, s.Out, s.Tell = in, p, p.tell
	result := make(chan error, 1)
	go func() { result <- s.Run(ctx) }()
	t.Cleanup(func() { in.Close() })
	return p, func() error { return <-result }
}

func TestEscapes(t *testing.T) {
	for _, c := range []struct{ keys, typed, commands string }{
		{"root\r", "root\r", ""},
		{"~.", "", "."},
		{"a~.b", "a~.b", ""},
		{"a\r~.", "a\r", "."},
		{"a\n~.", "a\n", "."},
		{"~~.", "~.", ""},
		{"~~\r~.", "~\r", "."},
		{"~?~.", "", "?."},
		{"~B~?", "", "B?"},
		{"~x~.", "~x~.", ""},
		{"~\r~.", "~\r", "."},
		{"\x03\x1a~", "\x03\x1a~", ""},
		{"a\r~\x1a~.", "a\r", "Z."},
		{"a~\x1a", "a~\x1a", ""},
	} {
		e := escapes{fresh: true}
		var typed []byte
		commands := ""
		for _, b := range []byte(c.keys) {
			more, asked := e.next(b)
			typed = append(typed, more...)
			commands += map[command]string{endIt: ".", showHelp: "?", sendBreak: "B", suspendIt: "Z"}[asked]
		}
		if string(typed) != c.typed || commands != c.commands {
			t.Errorf("%q: typed %q, commands %q", c.keys, typed, commands)
		}
	}
}

func TestSession(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	var log bytes.Buffer
	p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH)), Log: &log})
	p.await(t, "n1 login: ")
	p.press(t, "root\r~?")
	p.await(t, "~~   types one ~")
	p.press(t, "~B")
	<-s.Breaks
	p.press(t, "~~x\r")
	p.await(t, "~x\r")
	p.press(t, "last\r~.") // what was typed before the end is sent
	if err := wait(); err != nil {
		t.Error(err)
	}
	<-s.Ended
	if want := "root\r~x\rlast\r"; s.Heard() != want {
		t.Errorf("the machine heard %q, want %q", s.Heard(), want)
	}
	if !strings.HasPrefix(log.String(), "n1 login: root\r~x\r") || strings.Contains(log.String(), "types one") {
		t.Errorf("the log: %q", log.String())
	}
}

// What was typed before ~^Z is sent, what is typed after it is for later; who only
// watches may go away, too, and where nobody can it is said.
func TestSessionIsSuspended(t *testing.T) {
	for _, watch := range []bool{false, true} {
		s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
		suspended, goOn := make(chan struct{}), make(chan error)
		suspend := func() error { suspended <- struct{}{}; return <-goOn }
		p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH)), Watch: watch, Suspend: suspend})
		p.await(t, "n1 login: ")
		p.press(t, "root\r~\x1a")
		<-suspended
		if !watch {
			p.await(t, "root")
		}
		goOn <- nil
		p.press(t, "~\x1a")
		<-suspended
		goOn <- errors.New("the terminal is gone")
		p.await(t, "the terminal is gone")
		p.press(t, "~.")
		if err := wait(); err != nil {
			t.Error(err)
		}
		<-s.Ended
		if heard := s.Heard(); heard != map[bool]string{false: "root\r"}[watch] {
			t.Errorf("watch %v: the machine heard %q", watch, heard)
		}
	}
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH))})
	p.await(t, "n1 login: ")
	p.press(t, "~\x1a")
	p.await(t, "this cannot be suspended here")
	p.press(t, "~.")
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestSessionWatches(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	for _, end := range []string{"~.", "\x03", "x~."} {
		p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH)), Watch: true})
		p.await(t, "n1 login: ")
		p.press(t, "reboot\r~B")
		p.await(t, "only watching: nothing is sent")
		p.await(t, "no break is sent")
		p.press(t, end)
		if err := wait(); err != nil {
			t.Error(err)
		}
	}
	if s.Heard() != "" || len(s.Breaks) != 0 {
		t.Errorf("the machine heard %q", s.Heard())
	}
	// Where nobody can type, it goes on until it is told to end.
	ctx, cancel := context.WithCancelCause(t.Context())
	p, wait := sit(t, ctx, Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH)), Watch: true})
	p.keys.Close()
	p.await(t, "n1 login: ")
	enough := errors.New("enough")
	cancel(enough)
	if err := wait(); !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestSessionEnds(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH))})
	p.await(t, "n1 login: ")
	p.press(t, "x\r~~.") // this server's own escape
	if err := wait(); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	// Without a keyboard there is nothing to type.
	p, wait = sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH))})
	p.await(t, "n1 login: ")
	p.keys.CloseWithError(io.ErrUnexpectedEOF)
	if err := wait(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// A full disk does not end the console, and is told.
func TestSessionLogFails(t *testing.T) {
	s := consoletest.New(t, "127.0.0.1", consoletest.OpenBMC)
	p, wait := sit(t, t.Context(), Session{Conn: open(t, targetOf(s, bmc.ConsoleSSH)), Log: fullDisk{}})
	p.await(t, "the log cannot be written")
	p.press(t, "on\r")
	p.await(t, "on\r")
	p.press(t, "~.")
	if err := wait(); !errors.Is(err, errFull) {
		t.Errorf("%v, want that the log is not complete", err)
	}
}

var errFull = errors.New("no space left on device")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

// deafConn takes nothing of what is typed, as a machine does whose serial port is
// stopped.
type deafConn struct {
	closed chan struct{}
	once   sync.Once
}

func (c *deafConn) Read([]byte) (int, error)  { <-c.closed; return 0, io.ErrClosedPipe }
func (c *deafConn) Write([]byte) (int, error) { <-c.closed; return 0, io.ErrClosedPipe }
func (c *deafConn) Close() error              { c.once.Do(func() { close(c.closed) }); return nil }

func TestSessionWithDeafMachine(t *testing.T) {
	p, wait := sit(t, t.Context(), Session{Conn: &deafConn{closed: make(chan struct{})}})
	for range keep + 2 {
		p.press(t, "x")
	}
	p.await(t, "what is typed is lost")
	p.press(t, "\r~B")
	p.press(t, "\r~.")
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// A panic in a goroutine becomes one where the terminal is put in order.
func TestSessionPanics(t *testing.T) {
	defer func() {
		if p, ok := recover().(string); !ok || !strings.Contains(p, "a mistake") || !strings.Contains(p, "mistakenConn") {
			t.Errorf("recovered %v", p)
		}
	}()
	err := (&Session{Conn: mistakenConn{}, Out: io.Discard, Tell: func(string) {}}).Run(t.Context())
	t.Errorf("it went on: %v", err)
}

type mistakenConn struct{ io.Writer }

func (mistakenConn) Read([]byte) (int, error) { panic("a mistake") }
func (mistakenConn) Close() error             { return nil }
