package sim

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// web is a running HTTP server.
type web struct {
	server  *http.Server
	running sync.WaitGroup // the server and the requests that it is answering

	mu     sync.Mutex
	closed bool
}

// serveWeb serves HTTP/1.1, which is what BMCs speak, on a listener that it takes
// over; over TLS unless config is nil.
func serveWeb(l net.Listener, h http.Handler, config *tls.Config) *web {
	w := &web{}
	w.server = &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), //nolint:forbidigo // what net/http wants; clients that break off are no news
		Protocols:         new(http.Protocols),
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if w.begin() {
				defer w.running.Done()
				h.ServeHTTP(rw, r)
			}
		}),
	}
	w.server.Protocols.SetHTTP1(true)
	if config != nil {
		w.server.TLSConfig = config
		w.running.Go(func() { _ = w.server.ServeTLS(l, "", "") })
	} else {
		w.running.Go(func() { _ = w.server.Serve(l) })
	}
	return w
}

// begin counts a request that is about to be answered; after close there are
// none.
func (w *web) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.running.Add(1)
	return true
}

// close breaks all connections and returns when every request has ended.
func (w *web) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	_ = w.server.Close()
	w.running.Wait()
}
