package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const (
	// sshPort is that of a BMC's command line.
	sshPort = 22
	// sshConsolePort is that of the console on OpenBMC (vendors.md 2.9).
	sshConsolePort = 2200
	// loginTimeout bounds connecting and logging in to a BMC: its processor is
	// slow, and the key exchange alone can take seconds.
	loginTimeout = 20 * time.Second
	// answerWithin bounds a BMC's answer to a command.
	answerWithin = 20 * time.Second
	// leaveWithin bounds how long is tried to leave a console as it wants to be left.
	leaveWithin = time.Second
	// mostSaid is how much of a BMC's chatter is kept.
	mostSaid = 64 << 10
)

// An sshWay is a console behind the ssh server of a BMC.
type sshWay struct {
	what string // what it is, for people
	port int    // the usual one
	// enter is typed at the prompt, one after the other; with none the login shell
	// is the console.
	enter []string
	begun *regexp.Regexp // what says that the console begins
	free  string         // typed at the prompt to end another's session; "": nothing does
	leave string         // typed to get back to the prompt
	said  func(bmc.SerialConsole) bmc.ConsoleService
}

// The ways over ssh. VSP: HPE's iLO 3 to 7, by what scripts of the field wait for;
// stop frees it up to iLO 5. SMASH: Supermicro (Redfish's ConsoleEntryCommand and
// HotKeySequenceDisplay, vendors.md 2.9); it is not left by its keys, for the first
// of them is an Enter that the machine would see.
var (
	vsp = sshWay{
		what: "VSP", port: sshPort, enter: []string{"VSP"},
		begun: regexp.MustCompile(`(?i)press 'ESC \(' to return to the CLI session\.?`),
		free:  "stop /system1/oemhp_vsp1", leave: "\x1b(",
		said: func(bmc.SerialConsole) bmc.ConsoleService { return bmc.ConsoleService{} },
	}
	sshConsole = sshWay{
		what: "the console's own ssh server", port: sshConsolePort,
		said: func(s bmc.SerialConsole) bmc.ConsoleService { return s.SSH },
	}
	smash = sshWay{
		what: "SMASH", port: sshPort, enter: []string{"cd system1/sol1", "start"},
		begun: regexp.MustCompile(`(?i)to terminate session(\s*\(press the keys in sequence, one after the other\))?`),
		said:  func(s bmc.SerialConsole) bmc.ConsoleService { return s.SSH },
	}
)

func (w sshWay) describe(t Target) string {
	return fmt.Sprintf("%s, ssh to %s", w.what, t.at(w.said(t.Says).Port, w.port))
}

func (w sshWay) open(ctx context.Context, t Target) (Conn, error) {
	said := w.said(t.Says)
	config, err := t.sshConfig(said.Port, w.port)
	if err != nil {
		return nil, err
	}
	conn, err := sshremote.Dial(ctx, config)
	if err != nil {
		return nil, t.wrap(err)
	}
	terminal, err := conn.Terminal(ctx)
	if err != nil {
		_ = conn.Close() // the error before says more
		return nil, t.wrap(err)
	}
	c := &sshConn{target: t, way: w, conn: conn, terminal: terminal, closed: make(chan struct{})}
	if len(w.enter) > 0 && said.Entry != "" {
		c.way.enter = entries(said.Entry)
	}
	if len(w.enter) == 0 {
		return c, nil
	}
	if err := c.begin(ctx); err != nil {
		_ = c.end() // likewise
		return nil, err
	}
	return c, nil
}

// entries are the commands of a ConsoleEntryCommand, which lists them between
// semicolons.
func entries(command string) []string {
	var out []string
	for part := range strings.SplitSeq(command, ";") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// sshConfig says how to reach the BMC's ssh server.
func (t Target) sshConfig(said, usual int) (sshremote.Config, error) {
	host, port, err := t.bmcPort(said, usual)
	if err != nil {
		return sshremote.Config{}, err
	}
	if t.Credential.Username == "" {
		return sshremote.Config{}, t.fail(bmc.KindAuth, errors.New("there is no user name for the BMC's ssh server"), "write bmc.username and bmc.password in the site file")
	}
	key := t.Console.HostKey
	if key == (site.HostKey{}) {
		home, err := os.UserHomeDir()
		if err != nil {
			return sshremote.Config{}, t.fail(bmc.KindSSH, errors.New("there is no home directory to have a known_hosts file"), "write console.hostKey in the site file")
		}
		key.KnownHosts = filepath.Join(home, ".ssh/known_hosts")
	}
	trust := sshremote.AlgorithmsSafe
	if t.Console.OldAlgorithms {
		trust = sshremote.AlgorithmsAll
	}
	return sshremote.Config{
		Address: host, Port: port, User: t.Credential.Username, Password: t.Credential.Password,
		HostKey: key, Algorithms: trust, Peer: "BMC", Timeout: loginTimeout,
		KeepAlive: -1, // not every BMC answers a question that it does not know
		Hints: sshremote.Hints{
			HostKey: "console.hostKey",
			NewKey:  "compare it with the key that the BMC's own web page shows, and write console.hostKey: {fingerprint: \"SHA256:…\"} in the site file; or add it to the known_hosts file; or, on a network that you trust, console.hostKey: any",
			Login:   "see bmc.username and bmc.password, and whether the BMC lets this account use ssh",
			Silent:  "see whether the BMC has ssh switched on, and console.port in the site file; or write another console: there",
			Old:     "write console.oldAlgorithms: true in the site file to speak with it all the same; whoever is on the wire may then read the password",
		},
	}, nil
}

// An sshConn is a console behind a BMC's ssh server.
type sshConn struct {
	target   Target
	way      sshWay
	conn     *sshremote.Conn
	terminal *sshremote.Terminal
	rest     []byte // what was read while the console was entered, and is the console's
	closing  sync.Once
	closed   chan struct{} // closed by Close
	ending   sync.Once
	err      error // of ending the connection
}

// prompt ends what a command line says when it waits for a command: both iLO's
// "</>hpiLO-> " and SMASH's "-> ".
var prompt = regexp.MustCompile(`->[ \t]*$`)

// taken says that somebody else has the console.
var taken = regexp.MustCompile(`(?i)in use|another session|already (active|activated|open|in use|started)|maximum (number )?of .*sessions`)

// begin goes from the command line to the console.
func (c *sshConn) begin(ctx context.Context) error {
	// Of what is asked here nothing takes a context, but closing ends it.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(c.way.enter)+2)*answerWithin)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.end() })
	defer stop()
	said, err := c.await(prompt)
	if err != nil {
		return c.silent(ctx, "gave no prompt", said, err)
	}
	freed := false
	for {
		last := c.way.enter[len(c.way.enter)-1]
		said, err = c.enter()
		switch {
		case err != nil:
			return c.silent(ctx, "did not answer to "+last, said, err)
		case c.way.begun.MatchString(said):
			c.rest = []byte(said[c.way.begun.FindStringIndex(said)[1]:])
			return nil
		case taken.MatchString(said) && c.target.Take && !freed && c.way.free != "":
			freed = true
			if said, err = c.command(c.way.free); err != nil {
				return c.silent(ctx, "did not answer to "+c.way.free, said, err)
			}
			c.target.note("the session of whoever had this console was ended")
		default:
			return c.refused(said)
		}
	}
}

// enter types what enters the console, and returns what the last command said.
func (c *sshConn) enter() (said string, err error) {
	for i, command := range c.way.enter {
		said, err = c.command(command)
		if err != nil || i == len(c.way.enter)-1 || c.way.begun.MatchString(said) {
			break
		}
	}
	return said, err
}

// command types a command, and returns what is said up to the next prompt, or to
// the beginning of the console.
func (c *sshConn) command(command string) (string, error) {
	if _, err := io.WriteString(c.terminal, command+"\r"); err != nil {
		return "", err
	}
	return c.await(c.way.begun, prompt)
}

// await reads until what was said matches one of the patterns, and returns it.
func (c *sshConn) await(patterns ...*regexp.Regexp) (string, error) {
	var said bytes.Buffer
	buf := make([]byte, 4<<10)
	for {
		n, err := c.terminal.Read(buf)
		said.Write(buf[:n])
		for _, p := range patterns {
			if p.Match(said.Bytes()) {
				return said.String(), nil
			}
		}
		if err == nil && said.Len() > mostSaid {
			err = errors.New("it says too much")
		}
		if err != nil {
			return said.String(), err
		}
	}
}

// silent is the error of a BMC that did not say what it should have.
func (c *sshConn) silent(ctx context.Context, what, said string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return c.target.cancelled(ctx)
	case taken.MatchString(said):
		return c.refused(said)
	case ctx.Err() != nil:
		err = errors.New("no answer in time")
	case errors.Is(err, io.EOF):
		err = errors.New("it ended")
	}
	cited := "nothing was said before"
	if said = plain(said); said != "" {
		cited = fmt.Sprintf("it said %q", said)
	}
	return c.target.fail(bmc.KindProtocol, fmt.Errorf("the BMC's command line %s: %w; %s", what, err, cited), tryOther)
}

// tryOther is what to do where a way does not lead to the console.
const tryOther = "try it by hand with ssh; if this BMC gives its console in another way, write console: in the site file"

// refused is the error of a BMC that did not start the console.
func (c *sshConn) refused(said string) error {
	if line := taken.FindStringIndex(said); line != nil {
		return c.target.taken("the BMC says: "+plain(lineAround(said, line[0])), c.way.free != "")
	}
	return c.target.fail(bmc.KindUnsupported, fmt.Errorf("the BMC did not start it, and said %q", plain(answer(said))), tryOther)
}

// answer is what was said between the echo of a command and the next prompt.
func answer(said string) string {
	start, end := strings.IndexByte(said, '\n'), strings.LastIndexByte(said, '\n')
	if start < 0 || end <= start {
		return said
	}
	return said[start:end]
}

// taken is the error of a console that somebody else has.
func (t Target) taken(who string, canTake bool) error {
	hint := "wait until it is given free, or end that session: livecd-sync console --take " + t.Node
	if !canTake || t.Take {
		hint = "wait until it is given free, or end that session on the BMC"
	}
	return t.fail(bmc.KindBusy, errors.New("somebody else has it; "+who), hint)
}

// lineAround is the line of a text that a place is in.
func lineAround(text string, at int) string {
	start := strings.LastIndexAny(text[:at], "\r\n") + 1
	rest, _, _ := strings.Cut(text[at:], "\n")
	return text[start:at] + rest
}

// Read implements Conn.
func (c *sshConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.terminal.Read(p)
	switch {
	case c.isClosed(): // what the command line says to those who leave is not the machine's
		return 0, c.target.lost(os.ErrClosed)
	case err != nil && !errors.Is(err, io.EOF):
		err = c.target.lost(err)
	}
	return n, err
}

func (c *sshConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Write implements Conn.
func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.terminal.Write(p)
	if err != nil {
		if c.isClosed() {
			err = os.ErrClosed
		}
		err = c.target.lost(err)
	}
	return n, err
}

// Break implements Breaker.
func (c *sshConn) Break() error {
	if err := c.terminal.Break(); err != nil {
		return c.target.fail(bmc.KindUnsupported, err, "use another console of this machine for it")
	}
	return nil
}

// Close implements Conn. It leaves the console first, so that the BMC knows at
// once that it is free.
func (c *sshConn) Close() error {
	c.closing.Do(func() {
		close(c.closed)
		c.quit()
	})
	if err := c.end(); err != nil {
		return c.target.lost(err)
	}
	return nil
}

// quit types what leaves the console, if there is such a thing.
func (c *sshConn) quit() {
	if c.way.leave == "" {
		return
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.WriteString(c.terminal, c.way.leave) // or else the end of the connection tells
	}()
	timer := time.NewTimer(leaveWithin)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
		_ = c.end() // the same error comes again
		<-left
	}
}

// end ends the connection.
func (c *sshConn) end() error {
	c.ending.Do(func() { c.err = cmp.Or(c.terminal.Close(), c.conn.Close()) })
	return c.err
}
