package redfish

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// refusal is an answer with an error status, as the cause inside a *bmc.Error.
type refusal struct {
	status   int
	messages messages
	text     string
}

func (r *refusal) Error() string { return r.text }

// refusalIn gives the refusal that an error was made from, if any.
func refusalIn(err error) (*refusal, bool) { return errors.AsType[*refusal](err) }

// gone reports whether the resource asked for is not there.
func gone(err error) bool {
	r, ok := refusalIn(err)
	return ok && (r.status == http.StatusNotFound || r.status == http.StatusGone)
}

// fatal reports whether an error says something of the BMC or of us as a
// whole, so that trying another resource of it makes no sense.
func fatal(err error) bool {
	switch bmc.KindOf(err) {
	case bmc.KindAuth, bmc.KindTLS, bmc.KindUnreachable, bmc.KindTimeout, bmc.KindCancelled:
		return true
	default:
		return false
	}
}

// refused turns an answer with an error status, or one whose messages the BMC
// itself calls critical, into an error. The first message whose id the profile
// knows decides the kind, else the status does (vendors.md 5.5).
func (c *Client) refused(op string, r request, a answer) *bmc.Error {
	ms := messagesOf(a.body)
	kind := kindOfStatus(a.status)
	// What the BMC says with a 401 changes nothing about it.
	if k, ok := c.kindOf(ms); ok && a.status != http.StatusUnauthorized {
		kind = k
	}
	text := fmt.Sprintf("the BMC answered %s %s with %s", r.method, short(r.uri), statusText(a.status))
	if quoted := c.quote(ms, a); quoted != "" {
		text += ": " + quoted
	}
	return &bmc.Error{
		Op: op, Kind: kind, Hint: hintFor(kind, a.status),
		Err:        &refusal{status: a.status, messages: ms, text: text},
		Uncertain:  r.writes() && mayHaveActed(a.status),
		RetryAfter: retryAfter(a.header, c.clock.Now()),
	}
}

// mayHaveActed: a server error can come after the deed; 501 and 503 and the
// 4xx are said before it.
func mayHaveActed(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return status < 300
}

func (c *Client) kindOf(ms messages) (bmc.Kind, bool) {
	for _, m := range ms {
		if k, ok := c.kinds()[m.name()]; ok {
			return k, true
		}
	}
	return "", false
}

// kinds is the profile's table of MessageIds; before a profile was chosen, the
// last row's, which is the generic one.
func (c *Client) kinds() map[string]bmc.Kind {
	if c.tree != nil {
		return c.tree.Profile.Kinds
	}
	if n := len(c.profiles); n > 0 {
		return c.profiles[n-1].Kinds
	}
	return nil
}

func kindOfStatus(status int) bmc.Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return bmc.KindAuth
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		return bmc.KindBusy
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return bmc.KindTimeout
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return bmc.KindUnsupported
	}
	return bmc.KindProtocol
}

func hintFor(kind bmc.Kind, status int) string {
	switch kind {
	case bmc.KindAuth:
		if status == http.StatusUnauthorized {
			return "check bmc.username and bmc.password; nothing more is sent with them, so that the account is not locked"
		}
		return "give the account the privileges to log in, configure, use virtual media and reset"
	case bmc.KindBusy:
		return "the BMC is busy (often while the host is in POST); try again in a few minutes"
	case bmc.KindLicence:
		return "install the BMC's licence for remote media (iLO Advanced, SFT-OOB-LIC and the like)"
	case bmc.KindUnsupported:
		return "see with -v what its BMC was asked; docs/bmcs.md says which BMCs can do what"
	case bmc.KindURL:
		return "the BMC takes no such URL; serve the image under a plain one: http://HOST/iso/NAME.iso"
	case bmc.KindMedia:
		return "check from the BMC's network that the image can be fetched, and that nothing else is mounted"
	case bmc.KindTimeout:
		return "check the BMC's health, or raise --timeout"
	default:
		return "run again with -v; if it stays, the BMC's firmware may need an update or a reset of the BMC"
	}
}

const (
	maxQuoted   = 200 // runes of one message of a BMC that are shown
	maxMessages = 2
)

// quote shows what a BMC said, shortly and without what could play tricks on a
// terminal or give the password away.
func (c *Client) quote(ms messages, a answer) string {
	var out []string
	for _, m := range ms {
		if len(out) == maxMessages {
			break
		}
		switch {
		case m.ID.v != "" && m.Text.v != "":
			out = append(out, m.Text.v+" ("+m.ID.v+")")
		case m.ID.v != "" || m.Text.v != "":
			out = append(out, m.Text.v+m.ID.v)
		}
	}
	if len(out) == 0 && len(a.body) > 0 && !strings.Contains(a.header.Get("Content-Type"), "html") {
		out = append(out, string(a.body[:min(len(a.body), 4*maxQuoted)]))
	}
	for i, s := range out {
		out[i] = c.clean(s)
	}
	return strings.Join(out, "; ")
}

// clean makes a BMC's text fit to be shown: one line, bounded, no controls, no
// password.
func (c *Client) clean(s string) string {
	if p := c.auth.cred.Password.Reveal(); len(p) > 2 {
		s = strings.ReplaceAll(s, p, c.auth.cred.Password.String())
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if rs := []rune(s); len(rs) > maxQuoted {
		s = string(rs[:maxQuoted]) + "…"
	}
	return s
}

// malformed is an answer that is no Redfish document.
func malformed(op, uri, what string) *bmc.Error {
	return &bmc.Error{
		Op: op, Kind: bmc.KindProtocol,
		Hint: "check that bmc.address is a BMC's Redfish service; if it is, reset the BMC or update its firmware",
		Err:  fmt.Errorf("%s %s", short(uri), what),
	}
}

// wrongType is a needed field of a type that it cannot have.
func wrongType(op, uri, field string) *bmc.Error {
	return malformed(op, uri, "holds a "+field+" of the wrong type")
}

// lost turns a request that got no answer into an error. sent tells whether
// the request may have reached the BMC.
func (c *Client) lost(ctx context.Context, op string, r request, sent bool, err error) *bmc.Error {
	e := &bmc.Error{Op: op, Uncertain: sent && r.writes()}
	where := c.endpoint.Host
	var dns *net.DNSError
	var dial *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind, e.Err, e.Hint = bmc.KindCancelled, fmt.Errorf("cancelled while %s was asked: %w", where, context.Canceled),
			"run the same command again to go on from where the node stands"
	case ctx.Err() != nil:
		e.Kind, e.Err, e.Hint = bmc.KindTimeout, fmt.Errorf("time ran out while %s was asked: %w", where, ctx.Err()),
			hintFor(bmc.KindTimeout, 0)
	case c.asTLS(e, err):
	case errors.As(err, &dns):
		e.Kind, e.Err, e.Hint = bmc.KindUnreachable, fmt.Errorf("the name %s has no address: %w", dns.Name, err),
			"check bmc.address and the name server"
	case errors.As(err, &dial) && dial.Op == "dial":
		e.Kind, e.Err, e.Hint = bmc.KindUnreachable, fmt.Errorf("nothing answers at %s: %w", where, dial.Err),
			"check bmc.address, the network to the BMC and that the BMC is up"
	case isTimeout(err):
		e.Kind, e.Err, e.Hint = bmc.KindTimeout, fmt.Errorf("%s gave no answer to %s %s in time", where, r.method, short(r.uri)),
			"the BMC may be overloaded or hung; try again, and reset the BMC if it stays"
	default:
		e.Kind, e.Err, e.Hint = bmc.KindUnreachable, fmt.Errorf("%s dropped the connection on %s %s: %w", where, r.method, short(r.uri), rootCause(err)),
			"try again; if it stays, check that bmc.address is the BMC's HTTPS port"
	}
	return e
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// rootCause drops what net/http wraps around an error: it repeats the URL.
func rootCause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// Fingerprint is how a site file names a certificate.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// asTLS fills e when err is about the TLS of the connection.
func (c *Client) asTLS(e *bmc.Error, err error) bool {
	var changed *bmc.CertificateChange
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &changed):
		e.Err = changed
		e.Hint = "if the BMC was given a new certificate, livecd-sync trust -w " + c.node + " --replace " + c.node +
			" accepts it; if not, somebody may be in between, and no password was sent"
	case errors.As(err, &verify):
		got := "unknown"
		if len(verify.UnverifiedCertificates) > 0 {
			got = Fingerprint(verify.UnverifiedCertificates[0])
		}
		e.Err = fmt.Errorf("the certificate of %s, %s, is not trusted: %w", c.endpoint.Host, got, verify.Err)
		e.Hint = "compare it with the one in the BMC's web page, then livecd-sync trust -w " + c.node +
			" writes it into the site file; or give its authority as tls: {ca: FILE}"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		e.Err = fmt.Errorf("%s does not speak TLS", c.endpoint.Host)
		e.Hint = "check that bmc.address is the BMC's HTTPS port"
	case errors.As(err, &alert), strings.Contains(err.Error(), "tls: "):
		e.Err = fmt.Errorf("no TLS connection with %s: %w", c.endpoint.Host, rootCause(err))
		e.Hint = "the BMC may only know TLS that is too old; update its firmware, or if that cannot be, try bmc.oldCiphers: true"
	default:
		return false
	}
	e.Kind = bmc.KindTLS
	return true
}

func statusText(status int) string {
	if t := http.StatusText(status); t != "" {
		return fmt.Sprintf("%d %s", status, t)
	}
	return fmt.Sprint(status)
}

// short is a URI as shown to people.
func short(uri string) string {
	if s := strings.Trim(strings.TrimPrefix(uri, "/redfish/v1"), "/"); s != "" {
		return s
	}
	return "the service root"
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if d, err := time.ParseDuration(v + "s"); err == nil {
		return max(d, 0)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}
