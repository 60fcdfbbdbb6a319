package report

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// quietFor is how long a node's progress within a step is not told again, unless
// the reader asked for everything.
const quietFor = 30 * time.Second

// ProgressOptions say how events are told.
type ProgressOptions struct {
	Color bool
	// JSON tells every event as a line of JSON, for --log-format json.
	JSON bool
	// Verbose tells all progress within a step; else a node's is told every half
	// minute.
	Verbose bool
	// Nodes are the names that will come up, so that lines are aligned from the
	// first on.
	Nodes []string
}

// Progress tells events as they come, a line or two each. It is safe for
// concurrent use, and it never fails: a run goes on when nobody reads along.
type Progress struct {
	opts Options
	all  bool
	json bool
	log  zerolog.Logger

	mu    sync.Mutex // guards what follows, and keeps lines whole
	w     io.Writer
	label int // the width of the longest name so far
	nodes map[string]*nodeProgress
}

// nodeProgress is what is remembered of a node between its events.
type nodeProgress struct {
	started time.Time // its current step
	told    time.Time // when it was last told of
	err     string    // of the step that failed: the node then fails of the same
}

// NewProgress makes a Progress that writes to w.
func NewProgress(w io.Writer, o ProgressOptions) *Progress {
	p := &Progress{
		opts:  Options{Color: o.Color},
		all:   o.Verbose,
		json:  o.JSON,
		log:   zerolog.New(w),
		w:     w,
		nodes: make(map[string]*nodeProgress),
	}
	for _, name := range o.Nodes {
		p.label = max(p.label, visible(clean(name)))
	}
	return p
}

// Event tells one event.
func (p *Progress) Event(e apply.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := p.remember(e)
	switch {
	case p.json:
		p.logEvent(e, took)
	case p.tells(e):
		_, _ = io.WriteString(p.w, p.lines(e, took)) // see Progress: nothing is to be done about it
	}
}

// remember notes when the event's step began, and returns how long it has taken.
func (p *Progress) remember(e apply.Event) time.Duration {
	n := p.nodes[e.Node]
	if n == nil {
		n = &nodeProgress{}
		p.nodes[e.Node] = n
	}
	if e.Phase == apply.Started {
		n.started, n.told = e.At, e.At
	}
	if n.started.IsZero() || e.At.Before(n.started) {
		return 0
	}
	return e.At.Sub(n.started)
}

// tells reports whether the event is one that people are told.
func (p *Progress) tells(e apply.Event) bool {
	n := p.nodes[e.Node]
	if e.Phase == apply.Progress && !p.all && e.At.Sub(n.told) < quietFor {
		return false
	}
	n.told = e.At
	return true
}

// widest is the width of the longest action's name.
const widest = len("restore-overlay")

func (p *Progress) lines(e apply.Event, took time.Duration) string {
	p.label = max(p.label, visible(clean(e.Node)))
	name := p.opts.paint(bold, pad(clean(e.Node), p.label))
	at, what := "", "node"
	if e.Step > 0 {
		at = fmt.Sprintf("%d/%d", e.Step, e.Of)
	}
	if e.Action != nil {
		what = e.Action.Name()
	}
	parts := []string{name, fmt.Sprintf("%5s", at), pad(what, widest), p.phase(e.Phase)}
	if e.Phase != apply.Started && e.Phase != apply.Skipped && e.Step > 0 {
		parts = append(parts, fmt.Sprintf("%8s", seconds(took)))
	}
	said := p.saidBefore(e)
	if d := detail(e); d != "" && !said {
		parts = append(parts, d)
	}
	text := strings.TrimRight(strings.Join(parts, "  "), " ") + "\n"
	if hint := clean(bmc.HintOf(e.Err)); hint != "" && !said {
		text += name + strings.Repeat(" ", len("  xx/xx  ")) + "→ " + hint + "\n"
	}
	return text
}

// saidBefore reports whether the event repeats the error that the node's last
// event told.
func (p *Progress) saidBefore(e apply.Event) bool {
	n, text := p.nodes[e.Node], ""
	if e.Err != nil {
		text = e.Err.Error()
	}
	said := text != "" && text == n.err
	n.err = text
	return said
}

func (p *Progress) phase(f apply.Phase) string {
	text := pad(clean(string(f)), len(apply.Progress))
	switch f {
	case apply.Done:
		return p.opts.paint(green, text)
	case apply.Failed:
		return p.opts.paint(red, text)
	case apply.Skipped:
		return p.opts.paint(yellow, text)
	case apply.Started, apply.Progress:
	}
	return text
}

func detail(e apply.Event) string {
	var parts []string
	if e.Detail != "" {
		parts = append(parts, clean(e.Detail))
	}
	if e.Err != nil {
		parts = append(parts, clean(e.Err.Error()))
	}
	return strings.Join(parts, "; ")
}

// seconds is a duration as a person would say it, to a tenth of a second where
// that is of interest.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

func (p *Progress) logEvent(e apply.Event, took time.Duration) {
	level := zerolog.InfoLevel
	switch e.Phase {
	case apply.Failed:
		level = zerolog.ErrorLevel
	case apply.Progress:
		level = zerolog.DebugLevel
	case apply.Started, apply.Done, apply.Skipped:
	}
	l := p.log.WithLevel(level).Time("time", e.At.UTC()).Str("node", clean(e.Node))
	if e.Step > 0 {
		l = l.Int("step", e.Step).Int("of", e.Of)
	}
	if e.Action != nil {
		l = l.Str("action", e.Action.Name()).Str("effect", string(e.Action.Effect()))
	}
	l = l.Str("phase", string(e.Phase))
	if e.Step > 0 && e.Phase != apply.Started {
		l = l.Float64("seconds", took.Round(time.Millisecond).Seconds())
	}
	if e.Err != nil {
		l = l.Str("kind", clean(string(bmc.KindOf(e.Err)))).Str("error", clean(e.Err.Error())).Str("hint", clean(bmc.HintOf(e.Err)))
	}
	l.Msg(message(e))
}

func message(e apply.Event) string {
	switch {
	case e.Detail != "":
		return clean(e.Detail)
	case e.Action != nil:
		return clean(e.Action.String())
	}
	return "node " + string(e.Phase)
}
