package apply

import (
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply/applytest"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// A world is a node, and what was told of the runs on it.
type world struct {
	*applytest.World
	t      *testing.T
	events []Event
}

func newWorld(t *testing.T, cfg bmcsim.Config) *world {
	t.Helper()
	return &world{World: applytest.New(t, cfg), t: t}
}

// fast are waits for a machine whose seconds are milliseconds.
var fast = Timing{
	PollFirst: time.Millisecond, Lag: time.Millisecond, PollMost: 10 * time.Millisecond, Shutdown: time.Second, Power: time.Second,
	OffSettle: time.Millisecond, Enable: time.Second, Eject: time.Second, Insert: time.Second, Override: time.Second,
	Stale: 50 * time.Millisecond, AskBMC: 20 * time.Millisecond, LetIn: time.Second,
}

func (w *world) runner() *Runner {
	return &Runner{
		Dial: w.Dial, Host: w.Host, Login: w.Login,
		Beside: w.Beside, Overlays: w, Images: w.Images(), Clock: bmc.SystemClock{}, Timing: fast,
		Emit: func(e Event) { w.events = append(w.events, e) },
	}
}

// apply plans and runs.
func (w *world) apply() NodeResult {
	w.t.Helper()
	return w.runner().Run(w.t.Context(), nil, w.Site(), w.Plan(nil)).Nodes[0]
}

func (w *world) mustConverge() {
	w.t.Helper()
	if r := w.apply(); !r.Converged {
		w.t.Fatalf("not converged: %v", r.Err)
	}
	if p := w.Plan(nil); p.Nodes[0].State != plan.InSync {
		w.t.Fatalf("a further plan has steps: %v", p.Nodes[0])
	}
}
