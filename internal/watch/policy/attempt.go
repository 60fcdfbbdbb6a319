package policy

import (
	"fmt"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Wish is what the site file wants a node to run.
type Wish struct {
	Image  string      `json:"image"`
	Source string      `json:"source,omitempty"` // the image's URL, file or release
	SHA256 string      `json:"sha256,omitempty"`
	Volume site.Volume `json:"volume"` // zero: it could not be read
}

// WishOf is what the site file wants n to run.
func WishOf(n site.Node, images map[string]site.Image, facts map[string]plan.ImageFacts) Wish {
	img := images[n.Image]
	return Wish{Image: n.Image, Source: img.URL + img.File + img.Release, SHA256: img.SHA256, Volume: facts[n.Image].Volume}
}

// Same reports whether both wish for the same. An image that cannot be read for
// a while is no other one.
func (w Wish) Same(o Wish) bool {
	known := w.Volume != (site.Volume{}) && o.Volume != (site.Volume{})
	return w.Image == o.Image && w.Source == o.Source && w.SHA256 == o.SHA256 && (!known || w.Volume == o.Volume)
}

// An Attempt is what a watch has done for a wish of a node.
type Attempt struct {
	Wish Wish   `json:"wish"`
	Done []Harm `json:"done,omitempty"` // in order
	// Open: a run has begun to do harm, and has not said how it ended.
	Open     bool      `json:"open,omitempty"`
	Failures int       `json:"failures,omitempty"` // in a row
	At       time.Time `json:"at"`                 // when the last run ended
	Next     time.Time `json:"next"`               // when it may be tried again
	Error    string    `json:"error,omitempty"`    // of the last failure
}

// A Harm is a step that ended or started a machine.
type Harm struct {
	Action string    `json:"action"`
	At     time.Time `json:"at"`
	BootID string    `json:"bootID,omitempty"` // what ran then, where the node could be asked
}

// Down reports whether the node may be down by what was done.
func (a Attempt) Down() bool { return len(a.Done) > 0 }

// For is the attempt for the wish: itself, or a new one.
func (a Attempt) For(w Wish) Attempt {
	if !a.Wish.Same(w) {
		return Attempt{Wish: w}
	}
	if w.Volume != (site.Volume{}) {
		a.Wish.Volume = w.Volume
	}
	return a
}

// Forbids says why the step may not be done for this wish; nil: it may.
func (a Attempt) Forbids(act plan.Action, f plan.Facts) error {
	for _, h := range a.Done {
		if !a.again(h, act, f) {
			return &bmc.Error{
				Kind: bmc.KindCancelled,
				Err:  fmt.Errorf("for %s the watch has done %s already, at %s, and it did not help", a.Wish.Image, h.Action, h.At.UTC().Format(time.RFC3339)),
				Hint: "find out why, then run `livecd-sync apply`; the watch resets it again only for something else",
			}
		}
	}
	return nil
}

// again reports whether what was done does not stand in the way of act.
func (a Attempt) again(h Harm, act plan.Action, f plan.Facts) bool {
	switch act.(type) {
	case plan.PowerOff, plan.Reset:
		// What ran when it was to be ended still runs: it was not ended.
		return h.Action != "power-on" && h.BootID != "" && h.BootID == bootID(f)
	case plan.PowerOn:
		// After a power-off it is due. After a power-on only where the run was cut off
		// and the machine is off, so that it was not sent.
		return h.Action == "power-off" || h.Action == "power-on" && a.Open && f.BMC.Power == bmc.PowerOff
	case plan.BackupOverlay, plan.EnableMedia, plan.EjectMedia, plan.InsertMedia, plan.SetBootOnce, plan.ClearBoot,
		plan.AwaitBoot, plan.Login, plan.RestoreOverlay, plan.Repopulate:
	}
	return true
}

func bootID(f plan.Facts) string {
	switch h := f.Host.(type) {
	case plan.HostLive:
		return h.BootID
	case plan.HostDisk:
		return h.BootID
	case plan.HostSilent, plan.HostLocked, plan.HostUnknown:
	}
	return ""
}

// Begin is the attempt with the step, which is about to be done.
func (a Attempt) Begin(act plan.Action, f plan.Facts, now time.Time) Attempt {
	if act.Effect() != plan.Destroys {
		return a
	}
	a.Open = true
	a.Done = append(a.Done[:len(a.Done):len(a.Done)], Harm{Action: act.Name(), At: now.UTC(), BootID: bootID(f)})
	return a
}

const (
	firstPause = time.Minute
	longest    = 6 * time.Hour
)

// End is the attempt after a run of p that ended so. There is none any more
// where the node converged.
func (a Attempt) End(p plan.NodePlan, res apply.NodeResult, now time.Time) (after Attempt, over bool) {
	a.Open, a.At = false, now.UTC()
	switch {
	case res.Converged:
		return Attempt{}, true
	case res.Err == nil: // part of it was done, as meant
		a.Failures, a.Error, a.Next = 0, "", time.Time{}
		return a, len(a.Done) == 0
	}
	a.Done = started(a.Done, p, res)
	if bmc.KindOf(res.Err) == bmc.KindCancelled || res.After.State == plan.Blocked {
		return a, len(a.Done) == 0 && a.Failures == 0 // nothing has gone wrong with it
	}
	a.Failures++
	a.Error = res.Err.Error()
	a.Next = a.At.Add(Patience(a.Failures))
	return a, false
}

// started leaves out a power-on that failed: the machine was seen to stay off.
func started(done []Harm, p plan.NodePlan, res apply.NodeResult) []Harm {
	for i, s := range p.Steps {
		if _, on := s.Action.(plan.PowerOn); on && i < len(res.Steps) && res.Steps[i].Outcome == apply.OutcomeFailed &&
			res.After.Facts.BMC.Power == bmc.PowerOff && len(done) > 0 && done[len(done)-1].Action == "power-on" {
			return done[:len(done)-1]
		}
	}
	return done
}

// Patience is how long a node is left alone after so many failures in a row.
func Patience(failures int) time.Duration {
	if failures < 1 {
		return 0
	}
	return min(firstPause<<min(failures-1, 20), longest)
}

// Wait is how long the node is still to be left alone. A clock that was put back
// does not make that longer than it was meant.
func (a Attempt) Wait(now time.Time) time.Duration {
	return max(0, min(a.Next.Sub(now), Patience(a.Failures)))
}
