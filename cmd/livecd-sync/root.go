package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
	"github.com/livecd-sync/livecd-sync/internal/writers/etcdwriters"
)

// stdio is what a run of the program has of the world.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	signals  <-chan os.Signal // interrupts and requests to end
	getenv   func(string) string
	// hangUp makes the process be told of hang-ups instead of being ended by them,
	// until the func that it returns is called; nil: it cannot be told.
	hangUp func(chan<- os.Signal) func()
}

// The exit status of every command.
const (
	exitDone        = 0
	exitNothingDone = 1
	exitChanges     = 2
	exitNodesFailed = 3
	exitInterrupted = 130
)

const exitHelp = `Exit status:
  0    done; for plan, whether or not changes are pending
  1    nothing was done: bad usage, an invalid site file, a missing secret, a stale plan file
  2    plan --detailed-exitcode only: changes are pending and no node failed
  3    at least one node failed, could not be reached or is blocked; the others were still worked on
  130  interrupted`

// A status ends a command with an exit status and nothing further to say.
type status int

func (s status) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// app is one run of the program.
type app struct {
	stdio
	clock bmc.Clock

	file      string
	nodes     []string
	exclude   []string
	jobs      int
	output    string
	verbose   bool
	quiet     bool
	timeout   time.Duration
	logFormat string
	lockWait  time.Duration // of commands that change nodes
	record    string        // the directory to record into, or ""
	redact    bool

	etcd       *etcdwriters.Site // what writers of several hosts share; nil: nothing was asked of it yet
	etcdConfig string            // by which it was made

	atEnd []func() // called when the command has returned

	makeTransfers sync.Once
	transfersOnly *report.Transfers // see transfers

	stop    chan struct{} // closed at the first signal
	stopped bool          // read after the command has returned
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, std stdio) int {
	a := &app{stdio: std, clock: bmc.SystemClock{}, stop: make(chan struct{})}
	ctx, done := a.watchSignals(ctx)
	root := a.rootCommand() //nolint:contextcheck // commands take theirs from ExecuteContext
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	for _, f := range a.atEnd {
		f()
	}
	done()
	return a.exit(err)
}

// watchSignals closes a.stop at the first signal and ends the context at the
// second. What it returns ends the watching.
func (a *app) watchSignals(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			select {
			case <-over:
				return
			case <-a.signals:
			}
			if n == 0 {
				a.stopped = true
				close(a.stop)
				continue
			}
			cancel(errInterrupted)
		}
	}()
	return ctx, func() { close(over); <-ended; cancel(nil) }
}

// onHangUp calls f at each hang-up, with which a service is asked to look again.
// What it returns ends that.
func (a *app) onHangUp(f func()) func() {
	if a.hangUp == nil {
		return func() {}
	}
	signals, over := make(chan os.Signal, 1), make(chan struct{})
	noMore := a.hangUp(signals)
	go func() {
		for {
			select {
			case <-over:
				return
			case <-signals:
				f()
			}
		}
	}()
	return func() { noMore(); close(over) }
}

// sayWhenStopped acknowledges the first signal, for commands that then come to a
// safe point. What it returns ends that.
func (a *app) sayWhenStopped() func() {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-a.stop:
			a.transfers().Around(func() {
				fmt.Fprintln(a.err, "stopping: no further step is started, running ones come to a safe point; once more ends at once")
			})
		case <-over:
		}
	}()
	return func() { close(over); <-ended }
}

var errInterrupted = errors.New("interrupted")

// untilStop is a context for commands that only read: the first signal ends it.
func (a *app) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-a.stop:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "livecd-sync",
		Short: "Keep the live ISOs of a site's nodes, and their overlays, as a site file says",
		Long: `livecd-sync keeps the live ISOs of a site's nodes, and their overlays, as a site
file says: plan shows what differs on the BMCs and nodes, apply makes it so
without losing an overlay, watch repeats that when the file changes.

Start with: livecd-sync sim --help (a simulated site, no hardware needed).

` + exitHelp,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.Version = version
	root.SetVersionTemplate(versionLine() + "\n")
	root.SetHelpCommand(helpCommand(root))
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.globalFlags(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkFlags() }
	root.AddCommand(
		a.validateCommand(), a.doctorCommand(), a.trustCommand(), a.planCommand(), a.applyCommand(), a.watchCommand(), a.pauseCommand(), a.resumeCommand(), a.statusCommand(),
		a.backupCommand(), a.restoreCommand(), a.backupsCommand(), a.overlayCommand(), a.consoleCommand(), a.simCommand(), a.versionCommand(), a.manCommand(),
	)
	return root
}

// globalFlags are those that every command has.
func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVarP(&a.file, "file", "f", "", "the site file (default site.yaml here, else $LIVECD_SYNC_FILE, else /etc/livecd-sync/site.yaml)")
	f.VarP(&rangeList{&a.nodes}, "nodes", "w", "only these nodes: ranges as x3000c0s[1-9]b0n0, and @group")
	f.VarP(&rangeList{&a.exclude}, "exclude", "x", "not these nodes")
	f.IntVarP(&a.jobs, "jobs", "j", 64, "how many nodes are worked on at once")
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show every request on stderr, and every node by itself")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "show no progress")
	f.DurationVar(&a.timeout, "timeout", 2*time.Minute, "how long reading one node may take")
	f.StringVar(&a.logFormat, "log-format", "console", "progress and logs on stderr: console or json")
	for _, name := range []string{"nodes", "exclude"} {
		// It fails for a flag that is not there.
		_ = root.RegisterFlagCompletionFunc(name, a.completeNodes)
	}
}

// helpCommand is cobra's, but for a command that does not exist it fails.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			c, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("there is no command %q; livecd-sync --help lists them", strings.Join(args, " "))
			}
			return c.Help()
		},
	}
}

// completeNodes offers the site file's nodes and groups to a shell.
func (a *app) completeNodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	s, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	u := universe(s)
	out := slices.Clone(u.Names)
	for g := range u.Groups {
		out = append(out, "@"+g)
	}
	slices.Sort(out)
	return out, cobra.ShellCompDirectiveNoFileComp
}

// A rangeList is a flag that may be given several times; unlike pflag's lists
// it does not split at commas, which node ranges use themselves.
type rangeList struct{ values *[]string }

func (l *rangeList) String() string     { return "" }
func (l *rangeList) Type() string       { return "ranges" }
func (l *rangeList) Set(s string) error { *l.values = append(*l.values, s); return nil }

func (a *app) checkFlags() error {
	switch {
	case a.output != "text" && a.output != "json":
		return fmt.Errorf("-o %s is not known; write -o text or -o json", a.output)
	case a.logFormat != "console" && a.logFormat != "json":
		return fmt.Errorf("--log-format %s is not known; write console or json", a.logFormat)
	case a.jobs < 1:
		return fmt.Errorf("-j %d is too few; write 1 or more", a.jobs)
	case a.lockWait < 0:
		return fmt.Errorf("--lock-wait %s is less than nothing; write for example 30m", a.lockWait)
	case a.timeout <= 0:
		return fmt.Errorf("--timeout %s is too short; write for example 2m", a.timeout)
	}
	return nil
}

// exit prints what is left to be said and turns it into an exit status.
func (a *app) exit(err error) int {
	var s status
	switch {
	case a.stopped || errors.Is(err, errInterrupted):
		if err != nil && !errors.As(err, &s) && !errors.Is(err, errInterrupted) {
			a.complain(err)
		}
		return exitInterrupted
	case err == nil:
		return exitDone
	case errors.As(err, &s):
		return int(s)
	}
	a.complain(err)
	return exitNothingDone
}

// complain prints an error and what to do about it.
func (a *app) complain(err error) {
	fmt.Fprintln(a.err, printable("livecd-sync: "+err.Error()))
	var told plainError
	if h := bmc.HintOf(err); h != "" && !errors.As(err, &told) {
		fmt.Fprintln(a.err, printable("  → "+h))
	}
}

// printable keeps what a node or a file said from driving the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

func (a *app) json() bool { return a.output == "json" }

// terminal reports whether f is a terminal, and how wide.
func terminal(f any) (width int, ok bool) {
	file, ok := f.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	return width, err == nil
}

func (a *app) textOptions() report.Options {
	width, tty := terminal(a.out)
	return report.Options{
		Color: tty && a.getenv("NO_COLOR") == "", Width: width, Verbose: a.verbose, FoldNames: noderange.Fold,
	}
}

// transfers tells how far backups and restores are; nil with -q.
func (a *app) transfers() *report.Transfers {
	a.makeTransfers.Do(func() {
		if a.quiet {
			return
		}
		width, tty := terminal(a.err)
		a.transfersOnly = report.NewTransfers(a.err, report.TransfersOptions{
			Live: tty, Width: width, JSON: a.logFormat == "json", Verbose: a.verbose, Now: a.clock.Now,
		})
	})
	return a.transfersOnly
}

func (a *app) logger() zerolog.Logger {
	level := zerolog.WarnLevel
	switch {
	case a.verbose:
		level = zerolog.DebugLevel
	case a.quiet:
		level = zerolog.ErrorLevel
	}
	w := a.err
	if a.logFormat == "console" {
		_, tty := terminal(a.err)
		w = zerolog.ConsoleWriter{Out: a.err, NoColor: !tty || a.getenv("NO_COLOR") != "", TimeFormat: "15:04:05"}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
