package vm_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/sim/vm"
	"github.com/livecd-sync/livecd-sync/internal/sim/vm/vmtest"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// dirOfMachine makes this program a parent that is to be killed.
const dirOfMachine = "VM_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dirOfMachine); dir != "" {
		parent(dir)
	}
	goleak.VerifyTestMain(m)
}

// shelf is a web server with images, as the site's.
type shelf struct {
	*httptest.Server
	ranges, whole atomic.Int64 // requests for pieces, and for all of an image
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	var image bytes.Buffer
	if err := vmtest.CD(&image, "TINY-1", "cd", time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	s := &shelf{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/iso/tiny.iso":
			http.NotFound(w, r)
			return
		case r.Header.Get("Range") != "":
			s.ranges.Add(1)
		case r.Method == http.MethodGet:
			s.whole.Add(1)
		}
		http.ServeContent(w, r, "tiny.iso", time.Time{}, bytes.NewReader(image.Bytes()))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *shelf) image() string { return s.URL + "/iso/tiny.iso" }

// newMachine makes a machine whose disk boots.
func newMachine(t *testing.T) *vm.Machine {
	t.Helper()
	dir := t.TempDir()
	if err := vmtest.Disk(filepath.Join(dir, "disk.img"), "disk"); err != nil {
		t.Fatal(err)
	}
	m, err := vm.New(t.Context(), config(dir, freePort(t)))
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func config(dir string, ssh netip.AddrPort) vm.Config {
	return vm.Config{Name: "tiny", Dir: filepath.Join(dir, "m"), Disk: filepath.Join(dir, "disk.img"), SSH: ssh, MemoryMiB: 64, CPUs: 1}
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

// screen reads a machine's console.
type screen struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func watch(t *testing.T, m *vm.Machine) *screen {
	t.Helper()
	conn, err := net.Dial("unix", m.Console().Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return &screen{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// sees reads on until the text has come.
func (s *screen) sees(text string) {
	s.t.Helper()
	var seen []byte
	for !bytes.HasSuffix(seen, []byte(text)) {
		b, err := s.in.ReadByte()
		if err != nil {
			s.t.Fatalf("the console shows %q and not %q: %v", seen, text, err)
		}
		seen = append(seen, b)
	}
}

func (s *screen) types(text string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func start(t *testing.T, m *vm.Machine, b vm.Boot) *vm.Run {
	t.Helper()
	r, err := m.Start(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("in vain: %s", what)
	}
}

func TestBootsWhatItIsToldTo(t *testing.T) {
	s := newShelf(t)
	for name, c := range map[string]struct {
		boot     vm.Boot
		fromCD   bool
		cdFailed bool
	}{
		"the CD":                          {vm.Boot{CD: s.image(), FromCD: true}, true, false},
		"the disk, with a CD in":          {vm.Boot{CD: s.image()}, false, false},
		"the disk, there being no CD":     {vm.Boot{FromCD: true}, false, false},
		"the disk, the CD being unusable": {vm.Boot{CD: s.URL + "/iso/none.iso", FromCD: true}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			r := start(t, m, c.boot)
			await(t, "a login prompt", r.Prompted())
			n, err := r.Reads(t.Context())
			if err != nil || c.boot.FromCD && (n.CD > n.Disk) != c.fromCD || n.CD+n.Disk == 0 {
				t.Errorf("the guest read %+v, %v", n, err)
			}
			if failed := r.CDError() != nil; failed != c.cdFailed {
				t.Errorf("CDError = %v", r.CDError())
			}
			r.Kill()
			shown, err := os.ReadFile(filepath.Join(filepath.Dir(m.Console().Path()), "console.log"))
			if want := map[bool]string{true: "cd login:", false: "disk login:"}[c.fromCD]; err != nil || !strings.Contains(string(shown), want) {
				t.Errorf("the console showed %q, %v", shown, err)
			}
		})
	}
	if s.whole.Load() != 0 || s.ranges.Load() == 0 {
		t.Errorf("%d requests for a whole image, %d for pieces", s.whole.Load(), s.ranges.Load())
	}
}

func TestConsoleOutlivesThePower(t *testing.T) {
	m := newMachine(t)
	one, other := watch(t, m), watch(t, m)
	for range 2 {
		r := start(t, m, vm.Boot{})
		one.sees("disk login: ")
		other.sees("disk login: ")
		one.types("hello")
		one.sees("hello")
		other.sees("hello")
		r.Kill()
		if r.End() != vm.EndPower {
			t.Errorf("End = %v", r.End())
		}
	}
}

func TestGuestEndsItself(t *testing.T) {
	for key, want := range map[string]vm.End{"p": vm.EndShutdown, "r": vm.EndReset} {
		m := newMachine(t)
		s := watch(t, m)
		r := start(t, m, vm.Boot{})
		s.sees("disk login: ")
		s.types(key)
		await(t, "the machine's end", r.Done())
		if r.End() != want || r.Err() != nil {
			t.Errorf("sent %q it ended with %v, %v", key, r.End(), r.Err())
		}
		if err := r.PressPowerButton(t.Context()); err == nil {
			t.Error("there is a power button on a machine that is gone")
		}
		r.Kill() // does nothing, and returns
	}
}

func TestPowerButton(t *testing.T) {
	m := newMachine(t)
	r := start(t, m, vm.Boot{})
	await(t, "a login prompt", r.Prompted())
	if err := r.PressPowerButton(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "the machine's end", r.Done())
	if r.End() != vm.EndShutdown {
		t.Errorf("End = %v", r.End())
	}
}

func TestSetCD(t *testing.T) {
	s := newShelf(t)
	m := newMachine(t)
	r := start(t, m, vm.Boot{})
	for _, cd := range []string{s.image(), s.image() + "?other", "", s.image(), ""} {
		if err := r.SetCD(t.Context(), cd); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetCD(t.Context(), s.URL+"/iso/none.iso"); err == nil {
		t.Error("an image that is not there was put in")
	}
	if err := r.SetCD(t.Context(), s.image()); err != nil {
		t.Errorf("after an image that could not be read: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	m := newMachine(t)
	r := start(t, m, vm.Boot{})
	if _, err := m.Start(t.Context(), vm.Boot{}); err == nil {
		t.Error("a machine that is on was switched on")
	}
	r.Kill()

	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := config(dir, netip.MustParseAddrPort(taken.Addr().String()))
	c.Disk = ""
	other, err := vm.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if _, err := other.Start(t.Context(), vm.Boot{}); err == nil || !strings.Contains(err.Error(), "forward") {
		t.Errorf("with its ssh port taken: %v", err)
	}
	c.Disk = filepath.Join(dir, "none.img")
	if _, err := vm.New(t.Context(), c); err == nil {
		t.Error("a disk that is not there was used")
	}
	c.Disk, c.Dir = "", filepath.Join(dir, strings.Repeat("long", 30))
	if _, err := vm.New(t.Context(), c); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("with a name that no socket can have: %v", err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	m := newMachine(t)
	r := start(t, m, vm.Boot{})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the machine's end", r.Done())
	if _, err := os.Stat(m.Console().Path()); !os.IsNotExist(err) {
		t.Errorf("the console's socket: %v", err)
	}
}

// parent starts a machine, says so, and waits to be killed.
func parent(dir string) {
	m, err := vm.New(context.Background(), config(dir, netip.MustParseAddrPort(os.Getenv(dirOfMachine+"_SSH"))))
	if err == nil {
		_, err = m.Start(context.Background(), vm.Boot{})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

// TestKilledHard: a program that is killed takes its machines along, and can be
// started again.
func TestKilledHard(t *testing.T) {
	newMachine(t) // or it cannot be run here
	dir := t.TempDir()
	if err := vmtest.Disk(filepath.Join(dir, "disk.img"), "disk"); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), dirOfMachine+"="+dir, dirOfMachine+"_SSH="+freePort(t).String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("the program says %q, %v", line, err)
	}
	qemu := childOf(t, cmd.Process.Pid)
	pidfd, err := unix.PidfdOpen(qemu, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 10_000); n != 1 {
		_ = unix.Kill(qemu, unix.SIGKILL)
		t.Errorf("QEMU lives on, %v", err)
	}
	// What it left is in nobody's way.
	m, err := vm.New(t.Context(), config(dir, freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a login prompt", start(t, m, vm.Boot{}).Prompted())
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// childOf finds the one process that pid has started.
func childOf(t *testing.T, pid int) int {
	t.Helper()
	files, err := fs.Glob(os.DirFS("/proc"), fmt.Sprintf("%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join("/proc", f))
		if err != nil {
			continue
		}
		if child, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return child
		}
	}
	t.Fatalf("process %d has started nothing", pid)
	return 0
}
