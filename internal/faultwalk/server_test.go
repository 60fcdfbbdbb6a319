package faultwalk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// certificate is of all servers: to make one takes longer than a flow.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// A server is a BMC's web service, which may go down, so that connections to it
// are refused, and come back at the same address.
type server struct {
	t       testing.TB
	handler http.Handler
	cert    tls.Certificate
	addr    string // of nobody else, or a client's own port might be in the way of up

	mu   sync.Mutex
	http *http.Server // nil while down
}

var servers atomic.Uint32

func newServer(t testing.TB, handler http.Handler) *server {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, handler: handler, cert: cert}
	n := servers.Add(1)
	s.addr = fmt.Sprintf("127.91.%d.%d:8443", n/250%250, 1+n%250)
	s.up()
	t.Cleanup(s.down)
	return s
}

func (s *server) url() string { return "https://" + s.addr }

func (s *server) pin() string {
	sum := sha256.Sum256(s.cert.Certificate[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}

// up listens, if it does not.
func (s *server) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.http = &http.Server{Handler: s.handler, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go s.http.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.cert}}))
}

// down closes the listener and all connections.
func (s *server) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		s.http.Close()
	}
	s.http = nil
}
