package bmcsim_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

// browser speaks HTTP to a machine with as little cleverness as possible: it
// follows no redirect and knows no Redfish.
type browser struct {
	t     *testing.T
	m     *bmcsim.Machine
	url   string
	http  *http.Client
	token string // in place of Basic
	anon  bool
	head  map[string]string // on every request
}

const image, otherImage = "http://192.0.2.1:8080/iso/one.iso", "http://192.0.2.1:8080/iso/two.iso"

func open(t *testing.T, c bmcsim.Config) *browser {
	t.Helper()
	m := bmcsim.New(c)
	srv := httptest.NewServer(m.Handler())
	transport := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		m.Close()
		srv.Close()
	})
	return &browser{t: t, m: m, url: srv.URL, head: map[string]string{}, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// reply is an answer, read whole.
type reply struct {
	status  int
	header  http.Header
	body    string
	json    map[string]any
	err     error // no answer at all
	bodyErr error // an answer that broke off
}

func (b *browser) do(ctx context.Context, method, path, body string) reply {
	b.t.Helper()
	if !strings.HasPrefix(path, "/redfish") {
		path = "/redfish/v1" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	cred := b.m.Credential()
	switch {
	case b.anon:
	case b.token != "":
		req.Header.Set("X-Auth-Token", b.token)
	default:
		req.SetBasicAuth(cred.Username, cred.Password.Reveal())
	}
	for k, v := range b.head {
		req.Header.Set(k, v)
	}
	res, err := b.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	r := reply{status: res.StatusCode, header: res.Header, body: string(data), bodyErr: err}
	if len(data) > 1<<20 || json.Unmarshal(data, &r.json) != nil {
		r.json = nil
	}
	return r
}

func (b *browser) get(path string) reply { return b.do(b.t.Context(), "GET", path, "") }

func (b *browser) post(path, body string) reply { return b.do(b.t.Context(), "POST", path, body) }

func (b *browser) patch(path, body string) reply { return b.do(b.t.Context(), "PATCH", path, body) }

// at looks a value up by its path, names and indices joined by '|'.
func (r reply) at(path string) any {
	var v any = r.json
	for name := range strings.SplitSeq(path, "|") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			if len(x) == 0 {
				return nil
			}
			v = x[0]
		default:
			return nil
		}
	}
	return v
}

// id is the MessageId of an error.
func (r reply) id() string {
	s, _ := r.at("error|@Message.ExtendedInfo|0|MessageId").(string)
	return s
}

func (b *browser) want(r reply, status int, id string) reply {
	b.t.Helper()
	if r.err != nil || r.status != status || !strings.HasSuffix(r.id(), id) {
		b.t.Fatalf("got %d %q (%v), want %d %q: %.300s", r.status, r.id(), r.err, status, id, r.body)
	}
	return r
}

func (b *browser) ok(r reply) reply {
	b.t.Helper()
	if r.err != nil || r.bodyErr != nil || r.status < 200 || r.status > 299 {
		b.t.Fatalf("got %d (%v, %v): %.300s", r.status, r.err, r.bodyErr, r.body)
	}
	return r
}

// equal checks one value of a document.
func (b *browser) equal(r reply, path string, want any) {
	b.t.Helper()
	if got := r.at(path); got != want {
		b.t.Errorf("%s is %v, want %v in %.600s", path, got, want, r.body)
	}
}

// eventually waits for something to become true of the machine.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// places of the kinds that most tests use.
const (
	iloSystem, iloSlot, iloReset = "/Systems/1", "/Managers/1/VirtualMedia/2", "/Systems/1/Actions/ComputerSystem.Reset"
	iloInsert, iloEject          = iloSlot + "/Actions/VirtualMedia.InsertMedia", iloSlot + "/Actions/VirtualMedia.EjectMedia"
	amiSystem, amiSlot           = "/Systems/Self", "/Managers/Self/VirtualMedia/CD1"
	amiInsert, amiEject          = amiSlot + "/Actions/VirtualMedia.InsertMedia", amiSlot + "/Actions/VirtualMedia.EjectMedia"
	amiEnable                    = "/Managers/Self/Actions/Oem/Ami/VirtualMedia.EnableRMedia"
	insertBody                   = `{"Image":"` + image + `"}`
	armBody                      = `{"Boot":{"BootSourceOverrideTarget":"Cd","BootSourceOverrideEnabled":"Once"}}`
	fullArmBody                  = `{"Boot":{"BootSourceOverrideTarget":"Cd","BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI"}}`
)
