package report

import (
	"fmt"
	"io"
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

// Transfers tells how far each node's backup or restore is. Its methods are safe
// for concurrent use; those of a nil one tell nothing.
type Transfers struct {
	opts TransfersOptions
	log  zerolog.Logger

	mu    sync.Mutex // guards what follows, and keeps lines whole
	w     io.Writer
	now   map[string]string    // how far each is
	told  map[string]time.Time // when it was last told of, or began
	drawn time.Time            // when the live line was
	shown bool                 // it is on the terminal
}

// NewTransfers makes Transfers that writes to w.
func NewTransfers(w io.Writer, o TransfersOptions) *Transfers {
	o.Live = o.Live && !o.JSON && !o.Verbose && o.Width > 0
	return &Transfers{opts: o, log: zerolog.New(w), w: w, now: make(map[string]string), told: make(map[string]time.Time)}
}

// Tell says how far a node's transfer is.
func (t *Transfers) Tell(node, howFar string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.opts.Now()
	_, begun := t.now[node]
	t.now[node] = howFar
	if t.opts.Live {
		if !begun || now.Sub(t.drawn) >= redrawn {
			t.drawn = now
			t.draw()
		}
		return
	}
	if !begun && !t.opts.Verbose {
		t.told[node] = now
		return
	}
	if t.opts.Verbose || now.Sub(t.told[node]) >= quietFor {
		t.told[node] = now
		t.line(now, node, howFar)
	}
}

// End says that a node's transfer is over.
func (t *Transfers) End(node string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, node)
	delete(t.told, node)
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

func (t *Transfers) line(now time.Time, node, howFar string) {
	if t.opts.JSON {
		t.log.Info().Time("time", now.UTC()).Str("node", clean(node)).Msg(clean(howFar))
		return
	}
	_, _ = fmt.Fprintf(t.w, "%s  %s\n", clean(node), clean(howFar)) // see Progress: nothing is to be done about it
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
	names := make([]string, 0, len(t.now))
	for name := range t.now {
		names = append(names, name)
	}
	slices.Sort(names)
	_, _ = io.WriteString(t.w, t.fit(names))
	t.shown = true
}

// fit is the line of these nodes, and of how many more there are.
func (t *Transfers) fit(names []string) string {
	width := t.opts.Width - 1 // with the last one taken, some terminals go on
	line := ""
	for i, name := range names {
		next := line
		if i > 0 {
			next += "; "
		}
		next += clean(name) + " " + clean(t.now[name])
		more := ""
		if left := len(names) - i - 1; left > 0 {
			more = fmt.Sprintf("; %d more", left)
		}
		if visible(next+more) > width {
			if i > 0 {
				line += fmt.Sprintf("; %d more", len(names)-i)
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
