package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// sealed is a store whose backups are encrypted to the recipients of the site
// file, if it has any, and are decrypted as they are read. It reads those that
// are not encrypted too, and says of one that it has no key to which key to
// write.
//
// Encrypted are the archive and the lists of names that were deleted or made
// anew: they tell of what is in the archive. Not encrypted are manifest.json,
// RESTORE.txt and SHA256SUMS, which have to be read without a key; the manifest
// names files that were left out, skipped or changed while they were read, and
// has digests by which whoever has the same overlay can tell that he has it.
//
// A draft is encrypted to one more key, which is made for it, never leaves
// memory and is forgotten with it: so that it can be read back, from beginning
// to end, where there is no private key.
type sealed struct {
	Store
	name       string
	recipients []string
	to         []age.Recipient
	identity   func(context.Context) (bmc.Secret, error) // gives "" when there is none
}

// readable are the files that are never encrypted.
var readable = []string{overlay.ManifestFile, overlay.RestoreFile, overlay.SumsFile}

// seal wraps a store. Its errors are of type *bmc.Error.
func seal(inner Store, s site.Store, c Config) (*sealed, error) {
	w := &sealed{Store: inner, name: s.Name, identity: func(context.Context) (bmc.Secret, error) { return "", nil }}
	if s.Age == nil {
		return w, nil
	}
	w.recipients = s.Age.Recipients
	w.identity = func(ctx context.Context) (bmc.Secret, error) { return c.Secret(ctx, s.Age.Identity) }
	var err error
	if w.to, err = age.ParseRecipients(strings.NewReader(strings.Join(w.recipients, "\n"))); err == nil {
		_, err = w.draftKey()
	}
	if err != nil {
		return nil, &bmc.Error{
			Op: "open store " + s.Name, Kind: bmc.KindUnsupported,
			Err:  fmt.Errorf("these are no recipients to encrypt to: %w", err),
			Hint: "write public keys, as age-keygen prints them, to stores." + s.Name + ".age.recipients: all of one kind, age1… or age1pq1…",
		}
	}
	return w, nil
}

// A draftKey is the key that a draft is read back with.
type draftKey struct {
	identity  age.Identity
	recipient age.Recipient
}

// draftKey makes a key of the recipients' kind, for age mixes no kinds. It fails
// when they cannot be encrypted to together.
func (s *sealed) draftKey() (draftKey, error) {
	var key draftKey
	if _, hybrid := s.to[0].(*age.HybridRecipient); hybrid {
		i, err := age.GenerateHybridIdentity()
		if err != nil {
			return key, err
		}
		key = draftKey{i, i.Recipient()}
	} else {
		i, err := age.GenerateX25519Identity()
		if err != nil {
			return key, err
		}
		key = draftKey{i, i.Recipient()}
	}
	_, err := age.Encrypt(io.Discard, append(slices.Clone(s.to), key.recipient)...)
	return key, err
}

// Open opens one file of a backup, decrypted. One that is named with its suffix
// is opened as it is stored.
func (s *sealed) Open(ctx context.Context, node, id, name string) (io.ReadCloser, error) {
	m, err := s.Get(ctx, node, id)
	if err != nil {
		return nil, err
	}
	name = path.Base(name)
	if m.Age == nil || slices.Contains(readable, name) || strings.HasSuffix(name, overlay.AgeSuffix) {
		return s.Store.Open(ctx, node, id, name)
	}
	identities, err := s.identities(ctx, m)
	if err != nil {
		return nil, err
	}
	f, err := s.Store.Open(ctx, node, id, name+overlay.AgeSuffix)
	if err != nil {
		return nil, err
	}
	return s.decrypt(f, m, identities)
}

// identities are the private keys, or why there are none.
func (s *sealed) identities(ctx context.Context, m overlay.Manifest) ([]age.Identity, error) {
	secret, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	if secret == "" {
		return nil, s.noKey(m, overlay.ErrNoKey)
	}
	identities, err := age.ParseIdentities(strings.NewReader(secret.Reveal()))
	if err != nil { // which may hold parts of the secret
		return nil, s.noKey(m, errors.New("what stores."+s.name+".age.identity gives is no private key of age"))
	}
	return identities, nil
}

func (s *sealed) noKey(m overlay.Manifest, err error) error {
	return &bmc.Error{
		Op: "read backup " + m.Node + "/" + m.ID, Kind: bmc.KindAuth, Err: err,
		Hint: "write stores." + s.name + ".age: {recipients: [" + strings.Join(m.Age.Recipients, ", ") +
			"], identity: {file: PATH}}, with the private key to one of these recipients in PATH (it begins with AGE-SECRET-KEY-)",
	}
}

// decrypt reads a file's header, and returns what reads the rest.
func (s *sealed) decrypt(f io.ReadCloser, m overlay.Manifest, identities []age.Identity) (io.ReadCloser, error) {
	from, err := age.Decrypt(f, identities...)
	if err == nil {
		return &decrypted{Reader: from, Closer: f}, nil
	}
	f.Close()
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, s.noKey(m, errors.New("it is encrypted to others than the key that stores."+s.name+".age.identity gives"))
	}
	if e, ok := errors.AsType[*bmc.Error](err); ok { // of the store
		return nil, e
	}
	return nil, &bmc.Error{
		Op: "read backup " + m.Node + "/" + m.ID, Kind: bmc.KindOverlay, Err: fmt.Errorf("it is damaged: %w", err),
		Hint: "use another one: livecd-sync backups list -w " + m.Node,
	}
}

// decrypted is a file that is decrypted as it is read.
type decrypted struct {
	io.Reader
	io.Closer
}

// Create starts a backup, encrypted if the store has recipients.
func (s *sealed) Create(ctx context.Context, node string, at time.Time) (overlay.Draft, error) {
	if len(s.to) == 0 {
		return s.Store.Create(ctx, node, at)
	}
	key, err := s.draftKey()
	if err != nil {
		return nil, err
	}
	d, err := s.Store.Create(ctx, node, at)
	if err != nil {
		return nil, err
	}
	return &sealedDraft{Draft: d, store: s, key: key, stored: make(map[string]*counted)}, nil
}

// A sealedDraft encrypts what is written to a draft.
type sealedDraft struct {
	overlay.Draft
	store  *sealed
	key    draftKey
	stored map[string]*counted // by the names under which they are stored
}

// counted is a file as it is stored.
type counted struct {
	io.WriteCloser
	n int64
	h hash.Hash
}

// Write writes to the file.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.WriteCloser.Write(p)
	c.h.Write(p[:n])
	c.n += int64(n)
	return n, err
}

func (c *counted) sum() string { return hex.EncodeToString(c.h.Sum(nil)) }

// decryptFirst begins the explanation of how to restore by hand.
const decryptFirst = `This backup is encrypted with age (age-encryption.org). Decrypt its files first,
where only you can read what comes of it, with the private key in KEY:

    for f in *.age; do age -d -i KEY -o "${f%.age}" "$f"; done

`

// Write makes one file of the backup, encrypted.
func (d *sealedDraft) Write(name string) (io.WriteCloser, error) {
	name = path.Base(name)
	openly := slices.Contains(readable, name)
	if !openly {
		name += overlay.AgeSuffix
	}
	f, err := d.Draft.Write(name)
	if err != nil {
		return nil, err
	}
	c := &counted{WriteCloser: f, h: sha256.New()}
	d.stored[name] = c
	if openly {
		if name == overlay.RestoreFile {
			_, err = io.WriteString(c, decryptFirst)
		}
		return c, err
	}
	to, err := age.Encrypt(c, append(slices.Clone(d.store.to), d.key.recipient)...)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &encrypting{WriteCloser: to, f: c}, nil
}

// encrypting is a file that is encrypted as it is written.
type encrypting struct {
	io.WriteCloser
	f *counted
}

// Close writes the end of the encrypted file and closes it.
func (w *encrypting) Close() error { return errors.Join(w.WriteCloser.Close(), w.f.Close()) }

// Read opens one file of the draft, decrypted.
func (d *sealedDraft) Read(name string) (io.ReadCloser, error) {
	name = path.Base(name)
	if slices.Contains(readable, name) || strings.HasSuffix(name, overlay.AgeSuffix) {
		return d.Draft.Read(name)
	}
	f, err := d.Draft.Read(name + overlay.AgeSuffix)
	if err != nil {
		return nil, err
	}
	return d.store.decrypt(f, overlay.Manifest{ID: d.ID()}, []age.Identity{d.key.identity})
}

// Publish says in the manifest, and in the list of digests, what is stored.
func (d *sealedDraft) Publish(m overlay.Manifest) error {
	m.Age = &overlay.Age{Recipients: d.store.recipients, PlainBytes: m.StoredBytes, PlainSHA256: m.StoredSHA256}
	if archive := d.stored[overlay.ArchiveFile+overlay.AgeSuffix]; archive != nil {
		m.StoredBytes, m.StoredSHA256 = archive.n, archive.sum()
	}
	if d.stored[overlay.SumsFile] != nil {
		if err := d.writeSums(m); err != nil {
			return err
		}
	}
	return d.Draft.Publish(m)
}

// writeSums writes the list of digests anew: that of the files as they are
// stored, the manifest among them.
func (d *sealedDraft) writeSums(m overlay.Manifest) error {
	manifest, err := m.Encode()
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(d.stored)) {
		if name != overlay.SumsFile {
			fmt.Fprintf(&sums, "%s  %s\n", d.stored[name].sum(), name)
		}
	}
	fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(manifest), overlay.ManifestFile)
	w, err := d.Draft.Write(overlay.SumsFile)
	if err != nil {
		return err
	}
	_, err = w.Write(sums.Bytes())
	return errors.Join(err, w.Close())
}
