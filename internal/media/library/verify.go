package library

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// served is what a server says of an image's state. Two that are alike are of the
// same bytes, as far as a server's word goes that says at least one of the first two.
type served struct {
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"`
	Size     int64  `json:"size"`
}

// Verified says whether the image at a URL is the one whose digest the site file
// has, by what an earlier Verify of the same state has found. id is what
// media.Identify has just read. The errors are those of Look.
func (l *Library) Verified(img site.Image, id media.Identity) error {
	e, ok := l.get(keyOf(img))
	if !ok || e.Served == nil || *e.Served != (served{id.ETag, id.Modified, id.Size}) {
		return ErrNotRead
	}
	if id.ETag == "" && id.Modified == "" && !l.remembers(keyOf(img)) {
		return ErrNotRead // an earlier process's word for a size alone is no proof
	}
	if e.SHA256 != img.SHA256 {
		return otherDigest(img, "its sha256 is "+e.SHA256)
	}
	return nil
}

// Verify reads an image from its URL, whole and without keeping it, and compares its
// digest with the one that the site file has. It remembers the outcome for as long as
// the server says that the image is the same; a server that says nothing of that is
// believed for as long as the Library lives.
//
// Its errors are those of media.Identify, and of KindMedia when the digest is another.
func (l *Library) Verify(ctx context.Context, img site.Image, progress func(Progress)) error {
	j := job{Library: l, img: img, key: keyOf(img), tell: progress}
	free, err := j.lock(ctx)
	if err != nil {
		return err
	}
	defer free()
	id, err := media.Identify(ctx, l.Client, img)
	if err != nil {
		return err
	}
	if err := l.Verified(img, id); !errors.Is(err, ErrNotRead) {
		return err // another one has done it meanwhile
	}
	sum, n, err := j.download(ctx, id)
	if err != nil {
		return err
	}
	e := entry{Source: img.URL, Served: &served{id.ETag, id.Modified, id.Size}, Size: n, SHA256: sum, Volume: id.Volume}
	_ = l.put(j.key, e) // without it, it is only read again
	return l.Verified(img, id)
}

// stalled is for how long a server may send nothing.
const stalled = time.Minute

// download digests what a server sends, if it is in the state that id is of.
func (j *job) download(ctx context.Context, id media.Identity) (sum string, n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(stalled, func() { cancel(errStalled) })
	defer silent.Stop()
	resp, err := j.ask(ctx)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.Header.Get("ETag") != id.ETag || resp.Header.Get("Last-Modified") != id.Modified {
		return "", 0, j.fail(errors.New("it changed while it was read"), "wait until it has been copied to the web server, and run it again")
	}
	h := sha256.New()
	in := &meter{ctx: ctx, r: resp.Body, tell: func(n int64) {
		silent.Reset(stalled)
		j.progress(Progress{Verifying, n, max(id.Size, 0)})
	}}
	n, err = io.CopyBuffer(h, in, make([]byte, block))
	if err == nil && id.Size >= 0 && n != id.Size {
		err = fmt.Errorf("%d bytes were announced, and %d came", id.Size, n)
	}
	if err != nil {
		return "", 0, j.brokenOff(ctx, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

var errStalled = fmt.Errorf("the web server sent nothing for %s", stalled)

func (j *job) ask(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.img.URL, http.NoBody)
	if err != nil {
		return nil, j.fail(err, "write the image's url as http://host/directory/name.iso")
	}
	client := j.Client
	if client == nil {
		client = media.NewClient()
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, j.brokenOff(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // it is not read
		return nil, j.fail(fmt.Errorf("the web server answers %q", resp.Status), "ask for the URL with curl; the web server's log says why")
	}
	return resp, nil
}

// brokenOff is a download that did not come to its end.
func (j *job) brokenOff(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errStalled):
		return &bmc.Error{Op: op(j.img), Kind: bmc.KindTimeout, Err: cause, Hint: "look at the web server, and run it again"}
	case cause != nil:
		return j.cancelled(cause)
	}
	return &bmc.Error{
		Op: op(j.img), Kind: bmc.KindUnreachable, Err: urlless(err), Hint: "look at the web server and the network, and run it again",
	}
}

// urlless takes the method and the URL out of a client's error: the operation names
// it already.
func urlless(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
