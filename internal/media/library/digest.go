package library

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media"
)

// tick is a little more than how coarse the times of a file may be: what is written
// within one tick may leave them as they are (Linux stamps with its timer, at 100 Hz
// and more).
const tick = 20 * time.Millisecond

// open opens a file, and gives a stamp which any later change of it would change.
func (j *job) open(ctx context.Context, name string) (*os.File, stamp, error) {
	f, st, err := media.Open(name)
	if err != nil {
		return nil, stamp{}, err
	}
	if age := j.Clock.Now().Sub(time.Unix(0, stampOf(st).Changed)); age > -tick && age < tick {
		if err = j.Clock.Sleep(ctx, 2*tick); err != nil {
			_ = f.Close()
			return nil, stamp{}, j.cancelled(err)
		}
	}
	if st, err = f.Stat(); err != nil {
		_ = f.Close()
		return nil, stamp{}, j.fail(pathless(err), "look at the file system that it is on")
	}
	return f, stampOf(st), nil
}

// unchanged is the error of a file that is not as it was when it was stamped.
func (j *job) unchanged(name string, s stamp) error {
	_, err := os.Stat(name)
	switch {
	case s.is(name):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return j.fail(errors.New("it was removed while it was read"), "put it back")
	}
	return j.fail(errors.New("it changed while it was read"), "wait until it has been copied, and run it again")
}

// digest reads a file that is an image.
func (j *job) digest(ctx context.Context) (entry, error) {
	f, s, err := j.open(ctx, j.img.File)
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = f.Close() }() // only read
	id, err := media.IdentifyAt(op(j.img), f, s.Size)
	if err != nil {
		return entry{}, err
	}
	sum, err := j.sum(ctx, f, s.Size)
	if err != nil {
		return entry{}, err
	}
	if err := j.unchanged(j.img.File, s); err != nil {
		return entry{}, err
	}
	e := entry{Source: j.img.File, Stamp: s, Size: s.Size, SHA256: sum, Volume: id.Volume}
	_ = j.put(j.key, e) // without it, it is only computed again
	return e, nil
}

// sum digests a file of size bytes.
func (j *job) sum(ctx context.Context, r io.Reader, size int64) (string, error) {
	h := sha256.New()
	in := &meter{ctx: ctx, r: r, tell: func(n int64) { j.progress(Progress{Digesting, n, size}) }}
	n, err := io.CopyBuffer(h, in, make([]byte, block))
	switch {
	case ctx.Err() != nil:
		return "", j.cancelled(context.Cause(ctx))
	case err != nil:
		return "", j.fail(pathless(err), "look at the disk, or the server, that it is on")
	case n != size:
		return "", j.fail(fmt.Errorf("it changed while it was read: it had %d bytes, and %d could be read", size, n), "wait until it has been copied, and run it again")
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// block is how many bytes are moved at a time.
const block = 1 << 20

// A meter tells how much has gone through it, and ends with its context.
type meter struct {
	ctx  context.Context //nolint:containedctx // it lives for one copy
	r    io.Reader
	n    int64
	tell func(int64)
}

func (m *meter) Read(p []byte) (int, error) {
	if err := m.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(p)
	m.n += int64(n)
	if n > 0 {
		m.tell(m.n)
	}
	return n, err
}

// pathless takes the path out of a file error: the operation names it already.
func pathless(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
