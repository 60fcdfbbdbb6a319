package sshremote

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Subsystem starts a subsystem of the server, such as sftp, and returns what it
// says and where to speak to it. Closing the latter ends it; closing the
// connection ends it too, and so does a server that gives no sign of life. The
// context bounds the start alone: when it ends before, the whole connection is
// given up. Its errors are of type *bmc.Error.
func (c *Conn) Subsystem(ctx context.Context, name string) (io.Reader, io.WriteCloser, error) {
	stop := context.AfterFunc(ctx, func() { c.giveUp(context.Cause(ctx)) })
	defer stop()
	session, err := c.newSession()
	if err != nil {
		return nil, nil, c.ended(ctx, err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		session.Close()
		return nil, nil, c.ended(ctx, err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		session.Close()
		return nil, nil, c.ended(ctx, err)
	}
	if err := session.RequestSubsystem(name); err != nil {
		session.Close()
		if ctx.Err() != nil || c.givenUp() != nil {
			return nil, nil, c.ended(ctx, err)
		}
		return nil, nil, &bmc.Error{
			Op: "ssh to " + c.config.address(), Kind: bmc.KindSSH,
			Err:  fmt.Errorf("%s is not offered there: %w", name, err),
			Hint: "see the line Subsystem " + name + " in its sshd_config",
		}
	}
	return out, &subsystem{WriteCloser: in, end: sync.OnceFunc(func() { session.Close() })}, nil
}

// A subsystem is the way to a running subsystem.
type subsystem struct {
	io.WriteCloser
	end func()
}

// Close says that nothing more will come, and ends the session: a subsystem that
// does not listen would keep it open.
func (s *subsystem) Close() error {
	err := s.WriteCloser.Close()
	s.end()
	return err
}
