package nodeside_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay/nodeside"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is what "uname -m" says here.
func machine(t *testing.T) string {
	t.Helper()
	m := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if _, err := nodeside.Program(m); err != nil {
		testenv.Unable(t, err.Error()+": "+bmc.HintOf(err))
	}
	return m
}

// applets makes a directory with the applets of busybox that are given.
func applets(t *testing.T, names ...string) (dir, busybox string) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	dir = t.TempDir()
	for _, name := range names {
		must(t, os.Symlink(busybox, filepath.Join(dir, name)))
	}
	return dir, busybox
}

type answer struct {
	out, said string
	status    int
}

// call runs a call with busybox and nothing else. before is done in a mount
// namespace of its own.
func call(t *testing.T, c nodeside.Call, before string) answer {
	t.Helper()
	path, busybox := applets(t, "sh", "uname", "mkdir", "head", "wc", "chmod", "rm")
	words := append([]string{busybox, "sh", "-c", c.Script, "livecd-sync"}, c.Args...)
	if before != "" {
		if os.Geteuid() != 0 {
			testenv.Unable(t, "mounts need root")
		}
		words = append([]string{"unshare", "-m", "--propagation", "private", "/bin/sh", "-c", before + "\nPATH=" + path + ` exec "$@"`, "sh"}, words...)
	}
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	if before == "" {
		cmd.Env = []string{"PATH=" + path}
	}
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, &out, &said
	err := cmd.Run()
	a := answer{out: out.String(), said: said.String()}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		a.status = exit.ExitCode()
	} else {
		must(t, err)
	}
	if left, _ := filepath.Glob("/*/" + c.Args[0]); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	return a
}

func push(t *testing.T, stdin io.Reader, args ...string) nodeside.Call {
	t.Helper()
	c, err := nodeside.Push(machine(t), stdin, args...)
	must(t, err)
	return c
}

// TestPush runs the program with nothing but busybox, whose head reads ahead.
func TestPush(t *testing.T) {
	a := call(t, push(t, nil, "unnamed"), "")
	if a.status != 0 || a.said != "" || !strings.Contains(a.out, " / ") {
		t.Errorf("%+v", a)
	}
	a = call(t, push(t, nil, "nonsense"), "")
	if a.status != 64 {
		t.Errorf("%+v", a)
	}
	if err := nodeside.Explain(a.status, a.said); err != nil {
		t.Error(err)
	}
}

// TestPushReads hands the program a stdin of its own, after itself.
func TestPushReads(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	args := []string{"again", strings.TrimSpace(string(boot)), t.TempDir()}
	must(t, os.WriteFile(filepath.Join(args[2], "f"), []byte("data of f"), 0o600))
	a := call(t, push(t, strings.NewReader("./f\x00./gone\x00"), args...), "")
	if os.Geteuid() != 0 {
		if a.status != 65 {
			t.Errorf("without root: %+v", a)
		}
		return
	}
	if a.status != 0 || !strings.Contains(a.out, "data of f") || a.said != "./gone: Cannot stat: No such file or directory\n" {
		t.Errorf("%d %s", a.status, a.said)
	}
	args[1] = "another"
	if a := call(t, push(t, nil, args...), ""); a.status != 66 {
		t.Errorf("another boot: %+v", a)
	}
	args[1], args[2] = strings.TrimSpace(string(boot)), args[2]+"/none"
	if a := call(t, push(t, nil, args...), ""); a.status != 68 {
		t.Errorf("no upper dir: %+v", a)
	}
}

// TestNoexec looks for a directory that programs may be run from.
func TestNoexec(t *testing.T) {
	const noexec = "set -e; for d in %; do mount -t tmpfs -o noexec tmpfs $d; done"
	a := call(t, push(t, nil, "unnamed"), strings.ReplaceAll(noexec, "%", "/run /dev/shm"))
	if a.status != 0 || a.said != "" {
		t.Errorf("%+v", a)
	}
	// The applets are below /tmp, so that is read-only.
	a = call(t, push(t, nil, "unnamed"), strings.ReplaceAll(noexec, "%", "/run /dev/shm /var/tmp")+"; mount --bind /tmp /tmp; mount -o remount,bind,ro /tmp")
	want := "tried /run (runs no programs), /dev/shm (runs no programs), /tmp (cannot be written to), /var/tmp (runs no programs)\n"
	err := nodeside.Explain(a.status, a.said)
	if a.status != nodeside.StatusNowhere || a.said != want || bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" {
		t.Errorf("%+v: %v", a, err)
	}
}

func TestOtherMachines(t *testing.T) {
	machine(t)
	other := "aarch64"
	if runtime.GOARCH == "arm64" {
		other = "x86_64"
	}
	c, err := nodeside.Push(other, nil, "unnamed")
	must(t, err)
	a := call(t, c, "")
	if err := nodeside.Explain(a.status, a.said); !strings.Contains(a.said, "it is for "+other) || a.status != nodeside.StatusForeign || bmc.HintOf(err) == "" {
		t.Errorf("%+v: %v", a, err)
	}
	for _, m := range []string{"", "riscv64", "i686"} {
		if _, err := nodeside.Push(m, nil, "check"); bmc.KindOf(err) != bmc.KindUnsupported || bmc.HintOf(err) == "" {
			t.Errorf("%q: %v", m, err)
		}
	}
}

// TestCutWhilePushed ends stdin before the program is whole.
func TestCutWhilePushed(t *testing.T) {
	for _, n := range []int64{0, 10, 100_000, 1_000_000} {
		c := push(t, nil, "unnamed")
		c.Stdin = io.LimitReader(c.Stdin, n)
		if a := call(t, c, ""); a.status != nodeside.StatusNoRoom {
			t.Errorf("after %d bytes: %+v", n, a)
		}
	}
}

// TestNoRoom sends the program to a file system that is too small.
func TestNoRoom(t *testing.T) {
	a := call(t, push(t, nil, "unnamed"), "set -e; mount -t tmpfs -o size=1m tmpfs /run")
	if a.status != nodeside.StatusNoRoom {
		t.Errorf("%+v", a)
	}
}

// TestReproducible builds the program again and compares.
func TestReproducible(t *testing.T) {
	m := machine(t)
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "run", "./pack", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	for _, arch := range nodeside.Architectures() {
		again, err := os.ReadFile(filepath.Join(dir, nodeside.FileName(arch)))
		must(t, err)
		was, err := os.ReadFile(filepath.Join("bin", nodeside.FileName(arch)))
		must(t, err)
		if !bytes.Equal(was, again) {
			testenv.Unable(t, "the program in bin is not what the source makes: run make build")
		}
	}
	program, err := nodeside.Program(m)
	must(t, err)
	if len(program) > 3<<20 {
		t.Errorf("the program has %d bytes: it is sent for every command", len(program))
	}
}
