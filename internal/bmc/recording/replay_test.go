package recording_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	password = "redfish-secret"
	image    = "http://192.0.2.77/iso/pit.iso"
	serial   = "MXQ98765AB"
)

// quick runs a hundred times as fast as the machine's clock.
type quick struct{}

func (quick) Now() time.Time { return time.Now() }
func (quick) Sleep(ctx context.Context, d time.Duration) error {
	return bmc.SystemClock{}.Sleep(ctx, d/100)
}

func dial(t *testing.T, s *httptest.Server, tap func(http.RoundTripper) http.RoundTripper) bmc.Client {
	t.Helper()
	rows, err := siteload.Profiles()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.Certificate().Raw)
	c, err := redfish.Open(t.Context(), redfish.Config{
		Node: "node", URL: s.URL, TLS: redfish.TLS{Fingerprint: "sha256:" + hex.EncodeToString(sum[:])},
		Credential: bmc.Credential{Username: "root", Password: password}, Profiles: rows, Clock: quick{}, Tap: tap,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pass is a whole run: what it sees, and how each write ended.
func pass(t *testing.T, c bmc.Client) (seen []bmc.State, ends []string) {
	t.Helper()
	end := func(what string, err error) {
		text := what
		if err != nil {
			text += ": " + string(bmc.KindOf(err))
		}
		ends = append(ends, text)
	}
	look := func() bmc.State {
		s, err := c.Observe(t.Context())
		end("observe", err)
		seen = append(seen, s)
		return s
	}
	before := look()
	end("off", c.Reset(t.Context(), bmc.ForceOff))
	for range 3 {
		look()
	}
	if before.Media.Access == bmc.AccessDisabled {
		end("enable", c.EnableMedia(t.Context()))
	}
	end("insert", c.InsertMedia(t.Context(), image))
	look()
	end("arm", c.SetBootOnce(t.Context()))
	look()
	end("eject", c.EjectMedia(t.Context()))
	look()
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return seen, ends
}

// A pass over a recording sees and does what the pass over the machine did.
func TestReplayIsAsTheMachine(t *testing.T) {
	machines := map[string]bmcsim.Config{
		"ilo5 as reported":           {Kind: bmcsim.ILO5, Behaviour: bmcsim.Reported(bmcsim.ILO5)},
		"gigabyte, remote media off": {Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{RemoteMediaOff: true}},
		"gigabyte as reported":       {Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Reported(bmcsim.Gigabyte)},
		"generic, tasks":             {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{InsertTask: bmcsim.TaskLocation, EjectTask: bmcsim.TaskInBody, AbsoluteLocation: true}},
		"generic, slashes":           {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{TrailingSlash: true, IfMatch: 412}},
		"generic, refusals":          {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{InsertNeeds: []string{"TransferProtocolType"}, FullBoot: true, RefuseEmptyEject: true}},
		"generic, lost answers":      {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{CloseAfterAction: true}},
		"generic, no sessions":       {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{NoToken: true}},
		"generic, token in the body": {Kind: bmcsim.Generic, Behaviour: bmcsim.Behaviour{TokenInBody: true}},
	}
	for _, k := range bmcsim.Kinds() {
		machines[string(k)] = bmcsim.Config{Kind: k}
	}
	for name, c := range machines {
		for _, redact := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", redacted"}[redact], func(t *testing.T) {
				t.Parallel()
				c := c
				c.Serial, c.Name = serial, "x3000c0s3b0n0"
				m := bmcsim.New(c)
				s := httptest.NewTLSServer(m.Handler())
				defer s.Close()
				defer m.Close()
				dir := filepath.Join(t.TempDir(), "rec")
				r, err := recording.New(dir, recording.Options{Redact: redact, By: "test", Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				r.Node(s.URL, recording.Node{Name: c.Name, Image: "pit", URL: image})
				seen, ends := pass(t, dial(t, s, r.Tap(s.URL, "root", password)))
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				checkFiles(t, dir, redact)
				all, err := recording.Load(dir)
				if err != nil || len(all) != 1 {
					t.Fatalf("%d recordings, %v", len(all), err)
				}
				wanted := all[0].Nodes[0].URL
				again := httptest.NewTLSServer(all[0].Handler(time.Now))
				defer again.Close()
				replayed, replayedEnds := pass(t, wants{dial(t, again, nil), wanted})
				if !slices.Equal(ends, replayedEnds) {
					t.Errorf("then\n%q\nnow\n%q", ends, replayedEnds)
				}
				for i := range seen {
					if got, want := plain(replayed[i], wanted), plain(seen[i], image); !reflect.DeepEqual(got, want) {
						t.Errorf("state %d: got %+v, want %+v", i, got, want)
					}
				}
			})
		}
	}
}

// wants inserts another image than is asked for.
type wants struct {
	bmc.Client
	image string
}

func (w wants) InsertMedia(ctx context.Context, _ string) error {
	return w.Client.InsertMedia(ctx, w.image)
}

// plain is a state without what redacting changes: the server of the image, and
// a system's address where that has a serial number or a UUID.
func plain(s bmc.State, wanted string) bmc.State {
	u, err := url.Parse(wanted)
	if err != nil {
		panic(err)
	}
	s.Media.Image = strings.ReplaceAll(s.Media.Image, u.Hostname(), "HOST")
	s.CannotMount.Why = strings.ReplaceAll(s.CannotMount.Why, s.ID.System, "SYSTEM")
	s.ID.System = path.Dir(s.ID.System)
	return s
}

// checkFiles looks for what must not be in a recording, by itself: nothing of the
// package's own is used.
func checkFiles(t *testing.T, dir string, redact bool) {
	t.Helper()
	never := []string{password, base64.StdEncoding.EncodeToString([]byte("root:" + password)), "Basic ", "root0000"}
	if redact {
		never = append(never, serial, "x3000c0s3b0", "192.0.2.77")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, want %v", path, info.Mode().Perm(), want)
		}
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, n := range never {
			if strings.Contains(string(text), n) {
				t.Errorf("%s is in %s:\n%s", n, path, text)
			}
		}
		if m := regexp.MustCompile(`"X-Auth-Token": "([^"]*)"`).FindSubmatch(text); m != nil && string(m[1]) != "(secret)" {
			t.Errorf("a token is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What was not recorded is said to be so, and the state goes on with the writes.
func TestReplayKeepsState(t *testing.T) {
	r := recording.Recording{Info: recording.Info{BMC: "b.example.org"}}
	add := func(method, uri, asked string, status int, body string) {
		r.Exchanges = append(r.Exchanges, recording.Exchange{
			Seq: len(r.Exchanges) + 1, Method: method, URI: uri, Asked: json.RawMessage(asked), Status: status, Body: json.RawMessage(body),
		})
	}
	add("GET", "/redfish/v1/s", "", 200, `{"n": 1}`)
	add("GET", "/redfish/v1/s", "", 200, `{"n": 2, "self": "https://b.example.org/redfish/v1/s", "not": "https://b.example.org.evil/x"}`)
	add("POST", "/redfish/v1/a", `{"x": 1, "y": "(secret)"}`, 503, `{}`)
	add("GET", "/redfish/v1/s", "", 200, `{"n": 3}`)
	add("POST", "/redfish/v1/a", `{"x": 1, "y": "z"}`, 200, `{}`)
	add("GET", "/redfish/v1/late", "", 200, `{"n": 4}`)
	s := httptest.NewServer(r.Handler(time.Now))
	defer s.Close()
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b.String()
	}
	want := func(method, path, body string, status int, words ...string) {
		t.Helper()
		got, text := ask(method, path, body)
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%s %s: no %s in %s", method, path, w, text)
			}
		}
		if got != status {
			t.Errorf("%s %s: %d, want %d", method, path, got, status)
		}
	}
	host := strings.TrimPrefix(s.URL, "http://")
	want("GET", "/redfish/v1/s", "", 200, `"n":1`)
	want("GET", "/redfish/v1/s/", "", 200, `"n":2`, `"self":"https://`+host+`/redfish/v1/s"`, `https://b.example.org.evil/x`)
	want("GET", "/redfish/v1/s", "", 200, `"n":2`)
	want("GET", "/redfish/v1/none", "", 404, "this is a recording", "GET /redfish/v1/none was never read")
	want("GET", "/redfish/v1/late", "", 200, `"n":4`)
	want("POST", "/redfish/v1/a", `{"x": 1, "y": "other"}`, 503) // a secret is not compared
	want("POST", "/redfish/v1/a", `{"x": 1, "y": 7}`, 501, "another body")
	want("POST", "/redfish/v1/a", `{"x": 2}`, 501, "another body", `\"x\":1`)
	want("POST", "/redfish/v1/SessionService/Sessions", `{}`, 501, "no session was opened")
	want("GET", "/redfish/v1/s", "", 200, `"n":3`)
	want("POST", "/redfish/v1/a", `{"y":"z","x":1}`, 200)
	want("GET", "/redfish/v1/s", "", 200, `"n":3`)
	want("POST", "/redfish/v1/a", `{"y":"z","x":1}`, 501, "not any more")
	want("DELETE", "/redfish/v1/s", "", 501)
}

// The directory has to be empty, and what cannot be written is told at the end.
func TestRecorderDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recording.New(dir, recording.Options{Now: time.Now}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := recording.Load(bad); err == nil {
			t.Errorf("%s was loaded", bad)
		}
	}
	sub := filepath.Join(dir, "rec")
	r, err := recording.New(sub, recording.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(sub); err != nil {
		t.Fatal(err)
	}
	m := bmcsim.New(bmcsim.Config{})
	s := httptest.NewTLSServer(m.Handler())
	defer s.Close()
	defer m.Close()
	c := dial(t, s, r.Tap(s.URL, "root", password))
	if _, err := c.Observe(t.Context()); err != nil {
		t.Errorf("what is recorded fails when the recording does: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if r.Close() == nil {
		t.Error("nobody was told")
	}
}

const captures = "../../../../shared/captures"

// Trees of real BMCs, as mockups: what is recorded of them is as they are, and
// what is redacted names nothing of theirs.
func TestRealTrees(t *testing.T) {
	trees, err := recording.Load(captures)
	if err != nil {
		t.Skipf("the captured trees are not here: %v", err)
	}
	for _, tree := range trees {
		t.Run(tree.BMC, func(t *testing.T) {
			s := httptest.NewTLSServer(tree.Handler(time.Now))
			defer s.Close()
			dir := filepath.Join(t.TempDir(), "rec")
			r, err := recording.New(dir, recording.Options{Redact: true, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, s, r.Tap(s.URL, "root", password))
			want, wantErr := c.Observe(t.Context())
			names := namesIn(tree)
			if err := errors.Join(c.Close(t.Context()), r.Close()); err != nil {
				t.Fatal(err)
			}
			all, err := recording.Load(dir)
			if err != nil || len(all) != 1 {
				t.Fatal(err)
			}
			again := httptest.NewTLSServer(all[0].Handler(time.Now))
			defer again.Close()
			c = dial(t, again, nil)
			defer func() { _ = c.Close(t.Context()) }()
			got, gotErr := c.Observe(t.Context())
			if !reflect.DeepEqual(got, want) || bmc.KindOf(gotErr) != bmc.KindOf(wantErr) || (gotErr == nil) != (wantErr == nil) {
				t.Errorf("got %+v, %v\nwant %+v, %v", got, gotErr, want, wantErr)
			}
			lookFor(t, dir, names)
		})
	}
}

// namesIn gathers what names the machine, from the tree as it is: serial numbers,
// UUIDs, hardware addresses, host names.
func namesIn(tree recording.Recording) []string {
	var names []string
	for _, e := range tree.Exchanges {
		var doc any
		if json.Unmarshal(e.Body, &doc) != nil {
			continue
		}
		walk("", doc, func(key, text string) {
			switch {
			case len(text) < 4 || strings.Contains(strings.ToLower(text), "default"):
			case regexp.MustCompile(`(?i)serialnumber|hostname|^uuid$|macaddress|^sku$|assettag`).MatchString(key),
				regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`).MatchString(text):
				names = append(names, text)
			}
		})
	}
	return names
}

func walk(key string, v any, f func(key, text string)) {
	switch v := v.(type) {
	case string:
		f(key, v)
	case []any:
		for _, e := range v {
			walk(key, e, f)
		}
	case map[string]any:
		for k, e := range v {
			walk(k, e, f)
		}
	}
}

func lookFor(t *testing.T, dir string, names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, n := range names {
			if strings.Contains(strings.ToLower(string(text)), strings.ToLower(n)) {
				t.Errorf("%s is in %s", n, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
