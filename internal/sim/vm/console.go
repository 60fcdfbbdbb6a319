package vm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"regexp"
	"sync"
)

// Console is a machine's serial port. It is there while the machine is off too,
// as a BMC's is. Whoever connects to its socket sees what the machine writes from
// then on, and types; any number may at a time.
type Console struct {
	path     string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	log     *os.File
	logged  int64
	port    net.Conn // of the machine, nil while it is off
	clients map[*client]struct{}
	closed  bool
}

// client is somebody who watches and types.
type client struct {
	conn net.Conn
	out  chan []byte
}

const (
	// maxSocketName is what the kernel allows (unix(7)), in bytes.
	maxSocketName = 107
	// maxLog bounds the log: beyond it begins anew. Bytes.
	maxLog = 16 << 20
	// maxBacklog is how many writes of the machine a client may be behind.
	maxBacklog = 1024
)

// newConsole listens at the socket path, and writes to the log path what the
// machine writes. Both files are for the user alone.
func newConsole(path, log string) (*Console, error) {
	if len(path) > maxSocketName {
		return nil, fmt.Errorf("vm: the socket's name %s is longer than %d bytes: choose a shorter directory", path, maxSocketName)
	}
	// Left by a program that was killed; the directory is ours.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("vm: remove an old console: %w", err)
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("vm: keep a log of the console: %w", err)
	}
	l, err := net.Listen("unix", path) //nolint:noctx // does not wait for anybody
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("vm: listen for the console: %w", err)
	}
	c := &Console{path: path, listener: l, log: f, clients: map[*client]struct{}{}}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("vm: keep others off the console: %w", err), c.close())
	}
	c.wg.Go(c.accept)
	return c, nil
}

// Path is the socket's.
func (c *Console) Path() string { return c.path }

func (c *Console) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		cl := &client{conn: conn, out: make(chan []byte, maxBacklog)}
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			_ = conn.Close()
			return
		}
		c.clients[cl] = struct{}{}
		c.wg.Go(cl.show)
		c.wg.Go(func() { c.typed(cl) })
		c.mu.Unlock()
	}
}

// show writes what the machine writes.
func (cl *client) show() {
	for b := range cl.out {
		if _, err := cl.conn.Write(b); err != nil {
			_ = cl.conn.Close() // and typed sees it
		}
	}
	_ = cl.conn.Close()
}

// typed hands on what a client types, until it is gone. What is typed while the
// machine is off is lost.
func (c *Console) typed(cl *client) {
	b := make([]byte, 512)
	for {
		n, err := cl.conn.Read(b)
		c.mu.Lock()
		port := c.port
		c.mu.Unlock()
		if port != nil && n > 0 {
			_, _ = port.Write(b[:n]) // fails when the power goes
		}
		if err != nil {
			break
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(cl)
}

// drop lets a client go. The lock is held by the caller.
func (c *Console) drop(cl *client) {
	if _, there := c.clients[cl]; there {
		delete(c.clients, cl)
		close(cl.out)
	}
}

// attach connects a machine's port, of which the console takes care until it
// breaks. prompted is called once, when the machine first asks for a login.
func (c *Console) attach(port net.Conn, prompted func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.port = port
	c.wg.Go(func() {
		c.relay(port, prompted)
		_ = port.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.port == port {
			c.port = nil
		}
	})
}

// loginPrompt is how getty and login ask on all the systems there are to boot.
var loginPrompt = regexp.MustCompile(`(?i)login: ?$`)

func (c *Console) relay(port net.Conn, prompted func()) {
	var tail []byte
	b := make([]byte, 4096)
	for {
		n, err := port.Read(b)
		if n > 0 {
			c.wrote(bytes.Clone(b[:n]))
			tail = append(tail, b[:n]...)
			tail = tail[max(0, len(tail)-64):]
		}
		if prompted != nil && loginPrompt.Match(tail) {
			prompted()
			prompted = nil
		}
		if err != nil {
			return
		}
	}
}

// wrote shows everybody what the machine wrote. A client that does not read it
// is let go: the machine never waits for one.
func (c *Console) wrote(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logged += int64(len(b)); c.logged > maxLog {
		c.logged = int64(len(b))
		_ = c.log.Truncate(0)
		_, _ = c.log.Seek(0, 0)
	}
	_, _ = c.log.Write(b) // the log is for people; the machine runs without it
	for cl := range c.clients {
		select {
		case cl.out <- b:
		default:
			_ = cl.conn.Close()
			c.drop(cl)
		}
	}
}

// close ends the console, after its machine. It may be called twice.
func (c *Console) close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	err := c.listener.Close() // which removes the socket
	if c.port != nil {
		_ = c.port.Close()
	}
	for cl := range c.clients {
		_ = cl.conn.Close()
		c.drop(cl)
	}
	c.mu.Unlock()
	c.wg.Wait()
	if logged := c.log.Close(); err == nil {
		err = logged
	}
	return err
}
