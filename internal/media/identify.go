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
	// ETag and Modified are what the server says the image's state is, in its own
	// words; "" where it says nothing, and for files.
	ETag, Modified string
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
// sectors, never the whole. That of a release is known once its ISO was taken
// out, to package library. client's redirect policy is not used, redirects are
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
		Err:  errors.New("its ISO was not taken out of " + img.Release + " yet"),
		Hint: "apply does that first",
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
		return r.probeEnd(ctx, d, h)
	}
	if h.size >= 0 && h.size < d.bytes {
		return Identity{}, truncated(r.op(), h.size, d.bytes)
	}
	return Identity{Volume: d.volume, Size: h.size, RangeRequests: h.ranges, ETag: h.etag, Modified: h.modified}, nil
}

func identifyFile(name string) (Identity, error) {
	f, st, err := Open(name)
	if err != nil {
		return Identity{}, err
	}
	defer func() { _ = f.Close() }() // only read
	return IdentifyAt("read image "+name, f, st.Size())
}

// Open opens an image, or a release, that is a file of this machine, to be read.
// What is no regular file is refused before it is opened: a pipe would be waited
// for. The error is a *bmc.Error of KindMedia.
func Open(name string) (*os.File, fs.FileInfo, error) {
	fail := func(err error, hint string) (*os.File, fs.FileInfo, error) {
		return nil, nil, &bmc.Error{Op: "read image " + name, Kind: bmc.KindMedia, Err: err, Hint: hint}
	}
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(pathless(err), "make the file readable for the user that runs livecd-sync")
	case err != nil:
		return fail(pathless(err), "check the path; it is relative to the site file")
	case st.IsDir():
		return fail(errors.New("it is a directory"), "name the file in it")
	case !st.Mode().IsRegular():
		return fail(errors.New("it is no regular file"), "name a file")
	case st.Size() == 0:
		return fail(errors.New("it is empty"), "copy it again")
	}
	f, err := os.Open(name)
	if err != nil {
		return fail(pathless(err), "make the file readable for the user that runs livecd-sync")
	}
	if st, err = f.Stat(); err != nil {
		_ = f.Close()
		return fail(pathless(err), "look at the file system that it is on")
	}
	return f, st, nil
}

// IdentifyAt reads the identity of an image of size bytes that can be read
// anywhere. op is what errors, which are as those of Identify, say was done.
func IdentifyAt(op string, r io.ReaderAt, size int64) (Identity, error) {
	fail := func(err error) (Identity, error) {
		return Identity{}, &bmc.Error{Op: op, Kind: bmc.KindMedia, Err: err, Hint: "check that it is an ISO, and the whole of it"}
	}
	sector := make([]byte, SectorSize)
	n, err := r.ReadAt(sector, DescriptorOffset)
	if err != nil && !errors.Is(err, io.EOF) {
		return fail(pathless(err))
	}
	d, err := parseDescriptor(sector[:n])
	if err != nil {
		return fail(err)
	}
	if size < d.bytes {
		return Identity{}, truncated(op, size, d.bytes)
	}
	// What lies here is served by livecd-sync itself, which answers range requests.
	return Identity{Volume: d.volume, Size: size, RangeRequests: true}, nil
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
