package overlay

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// layouts are the upper dirs of live systems, each with the shorter names that
// it has in an archive which was packed from further inside: kiwi, older kiwi,
// dracut, and live-boot (their sources; see Probe for those of a running node).
var layouts = []string{
	"run/overlay/overlayfs/rw", "overlay/overlayfs/rw", "run/overlayfs/rw", "overlayfs/rw",
	"run/live/overlay/rw", "live/overlay/rw", "overlay/rw", "rw", "run/overlayfs", "overlayfs",
}

// A foreignArchive is an archive of an upper dir that Backup did not make: by
// the page's procedure, by hand. Nothing but itself says whether it is whole.
type foreignArchive struct {
	file    string
	layout  layout
	raw     string // the tar archive's SHA-256, once it has been read
	bytes   int64
	counted tally
	left    int64 // members of the work dir, which are left out
	marked  bool  // it has xattrs of overlayfs, so none was lost
	merged  []string
}

// openForeign reads an archive twice: for where in it the upper dir lies, and
// for whether it is whole. Its errors have KindOverlay.
// prefix is the directory of the archive that is the upper dir, "." for its top,
// and "" to find that out.
func openForeign(ctx context.Context, file, prefix string) (*foreignArchive, error) {
	f := &foreignArchive{file: file}
	if err := f.place(ctx, prefix); err != nil {
		return nil, err
	}
	dirs := make(map[string]bool) // true: nothing in it was deleted
	var order []string
	err := f.scan(ctx, func(a *archive, m member) error {
		if m.outside {
			return f.vet(m)
		}
		f.counted.add(m)
		for key := range a.records {
			f.marked = f.marked || strings.HasPrefix(key, xattrRecord+"trusted.overlay.")
		}
		switch {
		case m.whiteout:
			dirs[parentOf(m.name)] = false
		case m.kind == typeDir:
			if _, known := dirs[m.name]; !known {
				dirs[m.name] = true
			}
			order = append(order, m.name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range order {
		if dirs[name] && name != "." {
			f.merged = append(f.merged, name)
		}
	}
	return f, nil
}

// xattrRecord begins the key of a pax record that holds an extended attribute.
const xattrRecord = "SCHILY.xattr."

// parentOf returns the clean name of the directory that holds a clean name.
func parentOf(name string) string {
	if i := strings.LastIndexByte(name, '/'); i > 0 {
		return name[:i]
	}
	return "."
}

// vet refuses what lies outside the upper dir, but for what leads to it.
func (f *foreignArchive) vet(m member) error {
	ancestor, work := f.layout.around(m)
	if work {
		f.left++
	}
	if ancestor || work {
		return nil
	}
	return fmt.Errorf("%w: %q is not below %q", archiveError("it holds more than an upper dir"), m.name, f.layout.prefix)
}

// findPrefix looks where the upper dir lies: below the longest of the known
// layouts that has all members, or else at the names themselves if they are those
// of a root.
func (f *foreignArchive) findPrefix(ctx context.Context) error {
	fits := make([]int64, len(layouts)) // members; -1: not all are there
	seen := shape{tops: make(map[string]bool), roots: make(map[string]bool)}
	partly := false
	err := f.scan(ctx, func(_ *archive, m member) error {
		seen.add(strings.TrimPrefix(m.name, "./"))
		for i, prefix := range layouts {
			l := layout{prefix: prefix}
			_, in := l.inside(m.name)
			ancestor, work := l.around(m)
			switch {
			case in && fits[i] >= 0:
				fits[i]++
			case !in && !ancestor && !work:
				partly = partly || fits[i] > 0
				fits[i] = -1
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, prefix := range layouts {
		if fits[i] > 0 && len(prefix) > len(f.layout.prefix) {
			f.layout.prefix = prefix
		}
	}
	if f.layout.prefix != "" {
		return nil
	}
	if !partly && seen.isRoot() {
		return nil
	}
	return f.failed(fmt.Errorf("it cannot be told where in it the upper dir lies: %s", seen),
		"name the directory of the archive that is the upper dir: --prefix DIR, or --prefix . if its own names are those of the root")
}

// place decides where the upper dir lies.
func (f *foreignArchive) place(ctx context.Context, prefix string) error {
	if prefix == "" {
		return f.findPrefix(ctx)
	}
	if f.layout.prefix = strings.Trim(path.Clean("/"+prefix), "/"); f.layout.prefix == "" {
		return nil
	}
	return f.holdsPrefix(ctx)
}

// holdsPrefix is an error if nothing is below the prefix.
func (f *foreignArchive) holdsPrefix(ctx context.Context) error {
	seen := shape{tops: make(map[string]bool), roots: make(map[string]bool)}
	found := false
	err := f.scan(ctx, func(_ *archive, m member) error {
		seen.add(strings.TrimPrefix(m.name, "./"))
		found = found || !m.outside
		return nil
	})
	if err != nil || found {
		return err
	}
	return f.failed(fmt.Errorf("it holds nothing below %q: %s", f.layout.prefix, seen), "see what is in it: tar tf; and name the directory with --prefix")
}

func (f *foreignArchive) failed(err error, hint string) error {
	return &bmc.Error{Op: "read archive " + f.file, Kind: bmc.KindOverlay, Err: err, Hint: hint}
}

// read shows visit the members of the upper dir, under their names there.
func (f *foreignArchive) read(ctx context.Context, visit visitor) error {
	return f.scan(ctx, func(a *archive, m member) error {
		if m.outside {
			return nil
		}
		return visit(a, m)
	})
}

// scan shows visit all members. From the second time on, the archive has to be
// what it was before.
func (f *foreignArchive) scan(ctx context.Context, visit visitor) error {
	in, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	raw := &digest{r: contextReader{ctx, in}, h: sha256.New()}
	a := newArchive(raw)
	own := f.layout // a comparison reads the archive twice at a time
	a.foreign = &own
	for {
		m, err := a.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f.readError(ctx, err)
		}
		if err := visit(a, m); err != nil {
			if _, ok := errors.AsType[archiveError](err); ok {
				return f.readError(ctx, err)
			}
			return err
		}
	}
	switch sum := raw.sum(); {
	case f.raw == "": // the first time, when nobody else reads
		f.raw, f.bytes = sum, raw.n
	case f.raw != sum:
		return f.failed(errors.New("it was changed while it was being restored"), "restore it again")
	}
	return nil
}

func (f *foreignArchive) readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return cancelled(ctx, "read archive "+f.file)
	}
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		return e
	}
	return f.failed(fmt.Errorf("it is damaged, or no archive of an upper dir: %w", err),
		"nothing was changed on the node; copy the archive here once more, or pack it anew")
}

// manifest is what can be said of a foreign archive.
func (f *foreignArchive) manifest(node string) Manifest {
	return Manifest{
		Version: ManifestVersion, ID: "archive-" + f.raw[:16], Node: node, Portable: !f.counted.leansOnLower,
		Counts: f.counted.counts, RawBytes: f.bytes, RawSHA256: f.raw,
	}
}

// open opens the archive and takes off its compression, which its content tells.
func (f *foreignArchive) open(ctx context.Context) (io.ReadCloser, error) {
	file, err := os.Open(f.file)
	if err != nil {
		return nil, f.failed(err, "name a backup's ID, or the file of an archive that is there")
	}
	in := bufio.NewReaderSize(file, readBytes)
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(f.failed(err, "name a file that can be read"), file.Close())
	}
	out := &foreignFile{Reader: in, close: file.Close}
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b")):
		out.Reader, err = gzip.NewReader(in)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		err = out.zstd(in)
	case bytes.HasPrefix(magic, []byte("BZh")):
		out.Reader = bzip2.NewReader(in)
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		err = out.xz(ctx, in)
	}
	if err != nil {
		return nil, errors.Join(f.readError(ctx, err), out.Close())
	}
	return out, nil
}

// A foreignFile reads what a compressed file holds.
type foreignFile struct {
	io.Reader
	close func() error
}

// Close closes the file.
func (u *foreignFile) Close() error { return u.close() }

func (u *foreignFile) zstd(in io.Reader) error {
	decoder, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(2*maxWindow), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return err
	}
	u.Reader = decoder
	file := u.close
	u.close = func() error { decoder.Close(); return file() }
	return nil
}

// xz is left to the program of that name: archives of this kind are few.
func (u *foreignFile) xz(ctx context.Context, in io.Reader) error {
	program, err := exec.LookPath("xz")
	if err != nil {
		return &bmc.Error{
			Op: "read an archive", Kind: bmc.KindUnsupported, Err: errors.New("it is compressed with xz, and this machine has no program of that name"),
			Hint: "install xz, or unpack the archive to a plain .tar where there is one",
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, "-dc")
	cmd.Stdin = in
	from, to := io.Pipe()
	cmd.Stdout = to
	ended := make(chan struct{})
	if err := cmd.Start(); err != nil {
		cancel()
		return err
	}
	go func() {
		defer close(ended)
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("xz: %w", err)
		}
		to.CloseWithError(err) // nil is EOF
	}()
	u.Reader = from
	file := u.close
	u.close = func() error {
		cancel()
		from.CloseWithError(io.ErrClosedPipe)
		<-ended
		return file()
	}
	return nil
}

//go:embed scripts/lower.sh
var lowerScript string

// statusNoLower says that a layer of the image cannot be seen on the node.
const statusNoLower = 71

// tellForeign says what is not known of an archive that Backup did not make, and
// which of its directories may show files again that had been deleted: those that
// the image has too and that hold no whiteout. One that was removed and made anew
// looks like that without its mark, and so does one in which nothing was deleted.
func (r *restoration) tellForeign(ctx context.Context) error {
	f := r.foreign
	if f == nil {
		return nil
	}
	where := "at its own names"
	if f.layout.prefix != "" {
		where = "below " + f.layout.prefix
	}
	r.note("the archive's upper dir was taken to lie %s: %d members", where, f.counted.counts.Entries)
	if f.left > 0 {
		r.note("%d members of the overlay's work dir were left out", f.left)
	}
	if f.marked || len(f.merged) == 0 {
		return nil
	}
	r.note("the archive has no extended attributes: capabilities, ACLs and the marks of directories that were made anew are lost")
	found, err := r.inLower(ctx, f.merged)
	if exit, ok := errors.AsType[*ExitError](err); ok && exit.Status == statusNoLower {
		r.note("which directories may show deleted files again cannot be told, since the node does not show its image's own layer")
		return nil
	}
	if err != nil {
		return remoteError(restoreOp, err)
	}
	for _, name := range f.merged {
		if found[name] && len(r.report.Reappear) < MaxDifferences {
			r.report.Reappear = append(r.report.Reappear, Printable(strings.TrimPrefix(name, ".")))
		}
	}
	if n := len(found); n > 0 {
		r.note("%d directories may show files of the image again that had been deleted: look through them", n)
	}
	return nil
}

// inLower tells which names are directories in a layer of the image.
func (r *restoration) inLower(ctx context.Context, names []string) (map[string]bool, error) {
	asked := make(map[string]bool, len(names))
	for _, name := range names {
		asked[name] = true
	}
	found := make(map[string]bool)
	for _, lower := range r.running.LowerDirs {
		answer := capture{limit: 64 << 20}
		err := r.remote.Run(ctx, Command{
			Script: lowerScript, Args: []string{lower}, Stdout: &answer,
			Stdin: strings.NewReader(strings.Join(names, "\x00") + "\x00"),
		})
		if err != nil && !xargsFailed(err) {
			return nil, err
		}
		for name := range strings.SplitSeq(answer.String(), "\x00") {
			if asked[name] {
				found[name] = true
			}
		}
	}
	return found, nil
}
