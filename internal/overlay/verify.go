package overlay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// maxSums bounds SHA256SUMS, which has a line for each of a backup's files.
const maxSums = 64 << 10

// Verify reads all of a stored backup, and compares everything that can be: each
// file's digest, the archive's digests, sizes and members, its closing blocks,
// and the lists of what was deleted and made anew. It returns the manifest. Of an
// encrypted backup (m.Age) that there is no key for, it is the stored digests
// alone that can be compared.
func Verify(ctx context.Context, store Store, node, id string) (Manifest, error) {
	m, err := store.Get(ctx, node, id)
	if err != nil {
		return Manifest{}, err
	}
	if err := verifySums(ctx, store, m); err != nil {
		return m, err
	}
	lists := memoryLists{}
	err = readBackup(ctx, store, m, func(_ *archive, member member) error { return lists.list(member) })
	if errors.Is(err, ErrNoKey) {
		return m, nil
	}
	if err != nil {
		return m, err
	}
	for name, sum := range map[string]string{DeletedFile: lists.deleted.sum(), OpaqueFile: lists.opaque.sum()} {
		is, err := storedDigest(ctx, store, m, name)
		if err != nil {
			return m, err
		}
		if is != sum {
			return m, damaged(m, fmt.Errorf("%s does not list what the archive holds", name))
		}
	}
	return m, nil
}

// verifySums compares every file with its line of SHA256SUMS.
func verifySums(ctx context.Context, store Store, m Manifest) error {
	f, err := store.Open(ctx, m.Node, m.ID, SumsFile)
	if err != nil {
		return err
	}
	sums, err := io.ReadAll(io.LimitReader(f, maxSums))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	listed := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok || listed[name] {
			return damaged(m, fmt.Errorf("%s holds the line %q", SumsFile, Printable(lines.Text())))
		}
		listed[strings.TrimSuffix(name, AgeSuffix)] = true
		if name == ArchiveFile {
			if want != m.StoredSHA256 { // the file is read with its members
				return damaged(m, fmt.Errorf("%s and the manifest have different digests of %s", SumsFile, name))
			}
			continue
		}
		is, err := storedDigest(ctx, store, m, name)
		if err != nil {
			return err
		}
		if is != want {
			return damaged(m, fmt.Errorf("%s is not what was written", name))
		}
	}
	for _, name := range []string{ArchiveFile, DeletedFile, OpaqueFile, RestoreFile, ManifestFile} {
		if !listed[name] {
			return damaged(m, fmt.Errorf("%s does not list %s", SumsFile, name))
		}
	}
	return lines.Err()
}

func storedDigest(ctx context.Context, store Store, m Manifest, name string) (string, error) {
	f, err := store.Open(ctx, m.Node, m.ID, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", damaged(m, fmt.Errorf("%s is missing", name))
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	d := &digest{r: contextReader{ctx, f}, h: sha256.New()}
	if _, err := io.Copy(io.Discard, d); err != nil {
		return "", err
	}
	return d.sum(), nil
}

// memoryLists digests the lists that an archive's members make.
type memoryLists struct{ deleted, opaque listDigest }

type listDigest struct{ digest }

func (l *memoryLists) list(m member) error {
	switch {
	case m.whiteout:
		l.deleted.add(m.name)
	case m.xattrs.opaque:
		l.opaque.add(m.name)
	}
	return nil
}

func (l *listDigest) add(name string) {
	if l.h == nil {
		l.h = sha256.New()
	}
	io.WriteString(l.h, name+"\x00") //nolint:errcheck // a hash never fails
}

func (l *listDigest) sum() string {
	if l.h == nil {
		return sumOf(nil)
	}
	return l.digest.sum()
}
