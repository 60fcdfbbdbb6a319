package imageserver

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Limits bound what clients can take of the server. A zero field means its
// default.
type Limits struct {
	// Connections is how many there may be at once, and PerAddress how many from one
	// address. Those beyond are closed at once.
	Connections, PerAddress int
	// Header is how long a request's header may take to arrive, Idle how long a
	// connection may wait for the next one.
	Header, Idle time.Duration
	// Piece is how long a client may take for a piece of a mebibyte.
	Piece time.Duration
}

func (l Limits) orDefaults() Limits {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	if l.Connections == 0 {
		l.Connections = 4096
	}
	if l.PerAddress == 0 {
		l.PerAddress = max(1, l.Connections/4) // the BMCs of a rack may be behind one address
	}
	set(&l.Header, 10*time.Second)
	set(&l.Idle, 2*time.Minute)
	set(&l.Piece, 2*time.Minute)
	return l
}

// grace is how long the answers under way may take once the server is to end.
const grace = 5 * time.Second

// Serve answers what comes in on l until ctx ends or another server has asked for
// its place; l is closed then. config is nil for plain HTTP. Answers that are
// under way then are cut after a few seconds: BMCs ask again for what they miss.
func (s *Server) Serve(ctx context.Context, l net.Listener, config *tls.Config) error {
	places := &places{Listener: l, most: s.limits.Connections, each: s.limits.PerAddress}
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.Header,
		IdleTimeout:       s.limits.Idle,
		WriteTimeout:      s.limits.Piece, // set anew for each piece
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(io.Discard, "", 0), //nolint:forbidigo // what net/http wants; clients that break off are no news
		ConnState:         places.state,
		Protocols:         new(http.Protocols),
		TLSConfig:         config,

		DisableGeneralOptionsHandler: true,
	}
	srv.Protocols.SetHTTP1(true) // what BMCs speak, and what sendfile works with
	ended := make(chan error, 1)
	go func() {
		if config != nil {
			ended <- srv.ServeTLS(places, "", "")
			return
		}
		ended <- srv.Serve(places)
	}()
	select {
	case err := <-ended:
		return serveError(l, err)
	case <-ctx.Done():
	case <-s.handOver:
	}
	// Not ctx: it has ended.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if srv.Shutdown(ending) != nil {
		_ = srv.Close() // the answers that are cut are asked for again
	}
	return serveError(l, <-ended)
}

// HandedOver is closed when another server has asked for this one's place.
func (s *Server) HandedOver() <-chan struct{} { return s.handOver }

func serveError(l net.Listener, err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return &bmc.Error{
		Op: "serve images on " + l.Addr().String(), Kind: bmc.KindUnreachable, Err: err,
		Hint: "run it again; nodes that run from these images need it",
	}
}

// places is a listener that lets only so many in. It hands on the connections as
// they are: net/http sends files by sendfile over those that it knows.
type places struct {
	net.Listener
	most, each int

	mu    sync.Mutex
	all   int
	hosts map[string]int
}

func hostOf(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.IP.String()
	}
	return ""
}

// Accept returns the next connection that there is a place for, and closes the
// others.
func (p *places) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil || p.enter(hostOf(c)) {
			return c, err
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that what is turned away leaves nothing behind
		}
		_ = c.Close()
	}
}

func (p *places) enter(host string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= p.most || p.hosts[host] >= p.each {
		return false
	}
	if p.hosts == nil {
		p.hosts = make(map[string]int)
	}
	p.all++
	p.hosts[host]++
	return true
}

// state is told of each change of a connection that was accepted.
func (p *places) state(c net.Conn, s http.ConnState) {
	if s != http.StateClosed && s != http.StateHijacked {
		return
	}
	host := hostOf(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.hosts[host]--; p.hosts[host] <= 0 {
		delete(p.hosts, host)
	}
}
