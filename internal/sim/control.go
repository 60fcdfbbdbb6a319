package sim

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
)

// control is the HTTP API for scripts; the package documentation has its
// requests.
type control struct {
	*web
	url string
}

// maxControlBody bounds what a request may bring, in bytes.
const maxControlBody = 16 << 20

func serveControl(l net.Listener, s *Site) *control {
	c := &control{}
	mux := http.NewServeMux()
	// Any web page that is open in the user's browser can send requests here; none
	// can guess this.
	prefix := "/" + rand.Text() + "/"
	c.url = "http://" + l.Addr().String() + prefix
	mux.HandleFunc("GET "+prefix+"nodes", func(w http.ResponseWriter, _ *http.Request) {
		all := []Status{}
		for _, n := range s.nodes {
			all = append(all, n.Status())
		}
		writeJSON(w, all)
	})
	handle := func(method, path string, f func(*Node, http.ResponseWriter, *http.Request)) {
		mux.HandleFunc(method+" "+prefix+"nodes/{name}"+path, func(w http.ResponseWriter, r *http.Request) {
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
	c.web = serveWeb(l, mux, nil)
	return c
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
