package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store/storetest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// writer is the environment variable that makes this program a writer: it backs
// a node up once, as its other variables say.
const writer = "LIVECD_SYNC_TEST_WRITER"

func TestMain(m *testing.M) {
	switch os.Getenv(writer) {
	case "file":
		dieAtStep()
	case "sftp":
		writeOverSFTP()
	case "s3":
		writeToS3()
	default:
		// x/crypto/ssh may leave one behind when a connection is cut, see sshremote.
		goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("golang.org/x/crypto/ssh.(*mux).openChannel"))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, bmc.HintOf(err))
	}
}

// opened is a store that the test closes.
func opened(t *testing.T, s site.Store, c store.Config) store.Store {
	t.Helper()
	opened, err := store.Open(s, c)
	must(t, err)
	t.Cleanup(func() { must(t, opened.Close()) })
	return opened
}

// directoryPlace is a store in a directory of this machine, whoever serves it.
func directoryPlace(dir string) storetest.Place {
	return storetest.Place{
		Files: func(t *testing.T) []string {
			t.Helper()
			var names []string
			must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					names = append(names, strings.TrimPrefix(name, dir+"/"))
				}
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				return err
			}))
			return names
		},
		Put: func(t *testing.T, name, data string) {
			t.Helper()
			name = filepath.Join(dir, name)
			must(t, os.MkdirAll(filepath.Dir(name), 0o700))
			must(t, os.WriteFile(name, []byte(data), 0o600))
		},
	}
}

// small is a directory on a file system of its own, and what fills that; nil
// where nothing can be mounted.
func small(t *testing.T, megabytes int) (dir string, fill func(*testing.T)) {
	t.Helper()
	dir = t.TempDir()
	if os.Geteuid() != 0 || unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)) != nil {
		return dir, nil
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir, func(t *testing.T) {
		t.Helper()
		err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, (megabytes+1)<<20), 0o600)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("it could not be filled: %v", err)
		}
	}
}

func TestFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place {
		dir, fill := small(t, 4)
		p := directoryPlace(filepath.Join(dir, "made", "by the store"))
		p.Open = func(t *testing.T, name string) overlay.Store {
			t.Helper()
			url := "file://" + strings.ReplaceAll(filepath.Join(dir, "made", "by the store"), " ", "%20")
			return opened(t, site.Store{Name: "s", URL: url}, store.Config{Site: name})
		}
		p.Half, p.Locked, p.Fill = ".new-20260101T000000Z", ".lock", fill
		if fill != nil {
			p.Refuse = func(t *testing.T) {
				t.Helper()
				must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
			}
		}
		return p
	})
}

// again runs this program as a writer.
func again(t *testing.T, kind string, vars ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), writer+"="+kind), vars...)
	cmd.Stderr = os.Stderr
	return cmd
}

// die ends this process as kill -9 does.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func dieAtStep() {
	last, _ := strconv.Atoi(os.Getenv("AT"))
	s, err := store.Open(site.Store{URL: os.Getenv("URL")}, store.Config{Site: "lab"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	step := 0
	store.Before(s, func() {
		if step++; step == last {
			die()
		}
	})
	if _, err := storetest.Publish(context.Background(), s, "lab", "n1", storetest.At); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestFileKilled kills a writer at each of its steps.
func TestFileKilled(t *testing.T) {
	for at := 1; ; at++ {
		dir := t.TempDir()
		place := site.Store{Name: "s", URL: "file://" + dir}
		err := again(t, "file", "URL="+place.URL, fmt.Sprint("AT=", at)).Run()
		s := opened(t, place, store.Config{Site: "lab"})
		storetest.Whole(t, s, "n1")
		before := storetest.IDs(t, s, "n1")
		if _, err := storetest.Publish(t.Context(), s, "lab", "n1", storetest.At); err != nil {
			t.Errorf("killed at step %d: %v", at, err)
		}
		if got := storetest.IDs(t, s, "n1"); len(got) != len(before)+1 {
			t.Errorf("killed at step %d: listed %q", at, got)
		}
		entries, readErr := os.ReadDir(filepath.Join(dir, "n1"))
		must(t, readErr)
		if len(entries) != len(before)+2 { // and the lock
			t.Errorf("killed at step %d, there is %v", at, entries)
		}
		if err == nil {
			if at < 12 {
				t.Errorf("only %d steps", at)
			}
			return
		}
	}
}

func TestLinksCannotEscape(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	s := opened(t, site.Store{URL: "file://" + dir}, store.Config{})
	must(t, os.Mkdir(filepath.Join(dir, "n1"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, overlay.ManifestFile), []byte("{}"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "n1", "20300101T000000Z")))
	must(t, os.Symlink(outside, filepath.Join(dir, "n3")))
	if _, err := s.Get(t.Context(), "n1", "20300101T000000Z"); err == nil {
		t.Error("a link led out of the store")
	}
	if _, err := s.Create(t.Context(), "n3", storetest.At); err == nil {
		t.Error("a link of a node led out of the store")
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"ftp://host/a", "/var/backups", "file://host/var", "file:relative", "", "file://", "sftp://host", "sftp:///path", "%"} {
		if _, err := store.Open(site.Store{Name: "s", URL: url}, store.Config{}); bmc.KindOf(err) != bmc.KindUnsupported {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	_, err := opened(t, site.Store{URL: "file://" + file}, store.Config{}).Create(t.Context(), "n1", storetest.At)
	if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" {
		t.Errorf("a file for a store: %v", err)
	}
	if os.Geteuid() == 0 {
		return // may write anywhere; see the suite for a read-only mount
	}
	must(t, os.Chmod(dir, 0o500))
	_, err = opened(t, site.Store{URL: "file://" + dir + "/new"}, store.Config{}).Create(t.Context(), "n1", storetest.At)
	if bmc.KindOf(err) != bmc.KindOverlay {
		t.Error(err)
	}
}
