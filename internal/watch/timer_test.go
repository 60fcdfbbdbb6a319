package watch

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
)

// A script stands in for the file and the file system, in a synctest bubble.
type script struct {
	events chan fsnotify.Event
	errors chan error
	asks   chan struct{}
	began  time.Time
	took   time.Duration // by each run
	leaves func(run int) After

	mu        sync.Mutex
	content   string
	unread    error
	unwatched error
	names     []string // that each run names
	files     []string
	more      string
	log       []string // each run, with when it began
	now       int      // runs under way
	most      int
}

func (s *script) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *script) follow() (err error) {
	s.set(func() { err = s.unwatched })
	return err
}

func (s *script) digest() (content string, err error) {
	s.set(func() { content, err = s.content, s.unread })
	return content, err
}

func (s *script) also(files []string) (others bool) {
	s.set(func() { others, s.files = !slices.Equal(s.files, files), files })
	return others
}

// digestMore is the other files' names, and what one of them says.
func (s *script) digestMore() (content string) {
	s.set(func() { content = strings.Join(s.files, " ") + s.more })
	return content
}

func (*script) concerns(e string) bool { return e != "neighbour" }

func (s *script) run(ctx context.Context, why Reason, also func([]string)) (after After) {
	also(s.names)
	s.set(func() {
		s.now++
		s.most = max(s.most, s.now)
		s.log = append(s.log, string(why)+" at "+time.Since(s.began).String())
	})
	select {
	case <-time.After(s.took):
	case <-ctx.Done():
	}
	s.set(func() {
		s.now--
		if s.leaves != nil {
			after = s.leaves(len(s.log))
		}
	})
	return after
}

func (s *script) write(content string) {
	s.set(func() { s.content = content })
	s.events <- fsnotify.Event{Name: "site.yaml", Op: fsnotify.Write}
	synctest.Wait()
}

// at waits until so long after the beginning.
func (s *script) at(d time.Duration) {
	time.Sleep(time.Until(s.began.Add(d))) // the bubble's time
	synctest.Wait()
}

// play runs a watcher through what happens, and compares when there were runs.
func play(t *testing.T, c Config, s *script, happens func(*script), want ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.events, s.errors, s.began = make(chan fsnotify.Event), make(chan error), time.Now()
		s.asks = make(chan struct{})
		c.Run, c.Asked = s.run, s.asks
		if c.Jitter == nil {
			c.Jitter = func(d time.Duration) time.Duration { return d }
		}
		w := newWatcher(c, s.events, s.errors)
		w.dirs = s
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.loop(ctx) }()
		synctest.Wait()
		happens(s)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("loop: %v", err)
		}
		if diff := cmp.Diff(want, s.log); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		if s.most > 1 || s.now != 0 {
			t.Errorf("%d runs at once, %d left over", s.most, s.now)
		}
	})
}

func TestDebounce(t *testing.T) {
	play(t, Config{}, &script{content: "0"}, func(s *script) {
		s.at(time.Second)
		for i := range 10 { // each too early for the one before to count
			s.write(string(rune('a' + i)))
			s.at(time.Second + time.Duration(i+1)*150*time.Millisecond)
		}
		s.at(time.Minute)
	}, "first at 0s", "changed at 2.55s")
}

func TestNeighboursDoNotPutItOff(t *testing.T) {
	play(t, Config{}, &script{content: "0"}, func(s *script) {
		s.at(time.Second)
		s.write("1")
		for i := range 20 {
			s.at(time.Second + time.Duration(i)*100*time.Millisecond)
			s.events <- fsnotify.Event{Name: "neighbour", Op: fsnotify.Write}
		}
		s.at(time.Minute)
	}, "first at 0s", "changed at 1.2s")
}

func TestPeriodCountsFromTheEndOfARun(t *testing.T) {
	play(t, Config{Every: time.Minute}, &script{took: 40 * time.Second}, func(s *script) {
		s.at(4 * time.Minute)
	}, "first at 0s", "period at 1m40s", "period at 3m20s")
}

func TestAChangePutsThePeriodOff(t *testing.T) {
	play(t, Config{Every: time.Minute}, &script{took: time.Second}, func(s *script) {
		s.at(60 * time.Second)
		s.write("1")
		s.at(2 * time.Minute)
	}, "first at 0s", "changed at 1m0.2s")
}

func TestThePeriodSeesAChangeThatHasNotSettled(t *testing.T) {
	play(t, Config{Every: time.Minute}, &script{content: "0"}, func(s *script) {
		s.at(time.Minute - time.Millisecond)
		s.write("1") // it would count 199 ms after the period
		s.at(90 * time.Second)
	}, "first at 0s", "period at 1m0s")
}

func TestChangesDuringARunMakeOneMore(t *testing.T) {
	play(t, Config{}, &script{content: "0", took: 10 * time.Second}, func(s *script) {
		for i := range 5 {
			s.at(time.Duration(i+1) * time.Second)
			s.write(string(rune('a' + i)))
		}
		s.at(time.Minute)
	}, "first at 0s", "changed at 10s")
}

func TestAChangeTakenBackDuringARunMakesNone(t *testing.T) {
	play(t, Config{}, &script{content: "0", took: 10 * time.Second}, func(s *script) {
		s.at(time.Second)
		s.write("1")
		s.at(2 * time.Second)
		s.write("0")
		s.at(time.Minute)
	}, "first at 0s")
}

func TestAChangeBeforeTheEndOfARunCountsOnce(t *testing.T) {
	play(t, Config{}, &script{content: "0", took: 10 * time.Second}, func(s *script) {
		s.at(10*time.Second - time.Millisecond)
		s.write("1")
		s.at(time.Minute)
	}, "first at 0s", "changed at 10.199s")
}

func TestWithoutAPeriodOnlyTheFileCounts(t *testing.T) {
	play(t, Config{}, &script{}, func(s *script) { s.at(1000 * time.Hour) }, "first at 0s")
}

func TestErrorsAreToldAndSurvived(t *testing.T) {
	var told []string
	c := Config{Path: "site.yaml", Every: time.Minute, OnError: func(err error) { told = append(told, err.Error()) }}
	play(t, c, &script{content: "0"}, func(s *script) {
		s.at(time.Second)
		s.errors <- fsnotify.ErrEventOverflow
		synctest.Wait()
		s.set(func() { s.content = "1" }) // the event was lost
		s.at(2 * time.Second)
		s.set(func() { s.unread, s.unwatched = errors.New("permission denied"), errors.New("too many watches") })
		s.write("2")
		s.at(3 * time.Second)
		s.set(func() { s.unread, s.unwatched = nil, nil })
		s.at(70 * time.Second)
	}, "first at 0s", "changed at 1.2s", "period at 1m1.2s")
	want := []string{"watch site.yaml: " + fsnotify.ErrEventOverflow.Error(), "too many watches", "watch site.yaml: permission denied"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestNothingToWatchIsAnError(t *testing.T) {
	want := errors.New("too many watches")
	w := newWatcher(Config{}, nil, nil)
	w.dirs = &script{unwatched: want}
	if err := w.loop(t.Context()); !errors.Is(err, want) {
		t.Errorf("loop: %v, want %v", err, want)
	}
}

func TestAFileThatIsNeverLeftAlone(t *testing.T) {
	play(t, Config{}, &script{content: "0"}, func(s *script) {
		for i := range 250 { // fifty times a second
			s.at(time.Second + time.Duration(i)*20*time.Millisecond)
			s.write(string(rune('a' + i)))
		}
		s.at(time.Minute)
	}, "first at 0s", "changed at 3s", "changed at 5s", "changed at 6.18s")
}

func TestWhatIsBackIsNews(t *testing.T) {
	play(t, Config{}, &script{content: "0"}, func(s *script) {
		s.at(time.Second)
		s.set(func() { s.unread = errors.New("it is a directory") })
		s.write("0")
		s.at(2 * time.Second)
		s.set(func() { s.unread = nil })
		s.write("0") // which is what it said before
		s.at(time.Minute)
	}, "first at 0s", "changed at 2.2s")
}

func TestOtherFiles(t *testing.T) {
	s := &script{content: "0", names: []string{"ca.pem"}}
	play(t, Config{}, s, func(s *script) {
		s.at(time.Second) // that they are watched now is no change
		s.set(func() { s.more = "another" })
		s.write("0")
		s.at(time.Minute)
	}, "first at 0s", "changed at 1.2s")
}

func TestAsked(t *testing.T) {
	play(t, Config{Every: time.Minute}, &script{content: "0", took: 10 * time.Second}, func(s *script) {
		for range 3 { // during a run
			s.asks <- struct{}{}
		}
		s.at(30 * time.Second)
		s.asks <- struct{}{}
		s.at(70 * time.Second)
	}, "first at 0s", "asked at 10s", "asked at 30s")
}

func TestARunAsksForTheNext(t *testing.T) {
	s := &script{leaves: func(run int) After {
		return []After{1: {Next: time.Second}, 2: {Next: time.Hour}, 3: {Every: 2 * time.Minute}, 4: {}}[min(run, 4)]
	}}
	play(t, Config{Every: time.Minute}, s, func(s *script) {
		s.at(5 * time.Minute)
	}, "first at 0s", "follow at 1s", "period at 1m1s", "period at 3m1s", "period at 4m1s")
}

func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 100 {
		d := jitter(time.Minute)
		if d < 54*time.Second || d > 66*time.Second {
			t.Errorf("%s", d)
		}
		seen[d] = true
	}
	if len(seen) < 10 {
		t.Errorf("%d times", len(seen))
	}
}
