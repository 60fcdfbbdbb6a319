package writers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("LOCK_AND_WAIT"); dir != "" { // the other process of TestDeadProcess
		if _, err := files(dir, "other").Lock(context.Background(), "n1"); err != nil {
			panic(err)
		}
		fmt.Println("held")
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

func files(dir, command string) *Files {
	return &Files{Dir: dir, Me: Me(command), Clock: bmc.SystemClock{}}
}

func look(t *testing.T, f *Files) Seen {
	t.Helper()
	seen, err := f.Look(t.Context(), []string{"n1"})
	if err != nil {
		t.Fatal(err)
	}
	return seen["n1"]
}

func lock(t *testing.T, f *Files) Lock {
	t.Helper()
	l, err := f.Lock(t.Context(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func unlock(t *testing.T, l Lock) {
	t.Helper()
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestOneHolder(t *testing.T) {
	a, b := files(t.TempDir(), "apply"), files("", "watch")
	b.Dir = a.Dir
	if s := look(t, b); s.Holder != nil || s.Mark != "" {
		t.Errorf("at first: %+v", s)
	}
	l := lock(t, a)
	if s := look(t, b); s.Holder == nil || s.Holder.Command != "apply" || s.Holder.PID != os.Getpid() || s.Holder.Since.IsZero() {
		t.Errorf("while it is held: %+v", s)
	}
	_, err := b.Lock(t.Context(), "n1")
	if h, ok := HolderOf(err); !ok || h.Command != "apply" || bmc.KindOf(err) != bmc.KindBusy || bmc.HintOf(err) == "" {
		t.Errorf("taken twice: %v", err)
	}
	other, err := b.Lock(t.Context(), "n2")
	if err != nil {
		t.Fatalf("another node: %v", err)
	}
	unlock(t, other)
	unlock(t, l)
	if s := look(t, b); s.Holder != nil {
		t.Errorf("after: %+v", s)
	}
	unlock(t, lock(t, b))
}

// A lock is fresh when nobody has had it since it was looked at.
func TestFresh(t *testing.T) {
	f := files(t.TempDir(), "apply")
	fresh := func(seen Seen) bool {
		l := lock(t, f)
		defer unlock(t, l)
		return l.Fresh(seen)
	}
	seen := look(t, f)
	if !fresh(seen) {
		t.Error("nobody ever had it")
	}
	if fresh(seen) {
		t.Error("somebody had it since")
	}
	if !fresh(look(t, f)) {
		t.Error("nobody had it since the second look")
	}
	l := lock(t, f)
	seen = look(t, f)
	unlock(t, l)
	if fresh(seen) {
		t.Error("somebody had it at the look")
	}
}

func TestDeadProcess(t *testing.T) {
	f := files(t.TempDir(), "apply")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LOCK_AND_WAIT="+f.Dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err = f.Lock(t.Context(), "n1")
	if h, ok := HolderOf(err); !ok || h.PID != cmd.Process.Pid {
		t.Errorf("while it lives: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	seen := look(t, f)
	if seen.Holder != nil {
		t.Errorf("the dead hold it: %+v", seen.Holder)
	}
	l := lock(t, f)
	if !l.Fresh(seen) {
		t.Error("it had died before the look")
	}
	unlock(t, l)
}

func TestWait(t *testing.T) {
	f := files(t.TempDir(), "apply")
	l := lock(t, f)
	waiting := files(f.Dir, "backup")
	waiting.Wait = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := waiting.Lock(ctx, "n1"); bmc.KindOf(err) != bmc.KindCancelled {
		t.Errorf("interrupted: %v", err)
	}
	got := make(chan error)
	go func() {
		l, err := waiting.Lock(context.WithoutCancel(ctx), "n1")
		if err == nil {
			err = l.Unlock()
		}
		got <- err
	}()
	unlock(t, l)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// Of many that want it at once, one has it at a time, also while others look.
func TestMany(t *testing.T) {
	dir := t.TempDir()
	var holders, most, looks atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f := files(dir, "apply")
			f.Wait = time.Minute
			for range 5 {
				l, err := f.Lock(t.Context(), "n1")
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), holders.Add(1)))
				if s := look(t, f); s.Holder == nil {
					t.Error("nobody is seen to hold it")
				}
				looks.Add(1)
				holders.Add(-1)
				if err := l.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 || looks.Load() != 40 {
		t.Errorf("%d at once, %d in all", most.Load(), looks.Load())
	}
}

func TestNoRoom(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := files(filepath.Join(file, "locks"), "apply")
	_, err := f.Lock(t.Context(), "n1")
	if err == nil || !strings.Contains(bmc.HintOf(err), f.Dir) {
		t.Errorf("%v, %q", err, bmc.HintOf(err))
	}
	if _, err := f.Look(t.Context(), []string{"n1"}); err == nil {
		t.Error("what cannot be read was taken for free")
	}
	// What somebody scribbled into it is no holder.
	f.Dir = t.TempDir()
	if err := os.WriteFile(f.path("n1"), []byte("scribble"), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock(t, lock(t, f))
	if h := (Holder{}).String(); !strings.Contains(h, "not said") {
		t.Error(h)
	}
}
