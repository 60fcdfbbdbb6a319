package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// images is the web server that the site's images are on.
type images struct {
	*web
	base string // http://127.a.b.c[:port]

	mu    sync.Mutex
	reads map[string]int   // range requests by the image's name
	bytes map[string]int64 // that were sent of it
}

// identify reads from an image of one's own who it is.
func (i *ImageSpec) identify() error {
	if i.File == "" {
		return nil
	}
	name, err := filepath.Abs(i.File)
	if err != nil {
		return fmt.Errorf("sim: image %s: %w", i.Name, err)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("sim: image %s: %w", i.Name, err)
	}
	defer func() { _ = f.Close() }() // only read
	b := make([]byte, media.SectorSize)
	if _, err := f.ReadAt(b, media.DescriptorOffset); err != nil {
		return fmt.Errorf("sim: image %s: %s is no ISO image: %w", i.Name, name, err)
	}
	volume, err := media.ParseVolume(b)
	if err != nil {
		return fmt.Errorf("sim: image %s: %s: %w", i.Name, name, err)
	}
	i.File, i.VolumeID = name, volume.ID
	return nil
}

// writeImages makes the image files below dir.
func writeImages(dir string, specs []ImageSpec) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("sim: make the directory for images: %w", err)
	}
	for _, s := range specs {
		if err := writeImage(filepath.Join(dir, s.Name+".iso"), s); err != nil {
			return err
		}
	}
	return nil
}

func writeImage(name string, s ImageSpec) error {
	// Never written through: an earlier simulation may have left a link to
	// somebody's image there.
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sim: replace image %s: %w", s.Name, err)
	}
	if s.File != "" {
		if err := os.Symlink(s.File, name); err != nil {
			return fmt.Errorf("sim: link image %s: %w", s.Name, err)
		}
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("sim: make image %s: %w", s.Name, err)
	}
	err = isotest.Write(f, isotest.Image{VolumeID: s.VolumeID, Created: s.Created, Size: s.Size})
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// serveImages serves dir's images at /iso/NAME.iso.
func serveImages(l net.Listener, dir string) *images {
	im := &images{base: "http://" + strings.TrimSuffix(l.Addr().String(), ":80"), reads: map[string]int{}, bytes: map[string]int64{}}
	files := http.StripPrefix("/iso", http.FileServer(http.Dir(dir)))
	im.web = serveWeb(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, isImage := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/iso/"), ".iso")
		if !isImage || !plainName.MatchString(name) {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Range") != "" {
			im.mu.Lock()
			im.reads[name]++
			im.mu.Unlock()
		}
		sent := &countingWriter{ResponseWriter: w}
		files.ServeHTTP(sent, r)
		im.mu.Lock()
		im.bytes[name] += sent.n
		im.mu.Unlock()
	}), nil)
	return im
}

// countingWriter counts the bytes of a body.
type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.n += int64(n)
	return n, err
}

func (im *images) bytesSent(name string) int64 {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.bytes[name]
}

func (im *images) url(name string) string { return im.base + "/iso/" + name + ".iso" }

func (im *images) rangeReads(name string) int {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.reads[name]
}

// How a virtual drive reads: in pieces, and of a large image the beginning only,
// since a simulated node does not run what is in it.
const (
	readPiece = 64 << 10
	readLimit = 1 << 20
)

// drive reads images as a BMC does, from the BMC's own address, so that a web
// server's log tells who read.
type drive struct{ client *http.Client }

func newDrive(from netip.Addr) drive {
	dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	return drive{client: &http.Client{
		Timeout: 15 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true, // nothing is left open when a node is gone
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				if ip, err := netip.ParseAddr(host); (err != nil || !ip.IsLoopback()) && host != "localhost" {
					return nil, fmt.Errorf("a simulated BMC reaches this machine only, not %s", host)
				}
				return dialer.DialContext(ctx, network, address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// check is what a BMC reads when it mounts an image: where the volume descriptor
// should be. What it says is not looked at, as little as real BMCs do.
func (d drive) check(ctx context.Context, url string) error {
	_, _, err := d.piece(ctx, url, media.DescriptorOffset, media.SectorSize)
	return err
}

// volume reads who the image is.
func (d drive) volume(ctx context.Context, url string) (site.Volume, error) {
	b, _, err := d.piece(ctx, url, media.DescriptorOffset, media.SectorSize)
	if err != nil {
		return site.Volume{}, err
	}
	return media.ParseVolume(b)
}

// medium is an image as the node that boots it sees it.
type medium struct {
	volume site.Volume
	begin  []byte // its first readLimit bytes
}

// boot reads an image the way a booting node does.
func (d drive) boot(ctx context.Context, url string) (medium, error) {
	var m medium
	for total := int64(1); int64(len(m.begin)) < min(total, readLimit); {
		b, size, err := d.piece(ctx, url, int64(len(m.begin)), readPiece)
		if err != nil {
			return medium{}, err
		}
		if len(b) == 0 {
			return medium{}, errors.New("the image ends before its size")
		}
		m.begin, total = append(m.begin, b...), size
	}
	if len(m.begin) < media.DescriptorOffset {
		return medium{}, media.ErrNotISO
	}
	var err error
	m.volume, err = media.ParseVolume(m.begin[media.DescriptorOffset:])
	return m, err
}

// piece reads up to n bytes at offset and tells how long the whole is.
func (d drive) piece(ctx context.Context, url string, offset, n int64) (b []byte, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+n-1))
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return nil, 0, fmt.Errorf("%s: %s in answer to a range request", url, resp.Status)
	}
	var first, last int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil || first != offset {
		return nil, 0, fmt.Errorf("%s: other bytes than asked for", url)
	}
	b, err = io.ReadAll(io.LimitReader(resp.Body, n))
	return b, size, err
}
