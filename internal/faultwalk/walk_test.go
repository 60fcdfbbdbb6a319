package faultwalk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// A misfortune is what happens to one request.
type misfortune struct {
	name string
	do   bmcsim.Do
	down bool // the BMC's web service is gone from then on, before the request acts
	// may: the request may have acted, as far as a client can tell.
	may bool
}

func status(code int) bmcsim.Do { return bmcsim.Do{What: bmcsim.DoStatus, Status: code} }

var misfortunes = []misfortune{
	{name: "connection refused", down: true, may: true},
	{name: "reset before it acted", do: bmcsim.Do{What: bmcsim.DoCloseBefore}, may: true},
	{name: "reset after it acted", do: bmcsim.Do{What: bmcsim.DoCloseAfter}, may: true},
	{name: "no answer", do: bmcsim.Do{What: bmcsim.DoHang}, may: true},
	{name: "401", do: status(http.StatusUnauthorized)},
	{name: "403", do: status(http.StatusForbidden)},
	{name: "404", do: status(http.StatusNotFound)},
	{name: "409", do: status(http.StatusConflict)},
	{name: "412", do: status(http.StatusPreconditionFailed)},
	{name: "500", do: status(http.StatusInternalServerError), may: true},
	{name: "503, Retry-After", do: bmcsim.Do{What: bmcsim.DoStatus, Status: http.StatusServiceUnavailable, RetryAfter: 2 * time.Second}},
	{name: "HTML", do: bmcsim.Do{What: bmcsim.DoHTML}, may: true},
	{name: "half a body", do: bmcsim.Do{What: bmcsim.DoHalfBody}, may: true},
	{name: "wrong types", do: bmcsim.Do{What: bmcsim.DoWrongTypes}, may: true},
}

// A family is a machine in a state, of which much is asked.
type family struct {
	name string
	cfg  bmcsim.Config
}

func families() []family {
	old := bmcsim.Boot{Image: applytest.OldImage}
	var all []family
	for _, kind := range []bmcsim.Kind{bmcsim.ILO4, bmcsim.ILO5, bmcsim.Gigabyte, bmcsim.Generic} {
		all = append(all,
			family{fmt.Sprint(kind, ", live"), bmcsim.Config{Kind: kind, Running: old}},
			family{fmt.Sprint(kind, ", off"), bmcsim.Config{Kind: kind, InitialPower: bmc.PowerOff}})
	}
	reported := bmcsim.Reported(bmcsim.Gigabyte)
	return append(all,
		family{"gigabyte as reported", bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: reported}},
		family{"tasks", bmcsim.Config{Kind: bmcsim.Generic, Running: old, Behaviour: bmcsim.Behaviour{InsertTask: bmcsim.TaskLocation, EjectTask: bmcsim.TaskInBody}}},
		family{"restarted in place", bmcsim.Config{Kind: bmcsim.Generic, Running: old, Behaviour: bmcsim.Behaviour{ResetTypes: []string{"ForceRestart"}}}},
	)
}

// hasty runs a hundred times as fast as the machine's clock.
type hasty struct{ start time.Time }

const haste = 100

func (c hasty) Now() time.Time { return c.start.Add(haste * time.Since(c.start)) }

func (c hasty) Sleep(ctx context.Context, d time.Duration) error {
	return bmc.SystemClock{}.Sleep(ctx, d/haste)
}

var rows = sync.OnceValues(siteload.Profiles)

// A flow is one node, from the look at it to the end.
type flow struct {
	*applytest.World
	t      testing.TB
	server *server
	clock  bmc.Clock
	asked  atomic.Int64 // requests
	goesAt atomic.Int64 // the one at which the web service goes down, 0 for none
}

func newFlow(t testing.TB, cfg bmcsim.Config) *flow {
	t.Helper()
	cfg.Timing = bmcsim.Timing{
		Post: 2 * time.Millisecond, Shutdown: time.Millisecond, MediaTask: 2 * time.Millisecond, EnableDelay: time.Millisecond,
		MediaLag: 2 * time.Millisecond, EjectLag: 2 * time.Millisecond, PowerLag: time.Millisecond, Settle: time.Millisecond,
	}
	f := &flow{World: applytest.New(t, cfg), t: t, clock: hasty{time.Now()}}
	f.Node.Boot.Within = 5 * time.Minute // of the hasty clock
	f.server = newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.asked.Add(1) == f.goesAt.Load() {
			f.server.down()
			return
		}
		f.Machine.Handler().ServeHTTP(w, r)
	}))
	known, err := rows()
	if err != nil {
		t.Fatal(err)
	}
	dialer := &redfish.Dialer{Profiles: known, Clock: f.clock, Timeouts: redfish.Timeouts{
		Connect: time.Second, Read: 250 * time.Millisecond, Write: 250 * time.Millisecond, Close: time.Second,
	}}
	f.Dial = func(ctx context.Context, n site.Node) (bmc.Client, error) {
		return dialer.Dial(ctx, redfish.Config{
			Node: n.Name, URL: f.server.url(), TLS: redfish.TLS{Fingerprint: f.server.pin()},
			Credential: bmc.Credential{Username: "root", Password: "redfish-secret"},
		})
	}
	f.Write("precious", "a week's work")
	return f
}

// arm has the misfortune strike the nth request.
func (f *flow) arm(m misfortune, nth int) {
	if m.down {
		f.goesAt.Store(int64(nth))
		return
	}
	f.Machine.Faults(bmcsim.Fault{Nth: nth, Do: m.do})
}

func (f *flow) disarm() {
	f.goesAt.Store(0)
	f.Machine.Faults()
	f.server.up()
}

// run plans and applies, and gives what became of the node.
func (f *flow) run() (converged bool, err error) {
	p := f.Plan(nil)
	if n := p.Nodes[0]; n.State == plan.Failed || n.State == plan.Blocked {
		return false, n.Err
	}
	r := &apply.Runner{
		Dial: f.Dial, Host: f.Host, Beside: f.Beside, Overlays: f, Images: f.Images(), Clock: f.clock,
	}
	res := r.Run(f.t.Context(), nil, f.Site(), p).Nodes[0]
	return res.Converged, res.Err
}

// outcomes counts how flows ended, by family and misfortune.
type outcomes struct {
	mu    sync.Mutex
	count map[string]map[string]int
}

func (o *outcomes) add(family, how string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[family] == nil {
		o.count[family] = map[string]int{}
	}
	o.count[family][how]++
}

func (o *outcomes) String() string {
	var b strings.Builder
	total := 0
	for _, family := range slices.Sorted(maps.Keys(o.count)) {
		fmt.Fprintf(&b, "\n%-24s", family)
		for _, how := range slices.Sorted(maps.Keys(o.count[family])) {
			fmt.Fprintf(&b, " %s %d", how, o.count[family][how])
			total += o.count[family][how]
		}
	}
	return fmt.Sprintf("%d flows with a misfortune each%s", total, b.String())
}

func TestEveryMisfortuneAtEveryRequest(t *testing.T) {
	all := &outcomes{count: map[string]map[string]int{}}
	t.Run("walk", func(t *testing.T) {
		for _, fam := range families() {
			t.Run(fam.name, func(t *testing.T) {
				t.Parallel()
				requests := untroubled(t, fam)
				for nth := 1; nth <= requests; nth++ {
					for i, m := range misfortunes {
						if (nth*len(misfortunes)+i)%stride == 0 {
							all.add(fam.name, troubled(t, fam, m, nth))
						}
					}
				}
			})
		}
	})
	t.Log(all)
}

// untroubled counts the requests of a flow that nothing happens to.
func untroubled(t *testing.T, fam family) int {
	t.Helper()
	f := newFlow(t, fam.cfg)
	if ok, err := f.run(); !ok {
		t.Fatalf("it does not converge: %v", err)
	}
	n := len(f.Machine.Requests())
	if n < 12 {
		t.Fatalf("only %d requests: the test tests little", n)
	}
	return n
}

// troubled runs a flow in which m strikes the nth request, and says how it ended.
func troubled(t *testing.T, fam family, m misfortune, nth int) (how string) {
	t.Helper()
	f := newFlow(t, fam.cfg)
	defer f.server.down()
	defer f.Machine.Close()
	f.arm(m, nth)
	converged, err := f.run()
	what := fmt.Sprintf("%s at request %d", m.name, nth)
	asked := f.Machine.Requests()
	if nth <= len(asked) {
		what += fmt.Sprintf(" (%s %s)", asked[nth-1].Method, asked[nth-1].Path)
	}
	how = "converged"
	if !converged {
		how = f.failure(what, err)
	}
	f.nothingTwice(what, m, asked, nth)
	f.disarm()
	for tries := 1; ; tries++ {
		ok, err := f.run()
		if ok {
			break
		}
		if tries == 3 {
			t.Errorf("%s: a further apply does not converge: %v", what, err)
			break
		}
	}
	if n := f.Machine.Stats().Boots; n != 1 {
		t.Errorf("%s: it was started %d times", what, n)
	}
	if fam.cfg.Running.Image != "" && f.Read("precious") != "a week's work" {
		t.Errorf("%s: the overlay was lost", what)
	}
	if f.Note != nil {
		t.Errorf("%s: the note was left behind: %+v", what, f.Note)
	}
	return how
}

// failure checks an error, and gives its kind.
func (f *flow) failure(what string, err error) string {
	f.t.Helper()
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Kind == "" || e.Hint == "" {
		f.t.Errorf("%s: not converged, and the error is %v (%T)", what, err, err)
		return "unclear"
	}
	return string(e.Kind)
}

// nothingTwice: what may have acted is looked at before it is sent again, a reset
// is never sent again, and no session is left but one that nobody could know of.
func (f *flow) nothingTwice(what string, m misfortune, asked []bmcsim.Request, nth int) {
	f.t.Helper()
	resets := map[string]int{}
	for i, r := range asked {
		if strings.HasSuffix(r.Path, "/ComputerSystem.Reset") && (i != nth-1 || m.may) {
			if resets[r.Body]++; resets[r.Body] > 1 {
				f.t.Errorf("%s: sent again: %s", what, r.Body)
			}
		}
	}
	struck := nth <= len(asked)
	if struck && m.may && asked[nth-1].Method != http.MethodGet {
		for _, r := range asked[nth:] {
			if r.Method == http.MethodGet {
				break
			}
			if same := asked[nth-1]; r.Method == same.Method && r.Path == same.Path && r.Body == same.Body && !strings.HasSuffix(r.Path, "/Sessions") {
				f.t.Errorf("%s: sent again without a look: %s %s", what, r.Path, r.Body)
			}
		}
	}
	lost := m.down || struck && strings.Contains(asked[nth-1].Path, "/Sessions")
	if n := f.Machine.Stats().Sessions; n > 0 && !lost {
		f.t.Errorf("%s: %d sessions left", what, n)
	}
}
