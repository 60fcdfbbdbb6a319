package sshremote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// exitWithin is how long after its last word a shell's exit status is waited for.
const exitWithin = 2 * time.Second

// A Terminal is the account's shell in a terminal of the server. One goroutine may
// read while another writes; Close ends both.
type Terminal struct {
	conn    *Conn
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	exit    chan error // how the shell ended, once
}

// Terminal starts the account's shell in a terminal. The context bounds the start
// alone: when it ends before, the whole connection is given up. Its errors are of
// type *bmc.Error.
func (c *Conn) Terminal(ctx context.Context) (*Terminal, error) {
	stop := context.AfterFunc(ctx, func() { c.giveUp(context.Cause(ctx)) })
	defer stop()
	session, err := c.newSession()
	if err != nil {
		return nil, c.noTerminal(ctx, err)
	}
	t := &Terminal{conn: c, session: session, exit: make(chan error, 1)}
	if err := t.start(); err != nil {
		session.Close()
		return nil, c.noTerminal(ctx, err)
	}
	c.alive.Go(func() { t.exit <- session.Wait() })
	return t, nil
}

// noTerminal is the error of a terminal that could not be had.
func (c *Conn) noTerminal(ctx context.Context, err error) error {
	e := &bmc.Error{
		Op: "ssh to " + c.config.address(), Kind: bmc.KindSSH,
		Err: fmt.Errorf("the %s gives no terminal: %w", c.config.peer(), err), Hint: "try it by hand: " + c.config.byHand(),
	}
	cause := c.givenUp()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Kind = bmc.KindTimeout
	case ctx.Err() != nil:
		e.Kind, e.Err, e.Hint = bmc.KindCancelled, context.Cause(ctx), "run the command again"
	case cause != nil:
		e.Kind, e.Err = bmc.KindUnreachable, cause
	}
	return e
}

func (t *Terminal) start() error {
	var err error
	if t.in, err = t.session.StdinPipe(); err != nil {
		return err
	}
	if t.out, err = t.session.StdoutPipe(); err != nil {
		return err
	}
	if err := t.session.RequestPty("vt100", 24, 80, ssh.TerminalModes{}); err != nil {
		return err
	}
	return t.session.Shell()
}

// Read implements io.Reader. At the end it returns io.EOF if the shell ended, and
// an error if the connection did.
func (t *Terminal) Read(p []byte) (int, error) {
	n, err := t.out.Read(p)
	if errors.Is(err, io.EOF) {
		err = t.end()
	}
	return n, err
}

// end tells how it ended: a shell's exit status, whatever it is, is a good end.
func (t *Terminal) end() error {
	timer := time.NewTimer(exitWithin)
	defer timer.Stop()
	select {
	case err := <-t.exit:
		t.exit <- err // for the next Read
		if _, exited := errors.AsType[*ssh.ExitError](err); err == nil || exited {
			return io.EOF
		}
	case <-timer.C: // it has nothing to say any more, and stays
	}
	if cause := t.conn.givenUp(); cause != nil {
		return cause
	}
	return fmt.Errorf("the %s ended the connection", t.conn.config.peer())
}

// Write implements io.Writer.
func (t *Terminal) Write(p []byte) (int, error) { return t.in.Write(p) }

// Break sends a break (RFC 4335), of a length that the server chooses.
func (t *Terminal) Break() error {
	ok, err := t.session.SendRequest("break", true, ssh.Marshal(struct{ Milliseconds uint32 }{}))
	if err == nil && !ok {
		err = fmt.Errorf("the %s sends no break", t.conn.config.peer())
	}
	return err
}

// Close ends the shell. The connection stays open.
func (t *Terminal) Close() error {
	t.session.Close()
	return nil
}
