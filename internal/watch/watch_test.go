package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come. It bounds a failure; no
// test that passes waits for it.
const patience = 20 * time.Second

// quiet is the debounce of the tests with real files.
const quiet = 20 * time.Millisecond

// A watched is a Run on a real file, driven by a test.
type watched struct {
	t    *testing.T
	path string
	runs chan Reason
	errs chan error
}

// begin starts a Run on path and waits for its first run.
func begin(t *testing.T, path string) *watched {
	t.Helper()
	w := &watched{t: t, path: path, runs: make(chan Reason, 100), errs: make(chan error, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			Path:     path,
			Debounce: quiet,
			Run: func(_ context.Context, why Reason, also func([]string)) After {
				also([]string{path + ".ca"})
				w.runs <- why
				return After{}
			},
			OnError: func(err error) { w.errs <- err },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	w.expect(First)
	return w
}

func (w *watched) expect(want Reason) {
	w.t.Helper()
	select {
	case got := <-w.runs:
		if got != want {
			w.t.Fatalf("a run for the reason %q, want %q", got, want)
		}
	case <-time.After(patience):
		w.t.Fatalf("no run for the reason %q", want)
	}
}

// expectNone makes sure that nothing done so far brings a run: it makes a change
// of which a run is certain, and takes that to be the next.
func (w *watched) expectNone(certain func()) {
	w.t.Helper()
	select {
	case why := <-w.runs:
		w.t.Fatalf("a run for the reason %q, want none", why)
	case <-time.After(5 * quiet): // time enough for a wrong one to come
	}
	certain()
	w.expect(Changed)
	if len(w.runs) != 0 {
		w.t.Fatalf("two runs, want one")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inDir makes a directory with a site file, and gives the file's path.
func inDir(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "etc", "site.yaml")
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	write(t, path, "one")
	return path
}

func TestChangesOfAFile(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"written in place": func(t *testing.T, path string) { write(t, path, "two") },
		"replaced by a rename": func(t *testing.T, path string) {
			write(t, path+".tmp", "two")
			must(t, os.Rename(path+".tmp", path))
		},
		"kept as a backup and written anew": func(t *testing.T, path string) {
			must(t, os.Rename(path, path+"~"))
			write(t, path, "two")
		},
		"deleted and made again": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			write(t, path, "two")
		},
		"directory renamed and made again": func(t *testing.T, path string) {
			dir := filepath.Dir(path)
			must(t, os.Rename(dir, dir+".old"))
			must(t, os.Mkdir(dir, 0o700))
			write(t, path, "two")
		},
		"directory deleted and made again": func(t *testing.T, path string) {
			dir := filepath.Dir(path)
			must(t, os.RemoveAll(dir))
			must(t, os.Mkdir(dir, 0o700))
			write(t, path, "two")
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			path := inDir(t)
			w := begin(t, path)
			change(t, path)
			w.expect(Changed)
			write(t, path, "three") // and it is still watched
			w.expect(Changed)
		})
	}
}

func TestWhatIsNoChange(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"touched":           func(t *testing.T, path string) { must(t, os.Chtimes(path, time.Time{}, time.Unix(1e9, 0))) },
		"written as it was": func(t *testing.T, path string) { write(t, path, "one") },
		"a neighbour":       func(t *testing.T, path string) { write(t, path+".swp", "two") },
		"deleted":           func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"made unreadable": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o700))
			must(t, os.Remove(path))
		},
		"its directory moved": func(t *testing.T, path string) { must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+"2")) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			path := inDir(t)
			w := begin(t, path)
			change(t, path)
			w.expectNone(func() {
				must(t, os.MkdirAll(filepath.Dir(path), 0o700))
				write(t, path, "certain")
			})
		})
	}
}

// A file that was gone is looked at when it is back, whatever it says: that it was
// gone has been told.
func TestDeletedAndRestored(t *testing.T) {
	path := inDir(t)
	w := begin(t, path)
	must(t, os.Remove(path))
	select { // the watcher has seen that it is gone
	case err := <-w.errs:
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("the missing file went unnoticed")
	}
	write(t, path, "one")
	w.expect(Changed)
	w.expectNone(func() { write(t, path, "two") })
}

func TestAFileThatComesLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "site.yaml")
	w := begin(t, path)
	must(t, os.Mkdir(filepath.Dir(filepath.Dir(path)), 0o700))
	must(t, os.Mkdir(filepath.Dir(path), 0o700))
	write(t, path, "one")
	w.expect(Changed)
}

// Kubernetes mounts a ConfigMap as site.yaml -> ..data/site.yaml, ..data ->
// ..2026_1, and swaps the second link.
func TestLinksSwappedAsKubernetesDoes(t *testing.T) {
	dir := t.TempDir()
	version := func(name, content string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		write(t, filepath.Join(dir, name, "site.yaml"), content)
		must(t, os.Symlink(name, filepath.Join(dir, "..data_tmp")))
		must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	version("..2026_1", "one")
	path := filepath.Join(dir, "site.yaml")
	must(t, os.Symlink(filepath.Join("..data", "site.yaml"), path))

	w := begin(t, path)
	version("..2026_2", "two")
	must(t, os.RemoveAll(filepath.Join(dir, "..2026_1")))
	w.expect(Changed)
	version("..2026_3", "two")
	w.expectNone(func() { version("..2026_4", "three") })
}

func TestTheTargetOfALink(t *testing.T) {
	target, dir := inDir(t), t.TempDir()
	path := filepath.Join(dir, "link", "site.yaml")
	must(t, os.Symlink(filepath.Dir(target), filepath.Join(dir, "link")))
	w := begin(t, path)
	write(t, target, "two")
	w.expect(Changed)
	other := inDir(t)
	must(t, os.Remove(filepath.Join(dir, "link")))
	write(t, other, "three")
	must(t, os.Symlink(filepath.Dir(other), filepath.Join(dir, "link")))
	w.expect(Changed)
	write(t, target, "the old target is of no interest")
	w.expectNone(func() { write(t, other, "four") })
}

func TestLinksInACircle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.yaml")
	must(t, os.Symlink("site.yaml", path))
	w := begin(t, path)
	must(t, os.Remove(path))
	write(t, path, "one")
	w.expect(Changed)
}

// A file that the run has named is watched as the first is, wherever it lies.
func TestNamedFiles(t *testing.T) {
	path := inDir(t)
	w := begin(t, path)
	write(t, path+".ca", "a certificate")
	w.expect(Changed)
	write(t, path+".new", "another")
	must(t, os.Rename(path+".new", path+".ca"))
	w.expect(Changed)
	must(t, os.Remove(path+".ca"))
	w.expect(Changed)
	must(t, os.Mkdir(path+".ca", 0o700))
	w.expect(Changed)
}

// What is no file for a while is told, and is news when it is back.
func TestSomethingElseInItsPlace(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := inDir(t)
			w := begin(t, path)
			must(t, os.Remove(path))
			must(t, put(path))
			for err := range w.errs {
				if strings.Contains(err.Error(), "it is") {
					break
				}
			}
			must(t, os.Remove(path))
			write(t, path, "one")
			w.expect(Changed)
		})
	}
}

func TestManyChangesAreFewRuns(t *testing.T) {
	path := inDir(t)
	w := begin(t, path)
	for _, content := range []string{"two", "three", "four", "five", "six", "seven"} {
		write(t, path, content)
	}
	w.expect(Changed)
	w.expectNone(func() { write(t, path, "eight") })
}

func TestRunEndsAfterTheRunUnderWay(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	over := false
	err := Run(ctx, Config{Path: inDir(t), Run: func(ctx context.Context, _ Reason, _ func([]string)) After {
		cancel()
		<-ctx.Done()
		over = true
		return After{}
	}})
	if err != nil || !over {
		t.Errorf("Run returned %v, with the run over: %v", err, over)
	}
}
