package library

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

// A member is an ISO in a release.
type member struct {
	Name string
	Size int64
}

// errEnough ends a walk that has found what it was for.
var errEnough = errors.New("enough was read")

// A damage is something wrong with a release, and what to do about it.
type damage struct {
	err  error
	hint string
}

func (d *damage) Error() string { return d.err.Error() }
func (d *damage) Unwrap() error { return d.err }

const copyAgain = "copy the release again, and compare its checksum with the one that it was published with"

// walk reads a release, a tar archive compressed by gzip, once, from its beginning
// to its end, and hands each ISO in it to each. tell is told how much of the size
// bytes was read. It ends early, without an error, when each returns errEnough; all
// else that each returns ends it with that.
//
// Where it does not end early, the whole was there: the checksum of gzip was right,
// and the archive had its end. Else the error is a *damage, or what reading r or ctx
// ended in.
func walk(ctx context.Context, r io.Reader, size int64, tell func(int64), each func(member, io.Reader) error) error {
	w := &walker{size: size}
	in := bufio.NewReaderSize(&meter{ctx: ctx, r: r, tell: func(n int64) { w.at.Store(n); tell(n) }}, block)
	head, err := in.Peek(tarHead)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	z, err := gzip.NewReader(in)
	if err != nil {
		return noGzip(head, err)
	}
	out, stop := ahead(z)
	defer stop()
	if err = w.members(&watched{r: out, w: w}, each); errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// tarHead is enough of a tar archive to know it by.
const tarHead = 263

func noGzip(head []byte, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case len(head) == tarHead && bytes.Equal(head[257:262], []byte("ustar")):
		return &damage{errors.New("it is a tar archive that is not compressed"), "compress it with gzip; or take the ISO out of it, and name that with file:"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &damage{errors.New("it is truncated: it ends in the middle of gzip's first bytes"), copyAgain}
	}
	return &damage{errors.New("it is not compressed by gzip"), "name a .tar.gz file"}
}

type walker struct {
	size   int64
	at     atomic.Int64 // how much of them was read
	broken error        // what decompressing ended in, if not in the end
	last   string       // the member that was met last
	zeros  int          // how many of the last reads were of a block of zeros each
}

// tarBlock is what archives are made of.
const tarBlock = 512

// members walks through the archive.
func (w *walker) members(r io.Reader, each func(member, io.Reader) error) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return w.end(r)
		case err != nil:
			return w.explain(err)
		}
		w.last = h.Name
		if !isISO(h) {
			continue
		}
		body := &remember{r: t}
		if err = each(member{h.Name, h.Size}, body); body.err != nil {
			err = w.explain(body.err)
		}
		if err != nil {
			return err
		}
	}
}

// isISO reports whether a member is an ISO: a file that is called so. A link to one
// is a second name and no second ISO, and "._" begins what macOS adds to each file.
func isISO(h *tar.Header) bool {
	return h.Typeflag != tar.TypeLink && h.FileInfo().Mode().IsRegular() &&
		strings.EqualFold(path.Ext(h.Name), ".iso") && !strings.HasPrefix(path.Base(h.Name), "._")
}

// end reads what is left, so that gzip compares its checksum.
func (w *walker) end(r io.Reader) error {
	marked := w.zeros >= 2 // so many blocks of zeros end an archive (POSIX, pax)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return w.explain(err)
	}
	if !marked {
		return &damage{fmt.Errorf("the tar archive in it is truncated: its end is missing after %q", w.last), "have it packed again: what packed it was cut off"}
	}
	return nil
}

// explain says what is wrong with a release in which err was met.
func (w *walker) explain(err error) error {
	at := fmt.Sprintf("at about byte %d of %d", w.at.Load(), w.size)
	if w.last != "" {
		at += fmt.Sprintf(", in or after %q", w.last)
	}
	_, io1 := errors.AsType[*fs.PathError](w.broken)
	switch {
	case errors.Is(w.broken, context.Canceled), errors.Is(w.broken, context.DeadlineExceeded), io1:
		return w.broken
	case errors.Is(w.broken, io.EOF), errors.Is(w.broken, io.ErrUnexpectedEOF):
		return &damage{fmt.Errorf("it is truncated: it ends in the middle of what gzip compressed, %s", at), copyAgain}
	case w.broken != nil:
		return &damage{fmt.Errorf("it is damaged, %s: %w", at, w.broken), copyAgain}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &damage{fmt.Errorf("the tar archive in it is truncated, in %q", w.last), "have it packed again: what packed it was cut off"}
	case w.last == "":
		return &damage{errors.New("what gzip compressed in it is no tar archive"), "name the .tar.gz file of a release"}
	}
	return &damage{fmt.Errorf("the tar archive in it is damaged after %q: %w", w.last, err), copyAgain}
}

// remember keeps the error that a reader ended in, other than its end.
type remember struct {
	r   io.Reader
	err error
}

func (m *remember) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

// watched is what was decompressed, as the walker's archive/tar reads it: a header's
// block at a time. It notes the blocks of zeros, which archive/tar does not demand,
// and the error that it ended in.
type watched struct {
	r io.Reader
	w *walker
}

func (t *watched) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if n == tarBlock && len(bytes.Trim(p[:n], "\x00")) == 0 {
		t.w.zeros++
	} else {
		t.w.zeros = 0
	}
	if err != nil && err != io.EOF {
		t.w.broken = err
	}
	return n, err
}
