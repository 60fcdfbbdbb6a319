package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Conn is an open serial console. Read gives what the machine says, Write types.
// Read returns io.EOF when the other side has ended the console in good order, and
// a *bmc.Error when it was lost; what was said before is given first. One goroutine
// may read while another writes. Close may be called by any goroutine and more
// than once: it ends a Read and a Write that are under way, gives the console
// free for others, and takes a few seconds at most.
type Conn interface {
	io.ReadWriteCloser
}

// A Target is a console to be opened.
type Target struct {
	Node    string       // its name, for errors and for a command's environment
	Console site.Console // what the site file says
	BMC     string       // the URL of the BMC, https://host[:port]
}

// Open opens a console. The context bounds the opening alone: the console stays
// open until it is closed. Errors are of type *bmc.Error.
func Open(ctx context.Context, t Target) (Conn, error) {
	switch {
	case t.Console.Socket != "":
		return openSocket(ctx, t)
	case len(t.Console.Command) > 0:
		return openCommand(ctx, t)
	}
	return nil, t.fail(bmc.KindUnsupported, errors.New("nothing says how to reach it"), howToSay)
}

// howToSay is what to write where no way is known.
const howToSay = "write console: in the site file, with socket, command or way"

// fail makes an error of the console.
func (t Target) fail(kind bmc.Kind, err error, hint string) *bmc.Error {
	return &bmc.Error{Op: t.op(), Kind: kind, Err: err, Hint: hint}
}

// op names the console in errors.
func (t Target) op() string { return "console of " + t.Node }

// cancelled is the error for a context that ended while opening, or nil.
func (t Target) cancelled(ctx context.Context) error {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return t.fail(bmc.KindTimeout, errors.New("it could not be opened in time"), "try it again; see whether the BMC answers: livecd-sync status")
	}
	return t.fail(bmc.KindCancelled, context.Cause(ctx), "run the command again")
}

// host is the BMC's host, without a port.
func (t Target) host() (string, error) {
	u, err := url.Parse(t.BMC)
	if err != nil || u.Hostname() == "" {
		return "", t.fail(bmc.KindUnreachable, fmt.Errorf("%q is no address of a BMC", t.BMC), "correct bmc.address in the site file")
	}
	return u.Hostname(), nil
}
