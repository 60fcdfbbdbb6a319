package imageserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/media/isomap"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = Key{1, 2, 3}

// content makes an image's file, with bytes that differ from place to place.
func content(t testing.TB, size int) (media.Local, []byte) {
	t.Helper()
	b := make([]byte, size)
	random := rand.New(rand.NewPCG(1, uint64(size)))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	name := filepath.Join(t.TempDir(), "pit.iso")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return asLocal(t, name, b), b
}

func asLocal(t testing.TB, name string, b []byte) media.Local {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return media.Local{Name: "pit", Path: name, Size: int64(len(b)), SHA256: hex.EncodeToString(sum[:]), ModTime: st.ModTime()}
}

// running is a server with one image for nodes n1 and n2.
type running struct {
	*Server
	base  string
	image media.Local
	ended chan error
}

func start(t testing.TB, img media.Local, limits Limits, wrap func(net.Listener) net.Listener) *running {
	t.Helper()
	r := &running{Server: New(Config{Key: testKey, Now: bmc.SystemClock{}.Now, Limits: limits}), image: img, ended: make(chan error, 1)}
	r.Offer([]string{"n1", "n2"}, []media.Local{img})
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.base = "http://" + l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() { r.ended <- r.Serve(ctx, l, nil) }()
	t.Cleanup(func() {
		stop()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *running) url(node string) string { return r.base + testKey.Path(node, r.image.SHA256) }

// get asks with a header or two, "Name: value".
func get(t testing.TB, method, url string, headers ...string) (*http.Response, []byte, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, b, err
}

func mustGet(t testing.TB, method, url string, headers ...string) (*http.Response, []byte) {
	t.Helper()
	resp, b, err := get(t, method, url, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

// The names are what BMCs take (vendors.md 3.2), and tell nothing of each other.
func TestPaths(t *testing.T) {
	const digest = "3c0b8f21a94d77e5aa0f6c1f3b1f0c9e8d7c6b5a493827160594837261504f3e"
	plain := regexp.MustCompile(`^/[a-z0-9]+/[a-z0-9]+\.iso$`)
	seen := map[string]bool{}
	for _, node := range []string{"n1", "n2", "x3000c0s1b0n0", "X3000C0S1B0N0", ""} {
		p := testKey.Path(node, digest)
		whole := "http://255.255.255.255:65535" + p
		if !plain.MatchString(p) || len(whole) >= 64 || seen[p] || !strings.Contains(p, digest[:12]) {
			t.Errorf("path %q of node %q, %d characters in all", p, node, len(whole))
		}
		seen[p] = true
		if other := (Key{9}).Path(node, digest); other == p {
			t.Errorf("another key gives the same path %q", p)
		}
		if again := testKey.Path(node, digest); again != p {
			t.Errorf("%q, then %q", p, again)
		}
	}
}

func TestLoadKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	keys := make([]Key, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			k, err := LoadKey(dir)
			if err != nil {
				t.Error(err)
			}
			keys[i] = k
		})
	}
	all.Wait()
	for _, k := range keys {
		if k != keys[0] || k == (Key{}) {
			t.Fatalf("keys differ, or are none: %v", keys)
		}
	}
	st, err := os.Stat(filepath.Join(dir, keyFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	for _, broken := range []string{"", "zz", strings.Repeat("0", 63), strings.Repeat("0", 66)} {
		if err := os.WriteFile(filepath.Join(dir, keyFile), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(dir); err == nil || bmc.HintOf(err) == "" {
			t.Errorf("%q as a key: %v", broken, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	img, b := content(t, 3<<20+777)
	s := start(t, img, Limits{}, nil)
	for _, c := range []struct {
		name, method string
		headers      []string
		status       int
		want         []byte
	}{
		{"whole", "GET", nil, 200, b},
		{"head", "HEAD", nil, 200, nil},
		{"a sector", "GET", []string{"Range: bytes=32768-34815"}, 206, b[32768:34816]},
		{"from", "GET", []string{"Range: bytes=3000000-"}, 206, b[3000000:]},
		{"the end", "GET", []string{"Range: bytes=-100"}, 206, b[len(b)-100:]},
		{"a piece and more", "GET", []string{"Range: bytes=1-2000000"}, 206, b[1:2000001]},
		{"one byte", "GET", []string{"Range: bytes=5-5"}, 206, b[5:6]},
		{"behind the end", "GET", []string{"Range: bytes=99999999-"}, 416, nil},
		{"no range", "GET", []string{"Range: bytes=zz"}, 416, nil},
		{"several", "GET", []string{"Range: bytes=0-1,5-6"}, 200, b},
		{"the same", "GET", []string{"If-None-Match: " + ETag(img.SHA256)}, 304, nil},
		{"a range of the same", "GET", []string{"Range: bytes=0-9", "If-Range: " + ETag(img.SHA256)}, 206, b[:10]},
		{"a range of another", "GET", []string{"Range: bytes=0-9", `If-Range: "other"`}, 200, b},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, got := mustGet(t, c.method, s.url("n1"), c.headers...)
			if resp.StatusCode != c.status || c.status < 400 && !bytes.Equal(got, c.want) {
				t.Errorf("%s, %d bytes, want %d and %d bytes", resp.Status, len(got), c.status, len(c.want))
			}
			if c.status < 400 && resp.Header.Get("ETag") != ETag(img.SHA256) {
				t.Errorf("ETag %q", resp.Header.Get("ETag"))
			}
			if c.method == "HEAD" && (resp.ContentLength != img.Size || resp.Header.Get("Accept-Ranges") != "bytes") {
				t.Errorf("length %d, ranges %q", resp.ContentLength, resp.Header.Get("Accept-Ranges"))
			}
		})
	}
}

func TestNothingElse(t *testing.T) {
	img, _ := content(t, 100<<10)
	s := start(t, img, Limits{}, nil)
	path := strings.TrimPrefix(s.url("n1"), s.base)
	dir := path[:strings.LastIndexByte(path, '/')]
	for _, p := range []string{
		"/", "", dir, dir + "/", dir + "/pit.iso", path + "/", path + "/../pit.iso", "/x" + path, path + "x", strings.ToUpper(path),
		testKey.Path("n3", img.SHA256), (Key{9}).Path("n1", img.SHA256), testKey.Path("n1", strings.Repeat("0", 64)),
		"/etc/passwd", "/../../etc/passwd", dir + "/../../../etc/passwd", "/" + filepath.Base(path), "//" + filepath.Base(path), "/.." + path, "/*",
	} {
		resp, b := mustGet(t, "GET", s.base+p)
		if resp.StatusCode != http.StatusNotFound || strings.Contains(string(b), "pit") {
			t.Errorf("%q: %s: %s", p, resp.Status, b)
		}
	}
	for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"} {
		if resp, _ := mustGet(t, method, s.url("n1")); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if r := s.Reads(); len(r) != 0 {
		t.Errorf("what was refused counts as read: %v", r)
	}
}

// What is no longer the image is not served as the image, not even in part.
func TestImageThatIsNoLongerThere(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"gone":    func(t *testing.T, file string) { check(t, os.Remove(file)) },
		"shorter": func(t *testing.T, file string) { check(t, os.Truncate(file, 1000)) },
		"rewritten": func(t *testing.T, file string) {
			check(t, os.WriteFile(file, bytes.Repeat([]byte("x"), 100<<10), 0o600))
		},
		"a directory": func(t *testing.T, file string) {
			check(t, os.Remove(file))
			check(t, os.Mkdir(file, 0o700))
		},
	} {
		t.Run(name, func(t *testing.T) {
			img, _ := content(t, 100<<10)
			img.ModTime = img.ModTime.Add(-time.Hour)
			check(t, os.Chtimes(img.Path, img.ModTime, img.ModTime))
			s := start(t, img, Limits{}, nil)
			if resp, _ := mustGet(t, "GET", s.url("n1")); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.Status)
			}
			spoil(t, img.Path)
			resp, b := mustGet(t, "GET", s.url("n1"), "Range: bytes=0-99")
			if resp.StatusCode != http.StatusInternalServerError || strings.Contains(string(b), img.Path) {
				t.Errorf("%s: %s", resp.Status, b)
			}
		})
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An answer during which the file is written to is never complete.
func TestImageThatChangesWhileItIsRead(t *testing.T) {
	img, b := content(t, 64<<20)
	img.ModTime = img.ModTime.Add(-time.Hour)
	check(t, os.Chtimes(img.Path, img.ModTime, img.ModTime))
	s := start(t, img, Limits{}, nil)
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
	check(t, err)
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", strings.TrimPrefix(s.url("n1"), s.base))
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	check(t, err)
	defer resp.Body.Close()
	// It is in the middle of sending now: nobody takes what is more than the buffers hold.
	f, err := os.OpenFile(img.Path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), 1<<20), 62<<20)
	check(t, err)
	check(t, f.Close())
	got, err := io.ReadAll(resp.Body)
	if err == nil || len(got) >= len(b) {
		t.Errorf("all %d bytes came, and no error", len(got))
	}
	if !bytes.Equal(got, b[:len(got)]) {
		t.Error("other bytes came")
	}
}

// A request with more ranges than anybody needs is refused, or answered with the
// whole, and takes no memory.
func TestManyRanges(t *testing.T) {
	img, b := content(t, 1<<20)
	s := start(t, img, Limits{}, nil)
	for _, n := range []int{2, 100, 1000, 1_000_000} {
		ranges := "bytes=" + strings.TrimSuffix(strings.Repeat("0-1,", n), ",")
		before := heap()
		resp, got, err := get(t, "GET", s.url("n1"), "Range: "+ranges)
		switch {
		case err != nil: // it hung up in the middle of the header
		case resp.StatusCode == http.StatusOK && bytes.Equal(got, b), resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge:
		default:
			t.Errorf("%d ranges: %s, %d bytes", n, resp.Status, len(got))
		}
		if grown := heap() - before; grown > 16<<20 {
			t.Errorf("%d ranges: the heap grew by %d bytes", n, grown)
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Who does not read is let go, and does not keep others from reading.
func TestSlowReader(t *testing.T) {
	img, b := content(t, 32<<20)
	var spy *spyListener
	s := start(t, img, Limits{Piece: 100 * time.Millisecond}, func(l net.Listener) net.Listener { spy = newSpy(l); return spy })
	c, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.base, "http://"))
	check(t, err)
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", strings.TrimPrefix(s.url("n2"), s.base))
	_, err = bufio.NewReader(c).ReadString('\n')
	check(t, err)
	if _, got := mustGet(t, "GET", s.url("n1")); !bytes.Equal(got, b) {
		t.Error("another reader got other bytes")
	}
	// The server gives up: what is left in the buffers ends before the image does.
	for who := range spy.closed {
		if who == c.LocalAddr().String() {
			break
		}
	}
	if n, err := io.Copy(io.Discard, c); n >= int64(len(b)) {
		t.Errorf("a reader that stopped for long got all %d bytes, %v", n, err)
	}
}

// More connections than there are places do no harm: those inside are served, and
// when the others are gone there are places again.
func TestTenThousandConnections(t *testing.T) {
	img, b := content(t, 256<<10)
	s := start(t, img, Limits{Connections: 500, PerAddress: 400}, nil)
	address := strings.TrimPrefix(s.base, "http://")
	before := heap()
	open := make([]net.Conn, 0, 1000)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	for range 10_000 {
		c, err := dialer.DialContext(t.Context(), "tcp", address)
		if errors.Is(err, syscall.ECONNRESET) { // it was turned away already
			continue
		}
		check(t, err)
		if len(open) == cap(open) { // so that the test itself stays within its files
			_ = open[0].Close()
			open = open[1:]
			open = append(make([]net.Conn, 0, 1000), open...)
		}
		open = append(open, c)
	}
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if _, got := mustGet(t, "GET", s.url("n1")); !bytes.Equal(got, b) {
		t.Error("a BMC at another address is not served")
	}
	for _, c := range open {
		_ = c.Close()
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := dialer.DialContext(t.Context(), "tcp", address)
		check(t, err)
		fmt.Fprintf(c, "HEAD %s HTTP/1.0\r\n\r\n", strings.TrimPrefix(s.url("n1"), s.base))
		line, _ := bufio.NewReader(c).ReadString('\n')
		_ = c.Close()
		if strings.Contains(line, "200") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the places were never free again")
		}
	}
}

// spied is a connection of which it is known how it was written to, and when it
// was closed.
type spied struct {
	*net.TCPConn
	spy *spyListener
}

func (c spied) ReadFrom(r io.Reader) (int64, error) {
	inner := r
	for {
		l, ok := inner.(*io.LimitedReader)
		if !ok {
			break
		}
		inner = l.R
	}
	n, err := c.TCPConn.ReadFrom(r)
	if _, ok := inner.(*os.File); ok {
		c.spy.files.Add(n)
	}
	return n, err
}

func (c spied) Close() error {
	err := c.TCPConn.Close()
	c.spy.closed <- c.RemoteAddr().String()
	return err
}

type spyListener struct {
	net.Listener
	files  atomic.Int64
	closed chan string
}

func newSpy(l net.Listener) *spyListener {
	return &spyListener{Listener: l, closed: make(chan string, 10)}
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return spied{c.(*net.TCPConn), l}, nil
}

// The kernel sends the file: the connection is handed an *os.File, which is what
// net makes sendfile(2) of. Only what comes with the header goes another way.
func TestSendfile(t *testing.T) {
	img, b := content(t, 8<<20)
	var spy *spyListener
	s := start(t, img, Limits{}, func(l net.Listener) net.Listener { spy = newSpy(l); return spy })
	if _, got := mustGet(t, "GET", s.url("n1")); !bytes.Equal(got, b) {
		t.Fatal("other bytes came")
	}
	if n := spy.files.Load(); n < int64(len(b))-4096 {
		t.Errorf("%d of %d bytes were sent from the file", n, len(b))
	}
}

func TestReads(t *testing.T) {
	img, _ := content(t, 1<<20)
	s := start(t, img, Limits{}, nil)
	if _, ok := s.ReadsOf("n1", img.SHA256); ok {
		t.Error("n1 has read before it has")
	}
	mustGet(t, "HEAD", s.url("n1"))
	if r, ok := s.ReadsOf("n1", img.SHA256); !ok || r.Bytes != 0 || r.Requests != 1 || r.First.IsZero() {
		t.Errorf("after a HEAD: %+v", r)
	}
	for _, x := range []string{"0-9", "10-19", "100-199", "0-9"} {
		mustGet(t, "GET", s.url("n1"), "Range: bytes="+x)
	}
	r, _ := s.ReadsOf("n1", img.SHA256)
	want := isomap.Spans{{From: 0, To: 20}, {From: 100, To: 200}}
	if diff := cmp.Diff(want, r.Read); diff != "" || r.Bytes != 130 || r.Requests != 5 || r.Rate <= 0 || r.From == "" {
		t.Errorf("%+v\n%s", r, diff)
	}
	if _, ok := s.ReadsOf("n2", img.SHA256); ok {
		t.Error("n2 has read what n1 has")
	}
	s.Begin("n1")
	if r := s.Reads(); len(r) != 0 {
		t.Errorf("after Begin: %v", r)
	}
	mustGet(t, "GET", s.url("n2"), "Range: bytes=0-9")
	s.Offer([]string{"n1"}, []media.Local{img})
	if r := s.Reads(); len(r) != 0 {
		t.Errorf("a node that is no longer there has read: %v", r)
	}
	if resp, _ := mustGet(t, "GET", s.url("n2")); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a node that is no longer there is served: %s", resp.Status)
	}
}

func TestRateFallsWhenReadingStops(t *testing.T) {
	var tr tracker
	at := time.Unix(1000, 0)
	img, who := &image{}, reader{node: "n1"}
	for i := range 20 {
		tr.note(who, img, "", isomap.Span{From: int64(i), To: int64(i) + 1000}, at.Add(time.Duration(i)*time.Second))
	}
	for _, c := range []struct {
		after    int
		from, to float64
	}{{19, 900, 1200}, {24, 300, 700}, {40, 0, 0}} {
		r, _ := tr.one(who, at.Add(time.Duration(c.after)*time.Second))
		if r.Rate < c.from || r.Rate > c.to {
			t.Errorf("after %d s: %.0f bytes/s, want %.0f to %.0f", c.after, r.Rate, c.from, c.to)
		}
	}
}

// Another livecd-sync on this machine sees what is read, and takes over.
func TestPeer(t *testing.T) {
	img, b := content(t, 100<<10)
	s := start(t, img, Limits{}, nil)
	address := strings.TrimPrefix(s.base, "http://")
	p := NewPeer(testKey, address, false)
	defer p.Close()
	check(t, p.Serves(t.Context(), "n1", img.SHA256))
	if err := p.Serves(t.Context(), "n3", img.SHA256); bmc.KindOf(err) != bmc.KindBusy || bmc.HintOf(err) == "" {
		t.Errorf("it serves n3: %v", err)
	}
	mustGet(t, "GET", s.url("n1"), "Range: bytes=0-9")
	got, err := p.Reads(t.Context())
	check(t, err)
	if len(got) != 1 || got[0].Bytes != 10 || got[0].Node != "n1" || len(got[0].Read) != 1 {
		t.Errorf("%+v", got)
	}
	check(t, p.Begin(t.Context(), "n1"))
	if got, err := p.Reads(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	stranger := NewPeer(Key{9}, address, false)
	defer stranger.Close()
	if _, err := stranger.Reads(t.Context()); err == nil || bmc.HintOf(err) == "" {
		t.Errorf("another key is told what is read: %v", err)
	}
	if err := stranger.HandOver(t.Context()); err == nil {
		t.Error("another key may end it")
	}
	if _, err := Listen(t.Context(), address); bmc.KindOf(err) != bmc.KindBusy || bmc.HintOf(err) == "" {
		t.Errorf("the port of a running server: %v", err)
	}
	check(t, p.HandOver(t.Context()))
	check(t, <-s.ended)
	s.ended <- nil // for the end of the test
	l, err := Listen(t.Context(), address)
	check(t, err)
	next := New(Config{Key: testKey, Now: bmc.SystemClock{}.Now})
	next.Offer([]string{"n1"}, []media.Local{img})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- next.Serve(ctx, l, nil) }()
	if _, got := mustGet(t, "GET", s.url("n1")); !bytes.Equal(got, b) {
		t.Error("the one that took over serves other bytes")
	}
	stop()
	check(t, <-ended)
}

func TestListenRefused(t *testing.T) {
	if _, err := Listen(t.Context(), "192.0.2.1:8080"); bmc.HintOf(err) == "" || !strings.Contains(err.Error(), "no such address") {
		t.Errorf("an address that this machine does not have: %v", err)
	}
}

// curl is a client that nobody here wrote.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		testenv.Unable(t, "there is no curl (Debian: curl)")
	}
	img, b := content(t, 5<<20+13)
	s := start(t, img, Limits{}, nil)
	out := filepath.Join(t.TempDir(), "got")
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), curl, append([]string{"-sS", "--fail", "-o", out}, args...)...)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("curl %v: %v: %s", args, err, said)
		}
		got, err := os.ReadFile(out)
		check(t, err)
		return got
	}
	if got := run(s.url("n1")); !bytes.Equal(got, b) {
		t.Errorf("%d bytes, other than the image's", len(got))
	}
	if got := run("-r", "1000000-2999999", s.url("n1")); !bytes.Equal(got, b[1000000:3000000]) {
		t.Error("a range is of other bytes")
	}
	check(t, os.WriteFile(out, b[:1<<20], 0o600))
	if got := run("-C", "-", s.url("n1")); !bytes.Equal(got, b) {
		t.Error("a download that went on is not the image")
	}
	if got := string(run("-I", s.url("n1"))); !strings.Contains(got, fmt.Sprintf("Content-Length: %d\r\n", len(b))) || !strings.Contains(got, ETag(img.SHA256)) {
		t.Errorf("HEAD: %s", got)
	}
}

// QEMU's http driver reads like a BMC does: by ranges, here and there.
func TestQEMU(t *testing.T) {
	qemu, err := exec.LookPath("qemu-img")
	drivers, _ := filepath.Glob("/usr/lib/*/qemu/block-curl.so")
	if err != nil || len(drivers) == 0 {
		testenv.Unable(t, "there is no qemu-img with an http driver (Debian: qemu-utils and qemu-block-extra)")
	}
	img, b := content(t, 4<<20)
	s := start(t, img, Limits{}, nil)
	out := filepath.Join(t.TempDir(), "got.raw")
	cmd := exec.CommandContext(t.Context(), qemu, "convert", "-f", "raw", "-O", "raw", s.url("n1"), out)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, said)
	}
	got, err := os.ReadFile(out)
	check(t, err)
	if !bytes.Equal(got, b) {
		t.Errorf("%d bytes, other than the image's", len(got))
	}
	if r, _ := s.ReadsOf("n1", img.SHA256); r.Read.Bytes() != img.Size || r.Requests < 3 {
		t.Errorf("the server saw %d bytes read in %d requests", r.Read.Bytes(), r.Requests)
	}
}
