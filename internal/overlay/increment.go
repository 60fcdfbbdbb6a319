package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A second backup of a boot moves little: the node sends what has changed since
// the first, its base, and what has not is copied from there. What is stored is
// whole all the same, and leans on no other backup: restoring, checking and
// pruning know nothing of bases.
//
// Unchanged is what tar --newer leaves out: neither a file's data nor its status
// (ctime) was changed since the base was begun. Nothing can set a ctime. It moves
// with every write, with owner, mode and attributes, and when a file gets or loses
// a name; a directory's, when it is renamed or a name in it comes or goes. What
// makes it say less is looked for:
//
//   - another boot, a clock that was set, another upper dir or another list of
//     what to leave out: everything is sent, as it is where the upper dir has only
//     part of a file;
//   - a directory that may have been renamed, since its own ctime and that of the
//     one that it lies in have moved: what lies in it has kept its ctime. Sent is
//     all that another file may share size and time with, for its time is in whole
//     seconds, as archives have it;
//   - a file whose type, mode, owner, size or time is not what the base has under
//     its name: it is sent.
//
// In the end every name that the upper dir has is in the archive, from one or the
// other, or was sent by name.
//
// One change moves nothing on a tmpfs: a write through a shared mapping (mmap(2)).
// So a backup that a reset is to rely on has no base: it reads everything.
const (
	// clockMargin is by how many seconds more the node looks back: time stamps
	// are of the kernel's last tick, and seconds are not rounded up.
	clockMargin = 3
	// maxStep is by how many seconds the node's clock may have drifted apart from
	// its uptime.
	maxStep = 1
	// maxMissing is how many names may be sent one by one.
	maxMissing = 50_000
)

// A baseError says why the base is of no use after all.
type baseError string

func (e baseError) Error() string { return string(e) }

// findBase takes the newest backup that has all that did not change since.
func (b *backupPass) findBase(ctx context.Context) error {
	if b.req.Whole || b.req.Purpose == PurposeReset {
		return nil
	}
	list, err := b.store.List(ctx, b.req.Node)
	if ctx.Err() != nil {
		return cancelled(ctx, backupOp)
	}
	if err != nil { // a base saves work, and is no condition
		b.warnings = append(b.warnings, "no earlier backup could be built upon: "+err.Error())
		return nil //nolint:nilerr // it is in the warnings
	}
	for _, m := range list.Backups {
		if b.serves(m) {
			b.base = m
			return nil
		}
	}
	return nil
}

func (b *backupPass) serves(m Manifest) bool {
	r := b.req.Running
	step := r.Clock.step(m.Clock)
	return m.BootID == r.BootID && m.Reliable() == nil && m.Flattened == 0 && m.Site == b.req.Site &&
		m.UpperDir == b.req.upperDir() && slices.Equal(m.Excludes, append([]string{}, b.req.Exclude...)) &&
		m.Clock.Time > 0 && r.Clock.Time >= m.Clock.Time && step >= -maxStep && step <= maxStep
}

// names streams the names in the upper dir, and which of them are directories.
func (b *backupPass) names(ctx context.Context, exclude []string, each func(name string, dir bool) error) error {
	c := b.command(namesScript, exclude...)
	c.Stderr = nil // what tar says of the files it will say again when it reads them
	return stream(ctx, b.remote, c, changedOnly, func(r io.Reader) error {
		lines := bufio.NewReaderSize(r, readBytes)
		for {
			line, err := lines.ReadString('\n')
			if errors.Is(err, io.EOF) && line == "" {
				return nil
			}
			if err != nil {
				return err
			}
			line = strings.TrimSuffix(line, "\n")
			name, err := cleanName(unescapeName(line))
			if err != nil {
				return err
			}
			if err := each(name, strings.HasSuffix(line, "/")); err != nil {
				return err
			}
		}
	})
}

// listNames notes what is there before anything is read: what is not, was
// deleted since the base.
func (b *backupPass) listNames(ctx context.Context) error {
	if b.base.ID == "" {
		return nil
	}
	b.present = make(nameSet)
	err := b.names(ctx, b.req.Exclude, func(name string, _ bool) error {
		b.present.add(name)
		return nil
	})
	if err != nil {
		return err
	}
	b.is = make(map[nameKey]entry)
	moved := make(map[string]bool) // directories whose ctime has moved
	since := b.base.Clock.Time - clockMargin
	err = stream(ctx, b.remote, b.command(surveyScript), changedOnly, func(r io.Reader) error {
		return readSurvey(r, func(name string, is entry, ctime int64) {
			b.is[keyOf(name)] = is
			if is.kind == "d" && ctime >= since {
				moved[name] = true
			}
		})
	})
	if err != nil {
		return err
	}
	b.suspect = make(map[string]bool)
	for name := range moved {
		if at := strings.LastIndexByte(name, '/'); at > 0 && moved[name[:at]] {
			b.suspect[name] = true
		}
	}
	return nil
}

// mayHaveMoved reports whether name lies in a directory that may have been
// renamed since the base.
func (b *backupPass) mayHaveMoved(name string) bool {
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if b.suspect[name[:at]] {
			return true
		}
	}
	return false
}

// differs reports whether what is there now is not what the base has.
func (b *backupPass) differs(m member) bool {
	is, had := b.is[keyOf(m.name)], m.entry()
	if m.kind == typeHardLink { // its size and time are those of its first name
		return is.mode != had.mode || is.uid != had.uid || is.gid != had.gid
	}
	return is != had
}

// copyBase copies from the base what is still there, as it was, and was not sent.
func (b *backupPass) copyBase(ctx context.Context) error {
	if b.base.ID == "" {
		return nil
	}
	sent := b.asm.part
	var odd error
	err := b.readBase(ctx, func(r io.Reader) error {
		return b.asm.add(r, func(m member) fate {
			part, has := b.asm.names[keyOf(m.name)]
			link := m.kind == typeHardLink
			switch {
			case has && part <= sent, !b.present.has(m.name):
				return drop
			case m.mtime.nsec == 0 && b.mayHaveMoved(m.name), b.differs(m):
				if link { // the names of a file are sent together
					odd = baseError("a hard link in it may be another's: " + escape(m.name))
				}
				return drop // readMissing sends it
			case link:
				if from, ok := b.asm.names[keyOf(m.link)]; !ok || from <= sent {
					odd = baseError("a hard link in it is one no more: " + escape(m.name))
				}
			}
			b.copied++
			return keep
		})
	})
	if odd != nil {
		return odd
	}
	return err
}

// readBase hands on the base's archive, and compares it with its manifest.
func (b *backupPass) readBase(ctx context.Context, consume func(io.Reader) error) error {
	file, err := b.store.Open(ctx, b.base.Node, b.base.ID, ArchiveFile)
	if err != nil {
		return baseError(err.Error())
	}
	defer file.Close()
	raw, err := unpack(ctx, file)
	if err != nil {
		return baseError(err.Error())
	}
	defer raw.close()
	if err := consume(raw); err != nil {
		if b.stored.err != nil || ctx.Err() != nil {
			return err
		}
		return baseError(err.Error())
	}
	if err := raw.compare(b.base); err != nil {
		return baseError(err.Error())
	}
	return nil
}

// readMissing proves that the archive is complete: every name that is there now
// is in it. What is not is sent by name: it came meanwhile, was given another name
// while its directory was read, or is not in the base as it is here.
func (b *backupPass) readMissing(ctx context.Context) error {
	var missing []string
	err := b.names(ctx, b.req.Exclude, func(name string, _ bool) error {
		switch {
		case b.asm.has(name), b.inRenamed(name):
		case b.partial[name]: // it is there, and was not sent whole
			b.unread = append(b.unread, name)
		default:
			missing = append(missing, name)
		}
		if b.base.ID != "" && len(missing) > maxMissing {
			return baseError(fmt.Sprintf("more than %d names are in neither", maxMissing))
		}
		return nil
	})
	if odd, ok := errors.AsType[baseError](err); ok {
		return odd
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	return b.reread(ctx, missing)
}

// plan asks the node how much there is, looks whether that can fit, and decides
// who compresses.
func (b *backupPass) plan(ctx context.Context) error {
	size := b.base.RawBytes
	if b.base.ID == "" {
		var err error
		if size, err = b.measure(ctx); err != nil {
			return b.explain(ctx, err)
		}
	}
	if err := b.fits(ctx, size); err != nil {
		return err
	}
	b.zstd = b.req.Running.HasZstd
	if b.base.ID != "" || !b.zstd || size < worthMeasuring {
		return nil
	}
	rate, err := b.rate(ctx)
	if failed, ok := errors.AsType[*streamError](err); ok && exitStatus(failed.ran) != 0 {
		return nil // a node without /dev/zero is no reason to have no backup
	}
	if err != nil {
		return b.explain(ctx, err)
	}
	// Where the network is faster than zstd on one processor, the node had better
	// not spend the time: 2.3 times the bytes, for half of its processor time.
	b.zstd = rate < fastLink
	return nil
}

const (
	worthMeasuring = 64 << 20
	probeBytes     = 8 << 20
	fastLink       = 200 << 20 // bytes a second
	// leastRatio is how much smaller an overlay can get at best; a store that
	// lacks even that room will not do.
	leastRatio = 10
)

// measure asks how many bytes the upper dir takes.
func (b *backupPass) measure(ctx context.Context) (int64, error) {
	out := capture{limit: 4 << 10}
	c := b.command(sizeScript)
	c.Stdout, c.Stderr = &out, nil
	if err := b.remote.Run(ctx, c); err != nil {
		return 0, &streamError{ran: err}
	}
	var kib int64
	if _, err := fmt.Sscan(out.String(), &kib); err != nil {
		return 0, nil //nolint:nilerr // it is not known, then
	}
	return kib << 10, nil
}

// rate measures the way from the node, in bytes a second.
func (b *backupPass) rate(ctx context.Context) (int64, error) {
	begun := b.req.Now()
	var got int64
	c := Command{Script: speedScript, Args: []string{fmt.Sprint(probeBytes)}, Stdout: writerFunc(func(p []byte) (int, error) {
		if got == 0 {
			begun = b.req.Now() // the way there does not count
		}
		got += int64(len(p))
		return len(p), nil
	})}
	if err := b.remote.Run(ctx, c); err != nil {
		return 0, &streamError{ran: err}
	}
	took := b.req.Now().Sub(begun)
	return int64(float64(got) / max(took.Seconds(), 1e-6)), nil
}

// A Sizer is a Store that knows how much room is left.
type Sizer interface {
	// Free gives the bytes that may still be written for a node, if that is known.
	Free(ctx context.Context, node string) (bytes int64, known bool, err error)
}

// fits refuses, before anything is read, what cannot fit.
func (b *backupPass) fits(ctx context.Context, size int64) error {
	sizer, ok := b.store.(Sizer)
	if !ok {
		return nil
	}
	free, known, err := sizer.Free(ctx, b.req.Node)
	if err != nil || !known {
		return err
	}
	need := size / leastRatio
	if b.base.ID != "" {
		need = b.base.StoredBytes
	}
	if free >= need {
		return nil
	}
	return &bmc.Error{
		Op: "write to the store", Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("it has room for %d MiB, and a backup of this overlay of %d MiB takes %d MiB or more", free>>20, size>>20, need>>20),
		Hint: "make room: livecd-sync backups prune removes what overlay.keep does not want",
	}
}
