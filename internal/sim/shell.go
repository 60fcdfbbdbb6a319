package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// A shell runs POSIX sh scripts as root of a node. It holds what its processes
// share: the node they are on and the file system they see.
type shell struct {
	system *system
	view   *view
}

// streams are a process's standard files. in is an *os.File, so that commands of
// the host can inherit it and read no more than they need.
type streams struct {
	in       *os.File
	out, err io.Writer
}

// process is one command that is about to run.
type process struct {
	args []string
	dir  string   // the working directory, a name of the node
	env  []string // NAME=value
	streams
}

// Exit statuses with a fixed meaning (POSIX 2.8.2).
const (
	statusUsage    = 2
	statusNotFound = 127
	statusKilled   = 128 + 9
)

// environment is what a login gives a process of a node.
func environment(name string) []string {
	return []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
		"SHELL=/bin/sh", "HOSTNAME=" + name,
	}
}

// language is what scripts are written in. The interpreter knows export and
// readonly in Bash's grammar only.
const language = syntax.LangBash

// script runs a script and returns its exit status. When ctx ends, what the
// script started is killed. name is $0, params are $1 and so on.
func (sh shell) script(ctx context.Context, source io.Reader, name string, params []string, p process) int {
	file, err := syntax.NewParser(syntax.Variant(language)).Parse(source, name)
	if err != nil {
		fmt.Fprintf(p.err, "sh: %v\n", err)
		return statusUsage
	}
	runner, err := sh.runner(params, p)
	if err != nil {
		fmt.Fprintf(p.err, "sh: %v\n", err)
		return statusUsage
	}
	return sh.run(ctx, runner, file, p)
}

// follow runs a script statement by statement as its source is read, as a login
// without a command does.
func (sh shell) follow(ctx context.Context, source io.Reader, p process) int {
	runner, err := sh.runner(nil, p)
	if err != nil {
		fmt.Fprintf(p.err, "sh: %v\n", err)
		return statusUsage
	}
	status := 0
	parser := syntax.NewParser(syntax.Variant(language))
	for stmt, err := range parser.StmtsSeq(source) {
		if err != nil {
			fmt.Fprintf(p.err, "sh: %v\n", err)
			return statusUsage
		}
		status = sh.run(ctx, runner, stmt, p)
		if runner.Exited() || ctx.Err() != nil {
			break
		}
	}
	return status
}

func (sh shell) run(ctx context.Context, runner *interp.Runner, what syntax.Node, p process) int {
	err := runner.Run(ctx, what)
	if status, ok := errors.AsType[interp.ExitStatus](err); ok {
		return int(status)
	}
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		return statusKilled
	}
	fmt.Fprintf(p.err, "sh: %v\n", err)
	return statusUsage
}

// runner makes an interpreter that reaches the node's files and commands only.
func (sh shell) runner(params []string, p process) (*interp.Runner, error) {
	r, err := interp.New(
		interp.Env(expand.ListEnviron(p.env...)),
		interp.Params(append([]string{"--"}, params...)...),
		interp.StdIO(p.in, p.out, p.err),
		interp.Dir("/"),
		interp.CallHandler(call),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return sh.exec }),
		interp.OpenHandler(sh.open),
		interp.StatHandler(sh.stat),
		interp.AccessHandler(sh.access),
		interp.ReadDirHandler2(sh.readDir),
	)
	if err != nil {
		return nil, err
	}
	r.Dir = p.dir // set here because Dir looks for it on this machine
	return r, nil
}

// call replaces builtins that would look at, or change, this machine.
func call(_ context.Context, args []string) ([]string, error) {
	switch {
	case args[0] == "umask": // of the whole process
		return []string{"true"}, nil
	case len(args) == 3 && args[0] == "command" && args[1] == "-v" && !interp.IsBuiltin(args[2]):
		return []string{"which", args[2]}, nil
	}
	return args, nil
}

// exec runs a command that the shell does not have itself.
func (sh shell) exec(ctx context.Context, args []string) error {
	hc := interp.HandlerCtx(ctx)
	p := process{args: args, dir: hc.Dir, streams: streams{out: hc.Stdout, err: hc.Stderr}}
	p.in, _ = hc.Stdin.(*os.File)
	for name, v := range hc.Env.Each {
		if v.Exported && v.Kind == expand.String {
			p.env = append(p.env, name+"="+v.Str)
		}
	}
	if status := sh.command(ctx, p); status != 0 {
		return interp.ExitStatus(status)
	}
	return nil
}

func (sh shell) open(ctx context.Context, name string, flag int, perm os.FileMode) (io.ReadWriteCloser, error) {
	real, err := sh.view.resolve(interp.HandlerCtx(ctx).Dir, name, true)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(real, flag|openFlags, perm)
	if err != nil {
		return nil, virtual(err, name)
	}
	return f, nil
}

func (sh shell) stat(_ context.Context, name string, follow bool) (fs.FileInfo, error) {
	real, err := sh.view.resolve("/", name, follow)
	if err != nil {
		return nil, err
	}
	st, err := os.Lstat(real)
	return st, virtual(err, name)
}

func (sh shell) access(ctx context.Context, name string, mode interp.AccessMode) error {
	real, err := sh.view.resolve("/", name, true)
	if err != nil {
		return err
	}
	return virtual(interp.DefaultAccessHandler()(ctx, real, mode), name)
}

func (sh shell) readDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	real, err := sh.view.resolve(interp.HandlerCtx(ctx).Dir, name, true)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(real)
	return entries, virtual(err, name)
}

// quoted is a shell word that stands for s.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
