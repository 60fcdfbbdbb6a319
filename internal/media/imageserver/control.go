package imageserver

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// What the other programs of this machine that have the key may ask of a server.
const (
	askReads    = "reads"
	askBegin    = "begin"
	askHandOver = "hand-over"
)

// controlDirectory is where they ask: a name as unguessable as a node's.
func (k Key) controlDirectory() string { return k.name("control", "") }

// control answers a request of another livecd-sync, and reports whether it was
// one. Such requests come from this machine, and with a name that only the key
// gives.
func (s *Server) control(w http.ResponseWriter, r *http.Request) bool {
	dir, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if dir != s.key.controlDirectory() || !fromHere(r) {
		return false
	}
	what, node, _ := strings.Cut(what, "/")
	switch {
	case what == askReads && r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Reads()) // whoever asked has gone
	case what == askBegin && r.Method == http.MethodPost:
		s.Begin(node)
		w.WriteHeader(http.StatusNoContent)
	case what == askHandOver && r.Method == http.MethodPost:
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusNoContent)
		s.handed.Do(func() { close(s.handOver) })
	default:
		http.NotFound(w, r)
	}
	return true
}

// fromHere reports whether the request comes from the machine that it came to.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.IP.Equal(ip)
}
