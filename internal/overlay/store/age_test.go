package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store/storetest"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// keys are places of secrets and what is in them.
type keys map[string]string

func (k keys) get(_ context.Context, ref site.SecretRef) (bmc.Secret, error) {
	return bmc.Secret(k[ref.Env]), nil
}

func newAgeKey(t *testing.T) (public, private string) {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	must(t, err)
	return i.Recipient().String(), i.String()
}

// sealedSite is a store in dir that encrypts to the recipients; "KEY" is its
// private key's place.
func sealedSite(dir string, recipients ...string) site.Store {
	return site.Store{
		Name: "s", URL: "file://" + dir,
		Age: &site.Age{Recipients: recipients, Identity: site.SecretRef{Env: "KEY"}},
	}
}

func TestEncrypted(t *testing.T) {
	public, private := newAgeKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	must(t, err)
	for name, key := range map[string][2]string{"X25519": {public, private}, "hybrid": {hybrid.Recipient().String(), hybrid.String()}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Place {
				dir, fill := small(t, 8)
				p := directoryPlace(dir)
				p.Open = func(t *testing.T, name string) overlay.Store {
					t.Helper()
					return opened(t, sealedSite(dir, key[0]), store.Config{Site: name, Secret: keys{"KEY": "# a comment\n" + key[1] + "\n"}.get})
				}
				p.Half, p.Locked, p.Fill = ".new-20260101T000000Z", ".lock", fill
				return p
			})
		})
	}
}

func TestEncryptedIsNotReadable(t *testing.T) {
	dir := t.TempDir()
	public, private := newAgeKey(t)
	other, otherPrivate := newAgeKey(t)
	without := opened(t, sealedSite(dir, public, other), store.Config{Site: "lab"})
	id, err := storetest.Publish(t.Context(), without, "lab", "n1", storetest.At)
	must(t, err)
	for _, name := range directoryPlace(dir).Files(t) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if strings.Contains(string(data), "overlay.tar.zst\noverlay.tar.zst\n") || strings.Contains(string(data), "deleted.lst\ndeleted.lst\n") {
			t.Errorf("%s is stored in clear", name)
		}
	}
	m, err := without.Get(t.Context(), "n1", id)
	must(t, err)
	data, err := os.ReadFile(filepath.Join(dir, "n1", id, "overlay.tar.zst.age"))
	must(t, err)
	if sum := fmt.Sprintf("%x", sha256.Sum256(data)); m.StoredSHA256 != sum || m.StoredBytes != int64(len(data)) {
		t.Errorf("%d bytes with the digest %s are stored, and the manifest has %d and %s", len(data), sum, m.StoredBytes, m.StoredSHA256)
	}

	open := func(secret string, recipients ...string) error {
		place := sealedSite(dir, recipients...)
		if recipients == nil {
			place.Age = nil
		}
		s := opened(t, place, store.Config{Site: "lab", Secret: keys{"KEY": secret}.get})
		f, err := s.Open(t.Context(), "n1", id, overlay.ArchiveFile)
		if err == nil {
			_, err = io.Copy(io.Discard, f)
			must(t, f.Close())
		}
		return err
	}
	must(t, open(private, public))
	must(t, open(otherPrivate, public))
	third, thirdPrivate := newAgeKey(t)
	for name, err := range map[string]error{
		"no key": open("", public), "no age": open(""), "another key": open(thirdPrivate, third), "no key at all": open("AGE-SECRET-KEY-1HUNTER2", public),
	} {
		if bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(bmc.HintOf(err), "stores.s.age") || !strings.Contains(bmc.HintOf(err), public) {
			t.Errorf("%s: %v (%s)", name, err, bmc.HintOf(err))
		}
		if text := fmt.Sprint(err, bmc.HintOf(err)); strings.Contains(text, "HUNTER2") || strings.Contains(text, thirdPrivate) {
			t.Errorf("%s: a secret is shown: %s", name, text)
		}
	}
	if !errors.Is(open("", public), overlay.ErrNoKey) || !errors.Is(open(""), overlay.ErrNoKey) {
		t.Error("that there is no key cannot be told")
	}
}

// TestEncryptedBesideClear: a store that begins to encrypt keeps what it has.
func TestEncryptedBesideClear(t *testing.T) {
	dir := t.TempDir()
	public, private := newAgeKey(t)
	plain := opened(t, site.Store{Name: "s", URL: "file://" + dir}, store.Config{Site: "lab"})
	_, err := storetest.Publish(t.Context(), plain, "lab", "n1", storetest.At)
	must(t, err)
	s := opened(t, sealedSite(dir, public), store.Config{Site: "lab", Secret: keys{"KEY": private}.get})
	_, err = storetest.Publish(t.Context(), s, "lab", "n1", storetest.At)
	must(t, err)
	storetest.Whole(t, s, "n1")
	if got := storetest.IDs(t, plain, "n1"); len(got) != 2 {
		t.Errorf("listed: %q", got)
	}
}

func TestRecipientsAreChecked(t *testing.T) {
	public, private := newAgeKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	must(t, err)
	for name, recipients := range map[string][]string{
		"none": {}, "a typo": {public[:len(public)-2] + public[len(public)-1:]}, "a private key": {private}, "two kinds": {public, hybrid.Recipient().String()},
	} {
		_, err := store.Open(sealedSite(t.TempDir(), recipients...), store.Config{})
		if bmc.KindOf(err) != bmc.KindUnsupported || !strings.Contains(bmc.HintOf(err), "stores.s.age.recipients") {
			t.Errorf("%s: %v (%s)", name, err, bmc.HintOf(err))
		}
		if strings.Contains(fmt.Sprint(err), private) {
			t.Errorf("%s: a secret is shown: %v", name, err)
		}
	}
}

// TestSiteFileTakesRecipients: a site file may name every kind of public key that
// a store encrypts to.
func TestSiteFileTakesRecipients(t *testing.T) {
	public, _ := newAgeKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	must(t, err)
	for _, key := range []string{public, hybrid.Recipient().String()} {
		dir := t.TempDir()
		file := filepath.Join(dir, "site.yaml")
		text := fmt.Sprintf("apiVersion: livecd-sync/v1\nsite: lab\nstores:\n  s: {url: 'file://%s', age: {recipients: [%s]}}\nnodes: {}\n", dir, key)
		must(t, os.WriteFile(file, []byte(text), 0o600))
		s, err := siteload.Load(file)
		if err != nil {
			t.Errorf("%.12s…: %v", key, err)
			continue
		}
		opened(t, s.Stores["s"], store.Config{})
	}
}
