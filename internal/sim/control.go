package sim

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// control is the HTTP API for scripts; the package documentation has its
// requests.
type control struct {
	url    string
	mux    *http.ServeMux
	server *http.Server
	done   chan struct{}
}

// maxControlBody bounds what a request may bring, in bytes.
const maxControlBody = 16 << 20

func serveControl(l net.Listener, s *Site) *control {
	c := &control{mux: http.NewServeMux(), done: make(chan struct{})}
	// Any web page that is open in the user's browser can send requests here; none
	// can guess this.
	prefix := "/" + rand.Text() + "/"
	c.url = "http://" + l.Addr().String() + prefix
	c.mux.HandleFunc("GET "+prefix+"nodes", func(w http.ResponseWriter, _ *http.Request) {
		all := []Status{}
		for _, n := range s.nodes {
			all = append(all, n.Status())
		}
		writeJSON(w, all)
	})
	handle := func(method, path string, f func(*Node, http.ResponseWriter, *http.Request)) {
		c.mux.HandleFunc(method+" "+prefix+"nodes/{name}"+path, func(w http.ResponseWriter, r *http.Request) {
			n := s.Node(r.PathValue("name"))
			if n == nil {
				http.Error(w, "there is no node "+r.PathValue("name"), http.StatusNotFound)
				return
			}
			r.Body = http.MaxBytesReader(w, r.Body, maxControlBody)
			f(n, w, r)
		})
	}
	handle("GET", "", func(n *Node, w http.ResponseWriter, _ *http.Request) { writeJSON(w, n.Status()) })
	handle("POST", "/write", (*Node).controlWrite)
	handle("POST", "/cut", (*Node).controlCut)
	handle("POST", "/disk-boot", (*Node).controlDiskBoot)
	handle("POST", "/behaviour", (*Node).controlBehaviour)
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(c.done)
		_ = c.server.Serve(l) // ends with close
	}()
	return c
}

// ServeHTTP answers a request.
func (c *control) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

func (c *control) close() {
	_ = c.server.Close()
	<-c.done
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that is gone wants no answer
}

// done answers a request that asked for a change.
func done(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (n *Node) controlWrite(w http.ResponseWriter, r *http.Request) {
	var body struct{ Path, Content string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, "write needs a JSON object with path and content: "+err.Error(), http.StatusBadRequest)
		return
	}
	done(w, n.WriteOverlay(body.Path, body.Content))
}

func (n *Node) controlCut(w http.ResponseWriter, _ *http.Request) {
	n.PowerCut()
	done(w, nil)
}

func (n *Node) controlDiskBoot(w http.ResponseWriter, r *http.Request) {
	done(w, n.DiskBoot(r.Context()))
}

// controlBehaviour changes the fields that the request names.
func (n *Node) controlBehaviour(w http.ResponseWriter, r *http.Request) {
	b := n.machine.Behaviour()
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		http.Error(w, "behaviour needs a JSON object with fields of bmcsim.Behaviour: "+err.Error(), http.StatusBadRequest)
		return
	}
	n.machine.SetBehaviour(b)
	done(w, nil)
}
