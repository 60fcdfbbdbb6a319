// Package applytest is a node to run plans on: a simulated machine, the system
// that it has booted, and its store, all in memory.
package applytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// The images of the world's site: the wanted one, "new", and "old".
const (
	NewImage = "http://10.1.1.1/iso/pit17.iso"
	OldImage = "http://10.1.1.1/iso/pit16.iso"
)

var volumes = map[string]site.Volume{NewImage: {ID: "PIT17"}, OldImage: {ID: "PIT16"}}

// A World is one node: a simulated machine, the system that runs on it, and its
// store. All of it holds state. It is the machine's bmcsim.Host and a run's
// apply.Overlays. Its methods are safe for concurrent use; its exported fields
// are for a test to set while nothing runs.
type World struct {
	Machine *bmcsim.Machine
	Node    site.Node
	Profile bmc.Profile
	NewURL  string // where the image "new" is; "" is NewImage
	// Dial connects to the machine; at first in memory.
	Dial func(context.Context, site.Node) (bmc.Client, error)

	Backups                 map[string]map[string]string
	Taken                   []string     // backups by time
	Note                    *plan.Reboot // nil: none
	FailBackup, FailRestore error
	FailRepopulate          error
	Repopulated             []string // for which backup, in order
	// Locks says that what boots lets nobody in over ssh before its first login;
	// where Deaf, it has no address before.
	Locks, Deaf bool
	LocksDisk   bool // the same of what boots from the disk
	Logins      int  // how many first logins were done
	FailLogin   error

	t       testing.TB
	mu      sync.Mutex
	booted  *bmcsim.Boot // nil: nothing runs
	boots   int
	overlay map[string]string // what a reset forgets
	mute    bool              // ssh does not answer
	locked  bool              // what runs has had no first login
	held    string            // the backup that this boot holds
	boot    map[string]string // of each backup
}

// New makes a world of a node that wants the image "new", and waits until what it
// runs at first has started.
func New(t testing.TB, cfg bmcsim.Config) *World {
	t.Helper()
	w := &World{
		t: t, Backups: map[string]map[string]string{}, boot: map[string]string{}, overlay: map[string]string{},
		Profile: bmc.Profile{Name: "test", BootTargets: []string{"Cd", "UsbCd"}},
		Node: site.Node{
			Name: "n1", Image: "new", Reset: site.ResetNeeded, Boot: site.Boot{Within: 2 * time.Second},
			SSH: &site.SSH{Address: "n1"}, Overlay: &site.Overlay{Store: "admin", Restore: site.RestoreLatest},
		},
	}
	w.Dial = func(context.Context, site.Node) (bmc.Client, error) { return w.Machine.Client(), nil }
	cfg.Host = w
	w.Machine = bmcsim.New(cfg)
	t.Cleanup(w.Machine.Close)
	w.waitBooted(cfg.InitialPower != bmc.PowerOff)
	return w
}

// waitBooted waits until the first Start, which New announces by itself, has come.
func (w *World) waitBooted(on bool) {
	for deadline := time.Now().Add(5 * time.Second); on; {
		w.mu.Lock()
		up := w.booted != nil
		w.mu.Unlock()
		if up || time.Now().After(deadline) {
			return
		}
	}
}

// up reports whether something has booted.
func (w *World) up() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.booted != nil
}

// Start boots: it is bmcsim.Host's.
func (w *World) Start(b bmcsim.Boot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.booted, w.overlay, w.held = &b, map[string]string{}, ""
	if w.locked = w.Locks; b.Image == "" {
		w.locked = w.LocksDisk
	}
	w.boots++
}

// Shutdown ends what runs: it is bmcsim.Host's.
func (w *World) Shutdown(off func()) {
	w.Stop()
	off()
}

// Stop ends what runs: it is bmcsim.Host's.
func (w *World) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.booted = nil
}

// SetMute says whether ssh does not answer.
func (w *World) SetMute(mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = mute
}

// Write writes a file into the overlay.
func (w *World) Write(name, content string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.overlay[name] = content
}

// Read reads a file of the overlay, "" if there is none.
func (w *World) Read(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.overlay[name]
}

// Host asks the node, as apply.Runner does.
func (w *World) Host(context.Context, site.Node) (plan.Host, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.booted == nil || w.mute {
		return nil, &bmc.Error{Kind: bmc.KindSSH, Err: errors.New("connection refused"), Hint: "look"}
	}
	switch {
	case w.locked && w.Deaf:
		return nil, &bmc.Error{Kind: bmc.KindSSH, Err: errors.New("no route to host"), Hint: "look"}
	case w.locked:
		return plan.HostLocked{Err: errors.New("it let root in with none of: the key")}, nil
	}
	id := fmt.Sprintf("boot-%d", w.boots)
	if w.booted.Image == "" {
		return plan.HostDisk{BootID: id}, nil
	}
	return plan.HostLive{BootID: id, Volume: volumes[w.booted.Image], Restored: w.held}, nil
}

// SetLocked says whether what runs lets nobody in before its first login.
func (w *World) SetLocked(locked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.locked = locked
}

// Login does the first login, as apply.Runner does, once something has booted.
func (w *World) Login(_ context.Context, _ site.Node, within time.Duration, _ func(string)) (string, error) {
	for deadline := time.Now().Add(within); time.Now().Before(deadline) && !w.up(); {
		runtime.Gosched()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Logins++
	switch {
	case w.FailLogin != nil:
		return "", w.FailLogin
	case w.booted == nil:
		return "", &bmc.Error{Kind: bmc.KindTimeout, Err: errors.New("no login prompt came in time"), Hint: "look"}
	}
	w.locked = false
	return "logged in", nil
}

// Backup is apply.Overlays'.
func (w *World) Backup(_ context.Context, _ site.Node, _ plan.Purpose, _ func(string)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.FailBackup != nil {
		return "", w.FailBackup
	}
	if w.booted == nil || w.locked {
		return "", &bmc.Error{Kind: bmc.KindSSH, Err: errors.New("connection refused"), Hint: "look"}
	}
	id := fmt.Sprintf("backup-%d", len(w.Taken)+1)
	w.Backups[id] = maps.Clone(w.overlay)
	w.Taken = append(w.Taken, id)
	w.boot[id] = fmt.Sprintf("boot-%d", w.boots)
	return id, nil
}

// Restore is apply.Overlays'.
func (w *World) Restore(_ context.Context, _ site.Node, id string, _ func(string)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.FailRestore != nil {
		return "", w.FailRestore
	}
	if w.booted == nil || w.locked || w.Backups[id] == nil {
		return "", &bmc.Error{Kind: bmc.KindOverlay, Err: fmt.Errorf("no backup %q, or no system", id), Hint: "look"}
	}
	maps.Copy(w.overlay, w.Backups[id])
	w.held = id
	return "restored " + id, nil
}

// Repopulate is apply.Overlays'.
func (w *World) Repopulate(_ context.Context, _ site.Node, id string, _ func(string)) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.FailRepopulate != nil {
		return "", w.FailRepopulate
	}
	if w.booted == nil || w.held != id {
		return "", &bmc.Error{Kind: bmc.KindOverlay, Err: fmt.Errorf("backup %q was not restored", id), Hint: "look"}
	}
	w.Repopulated = append(w.Repopulated, id)
	return "fetched", nil
}

// SetReboot is apply.Overlays'.
func (w *World) SetReboot(_ context.Context, _ site.Node, r plan.Reboot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Note = &r
	return nil
}

// ClearReboot is apply.Overlays'.
func (w *World) ClearReboot(context.Context, site.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Note = nil
	return nil
}

func (w *World) facts() plan.OverlayFacts {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := plan.OverlayFacts{Reboot: w.Note}
	if n := len(w.Taken); n > 0 {
		f.Latest = &plan.Backup{ID: w.Taken[n-1], At: time.Now(), BootID: w.boot[w.Taken[n-1]]}
	}
	return f
}

// Site is the node's site file.
func (w *World) Site() *site.Site {
	return &site.Site{
		Name:   "test",
		Images: map[string]site.Image{"new": {Name: "new", URL: cmp.Or(w.NewURL, NewImage)}, "old": {Name: "old", URL: OldImage}},
		Nodes:  []site.Node{w.Node},
	}
}

// Images are the site's, as observed.
func (w *World) Images() map[string]plan.ImageFacts {
	return map[string]plan.ImageFacts{"new": {Volume: volumes[NewImage]}, "old": {Volume: volumes[OldImage]}}
}

// Beside completes what the BMC said, as apply.Runner does.
func (w *World) Beside(ctx context.Context, _ *site.Site, n site.Node, s bmc.State) plan.Facts {
	f := plan.Facts{BMC: s, Profile: w.Profile, Host: plan.HostUnknown{}}
	if n.SSH != nil {
		h, err := w.Host(ctx, n)
		if err != nil {
			h = plan.HostSilent{Err: err}
		}
		f.Host = h
	}
	if n.OverlayManaged() {
		f.Overlay = w.facts()
	}
	return f
}

func (w *World) observe() (bmc.State, error) {
	c, err := w.Dial(w.t.Context(), w.Node)
	if err != nil {
		return bmc.State{}, err
	}
	s, err := c.Observe(w.t.Context())
	return s, errors.Join(err, c.Close(w.t.Context()))
}

// Plan observes and plans.
func (w *World) Plan(accept map[string]bool) plan.Plan {
	w.t.Helper()
	s, err := w.observe()
	f := plan.Facts{Err: err, Host: plan.HostUnknown{}}
	if err == nil {
		f = w.Beside(w.t.Context(), nil, w.Node, s)
	}
	o := plan.Observed{At: time.Now(), Nodes: map[string]plan.Facts{"n1": f}, Images: w.Images()}
	return plan.Compute(w.Site(), o, accept)
}
