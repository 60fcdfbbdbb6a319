package imageserver

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/media/isomap"
)

// A Server serves images to the nodes of a site. It is an http.Handler; Serve
// runs it. Its methods are safe for concurrent use.
type Server struct {
	key    Key
	now    func() time.Time
	limits Limits
	reads  tracker

	mu     sync.RWMutex
	nodes  map[string]string // by directory
	images map[string]*image // by name

	handOver chan struct{} // closed when another server asks for the place
	handed   sync.Once
}

// Config says how a Server behaves.
type Config struct {
	Key    Key
	Now    func() time.Time
	Limits Limits
}

// New makes a server that has nothing to serve yet.
func New(c Config) *Server {
	return &Server{key: c.Key, now: c.Now, limits: c.Limits.orDefaults(), handOver: make(chan struct{})}
}

// Offer makes the images what is served, to each of the nodes. What was served
// before is not any more, unless it is among them.
func (s *Server) Offer(nodes []string, images []media.Local) {
	byDir, byName := make(map[string]string, len(nodes)), make(map[string]*image, len(images))
	for _, n := range nodes {
		byDir[s.key.Directory(n)] = n
	}
	known := make(map[reader]bool, len(nodes)*len(images))
	for _, l := range images {
		byName[Name(l.SHA256)] = &image{local: l}
		for _, n := range nodes {
			known[reader{n, l.SHA256}] = true
		}
	}
	s.mu.Lock()
	s.nodes, s.images = byDir, byName
	s.mu.Unlock()
	s.reads.keep(func(r reader) bool { return known[r] })
}

// Begin forgets what the node's BMC has read: what is read from now on belongs to
// another boot.
func (s *Server) Begin(node string) { s.reads.begin(node) }

// Reads returns what was read, by the names of the nodes.
func (s *Server) Reads() []Reads { return s.reads.all(s.now()) }

// ReadsOf returns what the node's BMC has read of the image with that SHA-256; ok
// is false when it has not asked for any of it.
func (s *Server) ReadsOf(node, digest string) (r Reads, ok bool) {
	return s.reads.one(reader{node, digest}, s.now())
}

// find returns the node that the path belongs to, and the image; nil when there
// is no such place.
func (s *Server) find(path string) (node string, img *image) {
	dir, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok {
		return "", nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	node, known := s.nodes[dir]
	if !known {
		return "", nil
	}
	return node, s.images[name]
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // nobody has anything to send here, and nobody waits for it
		_ = http.NewResponseController(w).SetReadDeadline(s.now().Add(s.limits.Header))
		w.Header().Set("Connection", "close")
	}
	node, img := s.find(r.URL.Path)
	switch {
	case s.control(w, r):
	case img == nil:
		http.NotFound(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
	default:
		s.send(w, r, node, img)
	}
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, node string, img *image) {
	from, who := r.RemoteAddr, reader{node, img.local.SHA256}
	s.reads.note(who, img, from, isomap.Span{}, s.now())
	f, err := img.open()
	if err != nil {
		// The path of the file is nobody's business who reads it over the network.
		http.Error(w, "the image cannot be read any more: "+err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = f.Close() }() // only read
	if strings.Contains(r.Header.Get("Range"), ",") {
		// Several ranges make an answer in parts, which no BMC asks for and which
		// sendfile cannot send. Who gets the whole has been answered, too (RFC 9110 14.2).
		r.Header.Del("Range")
	}
	h := w.Header()
	h.Set("ETag", ETag(img.local.SHA256))
	h.Set("Content-Type", "application/octet-stream")
	t := &transfer{
		ResponseWriter: w, control: http.NewResponseController(w), file: f, image: img, server: s,
		sent: func(x isomap.Span) { s.reads.note(who, img, from, x, s.now()) },
	}
	http.ServeContent(t, r, "", img.local.ModTime, f)
}

// ETag is that of the image with that SHA-256.
func ETag(digest string) string { return `"` + digest + `"` }

// An image is one that is served.
type image struct{ local media.Local }

var (
	errChanged = errors.New("it has changed")
	errGone    = errors.New("it is gone")
)

// open opens the image's file if it is the one whose digest is known.
func (i *image) open() (*os.File, error) {
	f, err := os.Open(i.local.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errGone
	case errors.Is(err, fs.ErrPermission):
		return nil, fs.ErrPermission
	case err != nil:
		return nil, errors.New("it cannot be opened")
	}
	if err := i.unchanged(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// unchanged reports whether the file has the size and time that it had when its
// digest was taken.
func (i *image) unchanged(f *os.File) error {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() != i.local.Size || !st.ModTime().Equal(i.local.ModTime) {
		return errChanged
	}
	return nil
}
