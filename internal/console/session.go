package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"
)

// A Session is a person at a console: what is typed goes to it, what it says is
// shown, until one of the two ends it.
type Session struct {
	Conn Conn
	// In is what is typed, every byte as it comes; nil for nobody.
	In  io.Reader
	Out io.Writer // what the console says, as it is
	// Log also gets it; nil for nobody. An error of it is told when the session has
	// ended, and does not end it.
	Log io.Writer
	// Watch sends nothing of what is typed; Ctrl-C then ends the session too.
	Watch bool
	// Suspend stops this program, as Ctrl-Z does where it is not passed on, and returns
	// when it goes on; nil where it cannot be done.
	Suspend func() error
	// Tell says something to the person, a line at a time. It is called by several
	// goroutines.
	Tell func(string)
}

const (
	// keep is how many pieces of what is typed wait for a console that takes none.
	keep = 256
	// sendWithin is how long what was typed before the end may take to be sent.
	sendWithin = time.Second
)

// A piece is what one read of the keyboard gave, or an order in between.
type piece struct {
	typed      []byte
	brake, end bool
}

// ErrEnded is what Run returns when the other side has ended the console in good
// order.
var ErrEnded = errors.New("the other side has ended the console")

// Run is the session. It returns nil when the person has ended it, ErrEnded, or
// why the console was lost; when ctx ends, its cause. The console is closed then.
// In is left alone, with a Read under way that may take one more key.
func (s *Session) Run(ctx context.Context) error {
	ended := make(chan error, 3)
	over := make(chan struct{})
	var reading, writing sync.WaitGroup
	queue := make(chan piece, keep)
	reading.Go(func() { ended <- guarded(s.show) })
	writing.Go(func() { ended <- guarded(func() error { return s.send(queue, over) }) })
	if s.In != nil {
		go func() {
			if err := guarded(func() error { return s.listen(queue) }); !errors.Is(err, errNobody) {
				ended <- err
			}
		}()
	}
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	close(over)
	closed := s.Conn.Close()
	reading.Wait()
	writing.Wait()
	if broken, ok := errors.AsType[*brokenError](err); ok {
		panic(broken.Error()) // where the terminal is put in order on the way
	}
	if err == nil {
		err = closed
	}
	return errors.Join(err, s.logFailed())
}

// A brokenError is a panic of a goroutine, on its way to the one that Run is
// called in.
type brokenError struct {
	what  any
	stack []byte
}

func (e *brokenError) Error() string { return fmt.Sprintf("%v\n\n%s", e.what, e.stack) }

func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &brokenError{p, debug.Stack()}
		}
	}()
	return f()
}

// show passes on what the console says, until it ends.
func (s *Session) show() error {
	buf := make([]byte, 32<<10)
	for {
		n, err := s.Conn.Read(buf)
		if n > 0 {
			s.log(buf[:n])
			if _, err := s.Out.Write(buf[:n]); err != nil {
				return fmt.Errorf("what the console says cannot be shown: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return ErrEnded
		case err != nil:
			return err
		}
	}
}

// A brokenLog stands in the place of a log that could not be written.
type brokenLog struct{ err error }

// Write writes nothing.
func (brokenLog) Write(p []byte) (int, error) { return len(p), nil }

// log writes to the log, as long as that works.
func (s *Session) log(said []byte) {
	if s.Log == nil {
		return
	}
	if _, err := s.Log.Write(said); err != nil {
		s.Tell("the log cannot be written, and goes no further: " + err.Error())
		s.Log = brokenLog{err}
	}
}

func (s *Session) logFailed() error {
	if b, ok := s.Log.(brokenLog); ok {
		return fmt.Errorf("the log is not complete: %w", b.err)
	}
	return nil
}

// send types what waits in the queue.
func (s *Session) send(queue <-chan piece, over <-chan struct{}) error {
	for {
		var p piece
		select {
		case p = <-queue:
		case <-over:
			return nil
		}
		switch {
		case p.end:
			return nil
		case p.brake:
			if err := s.sendBreak(); err != nil {
				s.Tell(err.Error())
			}
		default:
			if _, err := s.Conn.Write(p.typed); err != nil {
				return err
			}
		}
	}
}

func (s *Session) sendBreak() error {
	b, ok := s.Conn.(Breaker)
	if !ok {
		return errors.New("this kind of console has no break")
	}
	return b.Break()
}

// errNobody says that nothing will be typed any more.
var errNobody = errors.New("nobody types any more")

// listen takes what is typed, until it is what ends the session.
func (s *Session) listen(queue chan<- piece) error {
	keys := escapes{fresh: true, watch: s.Watch}
	buf := make([]byte, 4<<10)
	for {
		n, err := s.In.Read(buf)
		var typed []byte
		for _, b := range buf[:n] {
			more, command := keys.next(b)
			typed = append(typed, more...)
			if command == noCommand {
				continue
			}
			s.put(queue, piece{typed: typed})
			typed = nil
			if command == endIt {
				return s.finish(queue)
			}
			s.obey(queue, command)
		}
		s.put(queue, piece{typed: typed})
		if errors.Is(err, io.EOF) && s.Watch {
			return errNobody
		}
		if err != nil {
			return fmt.Errorf("nothing can be typed: %w", err)
		}
	}
}

// finish ends the session once all that was typed is sent, or soon after.
func (s *Session) finish(queue chan<- piece) error {
	timer := time.NewTimer(sendWithin)
	defer timer.Stop()
	select {
	case queue <- piece{end: true}: // send tells
		<-timer.C
	case <-timer.C:
	}
	return nil
}

// put adds to the queue, unless that is full.
func (s *Session) put(queue chan<- piece, p piece) {
	if p.typed == nil && !p.brake && !p.end {
		return
	}
	select {
	case queue <- p:
	default:
		s.Tell("the console takes no input; what is typed is lost")
	}
}

// help lists the escapes, which are ssh's.
const help = `at the beginning of a line:
  ~.   ends this; the console and the machine go on
  ~^Z  suspends this, until the shell's fg
  ~B   sends a break
  ~?   shows this
  ~~   types one ~`

// obey does what an escape asks for, but for the end.
func (s *Session) obey(queue chan<- piece, command command) {
	switch command {
	case noCommand, endIt:
	case showHelp:
		s.Tell(help)
	case suspendIt:
		s.suspend()
	case sayWatching:
		s.Tell("only watching: nothing is sent; ~. or Ctrl-C ends this")
	case sendBreak:
		if s.Watch {
			s.Tell("only watching: no break is sent")
			return
		}
		s.put(queue, piece{brake: true})
	}
}

func (s *Session) suspend() {
	err := errors.New("this cannot be suspended here")
	if s.Suspend != nil {
		err = s.Suspend()
	}
	if err != nil {
		s.Tell(err.Error())
	}
}

// A command is what an escape asks for.
type command int

const (
	noCommand command = iota
	endIt
	showHelp
	sendBreak
	suspendIt
	sayWatching
)

// escapes tells ssh's escapes from what is typed. An escape begins with ~ at the
// beginning of a line.
type escapes struct {
	fresh   bool // a line begins
	escaped bool // ~ was typed there, and is kept back
	watch   bool
	told    bool
}

// Control characters.
const (
	ctrlC = 3
	ctrlZ = 26
)

// next takes one key, and says what of it is typed and what it asks for.
func (e *escapes) next(b byte) (typed []byte, c command) {
	if e.watch {
		return nil, e.watched(b)
	}
	if e.escaped {
		e.escaped = false
		switch b {
		case '.':
			return nil, endIt
		case '?':
			return nil, showHelp
		case 'B':
			return nil, sendBreak
		case ctrlZ:
			e.fresh = true // whoever comes back need not know what was typed last
			return nil, suspendIt
		case '~':
			e.fresh = false
			return []byte{'~'}, noCommand
		}
		e.fresh = isNewline(b)
		return []byte{'~', b}, noCommand
	}
	if e.fresh && b == '~' {
		e.escaped = true
		return nil, noCommand
	}
	e.fresh = isNewline(b)
	return []byte{b}, noCommand
}

// watched is what a key asks for where nothing is typed: every key is at the
// beginning of a line.
func (e *escapes) watched(b byte) command {
	wasEscaped := e.escaped
	e.escaped = b == '~'
	switch {
	case b == ctrlC, wasEscaped && b == '.':
		return endIt
	case wasEscaped && b == '?':
		return showHelp
	case wasEscaped && b == 'B':
		return sendBreak
	case wasEscaped && b == ctrlZ:
		return suspendIt
	case e.escaped || e.told:
		return noCommand
	}
	e.told = true
	return sayWatching
}

func isNewline(b byte) bool { return b == '\r' || b == '\n' }
