package login

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	// settle is how long nothing must follow a prompt before it is believed: a
	// "login:" in the middle of a greeting is followed by more.
	settle = 300 * time.Millisecond
	// heardMost bounds what is kept of what came since the last key, in bytes.
	heardMost = 64 << 10
	// pastLines is how many lines of the screen are kept for errors.
	pastLines = 40
)

// A screen is the machine's side of the console: what it said since something was
// last typed, and some lines from before.
type screen struct {
	conn   io.ReadWriteCloser
	chunks chan []byte
	failed chan error    // why nothing more comes; one value
	stop   chan struct{} // closed when nobody listens any more
	gone   chan struct{} // closed when the reader has ended
	ending sync.Once
	over   error // once the console has ended

	heard  []byte   // since the last key, without the messages that have ended
	panic  string   // what the kernel said when it panicked
	secret bool     // what was typed last must not be shown
	hidden []string // texts that must never be shown
	past   []string // lines from before the last key
}

// newScreen starts to listen. It is ended by close.
func newScreen(conn io.ReadWriteCloser, hidden ...bmc.Secret) *screen {
	s := &screen{
		conn: conn, chunks: make(chan []byte), failed: make(chan error, 1),
		stop: make(chan struct{}), gone: make(chan struct{}),
	}
	for _, h := range hidden {
		if h != "" {
			s.hidden = append(s.hidden, h.Reveal())
		}
	}
	go s.listen()
	return s
}

func (s *screen) listen() {
	defer close(s.gone)
	for {
		buf := make([]byte, 4096)
		n, err := s.conn.Read(buf)
		if n > 0 {
			select {
			case s.chunks <- buf[:n]:
			case <-s.stop:
				return
			}
		}
		if err != nil {
			s.failed <- err
			return
		}
	}
}

// close ends the console, and whatever waits for it. Any goroutine may call it.
func (s *screen) close() error {
	var err error
	s.ending.Do(func() {
		close(s.stop)
		err = s.conn.Close()
	})
	<-s.gone
	return err
}

// write types keys and forgets what was on the screen before.
func (s *screen) write(keys string) error {
	s.turnPage(false)
	return s.send(keys)
}

// writeSecret types keys that must not be shown, even where the other side does.
func (s *screen) writeSecret(keys string) error {
	s.turnPage(true)
	return s.send(keys)
}

func (s *screen) send(keys string) error {
	if _, err := io.WriteString(s.conn, keys); err != nil {
		return s.lost(err)
	}
	return nil
}

// turnPage keeps the lines that were heard for errors, and begins anew.
func (s *screen) turnPage(secret bool) {
	s.past = append(s.past, s.shown()...)
	if over := len(s.past) - pastLines; over > 0 {
		s.past = append([]string(nil), s.past[over:]...)
	}
	s.heard = s.heard[:0]
	s.secret = secret
}

// text is what was said since the last key.
func (s *screen) text() string { return clean(string(s.heard)) }

// look says what the screen ends in. It reads the end alone: a machine that
// starts says much.
func (s *screen) look() sight {
	const end = 2 << 10
	return look(clean(string(s.heard[max(0, len(s.heard)-end):])))
}

// shown is what was said since the last key, in lines that hold no secret. After
// a secret was typed the rest of its line is left out, for it may be its echo,
// with whatever got into its middle.
func (s *screen) shown() []string {
	text := s.text()
	if s.secret {
		_, rest, found := strings.Cut(text, "\n")
		if !found {
			rest = ""
		}
		text = rest
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(s.hide(line)); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// hide takes secrets out of a text.
func (s *screen) hide(text string) string {
	for _, h := range s.hidden {
		text = strings.ReplaceAll(text, h, "(secret)")
	}
	return text
}

// last are the last lines of the screen, for errors.
func (s *screen) last(n int) []string {
	lines := append(append([]string(nil), s.past...), s.shown()...)
	return lines[max(0, len(lines)-n):]
}

// wait waits until enough is satisfied and nothing followed for the time of
// quiet, and gives up when nothing at all came for the time of silence (0:
// never). It reports whether enough was satisfied. What the kernel says counts
// for nothing: it may never stop.
func (s *screen) wait(ctx context.Context, quiet, silence time.Duration, enough func() bool) (bool, error) {
	for {
		s.drain()
		good := enough()
		if good && quiet == 0 {
			return true, nil
		}
		pause := silence
		if good {
			pause = quiet
		}
		came, err := s.next(ctx, pause)
		switch {
		case err != nil:
			return false, err
		case !came:
			return good, nil
		}
	}
}

// drain takes what is there already.
func (s *screen) drain() {
	for {
		select {
		case b := <-s.chunks:
			s.hear(b)
		default:
			return
		}
	}
}

// errEnded marks the end of the console.
var errEnded = errors.New("the console has ended")

// next waits for the next words, and reports whether they came in time. Messages
// of the kernel are no words.
func (s *screen) next(ctx context.Context, patience time.Duration) (bool, error) {
	if s.over != nil {
		return false, s.over
	}
	var silent <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		silent = timer.C
	}
	for before := s.text(); ; {
		select {
		case b := <-s.chunks:
			if s.hear(b); s.text() != before {
				return true, nil
			}
		case err := <-s.failed:
			s.over = s.lost(err)
			return false, s.over
		case <-silent:
			return false, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// hear takes what came. Messages are taken out at once, so that no number of them
// hides what stands before them.
func (s *screen) hear(b []byte) {
	s.heard = append(s.heard, b...)
	if at := panics.Find(s.heard); at != nil {
		s.panic = strings.TrimSpace(clean(string(at)))
	}
	s.heard = ended.ReplaceAll(s.heard, nil)
	if over := len(s.heard) - heardMost; over > 0 {
		s.heard = append(s.heard[:0], s.heard[over+heardMost/2:]...)
	}
}

// lost is the error of a console that ended or broke.
func (s *screen) lost(err error) error {
	if errors.Is(err, io.EOF) {
		return errEnded
	}
	return &brokenError{err}
}

// A brokenError is what the console itself said of its end.
type brokenError struct{ error }

func (b *brokenError) Unwrap() []error { return []error{errEnded, b.error} }
