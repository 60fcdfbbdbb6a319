package watch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Reason says why there is a run.
type Reason string

// The reasons.
const (
	First   Reason = "first"   // watching has begun
	Changed Reason = "changed" // the file's content has
	Period  Reason = "period"  // time has passed
)

// Config says what is watched and what is done.
type Config struct {
	// Path is the file that is watched.
	Path string
	// Every is the time from the end of a run to the next; 0: only the file counts.
	Every time.Duration
	// Debounce is how long the file must have been left alone; 0: 200 ms.
	Debounce time.Duration
	// Run is called for each run, never twice at once. It ends early when its
	// context does.
	Run func(context.Context, Reason)
	// OnError is told what went wrong with the watching, which goes on; it may be
	// nil. It may be called while a run is under way, but never twice at once.
	OnError func(error)
}

const defaultDebounce = 200 * time.Millisecond

// Run watches until ctx ends, and returns nil then, after a run that was under
// way has returned. Its error says why nothing could be watched at all.
func Run(ctx context.Context, c Config) error {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", c.Path, err)
	}
	w := newWatcher(c, fs.Events, fs.Errors)
	w.dirs = &directories{fs: fs, path: c.Path}
	err = w.loop(ctx)
	return errors.Join(err, fs.Close())
}

// places knows where the file is: directories, or what stands in for them where
// the timers are tested.
type places interface {
	follow() error              // watch where the path leads now
	concerns(entry string) bool // may an event of that name change the content?
	digest() (string, error)    // of the content
}

// A watcher is one call of Run. All but Config.Run happens in one goroutine.
type watcher struct {
	Config
	events <-chan fsnotify.Event
	errors <-chan error
	dirs   places

	seen     string // the content that the last run began with
	settle   *time.Timer
	period   *time.Timer
	finished chan struct{} // a run sends when it is over
	running  bool
	again    bool // the file has changed during the run
}

func newWatcher(c Config, events <-chan fsnotify.Event, errs <-chan error) *watcher {
	if c.Debounce <= 0 {
		c.Debounce = defaultDebounce
	}
	if c.OnError == nil {
		c.OnError = func(error) {}
	}
	return &watcher{
		Config:   c,
		events:   events,
		errors:   errs,
		settle:   stoppedTimer(),
		period:   stoppedTimer(),
		finished: make(chan struct{}, 1),
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (w *watcher) loop(ctx context.Context) error {
	defer w.settle.Stop()
	defer w.period.Stop()
	if err := w.dirs.follow(); err != nil {
		return err
	}
	w.seen = w.read() // after follow: a change that follow was too late for is seen here
	w.start(ctx, First)
	for {
		select {
		case <-ctx.Done():
			if w.running {
				<-w.finished
			}
			return nil
		case <-w.finished:
			w.ended(ctx)
		case <-w.period.C:
			w.elapsed(ctx)
		case <-w.settle.C:
			w.settled(ctx)
		case e := <-w.events:
			if w.dirs.concerns(e.Name) {
				w.settle.Reset(w.Debounce)
			}
		case err := <-w.errors:
			// The kernel's queue has run over, or worse: look, for lack of an event.
			w.OnError(fmt.Errorf("watch %s: %w", w.Path, err))
			w.settle.Reset(w.Debounce)
		}
	}
}

// start begins a run. The caller has made sure that none is under way.
func (w *watcher) start(ctx context.Context, why Reason) {
	w.running, w.again = true, false
	w.period.Stop()
	go func() {
		defer func() { w.finished <- struct{}{} }()
		w.Run(ctx, why)
	}()
}

func (w *watcher) ended(ctx context.Context) {
	w.running = false
	switch {
	case w.again:
		w.startChanged(ctx)
	case w.Every > 0:
		w.period.Reset(w.Every)
	}
}

// elapsed begins the periodic run. The file is read first: a run that comes
// anyhow needs no other for a change that it has seen.
func (w *watcher) elapsed(ctx context.Context) {
	if w.running {
		return
	}
	if now := w.look(); now != "" {
		w.seen = now
	}
	w.start(ctx, Period)
}

// settled looks at the file once events have ceased.
func (w *watcher) settled(ctx context.Context) {
	if now := w.look(); now == "" || now == w.seen {
		w.again = false // what was changed during a run has been changed back
		return
	}
	if w.running {
		w.again = true
		return
	}
	w.startChanged(ctx)
}

// startChanged begins a run for a changed file, if it still is a change.
func (w *watcher) startChanged(ctx context.Context) {
	if now := w.read(); now != "" {
		w.seen = now
	}
	w.start(ctx, Changed)
}

// look makes sure that the right directories are watched, and reads the file
// after that, so that no change can fall between the two.
func (w *watcher) look() string {
	if err := w.dirs.follow(); err != nil {
		w.OnError(err)
	}
	return w.read()
}

// read returns the digest of the file's content, "" while there is no file that
// can be read: one that is being replaced will be back, and one that was deleted
// is no reason to do anything.
func (w *watcher) read() string {
	d, err := w.dirs.digest()
	if err != nil {
		w.OnError(fmt.Errorf("watch %s: %w", w.Path, err))
		return ""
	}
	return d
}
