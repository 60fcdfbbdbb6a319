package bmcsim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Handler serves the BMC as Redfish. It closes connections without an answer
// where a behaviour or a fault says so, by panicking with http.ErrAbortHandler
// as net/http asks for.
func (m *Machine) Handler() http.Handler { return http.HandlerFunc(m.serve) }

// maxBody is more than any Redfish request needs.
const maxBody = 1 << 20

func (m *Machine) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	c := &call{
		ctx: r.Context(), method: r.Method, path: trimSlash(r.URL.Path), query: r.URL.RawQuery, origin: origin(r),
		ifMatch: r.Header.Get("If-Match"), token: r.Header.Get("X-Auth-Token"), body: body,
	}
	entry := &Request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Auth: authOf(r), IfMatch: c.ifMatch, Body: summary(body)}
	do, alive := m.begin(c, entry)
	var a answer
	var spoil func([]byte) []byte
	if alive {
		a, spoil = m.suffer(r, c, do)
	}
	if done, tell := m.finish(entry, a.status); tell != nil {
		tell(done)
	}
	if a.status == 0 {
		panic(http.ErrAbortHandler)
	}
	m.write(w, r, a, spoil)
	if do.What == DoHalfBody && a.body != nil {
		_ = http.NewResponseController(w).Flush() // half of it does reach the client
		panic(http.ErrAbortHandler)
	}
}

func origin(r *http.Request) string {
	if r.TLS == nil {
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

// begin counts a request in, logs it and draws its lot. alive is false while the BMC
// answers nobody.
func (m *Machine) begin(c *call, entry *Request) (do Do, alive bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight++
	m.log(entry)
	m.stats.MaxInFlight = max(m.stats.MaxInFlight, m.inFlight)
	c.busy = m.behaviour.Busy || m.behaviour.BusyInPost && m.power.phase == bmc.PhasePost
	return m.strike(c.method, c.path), !m.closed && !time.Now().Before(m.downTill)
}

// finish counts a request out, before its answer is written.
func (m *Machine) finish(entry *Request, status int) (Request, func(Request)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inFlight--
	entry.Status = status
	return *entry, m.beforeAnswer
}

// answer is what a BMC without faults answers. The status is 0 when it closes
// the connection instead.
func (m *Machine) answer(r *http.Request, c *call) answer {
	res, known := m.tree[c.path]
	if c.path == sessionsPath && c.method == http.MethodPost && m.without(func(b Behaviour) bool { return b.NoSessions }) {
		return m.refused(m.kind.refuse("ResourceMissingAtURI", c.path))
	}
	if !(known && res.open && isRead(c.method)) && !(c.path == sessionsPath && c.method == http.MethodPost) {
		if err := m.authenticate(r); err != nil {
			return m.refusedBy(err)
		}
	}
	if c.busy && c.path != rootPath {
		return m.busy()
	}
	if a, ok := m.redirect(r, c); ok {
		return a
	}
	if !known || !m.present(res) {
		return m.dynamic(c)
	}
	return m.dispatch(res, c)
}

// without asks for a trait, with the lock.
func (m *Machine) without(trait func(Behaviour) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return trait(m.behaviour)
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// present tells whether a resource is there at the moment.
func (m *Machine) present(r resource) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return (!r.media || m.listed) && (r.when == nil || r.when(m.behaviour))
}

func (m *Machine) busy() answer {
	m.mu.Lock()
	seconds := m.behaviour.RetryAfter
	m.mu.Unlock()
	a := m.refused(m.kind.refuse("ServiceUnavailable", strconv.Itoa(seconds)))
	if seconds > 0 {
		a.header.Set("Retry-After", strconv.Itoa(seconds))
	}
	return a
}

// redirect sends a client that left the trailing slash out to where it is.
func (m *Machine) redirect(r *http.Request, c *call) (answer, bool) {
	m.mu.Lock()
	slash := m.behaviour.TrailingSlash
	m.mu.Unlock()
	if !slash || strings.HasSuffix(r.URL.Path, "/") || c.path == "/redfish" {
		return answer{}, false
	}
	return answer{status: http.StatusPermanentRedirect, header: http.Header{"Location": {(&url.URL{Path: r.URL.Path + "/", RawQuery: r.URL.RawQuery}).String()}}}, true
}

// dynamic answers for what comes and goes: sessions and tasks.
func (m *Machine) dynamic(c *call) answer {
	if isRead(c.method) {
		if a, ok := m.getTask(c.path); ok {
			return a
		}
	}
	if isRead(c.method) || c.method == http.MethodDelete {
		if a, ok := m.atSession(c); ok {
			return a
		}
	}
	return m.refused(m.kind.refuse("ResourceMissingAtURI", c.path))
}

func (m *Machine) dispatch(res resource, c *call) answer {
	switch {
	case isRead(c.method) && res.get != nil && c.query != "":
		return m.queried(res, c)
	case isRead(c.method) && res.get != nil:
		return m.get(res)
	case c.method == http.MethodPatch && res.patch != nil:
		return m.patched(res, c)
	case c.method == http.MethodPost && res.post != nil:
		return m.posted(res, c)
	}
	a := m.refused(m.kind.refuse("ActionNotSupported", c.method))
	a.header.Set("Allow", res.allow())
	return a
}

func (r resource) allow() string {
	var methods []string
	if r.get != nil {
		methods = append(methods, "GET", "HEAD")
	}
	if r.patch != nil {
		methods = append(methods, "PATCH")
	}
	if r.post != nil {
		methods = append(methods, "POST")
	}
	return strings.Join(methods, ", ")
}

func (m *Machine) posted(res resource, c *call) answer {
	m.mu.Lock()
	q := m.behaviour
	m.mu.Unlock()
	if !res.action {
		return res.post(m, c)
	}
	if q.RefuseIfMatchOnActions && c.ifMatch != "" {
		return m.refused(m.kind.refuse("PreconditionFailed"))
	}
	if q.BodyRequired && len(bytes.TrimSpace(c.body)) == 0 {
		return m.refused(m.kind.refuse("UnsupportedMediaType"))
	}
	a := res.post(m, c)
	if q.CloseAfterAction {
		return answer{}
	}
	return a
}

// authenticate checks a token or, for Basic, a password.
func (m *Machine) authenticate(r *http.Request) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token := r.Header.Get("X-Auth-Token"); token != "" {
		return m.useSession(token)
	}
	username, password, ok := r.BasicAuth()
	if !ok || m.behaviour.NoBasic {
		return m.kind.refuse("NoValidSession")
	}
	err := m.login(username, password)
	if err == nil && m.behaviour.BasicOpensSession {
		_, err = m.openSession()
	}
	return err
}

func authOf(r *http.Request) string {
	switch {
	case r.Header.Get("X-Auth-Token") != "":
		return "session"
	case strings.HasPrefix(r.Header.Get("Authorization"), "Basic "):
		return "basic"
	}
	return ""
}

// write sends an answer; spoil, if any, has the last word on its body.
func (m *Machine) write(w http.ResponseWriter, r *http.Request, a answer, spoil func([]byte) []byte) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = slices.Clone(v)
	}
	h.Set("OData-Version", "4.0")
	h.Set("Cache-Control", "no-cache")
	var body []byte
	if a.body != nil {
		body = m.encode(a.body)
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	if spoil != nil && body != nil {
		body = spoil(body)
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client may be gone
	}
}

func (m *Machine) encode(d doc) []byte {
	m.mu.Lock()
	slash := m.behaviour.TrailingSlash
	m.mu.Unlock()
	body, err := json.Marshal(d)
	if err != nil {
		panic(err) // documents are built here, of plain types
	}
	if slash {
		body = withSlashes(body)
	}
	return body
}

func trimSlash(path string) string {
	if path == "/" {
		return path
	}
	return strings.TrimRight(path, "/")
}
