package redfish_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmctest"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// anvil is the line of the matrix that docs/adding-a-bmc.md comes to.
var anvil = entry{"a drive without MediaTypes, HTTP only", bmcsim.Generic, bmcsim.Behaviour{NoMediaTypes: true, HTTPOnly: true}}

// TestAddingABMC runs the suite with the row of the page's example, against the
// page's line of the matrix, on a machine that has the example's words for its
// drive and its boot target.
func TestAddingABMC(t *testing.T) {
	text, err := os.ReadFile("../../../docs/adding-a-bmc.md")
	must(t, err)
	row := regexp.MustCompile("(?s)```cue\n(.*?)```").FindSubmatch(text)
	line := regexp.MustCompile("(?s)```go\n(.*?)```").FindSubmatch(text)
	own, err := os.ReadFile("adding_test.go")
	must(t, err)
	if row == nil || line == nil || !bytes.Contains(own, bytes.TrimRight(bytes.TrimSpace(line[1]), ",")) {
		t.Fatal("the page's row or its line of the matrix is not what is tested here")
	}
	rows, err := siteload.ProfilesWith(string(row[1]))
	must(t, err)
	bmctest.Run(t, func(t *testing.T) bmctest.Harness {
		m, _, out := bare(t, anvil)
		s := serve(t, anvilWords(m.Handler()))
		t.Cleanup(m.Close)
		conf := s.config(t)
		conf.Profiles, conf.Clock = rows, hastyClock{time.Now()}
		out.Dial = func(t testing.TB) bmc.Client {
			c, err := redfish.Open(t.Context(), conf)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if got := observe(t, out.Dial(t)).ID.Profile; got != rows[0].Name {
			t.Fatalf("the row %s was chosen", got)
		}
		m.ForgetRequests()
		return out
	})
}

// anvilWords gives a machine other names for what it has.
func anvilWords(h http.Handler) http.Handler {
	words := []string{"Contoso", "Anvil", "CD1", "Drive0", `"Cd"`, `"RemoteDrive"`}
	var back []string
	for i := 0; i < len(words); i += 2 {
		back = append(back, words[i+1], words[i])
	}
	out, in := strings.NewReplacer(words...), strings.NewReplacer(back...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.URL.Path = in.Replace(r.URL.Path)
		r.Body = io.NopCloser(strings.NewReader(in.Replace(string(body))))
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(rec.Code)
		_, _ = io.WriteString(w, out.Replace(rec.Body.String()))
	})
}
