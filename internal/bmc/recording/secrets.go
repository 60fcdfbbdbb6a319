package recording

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// hidden stands where a secret was.
const hidden = "(secret)"

// secretKey matches the names of properties whose text is a secret.
var secretKey = regexp.MustCompile(`(?i)passw|passphrase|secret|token|credential|licen[cs]ekey|(private|priv|pre-?shared|shared|api|auth|encrypt(ion)?|hmac)_?key|community`)

var (
	sessionURI  = regexp.MustCompile(`(/Sessions/(?:Members/)?)([^/?#\s"']+)`)
	privateKey  = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?`)
	userinfo    = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s"]+@`)
	secretQuery = regexp.MustCompile(`(?i)([?&][^=&\s$]*(?:sig|token|secret|passw|key|credential)[^=&\s]*=)[^&\s"]+`)
)

// scrubber takes the secrets out of one BMC's exchanges. It is safe for
// concurrent use.
type scrubber struct {
	mu       sync.Mutex
	known    []string          // secrets wherever they stand, in all of their forms
	sessions map[string]string // a session's id to its stand-in
}

// shortestSecret is below which a secret cannot be told from other text.
const shortestSecret = 4

// know adds a secret that must not be written down wherever it stands.
func (s *scrubber) know(username, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) < shortestSecret {
		return
	}
	s.known = append(s.known, base64.StdEncoding.EncodeToString([]byte(username+":"+secret)), secret,
		url.QueryEscape(secret), url.PathEscape(secret), html.EscapeString(secret))
}

// text takes what is secret wherever it stands out of a text.
func (s *scrubber) text(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.known {
		text = strings.ReplaceAll(text, k, hidden)
	}
	if strings.Contains(text, "/Sessions/") {
		text = sessionURI.ReplaceAllStringFunc(text, s.session)
	}
	if strings.Contains(text, "PRIVATE KEY") {
		text = privateKey.ReplaceAllString(text, hidden)
	}
	if strings.Contains(text, "//") {
		text = userinfo.ReplaceAllString(text, "$1"+hidden+"@")
		text = secretQuery.ReplaceAllString(text, "$1"+hidden)
	}
	return text
}

// session gives a session's address with a stand-in for its id: on some BMCs
// who knows the id can end the session, and on some it is the token.
func (s *scrubber) session(uri string) string {
	m := sessionURI.FindStringSubmatch(uri)
	if m == nil || m[2] == "Members" {
		return uri
	}
	if s.sessions == nil {
		s.sessions = map[string]string{}
	}
	if s.sessions[m[2]] == "" {
		s.sessions[m[2]] = fmt.Sprintf("session-%d", len(s.sessions)+1)
	}
	return m[1] + s.sessions[m[2]]
}

// property is a text of a JSON document without what is secret.
func (s *scrubber) property(way []string, text string) string {
	for _, key := range way {
		switch {
		case strings.Contains(key, "@"), strings.HasPrefix(key, "#"):
			return s.text(text) // annotations and actions: links, and values to choose from
		case secretKey.MatchString(key) && !strings.Contains(way[len(way)-1], "@odata.") && text != "":
			return hidden
		}
	}
	return s.text(text)
}

// exchange takes the secrets out of an exchange.
func (s *scrubber) exchange(e *Exchange) {
	if token := e.Header["X-Auth-Token"]; token != "" {
		s.know("", token)
		e.Header["X-Auth-Token"] = hidden
	}
	// A session's answer may name its id before it gives its address.
	if e.session() {
		s.text(e.Header["Location"] + " " + string(e.Body))
	}
	id := s.sessionIDs(e)
	e.URI = s.text(e.URI)
	for _, h := range []map[string]string{e.Sent, e.Header} {
		for k, v := range h {
			h[k] = s.text(v)
		}
	}
	f := func(way []string, text string) string {
		if standIn := id[text]; standIn != "" {
			return standIn
		}
		return s.property(way, text)
	}
	e.Asked, e.Body = rewrite(e.Asked, f), rewrite(e.Body, f)
	e.Text, e.Error = s.text(e.Text), s.text(e.Error)
}

// sessionIDs are the ids that a session's own answer may name by themselves.
func (s *scrubber) sessionIDs(e *Exchange) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) == 0 || !strings.Contains(e.URI, "/Sessions") {
		return nil
	}
	out := map[string]string{}
	for id, standIn := range s.sessions {
		if len(id) >= shortestSecret {
			out[id] = standIn
		}
	}
	return out
}

// rewrite gives a JSON document with each of its texts changed by f, which is
// told the names of the properties that lead to it. Order and numbers stay as
// they are.
func rewrite(doc json.RawMessage, f func(way []string, text string) string) json.RawMessage {
	if len(doc) == 0 {
		return doc
	}
	w := rewriter{f: f}
	return w.value(doc)
}
