package sim

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A hostTool is a command of this machine that nodes may run, and how to tell
// the names of files among its arguments. Every argument that is no option
// counts as one: what is no name resolves to itself.
type hostTool struct {
	keepLinks bool     // a link that is named is meant itself, not what it leads to
	binary    bool     // writes contents of files, and no names
	skip      int      // so many operands come first that are no names: a pattern
	options   []string // "if=": options whose value is a name
}

// hostTools are the commands of this machine that nodes may run.
var hostTools = map[string]hostTool{
	"tar":  {keepLinks: true, binary: true, options: []string{"--directory=", "--file=", "--files-from=", "--exclude-from="}},
	"dd":   {binary: true, options: []string{"if=", "of="}},
	"find": {keepLinks: true}, "stat": {keepLinks: true}, "rm": {keepLinks: true}, "mv": {keepLinks: true},
	"ls": {keepLinks: true}, "ln": {keepLinks: true}, "readlink": {keepLinks: true}, "rmdir": {keepLinks: true},
	"cp": {keepLinks: true}, "getfattr": {keepLinks: true}, "setfattr": {keepLinks: true},
	"mkdir": {}, "touch": {}, "chmod": {skip: 1}, "chown": {skip: 1}, "truncate": {}, "du": {}, "df": {},
	"od": {binary: true}, "head": {binary: true}, "tail": {binary: true}, "wc": {}, "sort": {binary: true}, "uniq": {binary: true}, "cmp": {}, "tee": {binary: true}, "base64": {binary: true},
	"sha256sum": {}, "zstd": {binary: true}, "gzip": {binary: true}, "grep": {skip: 1}, "cut": {binary: true}, "tr": {skip: 2, binary: true},
	"basename": {skip: 2}, "dirname": {skip: 1}, "date": {skip: 1}, "sleep": {skip: 1},
}

// known tells whether a node has the command.
func known(name string) bool {
	if _, ok := simulated()[base(name)]; ok {
		return true
	}
	if _, ok := hostTools[base(name)]; !ok {
		return false
	}
	_, err := exec.LookPath(base(name))
	return err == nil
}

// killed is how long a killed command's output is waited for: another process
// may hold its pipe.
const killed = time.Second

// host runs a command of this machine in the node's file system.
func (sh shell) host(ctx context.Context, tool hostTool, p process) int {
	name := base(p.args[0])
	binary, err := exec.LookPath(name)
	if err != nil {
		return p.fail(statusNotFound, "this machine, which runs the simulated node's commands, has no %s", name)
	}
	dir, err := sh.view.resolve("/", p.dir, true)
	if err != nil {
		return p.fail(1, "%v", err)
	}
	if name == "ln" && slices.ContainsFunc(p.args, isSymbolic) {
		tool.skip = 1 // what a symbolic link says is for the node to resolve
	}
	args, err := sh.translate(tool, p, dir)
	if err != nil {
		return p.fail(1, "%v", err)
	}
	if name == "tar" && os.Geteuid() != 0 {
		args = asUser(args)
	}
	cmd := exec.CommandContext(ctx, binary)
	cmd.Args = append([]string{name}, args...)
	cmd.Dir, cmd.Env = dir, hostEnvironment(p.env)
	if p.in != nil { // a nil *os.File in the interface would be no nil
		cmd.Stdin = p.in
	}
	return sh.wait(cmd, tool, p)
}

// wait runs a command, with all the processes it starts, to its end.
func (sh shell) wait(cmd *exec.Cmd, tool hostTool, p process) int {
	out, errs := sh.view.nodeNames(p.out), sh.view.nodeNames(p.err)
	cmd.Stdout, cmd.Stderr = out, errs
	if tool.binary {
		cmd.Stdout = p.out
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killed
	if err := startConfined(cmd, sh.system.dir); err != nil {
		return p.fail(126, "%v", err)
	}
	status := exitStatus(cmd.Wait())
	if err := errors.Join(out.flush(), errs.flush()); err != nil {
		return p.fail(1, "%v", err)
	}
	return status
}

// isSymbolic tells whether an argument makes ln write a symbolic link.
func isSymbolic(arg string) bool {
	return arg == "--symbolic" || strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.Contains(arg, "s")
}

func exitStatus(err error) int {
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return 0
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 1 // its output could not be handed on
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return exit.ExitCode()
}

// hostEnvironment gives a command this machine's PATH: the node's is made up.
func hostEnvironment(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(s string) bool {
		return strings.HasPrefix(s, "PATH=") || strings.HasPrefix(s, "LD_")
	})
	return append(env, "PATH="+os.Getenv("PATH"))
}

// asUser takes out of a tar command line what only root can do. An ordinary user
// runs a simulated site in which all files are the user's own.
func asUser(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool {
		return strings.HasPrefix(a, "--xattrs") || a == "--acls" || a == "--selinux" || a == "--same-owner"
	})
}

// translate turns the names among the arguments into this machine's. A name that
// already leads to the right place stays as it is, so that messages about it
// read as they would on a node.
func (sh shell) translate(tool hostTool, p process, dir string) ([]string, error) {
	args := slices.Clone(p.args[1:])
	skip, options := tool.skip, true
	for i, a := range args {
		if opt := slices.IndexFunc(tool.options, func(o string) bool { return strings.HasPrefix(a, o) }); options && opt >= 0 {
			o := tool.options[opt]
			real, err := sh.operand(a[len(o):], true, p, dir)
			if err != nil {
				return nil, err
			}
			args[i] = o + real
			continue
		}
		switch {
		case options && a == "--":
			options = false
		case options && strings.HasPrefix(a, "-"), a == "":
		case skip > 0:
			skip--
		default:
			real, err := sh.operand(a, !tool.keepLinks, p, dir)
			if err != nil {
				return nil, err
			}
			args[i] = real
		}
	}
	return args, nil
}

func (sh shell) operand(name string, follow bool, p process, dir string) (string, error) {
	if name == "-" {
		return name, nil
	}
	real, err := sh.view.resolve(p.dir, name, follow)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(name) && filepath.Join(dir, name) == real {
		return name, nil
	}
	return real, nil
}
