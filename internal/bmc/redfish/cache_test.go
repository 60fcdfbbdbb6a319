package redfish_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// A bench is a BMC's address, behind which machines can be exchanged, and a
// directory for what is remembered of it.
type bench struct {
	machine *bmcsim.Machine
	server  *server
	dir     string
	clock   *idleClock
}

func newBench(t *testing.T, conf bmcsim.Config) *bench {
	t.Helper()
	b := &bench{dir: filepath.Join(t.TempDir(), "topology"), clock: newIdleClock()}
	b.put(t, conf)
	b.server = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.machine.Handler().ServeHTTP(w, r) }))
	return b
}

func (b *bench) put(t *testing.T, conf bmcsim.Config) {
	t.Helper()
	b.machine = bmcsim.New(conf)
	t.Cleanup(b.machine.Close)
}

// process is a client as a new process has it.
func (b *bench) process(t *testing.T, rows []bmc.Profile) bmc.Client {
	t.Helper()
	d := &redfish.Dialer{Profiles: rows, Clock: b.clock, Cache: b.dir}
	c, err := d.Dial(t.Context(), b.server.config(t))
	must(t, err)
	b.machine.ForgetRequests()
	return c
}

// look observes once, in a process of its own, and counts the requests.
func (b *bench) look(t *testing.T) int {
	t.Helper()
	c := b.process(t, profiles(t))
	if st := observe(t, c); st.ID.Profile == "" || st.Media.Slot == "" {
		t.Errorf("state %+v, want it whole", st)
	}
	must(t, c.Close(t.Context()))
	return len(asked(b.machine))
}

func (b *bench) file(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "*"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("the cache holds %q, want one file", files)
	}
	return files[0]
}

func TestLaterProcessesAskTwoThings(t *testing.T) {
	for _, kind := range []bmcsim.Kind{bmcsim.ILO4, bmcsim.ILO5, bmcsim.Gigabyte} {
		b := newBench(t, bmcsim.Config{Kind: kind})
		if n := b.look(t); n < 4 {
			t.Errorf("%s: a first look takes %d requests: the test tests nothing", kind, n)
		}
		if n := b.look(t); n != 2 {
			t.Errorf("%s: a later process asks %q, want two things", kind, asked(b.machine))
		}
	}
}

// What is remembered is dropped, and found again, whenever it may not fit.
func TestCacheIsDropped(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *bench){
		"deleted": func(t *testing.T, b *bench) { must(t, os.Remove(b.file(t))) },
		"damaged": func(t *testing.T, b *bench) { must(t, os.WriteFile(b.file(t), []byte(`{"Rules":`), 0o600)) },
		"emptied": func(t *testing.T, b *bench) { must(t, os.WriteFile(b.file(t), nil, 0o600)) },
		"a directory in its place": func(t *testing.T, b *bench) {
			f := b.file(t)
			must(t, os.Remove(f))
			must(t, os.MkdirAll(filepath.Join(f, "x"), 0o700))
		},
		"old":             func(t *testing.T, b *bench) { must(t, b.clock.Sleep(t.Context(), 25*time.Hour)) },
		"from the future": func(t *testing.T, b *bench) { must(t, b.clock.Sleep(t.Context(), -time.Hour)) },
		"another machine": func(t *testing.T, b *bench) { b.put(t, bmcsim.Config{Name: "another"}) },
		"another family":  func(t *testing.T, b *bench) { b.put(t, bmcsim.Config{Kind: bmcsim.Gigabyte}) },
		"written by other rules": func(t *testing.T, b *bench) {
			rows := slices.Clone(profiles(t))
			rows[0].SettleSeconds++
			c := b.process(t, rows)
			observe(t, c)
			must(t, c.Close(t.Context()))
		},
		"a refused write": func(t *testing.T, b *bench) {
			c := b.process(t, profiles(t))
			observe(t, c)
			b.machine.Faults(bmcsim.Fault{Method: "PATCH", Do: bmcsim.Do{What: bmcsim.DoStatus, Status: http.StatusBadRequest}})
			wantError(t, c.SetBootOnce(t.Context()), bmc.KindProtocol)
			observe(t, c)
			must(t, c.Close(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, bmcsim.Config{})
			b.look(t)
			change(t, b)
			if n := b.look(t); n < 4 {
				t.Errorf("asked %q, want a walk", asked(b.machine))
			}
		})
	}
}

func TestCacheHoldsNoSecretAndNoState(t *testing.T) {
	b := newBench(t, bmcsim.Config{})
	c := b.process(t, profiles(t))
	observe(t, c)
	must(t, c.InsertMedia(t.Context(), image))
	must(t, c.SetBootOnce(t.Context()))
	observe(t, c)
	must(t, c.Close(t.Context()))
	st, err := os.Stat(b.file(t))
	must(t, err)
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode())
	}
	text, err := os.ReadFile(b.file(t))
	must(t, err)
	for _, word := range []string{"secret", "root", "pit.iso", "Once", b.server.URL, "Sessions/"} {
		if strings.Contains(string(text), word) {
			t.Errorf("the cache tells %q: %s", word, text)
		}
	}
}

// A directory that cannot be written is no reason to fail.
func TestCacheThatCannotBeWritten(t *testing.T) {
	b := newBench(t, bmcsim.Config{})
	must(t, os.WriteFile(b.dir, nil, 0o600))
	b.look(t)
	if n := b.look(t); n < 4 {
		t.Errorf("asked %d things, want a walk", n)
	}
}
