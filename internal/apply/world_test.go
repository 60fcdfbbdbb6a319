package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const (
	newImage = "http://10.1.1.1/iso/pit17.iso"
	oldImage = "http://10.1.1.1/iso/pit16.iso"
)

var volumes = map[string]site.Volume{newImage: {ID: "PIT17"}, oldImage: {ID: "PIT16"}}

// A world is one node: a simulated machine, the system that runs on it, and its
// store. All of it holds state.
type world struct {
	t       *testing.T
	machine *bmcsim.Machine
	node    site.Node
	profile bmc.Profile

	mu      sync.Mutex
	booted  *bmcsim.Boot // nil: nothing runs
	boots   int
	overlay map[string]string // what a reset forgets
	held    string            // the backup that this boot holds
	mute    bool              // ssh does not answer
	backups map[string]map[string]string
	taken   []string          // backups by time
	boot    map[string]string // of each backup
	reboot  *plan.Reboot

	failBackup, failRestore error
	events                  []Event
}

func newWorld(t *testing.T, cfg bmcsim.Config) *world {
	t.Helper()
	w := &world{
		t: t, backups: map[string]map[string]string{}, boot: map[string]string{}, overlay: map[string]string{},
		profile: bmc.Profile{Name: "test", BootTargets: []string{"Cd", "UsbCd"}},
		node: site.Node{
			Name: "n1", Image: "new", Reset: site.ResetNeeded, Boot: site.Boot{Within: 2 * time.Second},
			SSH: &site.SSH{Address: "n1"}, Overlay: &site.Overlay{Store: "admin", Restore: site.RestoreLatest},
		},
	}
	cfg.Host = w
	w.machine = bmcsim.New(cfg)
	t.Cleanup(w.machine.Close)
	w.waitBooted(cfg.InitialPower != bmc.PowerOff)
	return w
}

// waitBooted waits until the first Start, which New announces by itself, has come.
func (w *world) waitBooted(on bool) {
	for deadline := time.Now().Add(5 * time.Second); on; {
		w.mu.Lock()
		up := w.booted != nil
		w.mu.Unlock()
		if up || time.Now().After(deadline) {
			return
		}
	}
}

func (w *world) Start(b bmcsim.Boot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.booted, w.overlay, w.held = &b, map[string]string{}, ""
	w.boots++
}

func (w *world) Shutdown(off func()) {
	w.Stop()
	off()
}

func (w *world) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.booted = nil
}

func (w *world) write(name, content string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overlay[name] = content
}

func (w *world) read(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overlay[name]
}

func (w *world) host(context.Context, site.Node) (plan.Host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.booted == nil || w.mute {
		return nil, &bmc.Error{Kind: bmc.KindSSH, Err: errors.New("connection refused"), Hint: "look"}
	}
	id := fmt.Sprintf("boot-%d", w.boots)
	if w.booted.Image == "" {
		return plan.HostDisk{BootID: id}, nil
	}
	return plan.HostLive{BootID: id, Volume: volumes[w.booted.Image], Restored: w.held}, nil
}

func (w *world) Backup(_ context.Context, _ site.Node, _ plan.Purpose, _ func(string)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failBackup != nil {
		return "", w.failBackup
	}
	if w.booted == nil {
		return "", &bmc.Error{Kind: bmc.KindSSH, Err: errors.New("connection refused"), Hint: "look"}
	}
	id := fmt.Sprintf("backup-%d", len(w.taken)+1)
	w.backups[id] = maps.Clone(w.overlay)
	w.taken = append(w.taken, id)
	w.boot[id] = fmt.Sprintf("boot-%d", w.boots)
	return id, nil
}

func (w *world) Restore(_ context.Context, _ site.Node, id string, _ func(string)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failRestore != nil {
		return "", w.failRestore
	}
	if w.booted == nil || w.backups[id] == nil {
		return "", &bmc.Error{Kind: bmc.KindOverlay, Err: fmt.Errorf("no backup %q, or no system", id), Hint: "look"}
	}
	maps.Copy(w.overlay, w.backups[id])
	w.held = id
	return "restored " + id, nil
}

func (w *world) SetReboot(_ context.Context, _ site.Node, r plan.Reboot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reboot = &r
	return nil
}

func (w *world) ClearReboot(context.Context, site.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reboot = nil
	return nil
}

func (w *world) overlayFacts() plan.OverlayFacts {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := plan.OverlayFacts{Reboot: w.reboot}
	if n := len(w.taken); n > 0 {
		f.Latest = &plan.Backup{ID: w.taken[n-1], At: time.Now(), BootID: w.boot[w.taken[n-1]]}
	}
	return f
}

func (w *world) site() *site.Site {
	return &site.Site{
		Name:   "test",
		Images: map[string]site.Image{"new": {Name: "new", URL: newImage}, "old": {Name: "old", URL: oldImage}},
		Nodes:  []site.Node{w.node},
	}
}

func (w *world) images() map[string]plan.ImageFacts {
	return map[string]plan.ImageFacts{"new": {Volume: volumes[newImage]}, "old": {Volume: volumes[oldImage]}}
}

func (w *world) beside(ctx context.Context, _ *site.Site, n site.Node, s bmc.State) plan.Facts {
	f := plan.Facts{BMC: s, Profile: w.profile, Host: plan.HostUnknown{}}
	if n.SSH != nil {
		h, err := w.host(ctx, n)
		if err != nil {
			h = plan.HostSilent{Err: err}
		}
		f.Host = h
	}
	if n.OverlayManaged() {
		f.Overlay = w.overlayFacts()
	}
	return f
}

func (w *world) plan(accept map[string]bool) plan.Plan {
	w.t.Helper()
	c := w.machine.Client()
	defer c.Close(w.t.Context()) // in memory
	s, err := c.Observe(w.t.Context())
	f := plan.Facts{Err: err, Host: plan.HostUnknown{}}
	if err == nil {
		f = w.beside(w.t.Context(), nil, w.node, s)
	}
	o := plan.Observed{At: time.Now(), Nodes: map[string]plan.Facts{"n1": f}, Images: w.images()}
	return plan.Compute(w.site(), o, accept)
}

// fast are waits for a machine whose seconds are milliseconds.
var fast = Timing{
	PollFirst: time.Millisecond, Lag: time.Millisecond, PollMost: 10 * time.Millisecond, Shutdown: time.Second, Power: time.Second,
	OffSettle: time.Millisecond, Enable: time.Second, Eject: time.Second, Insert: time.Second, Override: time.Second,
	Stale: 50 * time.Millisecond, AskBMC: 20 * time.Millisecond,
}

func (w *world) runner() *Runner {
	return &Runner{
		Dial:   func(context.Context, site.Node) (bmc.Client, error) { return w.machine.Client(), nil },
		Host:   w.host,
		Beside: w.beside, Overlays: w, Images: w.images(), Clock: bmc.SystemClock{}, Timing: fast,
		Emit: func(e Event) { w.events = append(w.events, e) },
	}
}

// apply plans and runs.
func (w *world) apply() NodeResult {
	w.t.Helper()
	return w.runner().Run(w.t.Context(), nil, w.site(), w.plan(nil)).Nodes[0]
}

func (w *world) mustConverge() {
	w.t.Helper()
	if r := w.apply(); !r.Converged {
		w.t.Fatalf("not converged: %v", r.Err)
	}
	if p := w.plan(nil); p.Nodes[0].State != plan.InSync {
		w.t.Fatalf("a further plan has steps: %v", p.Nodes[0])
	}
}
