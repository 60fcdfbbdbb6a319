package site

import (
	"fmt"
	"slices"
	"time"
)

// A Watch says what a watch does by itself, and when.
type Watch struct {
	// Every is from the end of a look to the next; 5m by default.
	Every time.Duration
	// Apply are the names of the steps that it may run.
	Apply []string
	// Within is when it may begin what does harm; nil: at any time.
	Within *Window
	// MaxDown is how many nodes may be down at once; 0: any number.
	MaxDown int
}

// What a watch does where the site file says nothing.
const DefaultWatchEvery = 5 * time.Minute

// DefaultWatchApply is what harms nothing and is asked for in overlay.every.
var DefaultWatchApply = []string{"backup-overlay"}

// MayRun reports whether a watch may run steps of that name.
func (w Watch) MayRun(step string) bool { return slices.Contains(w.Apply, step) }

// A Window is a part of each day, by the clock on the wall. Where a clock is put
// forward, the hour that it leaves out has no moments; where it is put back, the
// hour that comes twice counts twice.
type Window struct {
	From, To time.Duration  // since midnight; a To before From is of the next day
	Zone     *time.Location // nil: this machine's
	Text     string         // as it is written
}

// Contains reports whether the moment is in the window. To is not.
func (w Window) Contains(t time.Time) bool {
	t = w.local(t)
	now := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	if w.From < w.To {
		return w.From <= now && now < w.To
	}
	return w.From <= now || now < w.To
}

// Next is when the window opens next, after t; t itself while it is open.
func (w Window) Next(t time.Time) time.Time {
	if w.Contains(t) {
		return t
	}
	l := w.local(t)
	for day := range 3 { // the day after next is there for a day whose hour was left out
		at := time.Date(l.Year(), l.Month(), l.Day()+day, 0, int(w.From/time.Minute), 0, 0, l.Location())
		if at.After(t) {
			return at
		}
	}
	return t.Add(24 * time.Hour)
}

func (w Window) local(t time.Time) time.Time {
	if w.Zone != nil {
		return t.In(w.Zone)
	}
	return t.Local()
}

// String is the window as the site file has it.
func (w Window) String() string {
	if w.Text != "" {
		return w.Text
	}
	minutes := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", d/time.Hour, d%time.Hour/time.Minute) }
	return minutes(w.From) + "-" + minutes(w.To)
}

// A Lock says where the writers of several admin hosts keep their locks.
type Lock struct {
	Etcd          []string      // URLs of one etcd's servers
	Lease         time.Duration // 30s by default
	CA, Cert, Key string        // absolute paths of PEM files, or ""
}

// DefaultLease is how long the locks of a host that is gone stay.
const DefaultLease = 30 * time.Second
