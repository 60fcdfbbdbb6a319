package overlay_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// TestEncryptedBackup makes a backup where there is no private key, and has its
// stored digests compared there; with the key all of it is.
func TestEncryptedBackup(t *testing.T) {
	dir := t.TempDir()
	key, err := age.GenerateX25519Identity()
	must(t, err)
	open := func(private string) overlay.Store {
		s, err := store.Open(site.Store{
			Name: "test", URL: "file://" + dir,
			Age: &site.Age{Recipients: []string{key.Recipient().String()}, Identity: site.SecretRef{Env: "KEY"}},
		}, store.Config{Secret: func(context.Context, site.SecretRef) (bmc.Secret, error) { return bmc.Secret(private), nil }})
		must(t, err)
		return s
	}
	without, with := open(""), open(key.String())
	m, err := overlay.Backup(t.Context(), sends(pack(t, 300_000), "", nil), without, request(overlay.PurposeReset))
	must(t, err)
	for name, check := range map[string]func(context.Context, overlay.Store, string, string) (overlay.Manifest, error){"Check": overlay.Check, "Verify": overlay.Verify} {
		_, err := check(t.Context(), with, "n1", m.ID)
		if err != nil {
			t.Errorf("%s with the key: %v", name, err)
		}
	}
	if _, err = overlay.Verify(t.Context(), without, "n1", m.ID); err != nil {
		t.Errorf("Verify without the key: %v", err)
	}
	if _, err = overlay.Check(t.Context(), without, "n1", m.ID); !errors.Is(err, overlay.ErrNoKey) {
		t.Errorf("Check without the key: %v", err)
	}
	sums := exec.Command("sha256sum", "-c", "--quiet", overlay.SumsFile)
	sums.Dir = filepath.Join(dir, "n1", m.ID)
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(sums.Dir, overlay.RestoreFile))
	must(t, err)
	if !strings.HasPrefix(string(text), "This backup is encrypted") {
		t.Errorf("%s begins with %.80q", overlay.RestoreFile, text)
	}

	name := filepath.Join(sums.Dir, overlay.ArchiveFile+overlay.AgeSuffix)
	whole, err := os.ReadFile(name)
	must(t, err)
	for at := 0; at < len(whole); at += 1 + len(whole)/50 {
		whole[at] ^= 1
		must(t, os.WriteFile(name, whole, 0o600))
		_, err1 := overlay.Verify(t.Context(), with, "n1", m.ID)
		_, err2 := overlay.Verify(t.Context(), without, "n1", m.ID)
		_, err3 := overlay.Check(t.Context(), with, "n1", m.ID)
		if err1 == nil || err2 == nil || err3 == nil {
			t.Errorf("a bit of byte %d: %v, %v, %v", at, err1, err2, err3)
		}
		whole[at] ^= 1
	}
}
