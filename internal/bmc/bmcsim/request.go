package bmcsim

import (
	"encoding/json"
	"slices"
	"strings"
)

// A Request is one line of what the BMC was asked. No secret is kept.
type Request struct {
	Method  string
	Path    string
	Query   string // as it was sent; "" for none
	Status  int    // of the answer; 0 while and when there is none
	Auth    string // "basic", "session", or "" for neither
	IfMatch string
	Body    string // as compact JSON, passwords left out; "" when empty or no JSON
}

// URI is what was asked for: the path and the query.
func (r Request) URI() string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}

// maxRequests is how many requests are remembered.
const maxRequests = 4096

// Requests lists what the BMC was asked, oldest first; only the newest 4096 are
// kept. The in-memory client's calls are listed as the requests they stand for.
func (m *Machine) Requests() []Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Request, len(m.requests))
	for i, r := range m.requests {
		list[i] = *r
	}
	return list
}

// ForgetRequests empties the list, so that a test can look at what comes next.
func (m *Machine) ForgetRequests() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests = nil
}

// BeforeAnswer has f called with each request that was dealt with, before its
// answer is written: the moment at which a client that is killed has sent a
// request, had it acted upon, and learnt nothing. f is called without the
// machine's lock, by HTTP requests only; nil ends it.
func (m *Machine) BeforeAnswer(f func(Request)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beforeAnswer = f
}

// log remembers a request. The lock is held by the caller.
func (m *Machine) log(r *Request) {
	if len(m.requests) >= maxRequests {
		m.requests = slices.Delete(m.requests, 0, maxRequests/2)
	}
	m.requests = append(m.requests, r)
}

// summary is a request's body fit to be kept.
func summary(body []byte) string {
	var v map[string]any
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	for name := range v {
		if strings.EqualFold(name, "Password") || strings.EqualFold(name, "Token") {
			v[name] = "(secret)"
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
