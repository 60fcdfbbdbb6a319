package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A replay answers from a recording.
type replay struct {
	now    func() time.Time
	self   *regexp.Regexp        // the BMC's own URLs
	reads  map[string][]readAt   // by URI
	writes []Exchange            // in order
	logins map[string][]Exchange // by method and path

	mu    sync.Mutex
	epoch int            // how many of the writes have been asked for
	seen  map[string]int // how often a URI was read in this epoch
}

// A readAt is a read, and how many writes were before it.
type readAt struct {
	epoch int
	Exchange
}

// Handler serves the recording as the BMC. Reads are answered by path: by what
// was read after the writes that have been asked for so far, in the order in
// which it was read, the last again and again. A write is answered if it is the
// next that was recorded of its kind, with the same body. Logins always are, if
// there was one. Everything else is an error that says so. No password is asked
// for, and the Date is as far from now as it was then. Each handler begins anew,
// and may be asked from several goroutines.
func (r Recording) Handler(now func() time.Time) http.Handler {
	p := &replay{now: now, reads: map[string][]readAt{}, logins: map[string][]Exchange{}, seen: map[string]int{}}
	if host := regexp.QuoteMeta(hostname(r.BMC)); host != "" {
		p.self = regexp.MustCompile(`(?i)https?://(?:` + host + `|\[` + host + `\])(:\d+)?(/|$|")`)
	}
	for _, e := range r.Exchanges {
		switch {
		case e.session():
			p.logins[e.Method] = append(p.logins[e.Method], e)
		case e.writes():
			p.writes = append(p.writes, e)
		default:
			p.reads[e.URI] = append(p.reads[e.URI], readAt{len(p.writes), e})
		}
	}
	return p
}

// plainURI is a URI without the slash at its end, which most BMCs do not tell
// apart from the other.
func plainURI(uri string) string {
	path, query, found := strings.Cut(uri, "?")
	if path = strings.TrimRight(path, "/"); found {
		return path + "?" + query
	}
	return path
}

// ServeHTTP implements http.Handler.
func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		panic(http.ErrAbortHandler)
	}
	e, why := p.answer(r, body.Bytes())
	if why != "" {
		notRecorded(w, r, why)
		return
	}
	p.write(w, r, e)
}

// answer finds what was recorded; why says what is missing.
func (p *replay) answer(r *http.Request, body []byte) (e Exchange, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := Exchange{Method: r.Method, URI: r.URL.RequestURI()}
	switch {
	case asked.session():
		return p.login(asked)
	case asked.writes():
		return p.change(asked, body)
	}
	return p.read(asked.URI)
}

func (p *replay) read(uri string) (e Exchange, why string) {
	for _, as := range []string{uri, plainURI(uri), plainURI(uri) + "/"} {
		if len(p.reads[as]) > 0 {
			uri = as
			break
		}
	}
	all := p.reads[uri]
	if len(all) == 0 {
		return e, "was never read"
	}
	var now []readAt
	latest := -1
	for i, a := range all {
		if a.epoch == p.epoch {
			now = append(now, a)
		}
		if a.epoch <= p.epoch {
			latest = i
		}
	}
	if len(now) > 0 {
		n := p.seen[uri]
		p.seen[uri]++
		return now[min(n, len(now)-1)].Exchange, ""
	}
	return all[max(latest, 0)].Exchange, "" // not read since the last write, or only later
}

func (p *replay) change(asked Exchange, body []byte) (e Exchange, why string) {
	other := ""
	for i := p.epoch; i < len(p.writes); i++ {
		next := p.writes[i]
		if next.Method != asked.Method || plainURI(next.URI) != plainURI(asked.URI) {
			continue
		}
		if !sameBody(next.Asked, body) {
			other = "was recorded with another body, " + string(compact(next.Asked))
			continue
		}
		p.epoch = i + 1
		clear(p.seen)
		return next, ""
	}
	if other != "" {
		return e, other
	}
	return e, "was not asked for, or not any more after what was asked for so far"
}

// sameBody compares what was recorded with what is asked, by what they say.
func sameBody(recorded, asked []byte) bool {
	var x, y any
	if len(bytes.TrimSpace(recorded)) == 0 || len(bytes.TrimSpace(asked)) == 0 {
		return len(bytes.TrimSpace(recorded)) == len(bytes.TrimSpace(asked))
	}
	return json.Unmarshal(recorded, &x) == nil && json.Unmarshal(asked, &y) == nil && same(x, y)
}

// same compares two values of JSON. A secret that was not recorded is any text.
func same(recorded, asked any) bool {
	switch r := recorded.(type) {
	case string:
		a, ok := asked.(string)
		return ok && (r == a || strings.Contains(r, hidden))
	case []any:
		a, ok := asked.([]any)
		return ok && slices.EqualFunc(r, a, same)
	case map[string]any:
		a, ok := asked.(map[string]any)
		return ok && maps.EqualFunc(r, a, same)
	}
	return recorded == asked
}

func compact(doc []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, doc) != nil {
		return doc
	}
	return b.Bytes()
}

// login answers by what was answered to a login, or to a logout, whenever that
// was: who logs in when is no matter of the BMC's state.
func (p *replay) login(asked Exchange) (e Exchange, why string) {
	all := p.logins[asked.Method]
	if len(all) == 0 {
		return e, "was not asked for: no session was opened, or none was closed"
	}
	n := p.seen[asked.Method+" session"]
	p.seen[asked.Method+" session"]++
	return all[min(n, len(all)-1)], ""
}

// write sends what was recorded.
func (p *replay) write(w http.ResponseWriter, r *http.Request, e Exchange) {
	if e.Status == 0 {
		panic(http.ErrAbortHandler) // no answer came then, and none comes now
	}
	origin := "https://" + r.Host
	body := []byte(p.own(e.Text, origin))
	if e.Body != nil {
		body = []byte(p.own(string(compact(e.Body)), origin))
	}
	h := w.Header()
	if !e.At.IsZero() {
		h["Date"] = nil // net/http would send its own, and a mockup has none
	}
	for k, v := range e.Header {
		h.Set(k, p.own(v, origin))
	}
	if sent, err := http.ParseTime(e.Header["Date"]); err == nil && !e.At.IsZero() {
		h.Set("Date", p.now().Add(sent.Sub(e.At)).UTC().Format(http.TimeFormat)) // as far off as it was
	}
	if e.Error != "" {
		h.Set("Content-Length", strconv.Itoa(len(body)+1)) // which never comes
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) //nolint:gosec // a recording is answered as it is, to livecd-sync; the client may be gone
	}
	if e.Error != "" {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// own has the BMC's own URLs lead to where it is answered for now.
func (p *replay) own(text, origin string) string {
	if p.self == nil || !strings.Contains(text, "://") {
		return text
	}
	return p.self.ReplaceAllString(text, strings.ReplaceAll(origin, "$", "$$")+"${2}")
}

// notRecorded is the answer to what the recording knows nothing of: 404 to a
// read, as from a BMC that has no such thing, and 501 to anything else.
func notRecorded(w http.ResponseWriter, r *http.Request, why string) {
	status := http.StatusNotFound
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusNotImplemented
	}
	uri := (&url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}).String()
	doc, err := encode(map[string]any{"error": map[string]any{
		"code":    "Recording.1.0.NotRecorded",
		"message": fmt.Sprintf("this is a recording, in which %s %s %s", r.Method, uri, why),
	}})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(doc) // the client may be gone
}
