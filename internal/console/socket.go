package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// socketTimeout bounds connecting to a socket whose program does not take it.
const socketTimeout = 5 * time.Second

// A socketConn is a console behind a unix socket.
type socketConn struct {
	net.Conn
	target Target
}

// socketWay is a unix socket of the site file.
type socketWay struct{}

func (socketWay) describe(t Target) string { return "the socket " + t.Console.Socket }

func (socketWay) open(ctx context.Context, t Target) (Conn, error) {
	path := t.Console.Socket
	dialer := net.Dialer{Timeout: socketTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return &socketConn{conn, t}, nil
	}
	if stopped := t.cancelled(ctx); stopped != nil {
		return nil, stopped
	}
	var timeout net.Error
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, t.fail(bmc.KindUnreachable, fmt.Errorf("there is no socket %s", path), "start the machine whose console it is, or correct console.socket in the site file")
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, t.fail(bmc.KindUnreachable, fmt.Errorf("nobody listens at %s", path), "start the machine whose console it is")
	case errors.Is(err, syscall.EAGAIN), errors.As(err, &timeout) && timeout.Timeout():
		return nil, t.fail(bmc.KindBusy, fmt.Errorf("whoever listens at %s takes no further connection", path), "end the other reader of this console")
	}
	return nil, t.fail(bmc.KindUnreachable, err, "see console.socket in the site file: it wants the path of a unix socket")
}

// Read implements Conn.
func (c *socketConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.target.lost(err)
	}
	return n, err
}

// Write implements Conn.
func (c *socketConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		err = c.target.lost(err)
	}
	return n, err
}

// isClosed reports whether it was us who closed a file or socket.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) }

// Close implements Conn.
func (c *socketConn) Close() error {
	if err := c.Conn.Close(); err != nil && !isClosed(err) {
		return c.target.lost(err)
	}
	return nil
}
