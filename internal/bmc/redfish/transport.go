package redfish

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	maxBody      = 8 << 20 // bytes of one answer; the largest real resource seen is under 100 kB
	maxHeader    = 64 << 10
	maxRedirects = 3
	// maxIdle is for how long a connection is trusted to carry a write. BMCs'
	// web servers drop idle connections after 5 s and more (lighttpd's default);
	// a write that dies on such a connection could not be told from one that
	// acted.
	maxIdle = 3 * time.Second
	// firstPause and lastPause bound how soon a busy BMC is asked again.
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// host is where a BMC is. Credentials go there and nowhere else.
type host struct{ Scheme, Host string }

// parseEndpoint checks a BMC's URL: https, a host, nothing behind it.
func parseEndpoint(raw string) (host, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return host{}, errors.New("the BMC's URL cannot be parsed")
	}
	if u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return host{}, fmt.Errorf("the BMC's URL %q is not https://HOST or https://HOST:PORT", u.Redacted())
	}
	return host{Scheme: "https", Host: strings.ToLower(u.Host)}, nil
}

// name is the host without its port, and address is both.
func (h host) name() string    { return (&url.URL{Host: h.Host}).Hostname() }
func (h host) address() string { return net.JoinHostPort(h.name(), port(&url.URL{Host: h.Host})) }

// is reports whether u is on this host, with default ports made alike.
func (h host) is(u *url.URL) bool {
	own := &url.URL{Host: h.Host}
	return strings.EqualFold(u.Scheme, h.Scheme) && strings.EqualFold(u.Hostname(), own.Hostname()) && port(u) == port(own)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

// local turns a reference that a BMC gave into a path on the same BMC. A
// reference to another host is an error: credentials must not follow it.
func (h host) local(ref string) (string, error) {
	u, err := url.Parse(ref)
	if err != nil || u.Opaque != "" {
		return "", fmt.Errorf("the link %.80q cannot be parsed", ref)
	}
	if u.Host != "" && !h.isAny(u) {
		return "", fmt.Errorf("the link %.80q leads to another host", ref)
	}
	if !strings.HasPrefix(u.Path, "/") {
		return "", fmt.Errorf("the link %.80q is not absolute", ref)
	}
	u.Scheme, u.Host, u.User, u.Fragment, u.RawFragment = "", "", nil, "", ""
	return u.String(), nil
}

// isAny is like is but also takes a reference without a scheme.
func (h host) isAny(u *url.URL) bool {
	if u.Scheme == "" {
		with := *u
		with.Scheme = h.Scheme
		u = &with
	}
	return h.is(u)
}

// A request is one thing asked of a BMC.
type request struct {
	method string
	uri    string // a path on the BMC
	body   []byte // JSON, or nil
	match  string // If-Match, verbatim, or ""
	open   bool   // sent without credentials
	basic  bool   // no session is opened for it
}

func (r request) writes() bool { return r.method != http.MethodGet }

// An answer is what a BMC said to a request, its body complete.
type answer struct {
	status int
	header http.Header
	body   []byte
	uri    string // where it came from, after redirects
	broken error  // why the body is not complete
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// wire is the http.RoundTripper under gofish. It signs requests, keeps them on
// one host, bounds and completes bodies, and keeps the answer as it came:
// gofish drops the headers of an error (vendors.md 7.3). It serves one request
// at a time.
type wire struct {
	base     *http.Transport
	carrier  http.RoundTripper // base, or what looks on around it
	endpoint host
	auth     *authorizer
	last     *answer   // to the last request sent
	used     time.Time // when the last answer came, by the machine's clock
	greeting bool      // the next request is gofish's greeting
}

var errForeign = errors.New("the BMC redirects to another host")

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	w.last = nil
	if w.greeting {
		w.greeting = false
		return emptyRoot(req), nil
	}
	if !w.endpoint.is(req.URL) {
		return nil, errForeign
	}
	req = req.Clone(req.Context())
	w.auth.sign(req)
	resp, err := w.carrier.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header, uri: req.URL.RequestURI()}
	a.body, a.broken = readAll(resp)
	w.last, w.used = a, time.Now()
	resp.Body = io.NopCloser(bytes.NewReader(a.body))
	return resp, nil
}

// emptyRoot answers gofish's greeting in the BMC's place. gofish reads the
// service root whenever it connects and fails on odd types in it; we read it
// ourselves, tolerantly, and only when it is needed.
func emptyRoot(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Request: req, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader("{}")),
	}
}

// readAll reads and closes an answer's body. The connection can be used again
// only if the body was read to its end.
func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil && resp.ContentLength > 0:
		return body, fmt.Errorf("broke off after %d of %d bytes: %w", len(body), resp.ContentLength, err)
	case err != nil:
		return body, fmt.Errorf("broke off after %d bytes: %w", len(body), err)
	case len(body) > maxBody:
		return nil, fmt.Errorf("sent more than %d MiB", maxBody>>20)
	}
	return body, nil
}

// redirected decides whether a redirect is followed: on the same host, with
// the same method and body (307, 308), a few times. A 301 to a POST would turn
// it into a GET whose 200 would look like success.
func redirected(endpoint host) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) > maxRedirects:
			return errors.New("the BMC redirects in circles")
		case !endpoint.is(req.URL):
			return errForeign
		case req.Method != via[0].Method:
			return http.ErrUseLastResponse
		}
		return nil
	}
}

// newTransport makes the connection's transport: its own tls.Config, one
// connection, HTTP/1.1, no proxy (a proxy's 403 looks like a BMC's,
// vendors.md 8).
func newTransport(t Timeouts, conf *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            (&net.Dialer{Timeout: t.Connect, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        conf,
		TLSHandshakeTimeout:    2 * t.Connect,
		MaxConnsPerHost:        1,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        time.Minute,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              &protocols,
	}
}

// exchange sends one request once and gives the answer, whatever its status.
// The error is a *bmc.Error.
func (c *Client) exchange(ctx context.Context, op string, r request) (answer, error) {
	if r.writes() && !c.wire.used.IsZero() && time.Since(c.wire.used) > maxIdle {
		c.wire.base.CloseIdleConnections()
	}
	limit := c.timeouts.Read
	if r.writes() {
		limit = c.timeouts.Write
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var sent bool
	attempt = httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent = true }})
	start := time.Now()
	err := c.run(attempt, r)
	a := c.wire.last
	if c.log != nil {
		e := Exchange{Node: c.node, Method: r.method, URI: r.uri, Took: time.Since(start), Err: err}
		if a != nil {
			e.Status, e.Err = a.status, a.broken
		}
		c.log(e)
	}
	switch {
	case errors.Is(err, errForeign):
		return answer{}, malformed(op, r.uri, "redirects to another host, where no credentials are sent")
	case a == nil:
		return answer{}, c.lost(ctx, op, r, sent, err)
	case a.broken != nil && a.ok():
		return *a, c.brokenBody(ctx, op, r, *a)
	}
	return *a, nil
}

// run hands the request to gofish. What it returns is looked at only when the
// wire kept no answer.
func (c *Client) run(ctx context.Context, r request) error {
	headers := map[string]string{"OData-Version": "4.0"}
	if r.match != "" {
		headers["If-Match"] = r.match
	}
	var body io.ReadSeeker
	contentType := ""
	if r.body != nil {
		body, contentType = bytes.NewReader(r.body), "application/json"
	}
	if r.open {
		ctx = context.WithValue(ctx, openKey{}, true)
	}
	c.wire.last = nil
	resp, err := c.api.WithContext(ctx).RunRawRequestWithHeaders(r.method, r.uri, body, contentType, headers)
	if resp != nil {
		resp.Body.Close()
	}
	return err
}

// brokenBody is a 2xx whose body did not come whole. A write with such an
// answer has acted, but what it said is lost.
func (c *Client) brokenBody(ctx context.Context, op string, r request, a answer) error {
	if ctx.Err() != nil || isTimeout(a.broken) {
		return c.lost(ctx, op, r, true, a.broken)
	}
	e := malformed(op, r.uri, a.broken.Error())
	e.Uncertain = r.writes()
	return e
}

// ask sends a request and gives its answer if that is a success. Logging in,
// and waiting while the BMC is busy, happen in here. The error is a *bmc.Error.
func (c *Client) ask(ctx context.Context, op string, r request) (answer, error) {
	return c.askUnless(ctx, op, r, nil)
}

// errHeld ends the waiting for a busy BMC: what was asked for is so already.
var errHeld = errors.New("the machine is as wanted already")

// askUnless is ask for requests that must not be repeated blindly: before each
// repetition, settled looks at the machine. Its error ends the waiting, errHeld
// with the empty answer as a success.
func (c *Client) askUnless(ctx context.Context, op string, r request, settled func(context.Context, *bmc.Error) error) (answer, error) {
	budget := c.timeouts.BusyRead
	if r.writes() {
		budget = c.timeouts.Busy
	}
	deadline := c.clock.Now().Add(budget)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		a, err := c.send(ctx, op, r)
		if err != nil {
			return a, err
		}
		if a.ok() && !complains(a) {
			return a, odd(op, r, a)
		}
		e := c.refused(op, r, a)
		if r.writes() {
			c.doubt(e)
		}
		wait := max(pause, e.RetryAfter)
		if e.Kind != bmc.KindBusy || e.Uncertain || c.clock.Now().Add(wait).After(deadline) {
			return a, e
		}
		if c.clock.Sleep(ctx, wait) != nil {
			return a, c.lost(ctx, op, r, false, ctx.Err())
		}
		if settled == nil {
			continue
		}
		if err := settled(ctx, e); errors.Is(err, errHeld) {
			return answer{}, nil
		} else if err != nil {
			return a, err
		}
	}
}

// odd is the error of a write that was answered with a page: something else
// answers in the BMC's place.
func odd(op string, r request, a answer) error {
	if !r.writes() || !bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<")) {
		return nil
	}
	e := malformed(op, r.uri, "sent HTML or XML where a JSON object belongs")
	e.Uncertain = true
	return e
}

// complains reports whether the body of a success says that it is none. Most
// error-shaped bodies of a 2xx have the severity OK: iLO's Success, AMI's
// DelayInActionCompletion (vendors.md 3.2).
func complains(a answer) bool {
	for _, m := range messagesOf(a.body) {
		if m.critical() {
			return true
		}
	}
	return false
}
