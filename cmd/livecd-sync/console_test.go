package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/term"

	"github.com/livecd-sync/livecd-sync/internal/console/consoletest"
)

// serial FILE [LINE]: a machine's serial port at a unix socket; with a line it says
// that and ends.
func cmdSerial(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	m := new(consoletest.Machine)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if len(args) > 1 {
					_, _ = io.WriteString(c, args[1]+"\r\n")
					return
				}
				m.Serve(c, consoletest.Greeting)
			}()
		}
	}()
}

var shells = map[string]consoletest.Shell{"ilo": consoletest.ILO, "smash": consoletest.SMASH, "openbmc": consoletest.OpenBMC}

// bmc-ssh NODE SHELL: the simulated node's BMC has an ssh server too, at the port
// $BMC_SSH_PORT and with the key $BMC_SSH_KEY.
func cmdBMCSSH(ts *testscript.TestScript, _ bool, args []string) {
	host, _, err := net.SplitHostPort(simNode(ts, args[0]).BMCAddress())
	ts.Check(err)
	password, err := os.ReadFile(filepath.Join(world(ts).dir, "site/secrets/bmc-password"))
	ts.Check(err)
	s := consoletest.New(ts.Value(testingKey).(testing.TB), host, shells[args[1]])
	s.Password = strings.TrimSpace(string(password))
	ts.Setenv("BMC_SSH_PORT", strconv.Itoa(s.Port))
	ts.Setenv("BMC_SSH_KEY", s.Fingerprint())
}

// interact [-job] FILE ARGS... runs livecd-sync ARGS in a terminal, as the lines of
// the file say; with -job in a shell that says when its job has stopped, and has it
// go on once Enter is typed:
//
//	see TEXT      waits until the terminal has shown the text
//	unseen TEXT   the text was not shown so far
//	type "KEYS"   types, in Go's notation
//	signal NAME   sends a signal: INT, TERM, HUP, QUIT
//	raw, cooked   the terminal is in raw mode, or as it was at first
//	exit N        waits for the end, with that exit status
//
// However it ended, the terminal is as it was at first.
func cmdInteract(ts *testscript.TestScript, _ bool, args []string) {
	asJob := args[0] == "-job"
	if asJob {
		args = args[1:]
	}
	cmd := program(ts, args[1:])
	if asJob {
		cmd.Args = append([]string{"sh", "-mc", jobScript, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	}
	s := newSitting(ts, cmd)
	defer s.end()
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		s.do(verb, rest)
	}
	s.do("cooked", "")
}

// jobScript is a shell's that somebody types at.
const jobScript = `"$0" "$@"; status=$?
while [ $status = 148 ]; do echo "the job has stopped"; read -r enter; fg; status=$?; done
exit $status`

// A sitting is a program in a terminal, and who sits there.
type sitting struct {
	ts        *testscript.TestScript
	cmd       *exec.Cmd
	ours, its *os.File
	before    *term.State

	mu     sync.Mutex
	shown  strings.Builder
	more   chan struct{} // is sent to when something was shown
	result chan error
	ended  bool
}

func newSitting(ts *testscript.TestScript, cmd *exec.Cmd) *sitting {
	s := &sitting{ts: ts, cmd: cmd, more: make(chan struct{}, 1), result: make(chan error, 1)}
	var err error
	s.ours, s.its, err = pty.Open()
	ts.Check(err)
	s.before, err = term.GetState(int(s.its.Fd()))
	ts.Check(err)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.its, s.its, s.its
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	go s.read()
	go func() { s.result <- cmd.Wait() }()
	return s
}

func (s *sitting) end() {
	if !s.ended {
		_ = s.cmd.Process.Kill()
		<-s.result
	}
	s.ts.Logf("the terminal showed:\n%s", strings.ReplaceAll(s.screen(), "\r", ""))
	s.its.Close()
	s.ours.Close()
}

func (s *sitting) read() {
	buf := make([]byte, 4096)
	for {
		n, err := s.ours.Read(buf)
		s.mu.Lock()
		s.shown.Write(buf[:n])
		s.mu.Unlock()
		select {
		case s.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (s *sitting) screen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown.String()
}

// await waits for a condition that something shown may bring about.
func (s *sitting) await(what string, yes func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !yes() {
		select {
		case <-s.more:
		case <-tick.C:
		case <-limit:
			s.ts.Fatalf("%s never came; the terminal showed %q", what, s.screen())
		}
	}
}

var signalsByName = map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT}

func (s *sitting) do(verb, rest string) {
	switch verb {
	case "", "#":
	case "see":
		s.await(rest, func() bool { return strings.Contains(s.screen(), rest) })
	case "unseen":
		if strings.Contains(s.screen(), rest) {
			s.ts.Fatalf("%q was shown: %q", rest, s.screen())
		}
	case "type":
		keys, err := strconv.Unquote(rest)
		s.ts.Check(err)
		_, err = io.WriteString(s.ours, keys)
		s.ts.Check(err)
	case "signal":
		s.ts.Check(s.cmd.Process.Signal(signalsByName[rest]))
	case "raw", "cooked":
		s.await(verb, func() bool { return s.isCooked() == (verb == "cooked") })
	case "exit":
		err := <-s.result
		s.ended = true
		got := 0
		if e, ok := errors.AsType[*exec.ExitError](err); ok {
			got = e.ExitCode()
		}
		number(s.ts, "exit status", got, rest)
		if !s.isCooked() {
			s.ts.Fatalf("the terminal is not as it was")
		}
	default:
		s.ts.Fatalf("what is %q?", verb)
	}
}

func (s *sitting) isCooked() bool {
	now, err := term.GetState(int(s.its.Fd()))
	s.ts.Check(err)
	return reflect.DeepEqual(now, s.before)
}

// The terminal is put in order when what runs in raw mode panics, and by signals
// that end a process.
func TestRawModeIsUndone(t *testing.T) {
	ours, its, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	defer its.Close()
	before, err := term.GetState(int(its.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(context.Context) error{
		"returns": func(context.Context) error { return nil },
		"panics":  func(context.Context) error { panic("a mistake") },
		"hangs up": func(ctx context.Context) error {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil && name != "panics" {
					t.Error(p)
				}
				if now, err := term.GetState(int(its.Fd())); err != nil || !reflect.DeepEqual(now, before) {
					t.Errorf("the terminal is %+v, was %+v, %v", now, before, err)
				}
			}()
			err := inRawMode(t.Context(), its, func(ctx context.Context, _ rawTerminal) error {
				if now, err := term.GetState(int(its.Fd())); err != nil || reflect.DeepEqual(now, before) {
					t.Errorf("the terminal is not in raw mode: %v", err)
				}
				return f(ctx)
			})
			if name == "hangs up" && !errors.Is(err, errInterrupted) {
				t.Error(err)
			}
		})
	}
}
