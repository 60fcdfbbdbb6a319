package media

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// remote is an image on a web server.
type remote struct {
	client *http.Client
	url    string
}

// head is the part of a remote image that identifies it.
type head struct {
	sector []byte
	size   int64 // of the whole image, -1 if not told
	ranges bool

	etag, modified string
}

func noRedirects(c *http.Client) *http.Client {
	strict := *c
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &strict
}

// head reads the primary volume descriptor with one range request.
func (r remote) head(ctx context.Context) (head, error) {
	resp, err := r.get(ctx, DescriptorOffset, SectorSize)
	if err != nil {
		return head{}, err
	}
	defer resp.Body.Close()
	h := head{etag: resp.Header.Get("ETag"), modified: resp.Header.Get("Last-Modified")}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		return r.part(resp, h)
	case http.StatusOK:
		return r.whole(resp, h)
	case http.StatusRequestedRangeNotSatisfiable:
		return head{}, r.fail(fmt.Errorf("%w, it ends before", ErrNotISO),
			"copy the image again and compare its checksum")
	}
	return head{}, r.status(resp)
}

func (r remote) part(resp *http.Response, h head) (head, error) {
	first, size, err := contentRange(resp.Header.Get("Content-Range"))
	if err == nil && first != DescriptorOffset {
		err = fmt.Errorf("bytes from %d on were asked for, the server sends those from %d on", DescriptorOffset, first)
	}
	if err != nil {
		return head{}, r.fail(err, "serve the image by a web server that answers range requests")
	}
	h.size, h.ranges = size, true
	h.sector, err = r.read(resp, SectorSize)
	return h, err
}

// whole takes the descriptor from an answer that ignored the range. Closing the
// body after 34 KiB drops the connection: the rest is not sent for nothing.
func (r remote) whole(resp *http.Response, h head) (head, error) {
	b, err := r.read(resp, headSize)
	if err != nil {
		return head{}, err
	}
	h.sector, h.size = b[min(DescriptorOffset, len(b)):], resp.ContentLength
	return h, nil
}

// read returns up to n bytes of the body; fewer when it ends before.
func (r remote) read(resp *http.Response, n int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, n))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, r.unreachable(err)
	}
	return b, nil
}

// probeEnd asks for the last sector of an image whose size is not told: a server
// that has it has the whole.
func (r remote) probeEnd(ctx context.Context, d descriptor, h head) (Identity, error) {
	resp, err := r.get(ctx, max(0, d.bytes-SectorSize), SectorSize)
	if err != nil {
		return Identity{}, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		return Identity{Volume: d.volume, Size: -1, RangeRequests: true, ETag: h.etag, Modified: h.modified}, nil
	case http.StatusRequestedRangeNotSatisfiable:
		return Identity{}, r.fail(fmt.Errorf("the image is truncated: its file system has %d bytes and the last are missing", d.bytes),
			"copy the image again and compare its checksum")
	}
	return Identity{}, r.status(resp)
}

func (r remote) get(ctx context.Context, offset, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, &bmc.Error{Op: r.op(), Kind: bmc.KindURL, Err: err, Hint: "write the image's url as http://host/directory/name.iso"}
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+length-1))
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, r.unreachable(err)
	}
	return resp, nil
}

// contentRange parses "bytes 32768-34815/52428800"; size is -1 for "…/*".
func contentRange(s string) (first, size int64, err error) {
	bad := fmt.Errorf("the server's Content-Range %q cannot be understood", s)
	span, total, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	from, _, isSpan := strings.Cut(span, "-")
	if !ok || !isSpan {
		return 0, 0, bad
	}
	if first, err = strconv.ParseInt(from, 10, 64); err != nil {
		return 0, 0, bad
	}
	if total == "*" {
		return first, -1, nil
	}
	if size, err = strconv.ParseInt(total, 10, 64); err != nil || size < 0 {
		return 0, 0, bad
	}
	return first, size, nil
}

func (r remote) op() string { return "read image " + redacted(r.url) }

// redacted hides the password of a URL that has one.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	return u.Redacted()
}

func (r remote) fail(err error, hint string) error {
	return &bmc.Error{Op: r.op(), Kind: bmc.KindMedia, Err: err, Hint: hint}
}

// status turns an answer that is no image into an error.
func (r remote) status(resp *http.Response) error {
	hint := "ask for the URL with curl -r 0-0; the web server's log says why"
	err := fmt.Errorf("the web server answers %q", resp.Status)
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		hint = "check the image's url, and that the file is in the web server's directory"
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		hint = "make the image readable for everyone: BMCs do not log in to web servers"
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		err = fmt.Errorf("the web server redirects to %q", redacted(resp.Header.Get("Location")))
		hint = "name the final URL in the site file: BMCs do not follow redirects reliably"
	}
	return r.fail(err, hint)
}

// unreachable classes an error of the transport.
func (r remote) unreachable(err error) error {
	e := &bmc.Error{
		Op: r.op(), Kind: bmc.KindUnreachable, Err: urlless(err),
		Hint: "check that the web server runs and that its name resolves; BMCs need a route to it as well",
	}
	var netErr net.Error
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind, e.Hint = bmc.KindCancelled, "run it again"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		e.Kind = bmc.KindTimeout
		e.Err = errors.New("the web server did not answer in time")
		e.Hint = "check the route and the firewall between here and the web server"
	case isTLS(err):
		e.Kind = bmc.KindTLS
		e.Hint = "serve the image by plain http, which every BMC can mount, or mend the certificate"
	}
	return e
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// urlless takes the method and the URL out of a client's error: the operation
// names it already, without its password.
func urlless(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
