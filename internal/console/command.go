package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// grace is how long a program may take to end once it is told to.
const grace = 3 * time.Second

// A commandConn is a console that a program gives in a terminal: many refuse to
// run without one.
type commandConn struct {
	target   Target
	terminal *os.File // our side of it
	cmd      *exec.Cmd
	hangUp   context.CancelFunc
	closing  sync.Once
	ended    chan struct{} // closed when the program has ended
	result   error         // of the program; read after ended
	// failed makes an error of a result that is no success.
	failed func(error) error
}

// commandWay is a program of the site file.
type commandWay struct{}

func (commandWay) describe(t Target) string { return "the program " + t.Console.Command[0] }

func (commandWay) open(ctx context.Context, t Target) (Conn, error) {
	host, _, _ := t.bmcPort(0, 0) // without a BMC there is none to tell
	c, err := t.start(ctx, t.Console.Command, "LIVECD_SYNC_NODE="+t.Node, "LIVECD_SYNC_BMC="+host)
	if err != nil {
		return nil, t.fail(bmc.KindUnsupported, fmt.Errorf("%s could not be started: %w", t.Console.Command[0], unwrapPath(err)),
			"install it, or correct console.command in the site file")
	}
	c.failed = func(err error) error {
		return t.fail(bmc.KindProtocol, fmt.Errorf("%s ended: %w", t.Console.Command[0], err), "what it said is above; run it by hand")
	}
	return c, nil
}

// unwrapPath leaves out the path that an error repeats.
func unwrapPath(err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// start runs a program in a terminal of its own that changes nothing of what goes
// through it.
func (t Target) start(ctx context.Context, argv []string, env ...string) (*commandConn, error) {
	return t.run(ctx, argv, env, func(cmd *exec.Cmd, its *os.File) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = its, its, its
		cmd.SysProcAttr.Setctty = true
	})
}

// run starts a program in a session of its own; connect gives it its side of a
// terminal.
func (t Target) run(ctx context.Context, argv, env []string, connect func(cmd *exec.Cmd, its *os.File)) (*commandConn, error) {
	ours, its, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("no terminal can be had: %w", err)
	}
	defer func() { _ = its.Close() }() // the program has it
	if _, err := term.MakeRaw(int(its.Fd())); err != nil {
		_ = ours.Close()
		return nil, fmt.Errorf("no terminal can be had: %w", err)
	}
	// The program outlives the opening.
	running, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(running, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// To its children too: they are what keeps the terminal open.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP) }
	cmd.WaitDelay = grace
	connect(cmd, its)
	if err := cmd.Start(); err != nil {
		hangUp()
		_ = ours.Close()
		return nil, err
	}
	c := &commandConn{target: t, terminal: ours, cmd: cmd, hangUp: hangUp, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.result = cmd.Wait()
	}()
	return c, nil
}

// Read implements Conn. A terminal that no program has open any more gives EIO.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.terminal.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrClosed):
		return n, c.target.lost(err)
	}
	return n, c.outcome()
}

// outcome is how the program ended: io.EOF if it was content.
func (c *commandConn) outcome() error {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C: // it has left its terminal, and runs on
		c.hangUp()
		<-c.ended
		return io.EOF
	}
	if c.result == nil {
		return io.EOF
	}
	return c.failed(c.result)
}

// Write implements Conn.
func (c *commandConn) Write(p []byte) (int, error) {
	n, err := c.terminal.Write(p)
	if err != nil {
		err = c.target.lost(err)
	}
	return n, err
}

// Close implements Conn. It hangs up, waits for the program, and kills one that
// does not listen.
func (c *commandConn) Close() error {
	var err error
	c.closing.Do(func() {
		c.hangUp()
		err = c.terminal.Close()
	})
	<-c.ended
	if err != nil {
		return c.target.lost(err)
	}
	return nil
}
