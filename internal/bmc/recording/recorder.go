package recording

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// maxBody is how many bytes of a body are written down; a client reads no more.
const maxBody = 8 << 20

// Options say how a recording is made.
type Options struct {
	// Redact replaces serial numbers, UUIDs, addresses and names as well. The files
	// are then written by Close only, since what is a name is known at the end; until
	// then everything is held in memory.
	Redact bool
	By     string // the program and its version
	Now    func() time.Time
}

// A Recorder writes down what is said with BMCs. It is safe for concurrent use.
type Recorder struct {
	dir  string
	opts Options

	mu   sync.Mutex
	bmcs []*book
	err  error // the first thing that could not be written
}

// A book is what is written down of one BMC.
type book struct {
	r     *Recorder
	dir   string // "" until the first exchange is written
	info  Info
	scrub scrubber

	mu        sync.Mutex
	seq       int
	exchanges []Exchange // held until the end
	serials   []string   // that are in them
}

// New makes a recorder. dir is made, and must be empty if it is there: an
// exchange of another run would be taken for one of this.
func New(dir string, opts Options) (*Recorder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, &fs.PathError{Op: "record into", Path: dir, Err: errors.New("it is not empty")}
	}
	return &Recorder{dir: dir, opts: opts}, nil
}

// Node tells of a node behind the BMC at a URL. All nodes are told before the
// first exchange, in the order in which stand-ins are numbered.
func (r *Recorder) Node(bmcURL string, n Node) {
	b := r.book(bmcURL)
	b.info.Nodes = append(b.info.Nodes, n)
}

func (r *Recorder) book(bmcURL string) *book {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := hostOf(bmcURL)
	for _, b := range r.bmcs {
		if b.info.BMC == name {
			return b
		}
	}
	b := &book{r: r, info: Info{
		Version: Version, BMC: name, At: r.opts.Now().UTC().Truncate(time.Second), By: r.opts.By, Redacted: r.opts.Redact, Nodes: []Node{},
	}}
	r.bmcs = append(r.bmcs, b)
	return b
}

func hostOf(bmcURL string) string {
	u, err := url.Parse(bmcURL)
	if err != nil || u.Host == "" {
		return bmcURL
	}
	return strings.ToLower(u.Host)
}

// Tap is put around what carries a connection's requests to the BMC at a URL.
// The password never gets into a file.
func (r *Recorder) Tap(bmcURL, username, password string) func(http.RoundTripper) http.RoundTripper {
	b := r.book(bmcURL)
	b.scrub.know(username, password)
	return func(next http.RoundTripper) http.RoundTripper { return &tap{book: b, next: next} }
}

// fail keeps the first error: a recording that cannot be written does not stop
// what is being recorded.
func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// Close writes what was held, and gives the first error of all that was written.
func (r *Recorder) Close() error {
	if r.opts.Redact {
		r.redact()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Counts is how many BMCs were recorded, and how many exchanges.
func (r *Recorder) Counts() (bmcs, exchanges int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.bmcs {
		b.mu.Lock()
		if b.seq > 0 {
			bmcs++
		}
		exchanges += b.seq
		b.mu.Unlock()
	}
	return bmcs, exchanges
}

// add writes an exchange down, or holds it.
func (b *book) add(e Exchange) {
	b.scrub.exchange(&e)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e.Seq = b.seq
	if b.r.opts.Redact {
		b.exchanges = append(b.exchanges, e)
		return
	}
	if b.dir == "" {
		if err := b.begin(b.info.BMC); err != nil {
			b.r.fail(err)
			return
		}
	}
	if err := b.write(e.file(), e); err != nil {
		b.r.fail(err)
	}
}

// begin makes the BMC's directory.
func (b *book) begin(name string) error {
	plain := strings.Trim(unplain.ReplaceAllString(name, "_"), "._")
	for i := 1; ; i++ {
		dir := filepath.Join(b.r.dir, plain)
		if i > 1 || plain == "" {
			dir += fmt.Sprintf("_%d", i)
		}
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			b.dir = dir
			return b.write(infoFile, b.info)
		}
		if !errors.Is(err, fs.ErrExist) || i > maxNamesakes {
			return err
		}
	}
}

const (
	infoFile = "recording.json"
	// maxNamesakes is how many BMCs may differ only in what a file's name cannot
	// have.
	maxNamesakes = 100
)

func (b *book) write(name string, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(b.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// tap is the http.RoundTripper that looks on.
type tap struct {
	book *book
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper. The exchange is written down once its
// answer was read.
func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	begun := t.book.r.opts.Now()
	e := Exchange{
		At: begun.UTC(), Method: req.Method, URI: req.URL.RequestURI(), Sent: pick(req.Header, sentHeaders), Auth: authOf(req),
	}
	if req.Body != nil {
		asked, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		e.Asked, _ = asJSON(asked)
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(asked))
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		e.Error, e.Milliseconds = err.Error(), t.since(begun)
		t.book.add(e)
		return resp, err
	}
	e.Status, e.Header = resp.StatusCode, pick(resp.Header, answeredHeaders)
	resp.Body = &listened{ReadCloser: resp.Body, done: func(body []byte, broken error) {
		e.Milliseconds = t.since(begun)
		e.Body, e.Text = asJSON(body)
		if broken != nil {
			e.Error = fmt.Sprintf("the answer broke off after %d bytes: %v", len(body), broken)
		}
		t.book.add(e)
	}}
	return resp, nil
}

func (t *tap) since(begun time.Time) int64 { return t.book.r.opts.Now().Sub(begun).Milliseconds() }

func authOf(req *http.Request) string {
	switch {
	case req.Header.Get("X-Auth-Token") != "":
		return "session"
	case req.Header.Get("Authorization") != "":
		return "basic"
	}
	return ""
}

// asJSON is a body as a JSON document, or else as text.
func asJSON(body []byte) (json.RawMessage, string) {
	trimmed := bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if len(trimmed) > 0 && json.Valid(trimmed) && utf8.Valid(trimmed) {
		return json.RawMessage(trimmed), ""
	}
	return nil, strings.ToValidUTF8(string(body), "\uFFFD")
}

// listened is a body that is noted down while it is being read.
type listened struct {
	io.ReadCloser
	heard  bytes.Buffer
	broken error
	done   func(body []byte, broken error)
}

func (l *listened) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if room := maxBody - l.heard.Len(); room > 0 {
		l.heard.Write(p[:min(n, room)])
	}
	if err != nil && !errors.Is(err, io.EOF) {
		l.broken = err
	}
	return n, err
}

func (l *listened) Close() error {
	err := l.ReadCloser.Close()
	if l.done != nil {
		l.done(l.heard.Bytes(), l.broken)
		l.done = nil
	}
	return err
}
