package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
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
// status, so it costs the node a look at each file and no reading.
func FindUnsaved(ctx context.Context, remote Remote, r Running, last Manifest) (Unsaved, error) {
	remote = r.withTools(remote)
	u := Unsaved{Since: last.ID}
	since := "0"
	switch {
	case last.ID == "":
	case last.BootID == r.BootID && last.Clock.Time > 0:
		since = strconv.FormatInt(last.Clock.Time, 10)
	case r.Restored.ID == last.ID:
		since = "restored"
	default:
		u.Since = ""
	}
	const op = "see what has changed"
	c := Command{Script: unsavedScript, Args: []string{r.BootID, r.UpperDir, since}}
	failed := stream(ctx, remote, c, func(error) bool { return false }, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			n, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				return fmt.Errorf("the node's find wrote %q", Printable(lines.Text()))
			}
			u.Files++
			u.Bytes += n
		}
		return lines.Err()
	})
	switch {
	case failed == nil:
		return u, nil
	case failed.ran != nil:
		return Unsaved{}, remoteError(op, failed.ran)
	}
	return Unsaved{}, &bmc.Error{Op: op, Kind: bmc.KindOverlay, Err: failed.consumed, Hint: "put GNU find into the image"}
}

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
// size and time of change; where the backup is of the boot that runs, also by the
// time of the last change of status, which nothing can set back. Directories
// whose time alone has changed are not listed. Differences come in the order of
// their names.
func Diff(ctx context.Context, remote Remote, r Running, store Store, last Manifest) ([]Difference, error) {
	remote = r.withTools(remote)
	b := &backupPass{req: &BackupRequest{Running: r, Path: last.UpperDir, Exclude: last.Excludes}, remote: remote}
	if r.UpperDir != "" {
		b.req.Path = r.UpperDir
	}
	d := differ{had: make(map[string]entry), present: make(nameSet)}
	if last.BootID == r.BootID && last.Clock.Time > 0 {
		d.since = last.Clock.Time
	}
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
	c := b.command(surveyScript)
	if failed := stream(ctx, remote, c, func(err error) bool { return exitStatus(err) == 1 }, d.survey); failed != nil {
		return nil, b.explain(ctx, failed)
	}
	for name := range d.had {
		d.note(Deleted, name, 0)
	}
	slices.SortFunc(d.found, func(x, y Difference) int { return strings.Compare(x.Path, y.Path) })
	return d.found, nil
}

// differ collects differences. had loses what was seen.
type differ struct {
	had     map[string]entry
	present nameSet // what overlay.exclude does not leave out
	since   int64   // 0: ctimes say nothing
	found   []Difference
}

func (d *differ) note(kind DiffKind, name string, bytes int64) {
	d.found = append(d.found, Difference{Kind: kind, Path: escape(name), Bytes: bytes})
}

// entry is what is compared of a name. Of whiteouts only that they are.
type entry struct {
	kind     string
	mode     uint32
	uid, gid int64
	size     int64
	mtime    timestamp
}

func (m member) entry() entry {
	if m.whiteout {
		return entry{kind: "whiteout"}
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
	in := bufio.NewReaderSize(r, readBytes)
	for {
		record, err := in.ReadString(0)
		if errors.Is(err, io.EOF) && record == "" {
			return nil
		}
		if err != nil {
			return err
		}
		name, is, ctime, err := parseSurvey(strings.TrimSuffix(record, "\x00"))
		if err != nil {
			return err
		}
		each(name, is, ctime)
	}
}

func (d *differ) compare(name string, is entry, ctime int64) {
	if !d.present.has(name) || is.kind == "s" {
		return
	}
	was, had := d.had[name]
	delete(d.had, name)
	switch {
	case is.kind == "whiteout" && was.kind != is.kind:
		d.note(Deleted, name, 0)
	case is.kind == "whiteout":
	case !had && is.kind == "d":
		d.note(Added, name, 0)
	case !had:
		d.note(Added, name, is.size)
	case was.kind == "link" && is.kind != "d":
		if d.since > 0 && ctime >= d.since {
			d.note(Updated, name, is.size)
		}
	case was != is, d.since > 0 && ctime >= d.since && is.kind != "d":
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
			e = entry{kind: "whiteout"}
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
