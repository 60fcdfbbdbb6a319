package overlay

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Unsaved is what a node's overlay holds and its last backup does not.
type Unsaved struct {
	Files int64
	Bytes int64
	// Since is the backup that was compared with, "" when the node holds none.
	Since string
}

// FindUnsaved counts what has changed since a backup; last is the zero value
// when there is none. It goes by the times of the last change of each file's
// status, so it costs the node a look at each file and no reading. What exclude,
// patterns of tar, leaves out of backups does not count.
func FindUnsaved(ctx context.Context, remote Remote, r Running, last Manifest, exclude []string) (Unsaved, error) {
	b := looking(r, remote, r.UpperDir, exclude)
	since, known := changedSince(r, last)
	u := Unsaved{}
	if known {
		u.Since = last.ID
	}
	var kept nameSet
	if len(exclude) > 0 {
		kept = make(nameSet)
		if err := b.names(ctx, exclude, func(name string, _ bool) error { kept.add(name); return nil }); err != nil {
			return Unsaved{}, b.explain(ctx, err)
		}
	}
	err := b.changed(ctx, since, func(name string, bytes int64) {
		if kept == nil || kept.has(name) {
			u.Files++
			u.Bytes += bytes
		}
	})
	if err != nil {
		return Unsaved{}, explainStream(ctx, diffOp, diffHint, err)
	}
	return u, nil
}

// looking is a pass that only asks the node for names.
func looking(r Running, remote Remote, path string, exclude []string) *backupPass {
	remote = r.withTools(remote)
	return &backupPass{req: &BackupRequest{Running: r, Path: path, Exclude: exclude}, remote: remote}
}

// changedSince is from when on a change is none that the backup has, as
// unsaved.sh takes it. What a restore of it has put back is all newer than the
// backup, so its end is what counts then, also in the boot that the backup is of.
// known is false, and all there is has changed, where the node's times say nothing
// of the backup.
func changedSince(r Running, last Manifest) (since string, known bool) {
	switch {
	case last.ID == "":
	case r.Restored.ID == last.ID:
		return "restored", true
	case last.BootID == r.BootID && last.Clock.Time > 0:
		return strconv.FormatInt(last.Clock.Time, 10), true
	}
	return "0", false
}

// changed shows each the names, but for directories, that have changed.
func (b *backupPass) changed(ctx context.Context, since string, each func(name string, bytes int64)) error {
	c := b.command(unsavedScript, since)
	c.Stderr = nil
	return stream(ctx, b.remote, c, func(error) bool { return false }, func(r io.Reader) error {
		return readRecords(r, func(record string) error {
			size, name, _ := strings.Cut(record, " ")
			n, err := strconv.ParseInt(size, 10, 64)
			if err != nil {
				return fmt.Errorf("the node's find wrote %q", Printable(record))
			}
			if name, err = cleanName(name); err == nil {
				each(name, n)
			}
			return err
		})
	})
}

const (
	diffOp   = "see what has changed"
	diffHint = "put GNU find into the image"
)

// A Difference is one name that a node's overlay has otherwise than a backup.
type Difference struct {
	Kind  DiffKind `json:"kind"`
	Path  string   `json:"path"` // escaped
	Bytes int64    `json:"bytes"`
}

// DiffKind says how a name differs, in the letters of Alpine's lbu.
type DiffKind string

// The kinds of difference.
const (
	Added   DiffKind = "A"
	Updated DiffKind = "U"
	Deleted DiffKind = "D"
)

// Diff compares a running node's overlay with a backup, by type, mode, owner,
// size and time of change; where the backup is of the boot that runs, or was put
// back onto it, also by the time of the last change of status, which nothing can
// set back. Directories
// whose time alone has changed are not listed. Differences come in the order of
// their names.
func Diff(ctx context.Context, remote Remote, r Running, store Store, last Manifest) ([]Difference, error) {
	b := looking(r, remote, cmp.Or(r.UpperDir, last.UpperDir), last.Excludes)
	d := differ{had: make(map[string]entry), present: make(nameSet), changed: make(nameSet)}
	err := readBackup(ctx, store, last, func(_ *archive, m member) error {
		d.had[m.name] = m.entry()
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = b.names(ctx, last.Excludes, func(name string, _ bool) error { d.present.add(name); return nil })
	if err != nil {
		return nil, b.explain(ctx, err)
	}
	if since, known := changedSince(r, last); known {
		if err := b.changed(ctx, since, func(name string, _ int64) { d.changed.add(name) }); err != nil {
			return nil, explainStream(ctx, diffOp, diffHint, err)
		}
	}
	c := b.command(surveyScript)
	if err := stream(ctx, b.remote, c, changedOnly, d.survey); err != nil {
		return nil, b.explain(ctx, err)
	}
	for name, was := range d.had {
		if was.kind != whiteout { // where there is nothing to hide, none is made
			d.note(Deleted, name, 0)
		}
	}
	slices.SortFunc(d.found, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return d.found, nil
}

// differ collects differences. had loses what was seen.
type differ struct {
	had     map[string]entry
	present nameSet // what overlay.exclude does not leave out
	changed nameSet // since the backup, as far as the times of status tell; no directories
	found   []Difference
}

func (d *differ) note(kind DiffKind, name string, bytes int64) {
	d.found = append(d.found, Difference{Kind: kind, Path: escape(name), Bytes: bytes})
}

// entry is what is compared of a name. Of whiteouts only that they are.
type entry struct {
	kind     string // as find's %y, or link or whiteout
	mode     uint32
	uid, gid int64
	size     int64
	mtime    timestamp
}

const whiteout = "whiteout"

func (m member) entry() entry {
	if m.whiteout {
		return entry{kind: whiteout}
	}
	e := entry{mode: m.mode, uid: m.uid, gid: m.gid}
	switch m.kind {
	case typeDir:
		e.kind = "d"
		return e
	case typeSymlink:
		e.kind, e.mode = "l", 0
	case typeHardLink:
		e.kind = "link" // to what, its first name says
		return e
	case typeFifo:
		e.kind = "p"
	case typeCharDevice:
		e.kind = "c"
	case typeBlock:
		e.kind = "b"
	default:
		e.kind, e.size = "f", m.size
	}
	e.mtime = m.mtime
	return e
}

// survey reads what survey.sh writes.
func (d *differ) survey(r io.Reader) error { return readSurvey(r, d.compare) }

// readSurvey shows each the names, with the time of the last change of status.
func readSurvey(r io.Reader, each func(name string, is entry, ctime int64)) error {
	return readRecords(r, func(record string) error {
		name, is, ctime, err := parseSurvey(record)
		if err == nil {
			each(name, is, ctime)
		}
		return err
	})
}

// readRecords shows each the records, which end in NUL.
func readRecords(r io.Reader, each func(record string) error) error {
	in := bufio.NewReaderSize(r, readBytes)
	for {
		record, err := in.ReadString(0)
		if errors.Is(err, io.EOF) && record == "" {
			return nil
		}
		if err != nil {
			return err
		}
		if err := each(strings.TrimSuffix(record, "\x00")); err != nil {
			return err
		}
	}
}

func (d *differ) compare(name string, is entry, _ int64) {
	if !d.present.has(name) || is.kind == "s" {
		return
	}
	was, had := d.had[name]
	delete(d.had, name)
	switch {
	case is.kind == whiteout && was.kind != is.kind:
		d.note(Deleted, name, 0)
	case is.kind == whiteout:
	case !had && is.kind == "d":
		d.note(Added, name, 0)
	case !had:
		d.note(Added, name, is.size)
	case was.kind == "link" && is.kind != "d":
		if d.changed.has(name) {
			d.note(Updated, name, is.size)
		}
	case was != is, d.changed.has(name):
		d.note(Updated, name, is.size)
	}
}

func parseSurvey(record string) (name string, e entry, ctime int64, err error) {
	fields := strings.SplitN(record, " ", 8)
	if len(fields) != 8 {
		return "", e, 0, fmt.Errorf("the node's find wrote %q", Printable(record))
	}
	var errs [6]error
	var mode uint64
	mode, errs[0] = strconv.ParseUint(fields[1], 8, 32)
	e.uid, errs[1] = strconv.ParseInt(fields[2], 10, 64)
	e.gid, errs[2] = strconv.ParseInt(fields[3], 10, 64)
	e.size, errs[3] = strconv.ParseInt(fields[4], 10, 64)
	e.mtime, errs[4] = parseFound(fields[5])
	changed, err := parseFound(fields[6])
	errs[5] = err
	e.kind, e.mode = fields[0], uint32(mode)
	switch e.kind {
	case "d":
		e.size, e.mtime = 0, timestamp{}
	case "l":
		e.mode, e.size = 0, 0
	case "f":
	case "c":
		if e.size = 0; e.mode == 0 { // as the kernel makes them
			e = entry{kind: whiteout}
		}
	default:
		e.size = 0
	}
	if err := errors.Join(errs[:]...); err != nil {
		return "", e, 0, fmt.Errorf("the node's find wrote %q", Printable(record))
	}
	name, err = cleanName(fields[7])
	return name, e, changed.sec, err
}

// parseFound reads a time as find's %T@ has it: seconds and nanoseconds side by
// side, so that "-2.5" is half a second after the second before the last before
// 1970, where tar would write "-1.5".
func parseFound(s string) (timestamp, error) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return timestamp{}, err
	}
	nsec, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	return timestamp{sec: sec, nsec: int64(nsec)}, err
}
