package sim

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/interp"
)

// simulated has the commands that are made up here: those that look at or change
// what a node has and this machine must not, and those that run another command.
// It is no variable because the commands call each other through it.
func simulated() map[string]func(shell, context.Context, process) int {
	return map[string]func(shell, context.Context, process) int{
		"cat": shell.cat, "chroot": shell.chroot, "hostname": shell.hostname, "id": shell.id,
		"mount": shell.mount, "umount": shell.umount, "unshare": shell.unshare,
		"uname": shell.uname, "sh": shell.sh, "sync": shell.sync, "which": shell.which,
		"xargs": shell.xargs, "nice": shell.polite, "ionice": shell.polite, "nohup": shell.polite,
	}
}

// command runs any command that a node has and returns its exit status.
func (sh shell) command(ctx context.Context, p process) int {
	name := p.args[0]
	if simulate, ok := simulated()[base(name)]; ok {
		return simulate(sh, ctx, p)
	}
	if interp.IsBuiltin(name) { // reached through another command: unshare -m true
		var words []string
		for _, a := range p.args {
			words = append(words, quoted(a))
		}
		return sh.script(ctx, strings.NewReader(strings.Join(words, " ")), "sh", nil, p)
	}
	if tool, ok := hostTools[base(name)]; ok {
		return sh.host(ctx, tool, p)
	}
	fmt.Fprintf(p.err, "sh: %s: not found (a simulated node has only few commands)\n", name)
	return statusNotFound
}

// base takes the directory off an absolute name: /usr/bin/tar is tar.
func base(name string) string {
	for _, dir := range []string{"/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"} {
		if rest, ok := strings.CutPrefix(name, dir); ok {
			return rest
		}
	}
	return name
}

func (p process) fail(status int, format string, args ...any) int {
	fmt.Fprintf(p.err, base(p.args[0])+": "+format+"\n", args...)
	return status
}

// with is the process for another command.
func (p process) with(args []string) process {
	p.args = args
	return p
}

func (sh shell) cat(_ context.Context, p process) int {
	names := p.args[1:]
	if len(names) == 0 {
		names = []string{"-"}
	}
	status := 0
	for _, name := range names {
		if err := sh.copyOut(name, p); err != nil {
			status = p.fail(1, "%v", err)
		}
	}
	return status
}

func (sh shell) copyOut(name string, p process) error {
	if name == "-" {
		if p.in == nil {
			return nil
		}
		_, err := io.Copy(p.out, p.in)
		return err
	}
	if name == "/proc/uptime" {
		_, err := fmt.Fprintf(p.out, "%.2f 0.00\n", time.Since(sh.system.booted).Seconds())
		return err
	}
	real, err := sh.view.resolve(p.dir, name, true)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(real, os.O_RDONLY|openFlags, 0)
	if err != nil {
		return virtual(err, name)
	}
	defer func() { _ = f.Close() }() // only read
	_, err = io.Copy(p.out, f)
	return virtual(err, name)
}

// seeing is the shell of a process with another view of the node.
func (sh shell) seeing(v *view) shell {
	other := sh
	other.view = v
	return other
}

// chroot runs a command whose root is a directory of the node. What is mounted
// below it is not seen, as with a bind mount that is not recursive.
func (sh shell) chroot(ctx context.Context, p process) int {
	if len(p.args) < 3 || strings.HasPrefix(p.args[1], "-") {
		return p.fail(125, "usage in a simulated node: chroot DIRECTORY COMMAND [ARGUMENT]…")
	}
	v, err := sh.view.chroot(p.args[1])
	if err != nil {
		return p.fail(125, "%v", err)
	}
	p.dir = "/"
	return sh.seeing(v).command(ctx, p.with(p.args[2:]))
}

func (sh shell) hostname(_ context.Context, p process) int {
	fmt.Fprintln(p.out, sh.system.node)
	return 0
}

// id tells of root, whoever runs the simulation.
func (sh shell) id(_ context.Context, p process) int {
	switch strings.Join(p.args[1:], " ") {
	case "":
		fmt.Fprintln(p.out, "uid=0(root) gid=0(root) groups=0(root)")
	case "-u", "-g", "-G":
		fmt.Fprintln(p.out, 0)
	case "-un", "-gn", "-u -n", "-g -n":
		fmt.Fprintln(p.out, "root")
	default:
		return p.fail(1, "usage in a simulated node: id [-u|-g|-G] [-n]")
	}
	return 0
}

// mount makes bind mounts, and remounts without any effect.
func (sh shell) mount(ctx context.Context, p process) int {
	args := strings.Join(p.args[1:], " ")
	rest, isBind := strings.CutPrefix(args, "--bind ")
	if !isBind {
		rest, isBind = strings.CutPrefix(args, "-o bind ")
	}
	switch names := strings.Fields(rest); {
	case args == "":
		return sh.command(ctx, p.with([]string{"cat", "/proc/self/mountinfo"}))
	case strings.HasPrefix(args, "-o remount"):
		return 0
	case isBind && len(names) == 2:
		if err := sh.view.bind(names[0], names[1]); err != nil {
			return p.fail(32, "%v", err)
		}
		return 0
	}
	return p.fail(1, "a simulated node knows mount --bind and mount -o remount only")
}

func (sh shell) umount(_ context.Context, p process) int {
	status := 0
	for _, name := range p.args[1:] {
		if strings.HasPrefix(name, "-") {
			continue
		}
		if err := sh.view.unbind(name); err != nil {
			status = p.fail(32, "%v", err)
		}
	}
	return status
}

// unshare gives the command mounts of its own.
func (sh shell) unshare(ctx context.Context, p process) int {
	args := p.args[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		args = args[1:]
	}
	if len(args) == 0 {
		return p.fail(1, "a simulated node needs to be told the command")
	}
	return sh.seeing(sh.view.clone()).command(ctx, p.with(args))
}

func (sh shell) uname(_ context.Context, p process) int {
	values := map[string]string{
		"": "Linux", "-s": "Linux", "-n": sh.system.node, "-r": kernelRelease, "-m": "x86_64",
		"-a": "Linux " + sh.system.node + " " + kernelRelease + " x86_64 GNU/Linux",
	}
	v, ok := values[strings.Join(p.args[1:], " ")]
	if !ok {
		return p.fail(1, "usage in a simulated node: uname [-s|-n|-r|-m|-a]")
	}
	fmt.Fprintln(p.out, v)
	return 0
}

// sh runs another script: sh -c SCRIPT [NAME [ARGUMENT]…], sh -s [ARGUMENT]…,
// sh FILE [ARGUMENT]… or sh with the script on its standard input.
func (sh shell) sh(ctx context.Context, p process) int {
	args := p.args[1:]
	switch {
	case len(args) == 0 || args[0] == "-s":
		if p.in == nil {
			return 0
		}
		var params []string
		if len(args) > 1 {
			params = args[1:]
		}
		return sh.script(ctx, p.in, "sh", params, p)
	case args[0] == "-c" && len(args) > 1:
		name, params := "sh", []string(nil)
		if len(args) > 2 {
			name, params = args[2], args[3:]
		}
		return sh.script(ctx, strings.NewReader(args[1]), name, params, p)
	case strings.HasPrefix(args[0], "-"):
		return p.fail(statusUsage, "a simulated node knows sh -c and sh -s only")
	}
	var source bytes.Buffer
	reader := p
	reader.out = &source
	if err := sh.copyOut(args[0], reader); err != nil {
		return p.fail(statusNotFound, "%v", err)
	}
	return sh.script(ctx, &source, args[0], args[1:], p)
}

func (sh shell) sync(context.Context, process) int { return 0 }

func (sh shell) which(_ context.Context, p process) int {
	status := 0
	for _, name := range p.args[1:] {
		if !known(name) {
			status = 1
			continue
		}
		fmt.Fprintln(p.out, "/usr/bin/"+base(name))
	}
	return status
}

// polite runs a command as nice, ionice and nohup do, without the politeness.
func (sh shell) polite(ctx context.Context, p process) int {
	args := p.args[1:]
	for len(args) > 1 && strings.HasPrefix(args[0], "-") {
		if _, err := strconv.Atoi(args[1]); err == nil && len(args[0]) == 2 {
			args = args[1:] // the option's value
		}
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(p.out, 0)
		return 0
	}
	return sh.command(ctx, p.with(args))
}

// xargsBatch bounds a command that has no -n.
const xargsBatch = 2000

// xargs is simulated so that names which come by its standard input are looked
// up in the node too.
func (sh shell) xargs(ctx context.Context, p process) int {
	x := xargs{max: xargsBatch, split: bufio.ScanWords}
	if err := x.parse(p.args[1:]); err != nil {
		return p.fail(1, "%v", err)
	}
	if p.in == nil {
		return 0
	}
	input := bufio.NewScanner(p.in)
	input.Buffer(nil, 1<<20)
	input.Split(x.split)
	p.in = nil
	status, ran := 0, false
	for more := true; more && status < 124; {
		var batch []string
		for len(batch) < x.max {
			if more = input.Scan(); !more {
				break
			}
			batch = append(batch, input.Text())
		}
		if len(batch) == 0 && (ran || x.skipEmpty) {
			break
		}
		ran = true
		status = max(status, xargsStatus(sh.command(ctx, p.with(append(append([]string(nil), x.command...), batch...)))))
	}
	return status
}

// xargsStatus is what xargs makes of a command's exit status.
func xargsStatus(status int) int {
	switch {
	case status == 0 || status >= 126:
		return status
	case status == 255:
		return 124
	}
	return 123
}

type xargs struct {
	command   []string
	max       int
	split     bufio.SplitFunc
	skipEmpty bool
}

func (x *xargs) parse(args []string) error {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		flag := args[0]
		args = args[1:]
		switch flag {
		case "-0", "--null":
			x.split = scanNUL
		case "-r", "--no-run-if-empty":
			x.skipEmpty = true
		case "-n":
			if len(args) == 0 {
				return fmt.Errorf("-n needs a number")
			}
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 1 {
				return fmt.Errorf("-n %s is not a number of arguments", args[0])
			}
			x.max, args = n, args[1:]
		default:
			return fmt.Errorf("a simulated node knows -0, -r and -n only, not %s", flag)
		}
	}
	if x.command = args; len(args) == 0 {
		x.command = []string{"echo"}
	}
	return nil
}

func scanNUL(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
