package overlay

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A streamError says which side of a stream failed first.
type streamError struct {
	ran      error // the command's own
	consumed error // of whoever read its output
}

// Error gives the side that failed.
func (e *streamError) Error() string { return e.Unwrap().Error() }

func (e *streamError) Unwrap() error {
	if e.ran != nil {
		return e.ran
	}
	return e.consumed
}

// explainStream makes an error of stream, or of Remote.Run, one for people. hint is
// for output that was not understood.
func explainStream(ctx context.Context, op, hint string, err error) error {
	failed, ok := errors.AsType[*streamError](err)
	switch {
	case ctx.Err() != nil:
		return cancelled(ctx, op)
	case ok && failed.consumed != nil:
		return &bmc.Error{Op: op, Kind: bmc.KindOverlay, Err: failed.consumed, Hint: hint}
	}
	return remoteError(op, err)
}

// stream runs a command and hands its output to consume, which has returned
// when stream does. consume is to read to the end. accept says which ends of the
// command its output may still be whole after. Its error is a *streamError.
func stream(ctx context.Context, remote Remote, c Command, accept func(error) bool, consume func(io.Reader) error) error {
	from, to := io.Pipe()
	consumed := make(chan error, 1)
	go func() {
		err := consume(from)
		if err == nil {
			_, err = io.Copy(io.Discard, from)
		}
		from.CloseWithError(err)
		consumed <- err
	}()
	c.Stdout = to
	ran := remote.Run(ctx, c)
	if ran != nil && accept(ran) {
		ran = nil
	}
	to.CloseWithError(ran) // nil is EOF
	err := <-consumed
	switch {
	case err != nil && (ran == nil || !errors.Is(err, ran)):
		return &streamError{consumed: err}
	case ran != nil:
		return &streamError{ran: ran}
	}
	return nil
}

// changedOnly accepts what tar ends with when files changed under its hands.
func changedOnly(err error) bool { return exitStatus(err) == 1 }

func exitStatus(err error) int {
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.Status
	}
	return 0
}

// terminated writes names as scripts read them, each ended by NUL.
func terminated(names []string) io.Reader {
	readers := make([]io.Reader, 0, 2*len(names))
	for _, name := range names {
		readers = append(readers, strings.NewReader(name), strings.NewReader("\x00"))
	}
	return io.MultiReader(readers...)
}
