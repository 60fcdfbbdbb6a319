package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// redrawn is how often a live line is written at most.
const redrawn = 100 * time.Millisecond

// TransfersOptions say how transfers are told.
type TransfersOptions struct {
	// Live keeps one line with all of them, Width characters wide, which a
	// terminal shows; else a node's is told every half minute.
	Live  bool
	Width int
	// JSON tells them as lines of JSON, for --log-format json.
	JSON bool
	// Verbose tells every progress, and no live line.
	Verbose bool
	// Now tells the time.
	Now func() time.Time
}

// Transfers tells how far each node's backup or restore is, and what is done with
// each image. Its methods are safe for concurrent use; those of a nil one tell
// nothing.
type Transfers struct {
	opts TransfersOptions
	log  zerolog.Logger

	mu    sync.Mutex // guards what follows, and keeps lines whole
	w     io.Writer
	now   map[subject]string    // how far each is
	told  map[subject]time.Time // when it was last told of, or began
	drawn time.Time             // when the live line was
	shown bool                  // it is on the terminal
}

// A subject is what is transferred: its kind is "node" or "image".
type subject struct{ kind, name string }

// String is what a person is shown.
func (s subject) String() string {
	if s.kind == "node" {
		return s.name
	}
	return s.kind + " " + s.name
}

// NewTransfers makes Transfers that writes to w.
func NewTransfers(w io.Writer, o TransfersOptions) *Transfers {
	o.Live = o.Live && !o.JSON && !o.Verbose && o.Width > 0
	return &Transfers{opts: o, log: zerolog.New(w), w: w, now: make(map[subject]string), told: make(map[subject]time.Time)}
}

// Tell says how far a node's transfer is.
func (t *Transfers) Tell(node, howFar string) { t.tell(subject{"node", node}, howFar) }

// TellImage says how far what is done with an image is.
func (t *Transfers) TellImage(image, howFar string) { t.tell(subject{"image", image}, howFar) }

func (t *Transfers) tell(what subject, howFar string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.opts.Now()
	_, begun := t.now[what]
	t.now[what] = howFar
	if t.opts.Live {
		if !begun || now.Sub(t.drawn) >= redrawn {
			t.drawn = now
			t.draw()
		}
		return
	}
	if !begun && !t.opts.Verbose {
		t.told[what] = now
		return
	}
	if t.opts.Verbose || now.Sub(t.told[what]) >= quietFor {
		t.told[what] = now
		t.line(now, what, howFar)
	}
}

// End says that a node's transfer is over.
func (t *Transfers) End(node string) { t.end(subject{"node", node}) }

// EndImage says that what was done with an image is over.
func (t *Transfers) EndImage(image string) { t.end(subject{"image", image}) }

func (t *Transfers) end(what subject) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, what)
	delete(t.told, what)
	t.draw()
}

// Around does what writes to the terminal, without the live line.
func (t *Transfers) Around(write func()) {
	if t == nil {
		write()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wipe()
	write()
	t.draw()
}

func (t *Transfers) line(now time.Time, what subject, howFar string) {
	if t.opts.JSON {
		t.log.Info().Time("time", now.UTC()).Str(what.kind, clean(what.name)).Msg(clean(howFar))
		return
	}
	_, _ = fmt.Fprintf(t.w, "%s  %s\n", clean(what.String()), clean(howFar)) // see Progress: nothing is to be done about it
}

// draw writes the live line anew.
func (t *Transfers) draw() {
	if !t.opts.Live {
		return
	}
	t.wipe()
	if len(t.now) == 0 {
		return
	}
	all := slices.SortedFunc(maps.Keys(t.now), func(a, b subject) int { return strings.Compare(a.String(), b.String()) })
	_, _ = io.WriteString(t.w, t.fit(all))
	t.shown = true
}

// fit is the line of these, and of how many more there are.
func (t *Transfers) fit(all []subject) string {
	width := t.opts.Width - 1 // with the last one taken, some terminals go on
	line := ""
	for i, what := range all {
		next := line
		if i > 0 {
			next += "; "
		}
		next += clean(what.String()) + " " + clean(t.now[what])
		more := ""
		if left := len(all) - i - 1; left > 0 {
			more = fmt.Sprintf("; %d more", left)
		}
		if visible(next+more) > width {
			if i > 0 {
				line += fmt.Sprintf("; %d more", len(all)-i)
			} else {
				line = next
			}
			break
		}
		line = next
	}
	if runes := []rune(line); len(runes) > width {
		line = string(runes[:max(width, 0)])
	}
	return strings.TrimRight(line, " ")
}

// wipe removes the live line from the terminal.
func (t *Transfers) wipe() {
	if t.shown {
		_, _ = io.WriteString(t.w, "\r\x1b[K")
		t.shown = false
	}
}
