package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

var at = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)

// killed is the environment variable that makes this program a writer which is
// killed: it begins a backup in the store that it names and waits.
const killed = "LIVECD_SYNC_TEST_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killed); dir != "" {
		writeForever(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func writeForever(dir string) {
	s, err := store.Open(site.Store{URL: "file://" + dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := s.Create(context.Background(), "n1", at)
	if err != nil {
		fmt.Println(err)
		return
	}
	w, err := d.Write(overlay.ArchiveFile)
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.WriteString(w, "half an archive"); err != nil {
		fmt.Println(err)
	}
	fmt.Println("writing")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
}

func open(t *testing.T) (overlay.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "made", "by the store")
	s, err := store.Open(site.Store{Name: "s", URL: "file://" + strings.ReplaceAll(dir, " ", "%20")})
	must(t, err)
	return s, dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// publish makes a backup with nothing but a manifest and an archive of one word.
func publish(t *testing.T, s overlay.Store, node string, when time.Time, partial bool) string {
	t.Helper()
	d, err := s.Create(t.Context(), node, when)
	must(t, err)
	w, err := d.Write(overlay.ArchiveFile)
	must(t, err)
	_, err = io.WriteString(w, "archive")
	must(t, err)
	must(t, w.Close())
	must(t, d.Publish(overlay.Manifest{Version: overlay.ManifestVersion, ID: d.ID(), Node: node, CreatedAt: when, Partial: partial, Portable: true}))
	return d.ID()
}

func ids(t *testing.T, s overlay.Store, node string) []string {
	t.Helper()
	list, err := s.List(t.Context(), node)
	must(t, err)
	var names []string
	for _, m := range list {
		names = append(names, m.ID)
	}
	return names
}

func TestListNewestFirst(t *testing.T) {
	s, _ := open(t)
	if got := ids(t, s, "n1"); got != nil {
		t.Errorf("an empty store lists %q", got)
	}
	if _, err := overlay.Latest(t.Context(), s, "n1"); !errors.Is(err, overlay.ErrNoBackup) {
		t.Error(err)
	}
	for range 11 {
		publish(t, s, "n1", at, false)
	}
	publish(t, s, "n1", at.Add(-time.Hour), false)
	newest := publish(t, s, "n1", at.Add(time.Second), true)
	got := ids(t, s, "n1")
	want := []string{"20261123T050001Z", "20261123T050000Z-11", "20261123T050000Z-10", "20261123T050000Z-9"}
	if len(got) != 13 || !slices.Equal(got[:4], want) || got[0] != newest || got[12] != "20261123T040000Z" {
		t.Errorf("got %q", got)
	}
	latest, err := overlay.Latest(t.Context(), s, "n1")
	must(t, err)
	if latest.ID != want[1] {
		t.Errorf("the newest that is not partial is %q", latest.ID)
	}
	if got := ids(t, s, "n2"); got != nil {
		t.Errorf("another node's backups: %q", got)
	}
}

func TestDraftsAreHidden(t *testing.T) {
	s, dir := open(t)
	d, err := s.Create(t.Context(), "n1", at)
	must(t, err)
	w, err := d.Write(overlay.ArchiveFile)
	must(t, err)
	_, err = io.WriteString(w, "half")
	must(t, err)
	must(t, w.Close())
	if got := ids(t, s, "n1"); got != nil {
		t.Errorf("a draft is listed: %q", got)
	}
	if _, err := s.Create(t.Context(), "n1", at); bmc.KindOf(err) != bmc.KindBusy {
		t.Errorf("a second writer: %v", err)
	}
	must(t, d.Discard())
	must(t, d.Discard())
	entries, err := os.ReadDir(filepath.Join(dir, "n1"))
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != ".lock" {
		t.Errorf("left behind: %v", entries)
	}
	publish(t, s, "n1", at, false)
}

// TestKilledWriter kills a process that writes a backup: nothing of it is
// listed, and the next backup takes its place and cleans up.
func TestKilledWriter(t *testing.T) {
	s, dir := open(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killed+"="+strings.ReplaceAll(dir, " ", "%20"))
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line != "writing\n" {
		t.Fatalf("the writer said %q: %v", line, err)
	}
	if _, err := s.Create(t.Context(), "n1", at); bmc.KindOf(err) != bmc.KindBusy {
		t.Errorf("while it lives: %v", err)
	}
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("the writer was not killed")
	}
	if got := ids(t, s, "n1"); got != nil {
		t.Errorf("listed: %q", got)
	}
	id := publish(t, s, "n1", at, false)
	entries, err := os.ReadDir(filepath.Join(dir, "n1"))
	must(t, err)
	if len(entries) != 2 || entries[1].Name() != id {
		t.Errorf("left behind: %v", entries)
	}
}

func TestNamesCannotEscape(t *testing.T) {
	s, dir := open(t)
	publish(t, s, "n1", at, false)
	for _, node := range []string{"", ".", "..", "../n1", "a/b", "/etc", ".hidden", "-rf", "a\x00b", "n1\n", strings.Repeat("n", 254)} {
		_, err := s.Create(t.Context(), node, at)
		_, err2 := s.List(t.Context(), node)
		err3 := s.SetReboot(t.Context(), node, overlay.Reboot{})
		if err == nil || err2 == nil || err3 == nil {
			t.Errorf("node %q: %v, %v, %v", node, err, err2, err3)
		}
	}
	for _, id := range []string{"", ".", "..", "../n1/20261123T050000Z", ".lock", "reboot.json", "20261123T050000Z/..", "20261123T050000Z-x", "20261123T050000Z-00001"} {
		_, err := s.Open(t.Context(), "n1", id, overlay.ArchiveFile)
		err2 := s.Delete(t.Context(), "n1", id)
		if !errors.Is(err, overlay.ErrNoBackup) || !errors.Is(err2, overlay.ErrNoBackup) {
			t.Errorf("ID %q: %v, %v", id, err, err2)
		}
	}
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, overlay.ManifestFile), []byte("{}"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "n1", "20300101T000000Z")))
	must(t, os.Symlink(outside, filepath.Join(dir, "n3")))
	if _, err := s.Get(t.Context(), "n1", "20300101T000000Z"); err == nil {
		t.Error("a link led out of the store")
	}
	if _, err := s.Create(t.Context(), "n3", at); err == nil {
		t.Error("a link of a node led out of the store")
	}
}

func TestPrune(t *testing.T) {
	s, _ := open(t)
	whole := publish(t, s, "n1", at, false)
	pending := publish(t, s, "n1", at.Add(time.Minute), true)
	for i := 2; i < 6; i++ {
		publish(t, s, "n1", at.Add(time.Duration(i)*time.Minute), true)
	}
	must(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{Restore: pending}))
	deleted, err := overlay.Prune(t.Context(), s, "n1", 2)
	must(t, err)
	if want := []string{"20261123T050200Z", "20261123T050300Z"}; !slices.Equal(deleted, want) {
		t.Errorf("deleted %q", deleted)
	}
	must(t, s.ClearReboot(t.Context(), "n1"))
	_, err = overlay.Prune(t.Context(), s, "n1", 0, pending)
	must(t, err)
	if got := ids(t, s, "n1"); !slices.Equal(got, []string{pending, whole}) {
		t.Errorf("the one that is needed was not spared: %q", got)
	}
	_, err = overlay.Prune(t.Context(), s, "n1", 0)
	must(t, err)
	if got := ids(t, s, "n1"); !slices.Equal(got, []string{whole}) {
		t.Errorf("left: %q", got)
	}
	must(t, s.Delete(t.Context(), "n1", whole))
	if got := ids(t, s, "n1"); got != nil {
		t.Errorf("left: %q", got)
	}
}

func TestReboot(t *testing.T) {
	s, dir := open(t)
	ctx := t.Context()
	must(t, s.ClearReboot(ctx, "n1"))
	if _, ok, err := s.Reboot(ctx, "n1"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
	want := overlay.Reboot{At: at, BootID: "b", Image: "i", Backup: "20261123T050000Z", Restore: "20261123T050000Z"}
	must(t, s.SetReboot(ctx, "n1", want))
	must(t, s.SetReboot(ctx, "n1", want))
	want.Version = overlay.RebootVersion
	if got, ok, err := s.Reboot(ctx, "n1"); got != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
	if got := ids(t, s, "n1"); got != nil {
		t.Errorf("the note is listed as a backup: %q", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "n1", "reboot.json"), []byte("{"), 0o600))
	if _, _, err := s.Reboot(ctx, "n1"); err == nil {
		t.Error("a damaged note was taken for none")
	}
	must(t, s.ClearReboot(ctx, "n1"))
	if _, ok, err := s.Reboot(ctx, "n1"); ok || err != nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"s3://bucket", "/var/backups", "file://host/var", "file:relative", "", "file://"} {
		if _, err := store.Open(site.Store{Name: "s", URL: url}); bmc.KindOf(err) != bmc.KindUnsupported {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestReadOnlyStore(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	s, err := store.Open(site.Store{URL: "file://" + file})
	must(t, err)
	_, err = s.Create(t.Context(), "n1", at)
	if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" {
		t.Errorf("a file for a store: %v", err)
	}
	if os.Geteuid() == 0 {
		return // may write anywhere; see the overlay package for a read-only mount
	}
	must(t, os.Chmod(dir, 0o500))
	s, err = store.Open(site.Store{URL: "file://" + dir + "/new"})
	must(t, err)
	if _, err = s.Create(t.Context(), "n1", at); bmc.KindOf(err) != bmc.KindOverlay {
		t.Error(err)
	}
}
