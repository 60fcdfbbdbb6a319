package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store/storetest"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

const (
	bucket = "backups"
	prefix = "red.bird/a@b"
)

// An s3Server keeps objects in memory, and conditional writes and uploads in
// parts as S3 has them. What it lacks is added here: who may come in, and quotas.
type s3Server struct {
	*httptest.Server
	backend *s3mem.Backend
	full    atomic.Bool
	closed  atomic.Bool // to writes
}

func startS3(t *testing.T) *s3Server {
	t.Helper()
	s := &s3Server{backend: s3mem.New()}
	must(t, s.backend.CreateBucket(bucket))
	objects := gofakes3.New(s.backend).Server()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writes := r.Method != http.MethodGet && r.Method != http.MethodHead
		switch {
		case !strings.Contains(r.Header.Get("Authorization"), "Credential=key-id/"):
			refuse(w, http.StatusForbidden, "InvalidAccessKeyId")
		case writes && s.closed.Load():
			refuse(w, http.StatusForbidden, "AccessDenied")
		case writes && r.Method != http.MethodDelete && s.full.Load():
			refuse(w, http.StatusInsufficientStorage, "XMinioStorageFull")
		default:
			objects.ServeHTTP(w, r)
		}
	})
	s.Server = httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are refused on purpose
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func s3Site(endpoint string) site.Store {
	return site.Store{
		Name: "cloud", URL: "s3://" + bucket + "/" + prefix + "/",
		S3: &site.S3{Endpoint: endpoint, Region: "us-east-1", AccessKey: site.SecretRef{Env: "ID"}, SecretKey: site.SecretRef{Env: "SECRET"}, TLS: site.TLS{Insecure: true}},
	}
}

var s3Keys = keys{"ID": "key-id", "SECRET": "hunter2hunter2"}

func s3Config(name string) store.Config {
	return store.Config{Site: name, Secret: s3Keys.get, LockExpiry: 10 * time.Second}
}

func (s *s3Server) files(t *testing.T) []string {
	t.Helper()
	list, err := s.backend.ListBucket(bucket, nil, gofakes3.ListBucketPage{})
	must(t, err)
	var names []string
	for _, o := range list.Contents {
		names = append(names, strings.TrimPrefix(o.Key, prefix+"/"))
	}
	return names
}

func TestS3(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place {
		s := startS3(t)
		put := func(t *testing.T, name, data string, age time.Duration) {
			t.Helper()
			meta := map[string]string{"Last-Modified": time.Now().Add(-age).UTC().Format(http.TimeFormat)}
			_, err := s.backend.PutObject(bucket, prefix+"/"+name, meta, strings.NewReader(data), int64(len(data)), nil)
			must(t, err)
		}
		return storetest.Place{
			Open: func(t *testing.T, name string) overlay.Store {
				t.Helper()
				return opened(t, s3Site(s.URL), s3Config(name))
			},
			Files: s.files,
			Put:   func(t *testing.T, name, data string) { t.Helper(); put(t, name, data, 0) },
			Stale: func(t *testing.T, node string) {
				t.Helper()
				put(t, node+"/.lock", `{"holder": "one that died"}`, time.Hour)
			},
			Half:   "20260101T000000Z",
			Fill:   func(*testing.T) { s.full.Store(true) },
			Refuse: func(*testing.T) { s.closed.Store(true) },
		}
	})
}

// TestS3Plain signs what is sent where nothing encrypts it.
func TestS3Plain(t *testing.T) {
	s := startS3(t)
	plain := httptest.NewServer(signedBodies(t, s.Config.Handler))
	defer plain.Close()
	place := s3Site(plain.URL)
	place.S3.TLS = site.TLS{}
	far := opened(t, place, s3Config("lab"))
	_, err := storetest.Publish(t.Context(), far, "lab", "n1", storetest.At)
	must(t, err)
	storetest.Whole(t, far, "n1")
	writesInParts(t, far)
	must(t, far.Close())
}

// signedBodies wants every body to be covered by its request's signature, in whole
// or in chunks.
func signedBodies(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		is, said := fmt.Sprintf("%x", sha256.Sum256(body)), r.Header.Get("X-Amz-Content-Sha256")
		if len(body) > 0 && said != is && said != "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" {
			t.Errorf("%s %s is signed with %q", r.Method, r.URL.Path, said)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func TestS3TLS(t *testing.T) {
	s := startS3(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	der := s.Certificate().Raw
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	for name, tc := range map[string]struct {
		tls  site.TLS
		kind bmc.Kind // "" for none
	}{
		"ca":                  {site.TLS{CA: ca}, ""},
		"fingerprint":         {site.TLS{Fingerprint: fmt.Sprintf("sha256:%x", sha256.Sum256(der))}, ""},
		"insecure":            {site.TLS{Insecure: true}, ""},
		"the system's":        {site.TLS{}, bmc.KindTLS},
		"another fingerprint": {site.TLS{Fingerprint: "sha256:" + strings.Repeat("0a", 32)}, bmc.KindTLS},
	} {
		place := s3Site(s.URL)
		place.S3.TLS = tc.tls
		_, err := opened(t, place, s3Config("lab")).List(t.Context(), "n1")
		if (err != nil) != (tc.kind != "") || (err != nil && (bmc.KindOf(err) != tc.kind || !strings.Contains(bmc.HintOf(err), "stores.cloud.tls"))) {
			t.Errorf("%s: %v (%s)", name, err, bmc.HintOf(err))
		}
	}
}

func TestS3Refusals(t *testing.T) {
	s := startS3(t)
	for name, tc := range map[string]struct {
		change func(*site.Store)
		keys   keys
		kind   bmc.Kind
		hint   string
	}{
		"another key":  {func(*site.Store) {}, keys{"ID": "other", "SECRET": "hunter2"}, bmc.KindAuth, "stores.cloud.accessKey"},
		"no key":       {func(*site.Store) {}, keys{}, bmc.KindAuth, "stores.cloud.accessKey"},
		"no bucket":    {func(p *site.Store) { p.URL = "s3://no-such-bucket" }, s3Keys, bmc.KindOverlay, "make the bucket no-such-bucket"},
		"nobody there": {func(p *site.Store) { p.S3.Endpoint = fmt.Sprintf("https://127.0.0.1:%d", testenv.FreePort(t)) }, s3Keys, bmc.KindUnreachable, "stores.cloud.endpoint"},
	} {
		place := s3Site(s.URL)
		tc.change(&place)
		far := opened(t, place, store.Config{Secret: tc.keys.get})
		_, err := far.List(t.Context(), "n1")
		_, err2 := far.Create(t.Context(), "n1", storetest.At)
		for _, err := range []error{err, err2} {
			if bmc.KindOf(err) != tc.kind || !strings.Contains(bmc.HintOf(err), tc.hint) || strings.Contains(fmt.Sprint(err), "hunter2") {
				t.Errorf("%s: %v (%s)", name, err, bmc.HintOf(err))
			}
		}
	}
	for name, change := range map[string]func(*site.Store){
		"no server": func(p *site.Store) { p.S3 = nil }, "no endpoint": func(p *site.Store) { p.S3.Endpoint = "nas:9000" },
		"no such ca": func(p *site.Store) { p.S3.TLS = site.TLS{CA: "/no/such/file"} },
	} {
		place := s3Site(s.URL)
		change(&place)
		if _, err := store.Open(place, store.Config{}); err == nil || bmc.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func s3Port(t *testing.T, s *s3Server) int {
	t.Helper()
	u, err := url.Parse(s.URL)
	must(t, err)
	port, err := strconv.Atoi(u.Port())
	must(t, err)
	return port
}

// s3Briefly is longer than what S3 tells of times: whole seconds.
const s3Briefly = 4 * time.Second

func writeToS3() {
	s, err := store.Open(s3Site(os.Getenv("ENDPOINT")), store.Config{Site: "lab", Secret: s3Keys.get, LockExpiry: s3Briefly})
	if err == nil {
		_, err = storetest.Publish(context.Background(), s, "lab", os.Getenv("NODE"), storetest.At)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestS3Cut cuts the connection, each time once, and for every other node the
// server is gone from then on.
func TestS3Cut(t *testing.T) {
	s := startS3(t)
	failed := 0
	var wg sync.WaitGroup
	var mu sync.Mutex
	places := cuts()
	for i, after := range places {
		wg.Go(func() {
			r := startRelay(t, s3Port(t, s), after, func(cut func()) { cut() })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			far, err := store.Open(s3Site(fmt.Sprintf("https://127.0.0.1:%d", r.port)), store.Config{Site: "lab", Secret: s3Keys.get, LockExpiry: s3Briefly})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = storetest.Publish(ctx, far, "lab", fmt.Sprintf("n%d", i), storetest.At)
			_ = far.Close()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				if bmc.HintOf(err) == "" {
					t.Errorf("cut after %d bytes: %v", after, err)
				}
			}
		})
	}
	wg.Wait()
	if failed < len(cuts())/4 {
		t.Errorf("only %d cuts were felt", failed)
	}
	s.recover(t, "cut")
}

// recover waits until the locks of the dead have expired, and makes a backup of
// each node.
func (s *s3Server) recover(t *testing.T, what string) {
	t.Helper()
	time.Sleep(s3Briefly + 2*time.Second)
	next := opened(t, s3Site(s.URL), store.Config{Site: "lab", Secret: s3Keys.get, LockExpiry: s3Briefly})
	for i, after := range cuts() {
		recovers(t, next, s.files, fmt.Sprintf("n%d", i), fmt.Sprintf("%s after %d bytes", what, after))
	}
}

func TestS3Killed(t *testing.T) {
	s := startS3(t)
	for i, after := range cuts() {
		var mu sync.Mutex
		var cmd *exec.Cmd
		r := startRelay(t, s3Port(t, s), after, func(cut func()) {
			mu.Lock()
			defer mu.Unlock()
			_ = cmd.Process.Kill()
			cut()
		})
		mu.Lock()
		cmd = again(t, "s3", fmt.Sprintf("ENDPOINT=https://127.0.0.1:%d", r.port), fmt.Sprintf("NODE=n%d", i))
		must(t, cmd.Start())
		mu.Unlock()
		err := cmd.Wait()
		near := opened(t, s3Site(s.URL), s3Config("lab"))
		if err == nil && len(storetest.IDs(t, near, fmt.Sprintf("n%d", i))) != 1 {
			t.Errorf("killed after %d bytes, it ended well and is not listed", after)
		}
	}
	s.recover(t, "killed")
}

// inParts is longer than two parts of an upload.
var inParts = strings.Repeat("0123456789abcdef", 40<<20/16)

// writesInParts has a file of several parts be what was written.
func writesInParts(t *testing.T, far overlay.Store) {
	t.Helper()
	d, err := far.Create(t.Context(), "n1", storetest.At)
	must(t, err)
	must(t, storetest.Fill(d))
	w, err := d.Write("big")
	must(t, err)
	_, err = io.WriteString(w, inParts)
	must(t, errors.Join(err, w.Close()))
	must(t, d.Publish(storetest.Manifest(d, "lab", "n1", storetest.At)))
	f, err := far.Open(t.Context(), "n1", d.ID(), "big")
	must(t, err)
	data, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	if string(data) != inParts {
		t.Errorf("%d bytes were read of %d", len(data), len(inParts))
	}
}

// TestS3Parts writes a file of several parts, and one whose writer is gone after
// the first of them.
func TestS3Parts(t *testing.T) {
	s := startS3(t)
	writesInParts(t, opened(t, s3Site(s.URL), s3Config("lab")))

	r := startRelay(t, s3Port(t, s), 20<<20, func(cut func()) { s.closed.Store(true); cut() })
	cutOff := opened(t, s3Site(fmt.Sprintf("https://127.0.0.1:%d", r.port)), store.Config{Site: "lab", Secret: s3Keys.get, LockExpiry: s3Briefly})
	d, err := cutOff.Create(t.Context(), "n2", storetest.At)
	must(t, err)
	w, err := d.Write(overlay.ArchiveFile)
	must(t, err)
	_, err = io.WriteString(w, inParts)
	if err = errors.Join(err, w.Close()); err == nil {
		t.Error("it was written all the same")
	}
	_ = d.Discard()
	s.closed.Store(false)
	if n := len(s.uploads(t)); n != 1 {
		t.Fatalf("%d uploads are under way; there was to be one", n)
	}
	time.Sleep(s3Briefly + 2*time.Second)
	next := opened(t, s3Site(s.URL), store.Config{Site: "lab", Secret: s3Keys.get, LockExpiry: s3Briefly})
	recovers(t, next, s.files, "n2", "cut in the second part")
	if n := len(s.uploads(t)); n != 0 {
		t.Errorf("%d uploads are left behind", n)
	}
}

// uploads are those under way, by S3's own listing.
func (s *s3Server) uploads(t *testing.T) []string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/"+bucket+"?uploads", nil)
	must(t, err)
	request.Header.Set("Authorization", "Credential=key-id/")
	answer, err := s.Client().Do(request)
	must(t, err)
	text, err := io.ReadAll(answer.Body)
	must(t, errors.Join(err, answer.Body.Close()))
	parts := strings.Split(string(text), "<UploadId>")
	return slices.Clone(parts[1:])
}
