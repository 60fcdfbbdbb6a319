package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// consoleOptions are the flags of the command console.
type consoleOptions struct {
	log              string
	watch, url, take bool
}

func (a *app) consoleCommand() *cobra.Command {
	var o consoleOptions
	c := &cobra.Command{
		Use:   "console NODE",
		Short: "The node's serial console, in this terminal",
		Long: `console shows the node's serial console in this terminal, and types there what is
typed here, Ctrl-C included. It needs no plan and changes nothing.

At the beginning of a line, as with ssh:
  ~.   ends it; the machine and its console go on
  ~^Z  suspends it, until the shell's fg; what the machine says meanwhile comes then,
       as far as whoever gives the console keeps it
  ~B   sends a break
  ~?   shows this
  ~~   types one ~

The BMC's family decides how it is reached, with bmc.username and bmc.password:
HPE's iLO by ssh and VSP there, OpenBMC by ssh to port 2200, Supermicro by ssh and
SMASH there, others by IPMI serial over LAN, for which the program ipmitool has to
be installed. The site file can say otherwise, for a node or in defaults:

  console: {way: ipmi-sol}              # or ssh-vsp, ssh-console, ssh-smash, ipmi-sol-reset
  console: {command: [conman, n1]}      # a program that gives the console
  console: {socket: /run/n1/serial}     # a unix socket, of an emulator for example

Without console: and bmc.profile the BMC is asked over Redfish of what family it is,
unless that is known from earlier. The key of its ssh server has to be in
~/.ssh/known_hosts, or to be what console.hostKey says; console.oldAlgorithms: true
is for BMCs that speak nothing but broken ones.

Where one session at a time is let in and somebody has it, that is an error which
names whom the BMC names; --take ends that session. A session that this machine
left behind on a BMC where such ones stick (Gigabyte) is ended without asking.

` + exitHelp,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s; write livecd-sync console NODE, for one node", count(len(args), "argument"))
			}
			return nil
		},
		ValidArgsFunction: a.completeNode,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case len(a.nodes) > 0 || len(a.exclude) > 0:
				return errors.New("console takes its node as an argument; leave -w and -x out")
			case a.json():
				return errors.New("a console has no JSON; leave -o json out")
			}
			return a.console(c.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.log, "log", "", "append what the console says to this file")
	c.Flags().BoolVar(&o.watch, "watch", false, "only show it: nothing is sent; ~. or Ctrl-C ends it")
	c.Flags().BoolVar(&o.url, "url", false, "print the URL of the BMC's HTML5 console, and do nothing else")
	c.Flags().BoolVar(&o.take, "take", false, "end the session of whoever has the console")
	return c
}

// completeNode offers the site file's nodes to a shell, for one argument.
func (a *app) completeNode(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	s, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.NodeNames(), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) console(ctx context.Context, name string, o consoleOptions) error {
	s, err := a.load()
	if err != nil {
		return err
	}
	n, err := oneNode(s, name)
	if err != nil {
		return err
	}
	t, err := a.newTarget(only(s, []string{name}))
	if err != nil {
		return err
	}
	ctx, cancel := a.untilStop(ctx)
	defer cancel()
	if o.url {
		return t.printConsoleURL(ctx, n)
	}
	keyboard, err := a.keyboard(o.watch)
	if err != nil {
		return err
	}
	var log *os.File
	if o.log != "" {
		if log, err = os.OpenFile(o.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("--log: %w", err)
		}
	}
	err = t.attach(ctx, n, o, keyboard, log)
	if log != nil {
		err = errors.Join(err, log.Close())
	}
	return err
}

// oneNode is the site's node of that name, and of no range.
func oneNode(s *site.Site, name string) (site.Node, error) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	names, err := universe(s).Select([]string{name}, nil)
	if err != nil {
		return site.Node{}, err
	}
	return site.Node{}, fmt.Errorf("%s is %s, and a console is of one node; write for example %s", name, count(len(names), "node"), names[0])
}

// keyboard is the terminal that is typed at; nil where nobody can and needs to.
func (a *app) keyboard(watch bool) (*os.File, error) {
	file, ok := a.in.(*os.File)
	if ok && term.IsTerminal(int(file.Fd())) {
		return file, nil
	}
	if watch {
		return nil, nil
	}
	return nil, errors.New("the input is no terminal that could be typed at; write --watch to only see the console")
}

// attach opens the console and stays there until it ends.
func (t *target) attach(ctx context.Context, n site.Node, o consoleOptions, keyboard, log *os.File) error {
	target, err := t.consoleOf(ctx, n)
	if err != nil {
		return t.app.consoleFailed(err)
	}
	tell := t.app.teller(keyboard != nil)
	target.Take = o.take
	target.Note = func(note string) { fmt.Fprintln(t.app.err, printable(note)) }
	if !t.app.quiet {
		fmt.Fprintln(t.app.err, printable("console of "+n.Name+": "+target.Describe()))
	}
	conn, err := console.Open(ctx, target)
	if err != nil {
		return t.app.consoleFailed(err)
	}
	if !t.app.quiet {
		fmt.Fprintln(t.app.err, greeting(target, o.watch, keyboard != nil))
	}
	session := console.Session{Conn: conn, Out: t.app.out, Watch: o.watch, Tell: tell}
	if log != nil {
		session.Log = log
	}
	if keyboard == nil {
		err = session.Run(ctx)
	} else {
		session.In = keyboard
		err = inRawMode(ctx, keyboard, func(ctx context.Context, raw rawTerminal) error {
			session.Suspend = raw.suspend
			return session.Run(ctx)
		})
	}
	if !t.app.quiet {
		fmt.Fprintf(t.app.err, "\nconsole of %s closed\n", n.Name)
	}
	if errors.Is(err, console.ErrEnded) {
		fmt.Fprintln(t.app.err, err)
		return nil
	}
	return t.app.consoleFailed(err)
}

// greeting says how the console is ended, and where there is another one.
func greeting(target console.Target, watch, typed bool) string {
	line := "~. at the beginning of a line ends it, ~? shows what else there is"
	switch {
	case !typed:
		line = "only watching, until this is interrupted"
	case watch:
		line = "only watching: nothing is sent; ~. or Ctrl-C ends it"
	}
	if url := pageURL(target); url != "" {
		line = "HTML5 console: " + url + "\n" + line
	}
	return line
}

// teller says things to the person at the console: in raw mode a line does not
// begin at the left by itself.
func (a *app) teller(raw bool) func(string) {
	newline := "\n"
	if raw {
		newline = "\r\n"
	}
	return func(text string) {
		// The machine may have left the cursor anywhere, so it is one write.
		_, _ = io.WriteString(a.err, newline+strings.ReplaceAll(printable(text), "\n", newline)+newline)
	}
}

// consoleFailed says why there is no console, and gives the exit status for it.
func (a *app) consoleFailed(err error) error {
	if isClosed(a.stop) {
		return errInterrupted
	}
	_, failed := errors.AsType[*bmc.Error](err)
	if _, nothingDone := errors.AsType[plainError](err); nothingDone || !failed {
		return err
	}
	a.complain(err)
	return status(exitNodesFailed)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A rawTerminal passes everything on as it is typed.
type rawTerminal struct {
	tty    *os.File
	before *term.State
}

// inRawMode runs f while the terminal is in raw mode. The terminal is as it was
// before when it returns, whatever happens.
func inRawMode(ctx context.Context, tty *os.File, f func(context.Context, rawTerminal) error) error {
	// What would end the process at once ends f, so that the terminal is put in order.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	before, err := term.MakeRaw(int(tty.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal cannot be put into raw mode: %w", err)
	}
	r := rawTerminal{tty, before}
	defer func() { _ = r.restore() }() // it worked a moment ago
	return f(ctx, r)
}

func (r rawTerminal) restore() error { return term.Restore(int(r.tty.Fd()), r.before) }

// stopsWithin is how long the kernel may take to stop a process.
const stopsWithin = time.Second / 2

// suspend stops the programs of this job, with the terminal as it was before, and
// returns once they go on. Where there is no shell that could have them go on the
// kernel stops nothing (orphaned process groups, setpgid(2)).
func (r rawTerminal) suspend() error {
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	defer signal.Stop(goesOn)
	if err := r.restore(); err != nil {
		return fmt.Errorf("the terminal cannot be put in order: %w", err)
	}
	stopped := syscall.Kill(0, syscall.SIGTSTP)
	// The first wait may be over, too, when a process goes on that was stopped.
	if stopped == nil && !came(goesOn, stopsWithin) && !came(goesOn, stopsWithin) {
		stopped = errors.New("no shell is there that could have this go on, so it is not suspended")
	}
	if _, err := term.MakeRaw(int(r.tty.Fd())); err != nil {
		return fmt.Errorf("the terminal cannot be put into raw mode again: %w", err)
	}
	return stopped
}

func came(c <-chan os.Signal, within time.Duration) bool {
	select {
	case <-c:
		return true
	case <-time.After(within):
		return false
	}
}

// consoleOf says how to open a node's console. The BMC is asked only where neither
// the site file nor an earlier run say of what family it is, and secrets are
// fetched only where they are needed.
func (t *target) consoleOf(ctx context.Context, n site.Node) (console.Target, error) {
	out := console.Target{Node: n.Name, Console: n.Console, BMC: n.BMC.URL}
	for _, p := range t.profiles {
		if p.Name == n.BMC.Profile {
			out.Profile = p
		}
	}
	if !console.NeedsCredential(n.Console) {
		return out, nil
	}
	password, err := t.secrets.Get(ctx, n.BMC.Password)
	if err != nil {
		return out, plainError{fmt.Errorf("%s: bmc.password of %s: %w\n  → %s", n.At("bmc.password"), n.Name, err, bmc.HintOf(err))}
	}
	out.Credential = bmc.Credential{Username: n.BMC.Username, Password: password}
	if console.NeedsProfile(n.Console) {
		out.Profile, out.Says, err = t.family(ctx, n)
	}
	return out, err
}

// family finds out of what family a node's BMC is, and what it says of its console.
func (t *target) family(ctx context.Context, n site.Node) (bmc.Profile, bmc.SerialConsole, error) {
	if err := t.checkCertificates(); err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	conf, err := t.config(ctx, n)
	if err != nil {
		return bmc.Profile{}, bmc.SerialConsole{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.app.timeout)
	defer cancel()
	row, says, err := t.dialer.Console(ctx, conf)
	if e, ok := errors.AsType[*bmc.Error](err); ok && ctx.Err() == nil {
		hint := e.Hint + "; with bmc.profile or console: in the site file the console is opened without this"
		err = &bmc.Error{Op: "find out of what family the BMC of " + n.Name + " is", Kind: e.Kind, Err: err, Hint: hint}
	}
	return row, says, err
}

// printConsoleURL prints where the HTML5 console is.
func (t *target) printConsoleURL(ctx context.Context, n site.Node) error {
	target := console.Target{Node: n.Name, BMC: n.BMC.URL}
	for _, p := range t.profiles {
		if p.Name == n.BMC.Profile {
			target.Profile = p
		}
	}
	if target.Profile.Name == "" {
		var err error
		if target.Profile, _, err = t.family(ctx, n); err != nil {
			return t.app.consoleFailed(err)
		}
	}
	url := pageURL(target)
	if url == "" {
		return t.app.consoleFailed(&bmc.Error{
			Op: "console of " + n.Name, Kind: bmc.KindUnsupported,
			Err:  fmt.Errorf("of BMCs of the family %s it is not known where they have an HTML5 console", target.Profile.Name),
			Hint: "look for it on the BMC's own page, " + n.BMC.URL,
		})
	}
	fmt.Fprintln(t.app.out, url)
	return nil
}

// pageURL is where the BMC has its HTML5 console, or the page that leads to it; "" where that is not
// known.
func pageURL(target console.Target) string {
	if target.Profile.ConsolePage == "" {
		return ""
	}
	return target.BMC + target.Profile.ConsolePage
}
