package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

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

// A Breaker is a Conn that can send a serial break, Linux's way to SysRq on a
// console.
type Breaker interface {
	Break() error
}

// A Target is a console to be opened.
type Target struct {
	Node    string       // its name, for errors and for a command's environment
	Console site.Console // what the site file says
	// BMC is the BMC's URL, https://host[:port], and Credential who to be there. A
	// socket and a command need neither.
	BMC        string
	Credential bmc.Credential
	// Profile is the row of the BMC's family, and Says what the BMC itself says of
	// its console. Both matter only where the site file does not say what the
	// console is; see NeedsProfile.
	Profile bmc.Profile
	Says    bmc.SerialConsole
	// Take ends the session of whoever has the console, where only one may.
	Take bool
	// Note is told of what was done to others; nil is for nobody.
	Note func(string)
}

// NeedsProfile reports whether Open has to be given a Profile.
func NeedsProfile(c site.Console) bool { return c.IsZero() }

// NeedsCredential reports whether Open has to be given a Credential.
func NeedsCredential(c site.Console) bool { return c.Socket == "" && len(c.Command) == 0 }

// Open opens a console. The context bounds the opening alone: the console stays
// open until it is closed. Errors are of type *bmc.Error.
func Open(ctx context.Context, t Target) (Conn, error) {
	if err := t.cancelled(ctx); err != nil {
		return nil, err
	}
	w, err := t.way()
	if err != nil {
		return nil, err
	}
	return w.open(ctx, t)
}

// Describe says by what way a console is opened, for people.
func (t Target) Describe() string {
	w, err := t.way()
	if err != nil {
		return "no way"
	}
	return w.describe(t)
}

// A way is a strategy to open a console.
type way interface {
	open(context.Context, Target) (Conn, error)
	describe(Target) string
}

// ways are those that a row of profiles.cue or the site file may name.
var ways = map[bmc.ConsoleWay]way{
	bmc.ConsoleVSP:       vsp,
	bmc.ConsoleSSH:       sshConsole,
	bmc.ConsoleSMASH:     smash,
	bmc.ConsoleSOL:       solWay{},
	bmc.ConsoleStickySOL: solWay{sticky: true},
}

// way is how to open this console: as the site file says, else as the row does,
// else as the BMC does.
func (t Target) way() (way, error) {
	switch c := t.Console; {
	case c.Socket != "":
		return socketWay{}, nil
	case len(c.Command) > 0:
		return commandWay{}, nil
	}
	name := cmp.Or(t.Console.Way, t.Profile.Console, t.said())
	if w, ok := ways[name]; ok {
		return w, nil
	}
	if name != "" {
		return nil, t.fail(bmc.KindUnsupported, fmt.Errorf("there is no way %q to a console", name), howToSay)
	}
	what := "nothing says how this BMC gives its console"
	if t.Profile.Name != "" {
		what = fmt.Sprintf("of BMCs of the family %s it is not known how they give a console", t.Profile.Name)
	}
	return nil, t.fail(bmc.KindUnsupported, errors.New(what), howToSay)
}

// said is the way that the BMC itself tells of.
func (t Target) said() bmc.ConsoleWay {
	switch s := t.Says; {
	case s.SSH.Enabled && s.SSH.Entry == "" && s.SSH.Port != 0 && s.SSH.Port != sshPort:
		return bmc.ConsoleSSH // another port than the command line's
	case s.IPMI.Enabled:
		return bmc.ConsoleSOL
	}
	return ""
}

// howToSay is what to write where no way is known.
const howToSay = "write console: {way: WAY} at the node in the site file (schema/site.cue lists the ways), {command: [PROGRAM, ARGUMENT]} or {socket: PATH}"

// note tells of what was done to others.
func (t Target) note(format string, args ...any) {
	if t.Note != nil {
		t.Note(fmt.Sprintf(format, args...))
	}
}

// fail makes an error of the console.
func (t Target) fail(kind bmc.Kind, err error, hint string) *bmc.Error {
	return &bmc.Error{Op: "console of " + t.Node, Kind: kind, Err: err, Hint: hint}
}

// wrap makes an error of the console of one that knows its kind and what to do.
func (t Target) wrap(err error) error {
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok {
		return t.fail(bmc.KindProtocol, err, "open it again")
	}
	return t.fail(e.Kind, err, e.Hint)
}

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

// lost is the error of a console that was open.
func (t Target) lost(err error) error {
	if isClosed(err) {
		return t.fail(bmc.KindCancelled, errors.New("it was closed"), "open it again")
	}
	return t.fail(bmc.KindUnreachable, err, "open it again; see whether the machine's BMC answers: livecd-sync status")
}

// bmcPort is the BMC's host, and the port there: the site file's, else what the
// BMC says, else the usual one.
func (t Target) bmcPort(said, usual int) (host string, port int, err error) {
	u, err := url.Parse(t.BMC)
	if err != nil || u.Hostname() == "" {
		return "", 0, t.fail(bmc.KindUnreachable, fmt.Errorf("%q is no address of a BMC", t.BMC), "correct bmc.address in the site file")
	}
	return u.Hostname(), cmp.Or(t.Console.Port, said, usual), nil
}

// at is the BMC's host and port, for people.
func (t Target) at(said, usual int) string {
	host, port, err := t.bmcPort(said, usual)
	if err != nil {
		return "an unknown BMC"
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// plain makes one line of what a BMC said, to be cited.
func plain(said string) string {
	said = strings.Join(strings.Fields(strings.Map(printable, csi.ReplaceAllString(said, ""))), " ")
	const most = 300
	if len(said) > most {
		said = strings.ToValidUTF8(said[:most], "") + "…"
	}
	return said
}

// csi are the sequences that colour a terminal and move its cursor (ECMA-48 5.4).
var csi = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}
