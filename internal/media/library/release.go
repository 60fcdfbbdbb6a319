package library

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
)

// takeOut takes the ISO out of a release.
func (j *job) takeOut(ctx context.Context) (entry, error) {
	if e, ok := j.stillThere(ctx); ok {
		return e, nil
	}
	f, s, err := j.open(ctx, j.img.Release)
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = f.Close() }() // only read
	x := extraction{job: j}
	// Whoever has the lock is the only one that writes this file: one that is there
	// is what a run left that was killed.
	if x.part, err = os.OpenFile(filepath.Join(j.Dir, j.key+".part"), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return entry{}, j.fail(err, "make "+j.Dir+" writable, or set XDG_CACHE_HOME to another place")
	}
	e, err := x.run(ctx, f, s)
	if err != nil {
		return entry{}, errors.Join(err, x.discard())
	}
	return e, nil
}

// stillThere finds an ISO that was taken out and whose stamp is another one now: it
// was moved with the disk, or put back from a backup. Its digest tells.
func (j *job) stillThere(ctx context.Context) (entry, bool) {
	e, ok := j.get(j.key)
	if !ok || e.ISO == "" || !sameRelease(e, j.img) {
		return entry{}, false
	}
	name := filepath.Join(j.Dir, e.ISO)
	f, s, err := j.open(ctx, name)
	if err != nil {
		return entry{}, false
	}
	defer func() { _ = f.Close() }() // only read
	if sum, err := j.sum(ctx, f, s.Size); err != nil || sum != e.SHA256 || !s.is(name) {
		return entry{}, false
	}
	e.Copy = s
	return e, j.put(j.key, e) == nil
}

// An extraction is one reading of a release.
type extraction struct {
	*job
	part *os.File // the ISO, while it is written
	all  []extracted
	kept int // which of them is in part
}

type extracted struct {
	member
	sha256 string
}

func (x *extraction) run(ctx context.Context, f *os.File, s stamp) (entry, error) {
	tell := func(n int64) { x.progress(Progress{Extracting, n, s.Size}) }
	if err := walk(ctx, f, s.Size, tell, x.iso); err != nil {
		return entry{}, x.explain(ctx, err)
	}
	iso, err := x.choose()
	if err != nil {
		return entry{}, err
	}
	id, err := media.IdentifyAt(fmt.Sprintf("read %s of release %s", iso.Name, x.img.Release), x.part, iso.Size)
	if err != nil {
		return entry{}, err
	}
	if err := x.unchanged(x.img.Release, s); err != nil {
		return entry{}, err
	}
	e := entry{
		Source: x.img.Release, Stamp: s, Member: iso.Name, ISO: x.key + "-" + iso.sha256[:12] + ".iso",
		Size: iso.Size, SHA256: iso.sha256, Volume: id.Volume,
	}
	return x.publish(e)
}

// iso writes and digests an ISO, or only digests one that is not wanted: it is
// named, with its digest, to whoever has to say which one is.
func (x *extraction) iso(m member, r io.Reader) error {
	h := sha256.New()
	keep := len(x.all) == 0 || x.img.SHA256 != ""
	if err := x.copy(h, m, r, keep); err != nil {
		return err
	}
	if keep {
		x.kept = len(x.all)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	x.all = append(x.all, extracted{m, sum})
	if sum == x.img.SHA256 {
		return errEnough // nothing that follows can change what was wanted
	}
	return nil
}

func (x *extraction) copy(h hash.Hash, m member, r io.Reader, keep bool) error {
	var to io.Writer = h
	if keep {
		if err := x.room(m); err != nil {
			return err
		}
		to = io.MultiWriter(h, x.part)
	}
	n, err := io.CopyBuffer(to, r, make([]byte, block))
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return x.full(m, "no space is left there now")
	case err == nil && n != m.Size:
		return io.ErrUnexpectedEOF
	}
	return err
}

// room empties the part, and sees that the ISO will fit.
func (x *extraction) room(m member) error {
	if err := x.part.Truncate(0); err != nil {
		return err
	}
	if _, err := x.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(x.part.Fd()), &st); err != nil {
		return os.NewSyscallError("statfs "+x.Dir, err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < m.Size {
		return x.full(m, fmt.Sprintf("%d MiB are free there", free>>20))
	}
	return nil
}

func (x *extraction) full(m member, free string) error {
	return &damage{
		fmt.Errorf("%s has %d MiB, which do not fit into %s: %s", m.Name, (m.Size+1<<20-1)>>20, x.Dir, free),
		"make room there, or set XDG_CACHE_HOME to where there is more",
	}
}

// choose decides which ISO was meant.
func (x *extraction) choose() (extracted, error) {
	var list []string
	for _, iso := range x.all {
		if iso.sha256 == x.img.SHA256 {
			return iso, nil
		}
		list = append(list, fmt.Sprintf("%s (sha256 %s)", iso.Name, iso.sha256))
	}
	switch {
	case len(list) == 0:
		return extracted{}, x.fail(errors.New("there is no ISO in it"), "check that it is the release of the system management software, and not that of something else")
	case x.img.SHA256 != "" && len(list) == 1:
		return extracted{}, otherDigest(x.img, "its only ISO is "+list[0])
	case x.img.SHA256 != "":
		return extracted{}, otherDigest(x.img, "its ISOs are "+strings.Join(list, " and "))
	case len(list) > 1:
		return extracted{}, x.fail(fmt.Errorf("there are %d ISOs in it: %s", len(list), strings.Join(list, " and ")),
			fmt.Sprintf("write the sha256 of the one that is meant as images.%s.sha256", x.img.Name))
	}
	return x.all[x.kept], nil
}

// publish gives the ISO its name, and then writes down that it is there.
func (x *extraction) publish(e entry) (entry, error) {
	name := filepath.Join(x.Dir, e.ISO)
	err := publish(x.part, name, nil)
	x.part = nil
	if err == nil {
		var st os.FileInfo
		if st, err = os.Stat(name); err == nil {
			e.Copy = stampOf(st)
			err = x.put(x.key, e)
		}
	}
	if err != nil {
		return entry{}, x.fail(err, "look at the file system of "+x.Dir)
	}
	return e, nil
}

// discard removes what was not published.
func (x *extraction) discard() error {
	if x.part == nil {
		return nil
	}
	_ = x.part.Close() // whatever it holds is not wanted
	return os.Remove(x.part.Name())
}

func (x *extraction) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return x.cancelled(context.Cause(ctx))
	}
	if d, ok := errors.AsType[*damage](err); ok {
		return x.fail(d.err, d.hint)
	}
	if _, ok := errors.AsType[*bmc.Error](err); ok {
		return err
	}
	return x.fail(err, "look at the disks, or servers, that it and "+x.Dir+" are on")
}
