package watch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/fsnotify/fsnotify"
)

// A Reason says why there is a run.
type Reason string

// The reasons.
const (
	First   Reason = "first"   // watching has begun
	Changed Reason = "changed" // a file's content has
	Period  Reason = "period"  // time has passed
	Asked   Reason = "asked"   // somebody asked
	Follow  Reason = "follow"  // the last run asked for another
)

// Config says what is watched and what is done.
type Config struct {
	// Path is the file that is watched.
	Path string
	// Every is the time from the end of a run to the next; 0: only the file counts.
	Every time.Duration
	// Jitter makes of such a time the one that is waited, so that many watches do
	// not all look at once; nil: up to a tenth more or less.
	Jitter func(time.Duration) time.Duration
	// Debounce is how long the file must have been left alone; 0: 200 ms. One that is
	// never left alone is looked at after ten times as long.
	Debounce time.Duration
	// Asked asks for a run with each value; nil: nobody asks.
	Asked <-chan struct{}
	// Run is called for each run, never twice at once. It ends early when its
	// context does. What it hands to also are files that are watched besides Path from
	// then on, instead of those of the run before, whether they are there or not.
	Run func(ctx context.Context, why Reason, also func(files []string)) After
	// OnError is told what went wrong with the watching, which goes on; it may be
	// nil. It may be called while a run is under way, but never twice at once.
	OnError func(error)
}

// After is what a run leaves for the watching, until the next one has run.
type After struct {
	// Every takes the place of Config's; 0: it does not.
	Every time.Duration
	// Next is how long after this run there is another, if that is sooner; 0: it is
	// not.
	Next time.Duration
}

const (
	defaultDebounce = 200 * time.Millisecond
	mostPutOff      = 10 // times the debounce
)

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
	also(files []string) bool   // watch these too, from the next follow on; whether they are others
	concerns(entry string) bool // may an event of that name change the content?
	digest() (string, error)    // of the file's content
	digestMore() string         // of the others
}

// named are files that a run wants to be watched.
type named struct {
	files   []string
	watched chan struct{} // closed when they are
}

// A watcher is one call of Run. All but Config.Run happens in one goroutine.
type watcher struct {
	Config
	events <-chan fsnotify.Event
	errors <-chan error
	dirs   places

	seen      string      // the content that the last run began with
	seenMore  string      // likewise, of the other files
	settle    *time.Timer // since the last event
	latest    *time.Timer // since the first that was not looked into yet
	period    *time.Timer
	why       Reason     // of the run that period begins
	finished  chan After // a run sends when it is over
	named     chan named
	running   bool
	unsettled bool // latest runs
	again     bool // the file has changed during the run
	asked     bool // somebody asked during the run
}

func newWatcher(c Config, events <-chan fsnotify.Event, errs <-chan error) *watcher {
	if c.Debounce <= 0 {
		c.Debounce = defaultDebounce
	}
	if c.Jitter == nil {
		c.Jitter = jitter
	}
	if c.OnError == nil {
		c.OnError = func(error) {}
	}
	return &watcher{
		Config:   c,
		events:   events,
		errors:   errs,
		settle:   stoppedTimer(),
		latest:   stoppedTimer(),
		period:   stoppedTimer(),
		finished: make(chan After, 1),
		named:    make(chan named),
	}
}

// jitter is d, give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1) //nolint:gosec // nobody gains by guessing it
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (w *watcher) loop(ctx context.Context) error {
	defer w.settle.Stop()
	defer w.latest.Stop()
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
		case after := <-w.finished:
			w.ended(ctx, after)
		case <-w.period.C:
			w.elapsed(ctx)
		case <-w.settle.C:
			w.settled(ctx)
		case <-w.latest.C:
			w.settled(ctx)
		case n := <-w.named:
			w.also(n.files)
			close(n.watched)
		case <-w.Asked:
			w.ask(ctx)
		case e := <-w.events:
			if w.dirs.concerns(e.Name) {
				w.unsettle()
			}
		case err := <-w.errors:
			// The kernel's queue has run over, or worse: look, for lack of an event.
			w.OnError(fmt.Errorf("watch %s: %w", w.Path, err))
			w.unsettle()
		}
	}
}

// start begins a run. The caller has made sure that none is under way.
func (w *watcher) start(ctx context.Context, why Reason) {
	w.running, w.again, w.asked = true, false, false
	w.period.Stop()
	go func() {
		var after After
		defer func() { w.finished <- after }()
		after = w.Run(ctx, why, func(files []string) {
			n := named{files, make(chan struct{})}
			select {
			case w.named <- n:
				<-n.watched
			case <-ctx.Done():
			}
		})
	}()
}

// also watches these files too. What they say now is what the run will see.
func (w *watcher) also(files []string) {
	if !w.dirs.also(files) {
		return
	}
	if err := w.dirs.follow(); err != nil {
		w.OnError(err)
	}
	w.seenMore = w.dirs.digestMore()
}

func (w *watcher) ended(ctx context.Context, after After) {
	w.running = false
	switch {
	case w.again:
		w.startChanged(ctx)
	case w.asked:
		w.startNow(ctx, Asked)
	default:
		w.waitForNext(after)
	}
}

// waitForNext sets the timer for the run that comes if nothing else happens.
func (w *watcher) waitForNext(after After) {
	every := cmp.Or(after.Every, w.Every)
	wait := time.Duration(0)
	if every > 0 {
		wait = w.Jitter(every)
	}
	w.why = Period
	if after.Next > 0 && (wait == 0 || after.Next < wait) {
		wait, w.why = after.Next, Follow
	}
	if wait > 0 {
		w.period.Reset(wait)
	}
}

// ask begins a run that somebody asked for, after the one that is under way.
func (w *watcher) ask(ctx context.Context) {
	if w.running {
		w.asked = true
		return
	}
	w.startNow(ctx, Asked)
}

// unsettle puts the look at the files off, while they change, up to a limit.
func (w *watcher) unsettle() {
	if !w.unsettled {
		w.unsettled = true
		w.latest.Reset(mostPutOff * w.Debounce)
	}
	w.settle.Reset(w.Debounce)
}

// elapsed begins the periodic run. The file is read first: a run that comes
// anyhow needs no other for a change that it has seen.
func (w *watcher) elapsed(ctx context.Context) {
	if !w.running {
		w.startNow(ctx, w.why)
	}
}

func (w *watcher) startNow(ctx context.Context, why Reason) {
	w.seen = w.look()
	w.seenMore = w.dirs.digestMore()
	w.start(ctx, why)
}

// settled looks at the file once events have ceased.
func (w *watcher) settled(ctx context.Context) {
	w.unsettled = false
	w.settle.Stop()
	w.latest.Stop()
	now := w.look()
	if now == "" {
		w.seen = "" // when it can be read again that is news, whatever it says
	}
	if now == "" || now == w.seen && w.dirs.digestMore() == w.seenMore {
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
	w.seen, w.seenMore = w.read(), w.dirs.digestMore()
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
