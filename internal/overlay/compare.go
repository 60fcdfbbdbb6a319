package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxName is the longest path that a system call takes (PATH_MAX with its NUL);
// tar reaches deeper ones step by step, stat does not.
const maxName = 4095

// compare lists the archive's names in the merged view and notes what differs.
// One pass over the archive sends the names, another compares the answers, which
// come in the same order.
func (r *restoration) compare(ctx context.Context) error {
	from, to := io.Pipe()
	compared := make(chan error, 1)
	go func() {
		err := r.compareListing(ctx, from)
		from.CloseWithError(err)
		compared <- err
	}()
	ran := r.inMergedView(ctx, Command{Script: listScript, Stdout: to}, func(w io.Writer) error {
		return r.pass(ctx, func(_ *archive, m member) error {
			if len(m.name) > maxName {
				return nil
			}
			_, err := io.WriteString(w, m.name+"\x00")
			return err
		})
	})
	if xargsFailed(ran) { // names that are not there; the listing lacks them
		ran = nil
	}
	to.CloseWithError(ran)
	err := <-compared
	if more := r.unlike - len(r.report.Differences); more > 0 {
		r.report.Differences = append(r.report.Differences, fmt.Sprintf("… and %d more", more))
	}
	if err != nil && (ran == nil || !errors.Is(err, ran)) {
		ran = err
	}
	return remoteErrorOrNil(ran)
}

func (r *restoration) differ(m member, format string, args ...any) {
	r.unlike++
	if len(r.report.Differences) < MaxDifferences-1 {
		r.report.Differences = append(r.report.Differences, Printable(m.name)+": "+fmt.Sprintf(format, args...))
	}
}

func (r *restoration) compareListing(ctx context.Context, listing io.Reader) error {
	in := bufio.NewReaderSize(listing, readBytes)
	var next *found
	err := r.pass(ctx, func(_ *archive, m member) error {
		if len(m.name) > maxName {
			r.differ(m, "its name is too long to be looked at")
			return nil
		}
		if next == nil {
			var err error
			if next, err = readFound(in); err != nil {
				return err
			}
		}
		there := next.name == m.name
		switch {
		case there && m.whiteout:
			r.differ(m, "is there, and was deleted")
		case there:
			r.compareMember(m, next)
		case !m.whiteout:
			r.differ(m, "is missing")
		}
		if there {
			next = nil
		}
		return nil
	})
	if err != nil {
		return err
	}
	if next != nil && next.name != "" {
		return fmt.Errorf("the node listed %q, which was not asked for", next.name)
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// found is what stat said of one name.
type found struct {
	name         string // "" after the last
	mode         uint64 // with the type, as in st_mode
	uid, gid     int64
	size         int64
	major, minor uint64
	mtime        timestamp
}

// readFound reads one record of list.sh.
func readFound(in *bufio.Reader) (*found, error) {
	record, err := in.ReadString(0)
	if errors.Is(err, io.EOF) && record == "" {
		return &found{}, nil
	}
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(strings.TrimSuffix(record, "\x00"), " ", 8)
	if len(fields) != 8 {
		return nil, fmt.Errorf("the node's stat wrote %q", Printable(record))
	}
	f := &found{name: fields[7]}
	var errs [7]error
	f.mode, errs[0] = strconv.ParseUint(fields[0], 16, 32)
	f.uid, errs[1] = strconv.ParseInt(fields[1], 10, 64)
	f.gid, errs[2] = strconv.ParseInt(fields[2], 10, 64)
	f.size, errs[3] = strconv.ParseInt(fields[3], 10, 64)
	f.major, errs[4] = strconv.ParseUint(fields[4], 16, 32)
	f.minor, errs[5] = strconv.ParseUint(fields[5], 16, 32)
	f.mtime, errs[6] = parseTimestamp(fields[6])
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("the node's stat wrote %q", Printable(record))
	}
	return f, nil
}

// The file types of st_mode (inode(7)).
const (
	modeType = 0o170000
)

// fileType returns the bits of st_mode for a member; 0 for a hard link, which
// may be to a file of any type.
func (m member) fileType() uint64 {
	switch m.kind {
	case typeHardLink:
		return 0
	case typeSymlink:
		return 0o120000
	case typeCharDevice:
		return 0o020000
	case typeBlock:
		return 0o060000
	case typeDir:
		return 0o040000
	case typeFifo:
		return 0o010000
	}
	return 0o100000
}

func (r *restoration) compareMember(m member, f *found) {
	kind := m.fileType()
	switch {
	case kind == 0:
		// Another name of a file that was compared; some archives have nothing
		// right in its header but the name.
	case f.mode&modeType != kind:
		r.differ(m, "is of type %#o, not %#o", f.mode&modeType, kind)
	case m.kind != typeSymlink && uint32(f.mode&0o7777) != m.mode:
		r.differ(m, "has mode %#o, not %#o", f.mode&0o7777, m.mode)
	case f.uid != m.uid || f.gid != m.gid:
		r.differ(m, "is owned by %d:%d, not %d:%d", f.uid, f.gid, m.uid, m.gid)
	case m.hasData() && f.size != m.size:
		r.differ(m, "has %d bytes, not %d", f.size, m.size)
	case (m.kind == typeCharDevice || m.kind == typeBlock) && (int64(f.major) != m.major || int64(f.minor) != m.minor):
		r.differ(m, "is device %d:%d, not %d:%d", f.major, f.minor, m.major, m.minor)
	case f.mtime != m.mtime:
		r.differ(m, "was changed at %s, not at %s", f.mtime, m.mtime)
	}
}

// String gives the time in seconds since 1970.
func (t timestamp) String() string { return fmt.Sprintf("%d.%09d", t.sec, t.nsec) }
