package sshremote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// Run runs the command, as overlay.Remote says.
func (c *Conn) Run(ctx context.Context, command overlay.Command) error {
	if ctx.Err() != nil {
		return c.ended(ctx, nil)
	}
	stop := context.AfterFunc(ctx, func() { c.giveUp(context.Cause(ctx)) })
	defer stop()
	session, err := c.newSession()
	if err != nil {
		return c.ended(ctx, err)
	}
	defer session.Close()
	r := &running{session: session, command: command, tail: overlay.Tail{Also: command.Stderr}}
	if err := r.start(); err != nil {
		return c.ended(ctx, err)
	}
	err = r.wait()
	if ctx.Err() != nil || c.givenUp() != nil {
		return c.ended(ctx, err)
	}
	if err := r.ours(); err != nil {
		return err
	}
	return c.status(ctx, err, &r.tail)
}

// ended is the error of a command without an exit status.
func (c *Conn) ended(ctx context.Context, err error) error {
	e := &bmc.Error{Op: "run a script on " + c.config.address(), Kind: bmc.KindSSH, Err: err}
	e.Hint = "see whether the node is up: livecd-sync status, and its console"
	cause := c.givenUp()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Kind, e.Err = bmc.KindTimeout, context.Cause(ctx)
	case ctx.Err() != nil:
		e.Kind, e.Err, e.Hint = bmc.KindCancelled, context.Cause(ctx), "run the command again"
	case cause != nil:
		e.Kind, e.Err = bmc.KindUnreachable, cause
	default:
		e.Err = errors.New("the connection was lost before the script's exit status")
		if err != nil && !errors.Is(err, io.EOF) {
			e.Err = fmt.Errorf("%w: %w", e.Err, err)
		}
	}
	return e
}

// expired is what sshd or PAM says to a login whose password must be changed
// first; with a key, too.
var expired = regexp.MustCompile(`(?i)password change required|password has expired|required to change your password`)

// status makes an error of what Wait returned.
func (c *Conn) status(ctx context.Context, err error, tail *overlay.Tail) error {
	if err == nil {
		return nil
	}
	exit, ok := errors.AsType[*ssh.ExitError](err)
	if !ok {
		return c.ended(ctx, err)
	}
	said := tail.String()
	if expired.MatchString(said) {
		return &bmc.Error{
			Op: "ssh to " + c.config.address(), Kind: bmc.KindAuth,
			Err:  refusedError{fmt.Errorf("the password of %s has to be changed before anything else: %s", c.config.User, said)},
			Hint: "make the first login on its console by hand, or write login: in the site file",
		}
	}
	return &overlay.ExitError{Status: exit.ExitStatus(), Signal: exit.Signal(), Stderr: said}
}

// A running is a command on its way. Copying is done here rather than by the
// session, whose Wait hangs when what reads the output has stopped doing so.
type running struct {
	session *ssh.Session
	command overlay.Command
	tail    overlay.Tail
	out     sync.WaitGroup // stdout and stderr

	mu  sync.Mutex
	err error // of the command's own Stdin or Stdout
}

func (r *running) start() error {
	stdin, err := r.session.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := r.session.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := r.session.StderrPipe()
	if err != nil {
		return err
	}
	if err := r.session.Start(commandLine(r.command)); err != nil {
		return err
	}
	// The feeder may outlive the command, blocked in the caller's Stdin; it is
	// the caller who ends it, by closing his end.
	go r.feed(stdin)
	r.out.Go(func() { r.collect(stdout) })
	r.out.Go(func() { _, _ = io.Copy(&r.tail, stderr) }) // Wait tells why it ended
	return nil
}

func (r *running) feed(stdin io.WriteCloser) {
	if r.command.Stdin != nil {
		buf := make([]byte, 64<<10)
		for {
			n, err := r.command.Stdin.Read(buf)
			if n > 0 {
				if _, err := stdin.Write(buf[:n]); err != nil {
					return // the command reads no more
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.abort(err)
				return
			}
		}
	}
	_ = stdin.Close() // an error means that the command has ended
}

func (r *running) collect(stdout io.Reader) {
	w := r.command.Stdout
	if w == nil {
		w = io.Discard
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := stdout.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				r.abort(err)
				return
			}
		}
		if err != nil {
			return // Wait tells why
		}
	}
}

// abort ends the command because of an error on this side.
func (r *running) abort(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.session.Close()
}

func (r *running) ours() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *running) wait() error {
	err := r.session.Wait()
	r.out.Wait()
	return err
}

// commandLine is what the login shell is given: a POSIX shell with the script
// and its arguments, each quoted.
func commandLine(c overlay.Command) string {
	words := []string{"exec sh -c", quote(c.Script), "livecd-sync"}
	for _, arg := range c.Args {
		words = append(words, quote(arg))
	}
	return strings.Join(words, " ")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
