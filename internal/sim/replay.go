package sim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
)

// A Replay is a site of BMCs that answer from recordings. Nothing runs on its
// nodes, and there are no images.
type Replay struct {
	site *Site // its directory, addresses and secrets; it has no nodes
	bmcs []replayed
}

// replayed is one BMC.
type replayed struct {
	recording.Recording
	address string // host:port
	cert    certificate
	web     *web
}

// exampleImage is what the site file wants of BMCs whose recording does not say
// what was wanted: something that would have to be mounted. Nobody serves it.
const (
	exampleImage = "example"
	exampleURL   = "http://192.0.2.10/iso/example.iso"
)

// StartReplay serves recordings, each as a BMC with an address and a certificate
// of its own, and writes a site file for them into dir. ctx bounds the start
// only; Close ends the site.
func StartReplay(ctx context.Context, dir string, all []recording.Recording) (*Replay, error) {
	if len(all) > maxNodes {
		return nil, fmt.Errorf("sim: %d recordings are too many to replay at once: %d is the limit; name the directory of one", len(all), maxNodes)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("sim: %w", err)
	}
	r := &Replay{site: &Site{cfg: Config{Dir: dir, Site: "replay"}}}
	if err := r.start(ctx, all); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Replay) start(ctx context.Context, all []recording.Recording) error {
	if err := r.site.claim(); err != nil {
		return err
	}
	var err error
	if r.site.secrets, err = newSecrets(r.site.cfg.Dir); err != nil {
		return err
	}
	listeners, err := r.listen(ctx, len(all))
	if err != nil {
		return err
	}
	for i, rec := range all {
		address := r.site.block.bmc(i + 1)
		cert, err := newCertificate(fmt.Sprintf("replay-%d", i+1), address)
		if err != nil {
			(&boundListeners{bmcs: listeners[i:]}).close()
			return err
		}
		r.bmcs = append(r.bmcs, replayed{
			Recording: rec, address: hostPort(address, bmcPort), cert: cert,
			web: serveWeb(listeners[i], rec.Handler(time.Now), &tls.Config{Certificates: []tls.Certificate{cert.tls}}),
		})
	}
	return writeFile(r.SiteFile(), r.siteFile())
}

// listen finds a block of addresses that is free.
func (r *Replay) listen(ctx context.Context, count int) ([]net.Listener, error) {
	const tries = 16
	var err error
	for range tries {
		r.site.block = randomBlock()
		var l boundListeners
		for i := range count {
			var one net.Listener
			if one, err = listen(ctx, r.site.block.bmc(i+1), bmcPort); err != nil {
				break
			}
			l.bmcs = append(l.bmcs, one)
		}
		if err == nil {
			return l.bmcs, nil
		}
		l.close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("sim: find free loopback addresses: %w", err)
}

// boundListeners are closed together.
type boundListeners struct{ bmcs []net.Listener }

func (l *boundListeners) close() {
	for _, x := range l.bmcs {
		_ = x.Close()
	}
}

// siteFile describes the recorded BMCs, with what the nodes were to run then.
func (r *Replay) siteFile() string {
	var b strings.Builder
	fmt.Fprintf(&b, `%s#
# Recorded BMCs, answered on this machine's loopback interface. What was not
# recorded is answered with 404 or 501. Try, in this directory:
#   livecd-sync plan   -f %s
#   livecd-sync doctor -f %s
apiVersion: livecd-sync/v1
site: replay

images:
`, siteFileMark, siteFileName, siteFileName)
	images := r.images()
	for _, name := range images.names {
		fmt.Fprintf(&b, "  %s: {url: %q}\n", word(name), images.urls[name])
	}
	fmt.Fprintf(&b, `
defaults:
  bmc:
    username: replay  # nobody asks
    password: {file: %s}

nodes:
`, bmcPasswordFile)
	taken := map[string]bool{}
	for _, one := range r.bmcs {
		for _, n := range one.nodes() {
			one.siteEntry(&b, n, unique(taken, n.Name), images.of(n))
		}
	}
	return b.String()
}

// nodes are those that the site file had behind the BMC. A mockup says nothing of
// that, and gets one.
func (r replayed) nodes() []recording.Node {
	if len(r.Nodes) > 0 {
		return r.Nodes
	}
	return []recording.Node{{Name: r.BMC, Image: exampleImage, URL: exampleURL}}
}

// unique makes a name of a node that is plain and not taken.
func unique(taken map[string]bool, name string) string {
	plain := strings.Trim(strings.Map(func(c rune) rune {
		if plainName.MatchString("a" + string(c)) {
			return c
		}
		return '-'
	}, name), "-._")
	if len(plain) > 50 {
		plain = plain[:50]
	}
	for n := plain; ; n += "x" {
		if n != "" && !taken[n] {
			taken[n] = true
			return n
		}
	}
}

// replayImages are the wanted images. One name may have stood for different URLs in
// different recordings.
type replayImages struct {
	names []string
	urls  map[string]string
	by    map[string]string // the name, by the URL
}

func (r *Replay) images() replayImages {
	out := replayImages{urls: map[string]string{}, by: map[string]string{}}
	taken := map[string]bool{"none": true}
	for _, one := range r.bmcs {
		for _, n := range one.nodes() {
			if n.URL == "" || out.by[n.URL] != "" {
				continue
			}
			name := unique(taken, n.Image)
			out.names, out.urls[name], out.by[n.URL] = append(out.names, name), n.URL, name
		}
	}
	slices.Sort(out.names)
	return out
}

// of is the name of a node's image, "none", or "" when its media was not managed.
func (i replayImages) of(n recording.Node) string {
	if n.URL == "" && n.Image != "none" {
		return ""
	}
	if n.URL == "" {
		return n.Image
	}
	return i.by[n.URL]
}

// siteEntry quotes whatever a recording says: it may come from anybody.
func (r replayed) siteEntry(b *strings.Builder, n recording.Node, name, image string) {
	extra := ""
	for _, f := range []struct{ key, value string }{{"system", n.System}, {"profile", n.Profile}, {"auth", n.Auth}} {
		if f.value != "" {
			extra += fmt.Sprintf(", %s: %q", f.key, f.value)
		}
	}
	fmt.Fprintf(b, "  %s:\n", word(name))
	fmt.Fprintf(b, "    bmc: {address: %q, tls: {fingerprint: %q}%s}\n", r.address, r.cert.fingerprint(), extra)
	if image != "" {
		fmt.Fprintf(b, "    image: %s\n", word(image))
	}
	if n.Reset != "" {
		fmt.Fprintf(b, "    reset: %q\n", n.Reset)
	}
	if n.Within != "" {
		fmt.Fprintf(b, "    boot: {within: %q}\n", n.Within)
	}
}

// SiteFile is the path of the site file that describes the recorded BMCs.
func (r *Replay) SiteFile() string { return r.site.SiteFile() }

// Count is how many BMCs answer.
func (r *Replay) Count() int { return len(r.bmcs) }

// Close ends everything that listens. Files stay. It may be called twice.
func (r *Replay) Close() error {
	for _, one := range r.bmcs {
		one.web.close()
	}
	r.bmcs = nil
	return r.site.Close()
}
