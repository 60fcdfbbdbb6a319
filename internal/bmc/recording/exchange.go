package recording

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Version is that of the files.
const Version = 1

// Info is a BMC's recording.json.
type Info struct {
	Version  int       `json:"version"`
	BMC      string    `json:"bmc"` // host or host:port, or its stand-in
	At       time.Time `json:"at"`
	By       string    `json:"by"` // the program and its version
	Redacted bool      `json:"redacted"`
	Nodes    []Node    `json:"nodes"`
}

// A Node is what the site file said of a node behind the BMC, as far as it bears
// on what was asked.
type Node struct {
	Name    string `json:"name"`
	System  string `json:"system,omitempty"`
	Profile string `json:"profile,omitempty"`
	Auth    string `json:"auth,omitempty"`
	Reset   string `json:"reset,omitempty"`
	Within  string `json:"within,omitempty"` // boot.within
	Image   string `json:"image,omitempty"`  // the name of the wanted image, or "none"
	URL     string `json:"url,omitempty"`    // of that image
}

// An Exchange is one request and what became of it.
type Exchange struct {
	Seq    int               `json:"seq"`
	At     time.Time         `json:"at"`
	Method string            `json:"method"`
	URI    string            `json:"uri"`            // path and query
	Auth   string            `json:"auth,omitempty"` // "basic" or "session": how it was signed
	Sent   map[string]string `json:"sent,omitempty"` // headers of the request
	// Asked is the request's body.
	Asked json.RawMessage `json:"asked,omitempty"`

	Status int               `json:"status"` // 0 if no answer came
	Header map[string]string `json:"header,omitempty"`
	// Body is the answer's, if that is JSON; else Text is.
	Body json.RawMessage `json:"body,omitempty"`
	Text string          `json:"text,omitempty"`
	// Error says why no answer came, or not the whole of it.
	Error        string `json:"error,omitempty"`
	Milliseconds int64  `json:"ms"` // until the answer was read
}

// The headers that matter: to what is answered, or to who reads it.
var (
	sentHeaders     = []string{"If-Match", "Content-Type"}
	answeredHeaders = []string{"Allow", "Content-Type", "Date", "ETag", "Location", "OData-Version", "Retry-After", "Server", "X-Auth-Token"}
)

func pick(h http.Header, names []string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		if v := h.Values(name); len(v) > 0 {
			out[name] = strings.Join(v, ", ")
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// writes reports whether the exchange may have changed something of the machine.
// Logging in and out does not.
func (e Exchange) writes() bool {
	return e.Method != http.MethodGet && e.Method != http.MethodHead && !e.session()
}

// session reports whether the exchange logs in or out.
func (e Exchange) session() bool {
	path, _, _ := strings.Cut(e.URI, "?")
	path = strings.TrimRight(path, "/")
	return e.Method == http.MethodPost && strings.HasSuffix(path, "/Sessions") ||
		e.Method == http.MethodDelete && sessionURI.MatchString(path)
}

var unplain = regexp.MustCompile(`[^A-Za-z0-9._]+`)

// longestName is how many characters of a path are in a file's name.
const longestName = 80

// file is the name of the exchange's file.
func (e Exchange) file() string {
	path := strings.Trim(unplain.ReplaceAllString(e.URI, "-"), "-")
	if short := strings.TrimPrefix(path, "redfish-v1-"); short != "" {
		path = short
	}
	if len(path) > longestName {
		path = path[:longestName]
	}
	return fmt.Sprintf("%04d-%s-%s.json", e.Seq, e.Method, path)
}

// encode writes v for people to read.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}
