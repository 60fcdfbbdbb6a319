package sshremote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// The times that a Config's zero values stand for.
const (
	DefaultTimeout   = 10 * time.Second
	DefaultKeepAlive = 15 * time.Second
	// keepAliveMisses is how many keepalives may stay without an answer.
	keepAliveMisses = 3
)

// A Config says how to reach a node.
type Config struct {
	Address string // a host name or an IP address
	Port    int    // 0: 22
	User    string // "": root
	// Identity is the path of a private key without a passphrase, or "".
	Identity string
	// Agent is the path of an ssh agent's socket, or "": usually $SSH_AUTH_SOCK.
	Agent    string
	Password bmc.Secret
	HostKey  site.HostKey
	// Algorithms says how far to trust the peer's cryptography.
	Algorithms Algorithms
	// Peer is what is reached, for errors; "": "node".
	Peer string
	// Hints say what to do about failures, where the peer is no node.
	Hints Hints
	// Timeout bounds connecting and logging in, each; 0: DefaultTimeout.
	Timeout time.Duration
	// KeepAlive is how often the node is asked for a sign of life; after three
	// without one the connection is given up. 0: DefaultKeepAlive. If it is
	// negative TCP alone asks, for servers that do not answer questions which they
	// do not know.
	KeepAlive time.Duration
}

// Hints say what a person is to do; "" stands for what is right for a node.
type Hints struct {
	HostKey string // the key of the site file that says which host key is wanted
	NewKey  string // the peer shows another key
	Login   string // the peer lets nobody in
	Silent  string // the peer does not answer
	Old     string // the peer knows nothing but what AlgorithmsAll has besides
}

// address returns host:port.
func (c Config) address() string {
	port := c.Port
	if port == 0 {
		port = 22
	}
	return net.JoinHostPort(c.Address, strconv.Itoa(port))
}

// peer is what is reached, in words.
func (c Config) peer() string { return cmp.Or(c.Peer, "node") }

// hostKeyName is the key of the site file that says which host key is wanted.
func (c Config) hostKeyName() string { return cmp.Or(c.Hints.HostKey, "ssh.hostKey") }

// byHand is what to type to try it without us.
func (c Config) byHand() string { return "ssh -v " + c.User + "@" + c.Address }

// A Conn is a connection to a node, and an overlay.Remote. Its commands run one
// after the other; when the context of one ends, the whole connection does.
type Conn struct {
	client *ssh.Client
	config Config

	closing chan struct{} // closed by Close
	gone    chan struct{} // closed once the connection has ended
	once    sync.Once
	alive   sync.WaitGroup // the goroutines that keep it alive and watch for its end
	mu      sync.Mutex
	cause   error // why the connection was given up, if it was
}

// Dial connects to a node and logs in. Its errors are of type *bmc.Error.
func Dial(ctx context.Context, c Config) (*Conn, error) {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.User == "" {
		c.User = "root"
	}
	auth, err := c.authentication(ctx)
	if err != nil {
		return nil, err
	}
	defer auth.close()
	check, err := c.hostKeyCheck()
	if err != nil {
		return nil, err
	}
	client, err := c.login(ctx, auth, check)
	if err != nil {
		return nil, err
	}
	return newConn(client, c), nil
}

func newConn(client *ssh.Client, c Config) *Conn {
	conn := &Conn{client: client, config: c, closing: make(chan struct{}), gone: make(chan struct{})}
	conn.alive.Go(func() {
		_ = client.Wait() // why it ended is told by what was under way
		close(conn.gone)
	})
	if c.KeepAlive > 0 {
		conn.alive.Go(conn.keepAlive)
	}
	return conn
}

// newSession opens a session, or fails when the connection ends. A channel that is
// asked for just when it does is known to nobody who could answer: x/crypto/ssh
// (v0.58.0) drops those it knows of, then still takes new ones for a moment, and
// leaves those waiting for ever. So is the goroutine here.
func (c *Conn) newSession() (*ssh.Session, error) {
	type opened struct {
		session *ssh.Session
		err     error
	}
	answer := make(chan opened, 1)
	go func() {
		session, err := c.client.NewSession()
		answer <- opened{session, err}
	}()
	select {
	case o := <-answer:
		return o.session, o.err
	case <-c.gone:
		return nil, io.EOF
	}
}

// login connects once for each group of host key algorithms until the node shows
// a key that is wanted: a server shows one key only, of the first kind that the
// client asks for.
func (c Config) login(ctx context.Context, auth *authentication, check *hostKeyCheck) (*ssh.Client, error) {
	var last error
	for _, algorithms := range check.algorithms {
		client, err := c.handshake(ctx, auth, check, algorithms)
		if err == nil {
			return client, nil
		}
		last = err
		if ctx.Err() != nil || !check.mayRetry(err) {
			break
		}
	}
	return nil, c.explain(ctx, last, auth, check)
}

func (c Config) handshake(ctx context.Context, auth *authentication, check *hostKeyCheck, algorithms []string) (*ssh.Client, error) {
	dialer := net.Dialer{Timeout: c.Timeout, KeepAlive: max(c.KeepAlive, DefaultKeepAlive)}
	conn, err := dialer.DialContext(ctx, "tcp", c.address())
	if err != nil {
		return nil, connectError{err}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(bmc.SystemClock{}.Now().Add(c.Timeout)); err != nil {
		conn.Close()
		return nil, connectError{err}
	}
	transport, channels, requests, err := ssh.NewClientConn(conn, c.address(), &ssh.ClientConfig{
		Config: c.Algorithms.config(),
		User:   c.User, Auth: auth.methods,
		HostKeyCallback: check.callback, HostKeyAlgorithms: algorithms,
		ClientVersion: "SSH-2.0-livecd-sync",
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		transport.Close()
		return nil, connectError{err}
	}
	return ssh.NewClient(transport, channels, requests), nil
}

// connectError marks what went wrong below ssh.
type connectError struct{ error }

// Unwrap gives the cause.
func (e connectError) Unwrap() error { return e.error }

// explain makes an error of connecting or logging in one for people.
func (c Config) explain(ctx context.Context, err error, auth *authentication, check *hostKeyCheck) error {
	e := &bmc.Error{Op: "ssh to " + c.address(), Kind: bmc.KindSSH, Err: err}
	var timeout net.Error
	_, below := errors.AsType[connectError](err)
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		e.Kind, e.Err, e.Hint = bmc.KindCancelled, context.Cause(ctx), "run the command again"
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		e.Kind, e.Err = bmc.KindTimeout, fmt.Errorf("no answer within %s", c.Timeout)
		e.Hint = cmp.Or(c.Hints.Silent, "see whether the node is up: livecd-sync status, and its console")
	case below:
		e.Kind = bmc.KindUnreachable
		e.Hint = cmp.Or(c.Hints.Silent, "see whether the node is up, and ssh.address in the site file")
	case check.refused():
		e.Hint, e.Err = check.refusal()
		e.Err = otherKeyError{e.Err}
	case isAuthError(err):
		e.Kind, e.Err, e.Hint = bmc.KindAuth, refusedError{fmt.Errorf("the %s let %s in with none of: %s", c.peer(), c.User, auth.names())}, cmp.Or(c.Hints.Login, auth.hint())
	case c.Algorithms == AlgorithmsSafe && onlyOld(err):
		e.Err, e.Hint = fmt.Errorf("the %s knows only algorithms that are not safe any more: %w", c.peer(), err), c.Hints.Old
	default:
		e.Hint = "try it by hand: " + c.byHand()
	}
	return e
}

// Close ends the connection and waits for its goroutines.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closing) })
	err := c.client.Close()
	c.alive.Wait() // for the transport's own goroutines, too
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// keepAlive asks for a sign of life and gives the connection up without one.
// Any answer will do, OpenSSH's is a refusal.
func (c *Conn) keepAlive() {
	ticker := time.NewTicker(c.config.KeepAlive)
	defer ticker.Stop()
	broken := make(chan bool, 1) // the answer to what was asked
	asked, missed := false, 0
	for {
		select {
		case <-c.closing:
			c.client.Close()
			if asked {
				<-broken
			}
			return
		case gone := <-broken:
			asked, missed = false, 0
			if gone {
				return // the connection is gone; Run tells
			}
		case <-ticker.C:
			if asked {
				missed++
			}
			if missed >= keepAliveMisses {
				c.giveUp(fmt.Errorf("the %s gave no sign of life for %s", c.config.peer(), keepAliveMisses*c.config.KeepAlive))
				<-broken
				return
			}
			if !asked {
				asked = true
				go func() {
					_, _, err := c.client.SendRequest("keepalive@openssh.com", true, nil)
					broken <- err != nil
				}()
			}
		}
	}
}

// giveUp closes the connection and notes why.
func (c *Conn) giveUp(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	c.client.Close()
}

func (c *Conn) givenUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}
