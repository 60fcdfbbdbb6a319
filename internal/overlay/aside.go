package overlay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// lookAside notes what the archive does not hold: sockets, files that were
// deleted and are still open, and what the site file leaves out.
func (b *backupPass) lookAside(ctx context.Context) error {
	if err := b.findSockets(ctx); err != nil {
		return err
	}
	if err := b.findUnnamed(ctx); err != nil {
		return err
	}
	if len(b.req.Exclude) == 0 {
		return nil
	}
	return b.findLeftOut(ctx)
}

const aSocket = "a socket; whoever listens on it makes it anew"

// findSockets notes the sockets that tar told of, and those that the base has
// noted and that are still there: of what is older than the base tar says nothing.
func (b *backupPass) findSockets(ctx context.Context) error {
	seen := make(map[string]bool)
	for _, name := range b.said.sockets {
		seen[name] = true
		b.skip(name, aSocket)
	}
	old := make(map[string]bool)
	for _, s := range b.base.Skipped {
		if name := unescapeName(s.Path); s.Why == aSocket && !seen[name] {
			old[name] = true
		}
	}
	if len(old) == 0 {
		return nil
	}
	return stream(ctx, b.remote, b.command(surveyScript), changedOnly, func(r io.Reader) error {
		return readSurvey(r, func(name string, is entry, _ int64) {
			if is.kind == "s" && old[name] {
				b.skip(name, aSocket)
			}
		})
	})
}

func (b *backupPass) skip(name, why string) {
	if !b.skippedRoom.take(name) {
		b.omitted++
		return
	}
	b.skipped = append(b.skipped, Skipped{Path: escape(name), Why: why})
}

const deletedMark = " (deleted)"

// findUnnamed notes files of the overlay that were deleted while a program has
// them open: no tool that goes by names reaches them.
func (b *backupPass) findUnnamed(ctx context.Context) error {
	out := capture{limit: 1 << 20}
	err := b.remote.Run(ctx, Command{Script: unnamedScript, Stdout: &out})
	if exitStatus(err) != 0 {
		return nil // a find that cannot is no reason to have no backup
	}
	if err != nil {
		return &streamError{ran: err}
	}
	names, mounts, _ := strings.Cut(out.String(), "\x00\x00")
	points := parseMounts(strings.TrimLeft(mounts, "\x00"))
	for name := range strings.SplitSeq(names, "\x00") {
		path, deleted := strings.CutSuffix(name, deletedMark)
		if deleted && strings.HasPrefix(path, "/") && onRoot(points, path) {
			b.skip("."+path, "deleted, and still open in a program")
		}
	}
	return nil
}

// onRoot reports whether path is in "/" and not in what is mounted below it.
func onRoot(mounts []mount, path string) bool {
	for _, m := range mounts {
		if m.point != "/" && (path == m.point || strings.HasPrefix(path, m.point+"/")) {
			return false
		}
	}
	// What the kernel calls by a path and is none: memfd_create(2), shmget(2).
	return !strings.HasPrefix(path, "/memfd:") && !strings.HasPrefix(path, "/SYSV") && !strings.HasPrefix(path, "/[")
}

// findLeftOut notes what overlay.exclude left out: what is listed without it and
// not with it.
func (b *backupPass) findLeftOut(ctx context.Context) error {
	b.present = make(nameSet)
	if err := b.names(ctx, b.req.Exclude, func(name string, _ bool) error { b.present.add(name); return nil }); err != nil {
		return err
	}
	var names []string
	var room budget
	err := b.names(ctx, nil, func(name string, dir bool) error {
		switch {
		case dir, b.present.has(name):
		case room.take(name):
			names = append(names, name)
		default:
			b.omitted++
		}
		return nil
	})
	if err != nil || len(names) == 0 {
		return err
	}
	return b.describeLeftOut(ctx, names)
}

// describeLeftOut asks, in the merged view, for sizes and digests. What is not
// there was deleted: a whiteout that was left out.
func (b *backupPass) describeLeftOut(ctx context.Context, names []string) error {
	there := make(map[string]*found)
	err := b.askMerged(ctx, listScript, names, func(in *bufio.Reader) error {
		for {
			f, err := readFound(in)
			if err != nil || f.name == "" {
				return err
			}
			there[f.name] = f
		}
	})
	if err != nil {
		return err
	}
	var files []string
	for _, name := range names {
		if f := there[name]; f != nil && f.mode&modeType == 0o100000 {
			files = append(files, name)
			continue
		}
		b.leftOut = append(b.leftOut, LeftOut{Path: escape(name)})
	}
	if len(files) > 0 {
		err = b.askMerged(ctx, digestScript, files, func(in *bufio.Reader) error {
			return readDigests(in, func(name, sum string) {
				if f := there[name]; f != nil {
					b.leftOut = append(b.leftOut, LeftOut{
						Path: escape(name), Bytes: f.size, SHA256: sum, Mode: fmt.Sprintf("%04o", f.mode&0o7777),
						Owner: fmt.Sprintf("%d:%d", f.uid, f.gid), MTime: f.mtime.decimal(),
					})
				}
			})
		})
	}
	slices.SortFunc(b.leftOut, func(x, y LeftOut) int { return strings.Compare(x.Path, y.Path) })
	return err
}

// askMerged runs a script in the merged view on names.
func (b *backupPass) askMerged(ctx context.Context, script string, names []string, read func(*bufio.Reader) error) error {
	c := Command{Script: mergedScript, Args: []string{b.req.Running.BootID, script}, Stdin: terminated(names)}
	return stream(ctx, b.remote, c, xargsFailed, func(r io.Reader) error { return read(bufio.NewReader(r)) })
}

// The further files of a backup.
const (
	RestoreFile = "RESTORE.txt"
	SumsFile    = "SHA256SUMS"
)

// describe adds to a draft what a person needs who has nothing but the draft.
func describe(draft Draft, m Manifest) error {
	if err := writeFile(draft, RestoreFile, []byte(restoreText(m))); err != nil {
		return err
	}
	var sums bytes.Buffer
	sums.WriteString(m.StoredSHA256 + "  " + ArchiveFile + "\n") // was just read back
	for _, name := range []string{DeletedFile, OpaqueFile, RestoreFile} {
		sum, err := digestOf(draft, name)
		if err != nil {
			return err
		}
		sums.WriteString(sum + "  " + name + "\n")
	}
	manifest, err := m.Encode()
	if err != nil {
		return err
	}
	sums.WriteString(sumOf(manifest) + "  " + ManifestFile + "\n")
	return writeFile(draft, SumsFile, sums.Bytes())
}

func writeFile(draft Draft, name string, data []byte) error {
	w, err := draft.Write(name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return errors.Join(err, w.Close())
}
