package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// How long reading an image's identity may take.
const (
	connectTimeout = 5 * time.Second
	totalTimeout   = 15 * time.Second
)

// Identity is what tells an image, and how its server will treat a BMC.
type Identity struct {
	Volume site.Volume
	Size   int64 // of the whole image in bytes; -1 when its server does not tell
	// RangeRequests is false for a server that answers a range request with the
	// whole image. BMCs read by ranges (vendors.md 3.2), so they cannot use it.
	RangeRequests bool
}

// NewClient returns a client for Identify. It uses no proxy, because a BMC would
// not, and gives up connecting after five seconds. It is safe for concurrent
// use; CloseIdleConnections when done with it.
func NewClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: totalTimeout,
		MaxIdleConns:          4,
		IdleConnTimeout:       totalTimeout,
	}}
}

// Identify reads the identity of an image from its URL or its file: a few
// sectors, never the whole. client's redirect policy is not used, redirects are
// refused; a nil client stands for one of NewClient's. Over HTTP it takes 15
// seconds at most.
//
// The errors are *bmc.Error: KindUnreachable, KindTLS and KindTimeout when the
// server cannot be reached from here, KindMedia when the image is not there, is
// not an ISO 9660 image, or is shorter than it says itself.
func Identify(ctx context.Context, client *http.Client, img site.Image) (Identity, error) {
	switch {
	case img.File != "":
		return identifyFile(img.File)
	case img.URL != "":
		return identifyURL(ctx, client, img.URL)
	}
	return Identity{}, &bmc.Error{
		Op: "read image " + img.Name, Kind: bmc.KindMedia,
		Err:  errors.New("the image inside a release cannot be read yet"),
		Hint: "take the ISO out of the release tar file and name it with file: or url: instead",
	}
}

func identifyURL(ctx context.Context, client *http.Client, url string) (Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	if client == nil {
		client = NewClient()
		defer client.CloseIdleConnections()
	}
	r := remote{client: noRedirects(client), url: url}
	h, err := r.head(ctx)
	if err != nil {
		return Identity{}, err
	}
	d, err := parseDescriptor(h.sector)
	if err != nil {
		return Identity{}, r.fail(err, "check that the URL is that of an ISO and not of a web page")
	}
	if h.size < 0 && h.ranges {
		return r.probeEnd(ctx, d)
	}
	if h.size >= 0 && h.size < d.bytes {
		return Identity{}, truncated(r.op(), h.size, d.bytes)
	}
	return Identity{Volume: d.volume, Size: h.size, RangeRequests: h.ranges}, nil
}

func identifyFile(name string) (Identity, error) {
	op := "read image " + name
	f, err := os.Open(name)
	if err != nil {
		hint := "check the path; it is relative to the site file"
		if errors.Is(err, fs.ErrPermission) {
			hint = "make the file readable for the user that runs livecd-sync"
		}
		return Identity{}, &bmc.Error{Op: op, Kind: bmc.KindMedia, Err: pathless(err), Hint: hint}
	}
	defer func() { _ = f.Close() }() // only read
	sector := make([]byte, SectorSize)
	n, err := f.ReadAt(sector, DescriptorOffset)
	if err != nil && !errors.Is(err, io.EOF) {
		return Identity{}, &bmc.Error{Op: op, Kind: bmc.KindMedia, Err: pathless(err), Hint: "check that the path is that of an ISO file"}
	}
	d, err := parseDescriptor(sector[:n])
	if err != nil {
		return Identity{}, &bmc.Error{Op: op, Kind: bmc.KindMedia, Err: err, Hint: "check that the path is that of an ISO file"}
	}
	st, err := f.Stat()
	if err != nil {
		return Identity{}, &bmc.Error{Op: op, Kind: bmc.KindMedia, Err: pathless(err), Hint: "check that the path is that of an ISO file"}
	}
	if st.Size() < d.bytes {
		return Identity{}, truncated(op, st.Size(), d.bytes)
	}
	// A file is served by livecd-sync itself, which answers range requests.
	return Identity{Volume: d.volume, Size: st.Size(), RangeRequests: true}, nil
}

// pathless takes the path out of a file error: the operation names it already.
func pathless(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

func truncated(op string, size, want int64) error {
	return &bmc.Error{
		Op: op, Kind: bmc.KindMedia,
		Err:  fmt.Errorf("the image is truncated: %d bytes, but its file system has %d", size, want),
		Hint: "copy the image again and compare its checksum; a BMC would mount it as it is and the boot would fail later",
	}
}
