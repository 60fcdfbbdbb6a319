package overlay

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxName is the longest path that a system call takes (PATH_MAX with its NUL).
const maxName = 4095

//go:embed scripts/xattrs.sh
var xattrsScript string

// An inquiry asks the node about members, and compares its answers, which come
// in the same order and lack what is not there.
type inquiry struct {
	tool    string // what the node needs for it, as a command that succeeds; "": what restore needs anyway
	without string // what cannot be compared without the tool
	script  string // reads names on stdin, each ended by NUL
	about   func(a *archive, m member) bool
	compare func(a *archive, m member, answers *bufio.Reader) error
}

// compare looks at what was restored and notes what differs from the archive:
// names, types, modes, owners, sizes, times, devices, the targets of links and
// which names share a file; extended attributes, if the node has getfattr; and
// contents, if the request says so. Of files that several members are of, the
// last counts.
func (r *restoration) compare(ctx context.Context) error {
	inquiries := []inquiry{r.names()}
	if r.hasXattrs {
		inquiries = append(inquiries, r.xattrs())
	}
	if r.verify {
		inquiries = append(inquiries, r.contents())
	}
	for _, q := range inquiries {
		if err := r.inquire(ctx, q); err != nil {
			return remoteErrorOrNil(err)
		}
	}
	if r.tooLong > 0 && !r.walks {
		r.note("%d names are longer than %d bytes and were not compared: look at them by hand, from directory to directory", r.tooLong, maxName)
	}
	if more := r.unlike - len(r.report.Differences); more > 0 {
		r.report.Differences = append(r.report.Differences, fmt.Sprintf("… and %d more", more))
	}
	return nil
}

// inquire makes one pass over the archive that sends the names, and another
// that compares the answers.
func (r *restoration) inquire(ctx context.Context, q inquiry) error {
	if ok, err := r.nodeHas(ctx, q.tool); err != nil || !ok {
		if err == nil {
			r.note("%s not compared: the node cannot run %s", q.without, q.tool)
		}
		return err
	}
	from, to := io.Pipe()
	compared := make(chan error, 1)
	go func() {
		err := r.compareAnswers(ctx, q, from)
		from.CloseWithError(err)
		compared <- err
	}()
	ran := r.runFed(ctx, Command{Script: q.script, Stdout: to}, func(w io.Writer) error {
		return r.pass(ctx, func(a *archive, m member) error {
			if len(m.name) > maxName && !r.walks || !q.about(a, m) {
				return nil
			}
			_, err := io.WriteString(w, m.name+"\x00")
			return err
		})
	})
	if xargsFailed(ran) { // names that are not there; the answers lack them
		ran = nil
	}
	to.CloseWithError(ran)
	if err := <-compared; err != nil && (ran == nil || !errors.Is(err, ran)) {
		return err
	}
	return ran
}

// nodeHas tries a command where the restore goes.
func (r *restoration) nodeHas(ctx context.Context, tool string) (bool, error) {
	if tool == "" {
		return true, nil
	}
	err := r.remote.Run(ctx, r.within(Command{Script: tool + " >&2"}))
	if _, ok := errors.AsType[*ExitError](err); ok {
		return false, nil
	}
	return err == nil, err
}

func (r *restoration) compareAnswers(ctx context.Context, q inquiry, from io.Reader) error {
	answers := bufio.NewReaderSize(from, readBytes)
	err := r.pass(ctx, func(a *archive, m member) error {
		if len(m.name) > maxName && !r.walks || !q.about(a, m) {
			return nil
		}
		return q.compare(a, m, answers)
	})
	if err != nil {
		return err
	}
	if rest, err := answers.Peek(1); len(rest) > 0 || !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("the node listed more than it was asked for")
		}
		return err
	}
	return nil
}

// lacks notes a difference that leaves the node without what was restored.
func (r *restoration) lacks(m member, format string, args ...any) {
	r.lacking++
	r.differ(m, format, args...)
}

func (r *restoration) differ(m member, format string, args ...any) {
	r.unlike++
	if len(r.report.Differences) < MaxDifferences-1 {
		r.report.Differences = append(r.report.Differences, Printable(m.name)+": "+fmt.Sprintf(format, args...))
	}
}

// names asks for what stat says.
func (r *restoration) names() inquiry {
	var next *found
	first := make(map[string]string) // the inodes of files with several names
	compare := func(_ *archive, m member, answers *bufio.Reader) error {
		if next == nil {
			var err error
			if next, err = readFound(answers); err != nil {
				return err
			}
		}
		there := next.name == m.name
		switch {
		case there && m.whiteout && !r.unmounted:
			r.lacks(m, "is there, and was deleted")
		case there:
			r.compareMember(m, next, first)
		case !m.whiteout || r.unmounted:
			r.lacks(m, "is missing")
		}
		if there {
			next = nil
		}
		return nil
	}
	return inquiry{script: listScript, about: func(*archive, member) bool { return true }, compare: compare}
}

// found is what stat said of one name.
type found struct {
	name         string // "" after the last
	mode         uint64 // with the type, as in st_mode
	uid, gid     int64
	size         int64
	major, minor uint64
	mtime        timestamp
	several      bool   // names are of this file
	inode        string // with its device
	target       string // of a symbolic link
	told         bool   // stat told the target
}

// readFound reads two records of list.sh.
func readFound(in *bufio.Reader) (*found, error) {
	record, err := in.ReadString(0)
	if errors.Is(err, io.EOF) && record == "" {
		return &found{}, nil
	}
	if err != nil {
		return nil, err
	}
	linked, err := in.ReadString(0)
	if err != nil {
		return nil, err
	}
	fields := strings.SplitN(strings.TrimSuffix(record, "\x00"), " ", 10)
	if len(fields) != 10 {
		return nil, fmt.Errorf("the node's stat wrote %q", Printable(record))
	}
	f := &found{name: fields[9], several: fields[7] != "1", inode: fields[8]}
	f.target, f.told = strings.CutPrefix(strings.TrimSuffix(linked, "\x00"), f.name+" -> ")
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

func (r *restoration) compareMember(m member, f *found, first map[string]string) {
	if m.kind == typeHardLink {
		// Another name of a file that was compared; some archives have nothing
		// right in its header but the name.
		if inode := first[m.link]; inode != f.inode {
			r.differ(m, "is not the same file as %s", Printable(m.link))
		}
		return
	}
	if f.several && f.mode&modeType != 0o040000 {
		first[m.name] = f.inode
	}
	kind := m.fileType()
	switch {
	case f.mode&modeType != kind:
		r.lacks(m, "is of type %#o, not %#o", f.mode&modeType, kind)
	case m.kind != typeSymlink && uint32(f.mode&0o7777) != m.mode:
		r.differ(m, "has mode %#o, not %#o", f.mode&0o7777, m.mode)
	case f.uid != m.uid || f.gid != m.gid:
		r.differ(m, "is owned by %d:%d, not %d:%d", f.uid, f.gid, m.uid, m.gid)
	case m.hasData() && f.size != m.size:
		r.differ(m, "has %d bytes, not %d", f.size, m.size)
	case (m.kind == typeCharDevice || m.kind == typeBlock) && (int64(f.major) != m.major || int64(f.minor) != m.minor):
		r.differ(m, "is device %d:%d, not %d:%d", f.major, f.minor, m.major, m.minor)
	case m.kind == typeSymlink && f.told && f.target != m.link:
		r.differ(m, "leads to %s, not to %s", Printable(f.target), Printable(m.link))
	case f.mtime != m.mtime:
		r.differ(m, "was changed at %s, not at %s", f.mtime, m.mtime)
	}
}

// String gives the time in seconds since 1970.
func (t timestamp) String() string { return fmt.Sprintf("%d.%09d", t.sec, t.nsec) }

// xattrsOf returns the extended attributes that a member is to have. Those of
// overlayfs are seen in an unmounted upper dir only.
func (r *restoration) xattrsOf(a *archive, m member) map[string]string {
	if m.kind == typeHardLink || m.whiteout && !r.unmounted {
		return nil
	}
	var want map[string]string
	for key, value := range a.records {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || (!r.unmounted && strings.HasPrefix(name, "trusted.overlay.")) {
			continue
		}
		if want == nil {
			want = make(map[string]string)
		}
		want[name] = value
	}
	return want
}

// xattrs asks for the extended attributes of members that have some, which are
// few. ACLs are among them.
func (r *restoration) xattrs() inquiry {
	var next *attributes
	compare := func(a *archive, m member, answers *bufio.Reader) error {
		if next == nil {
			var err error
			if next, err = readAttributes(answers); err != nil {
				return err
			}
		}
		var got map[string]string
		if next.name == m.name {
			got, next = next.values, nil
		}
		want := r.xattrsOf(a, m)
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if value, ok := got[name]; !ok || value != want[name] {
				r.differ(m, "its extended attribute %s is %s", Printable(name), map[bool]string{true: "another", false: "missing"}[ok])
			}
		}
		return nil
	}
	return inquiry{
		tool: "getfattr --version", without: "extended attributes and ACLs were", script: xattrsScript,
		about:   func(a *archive, m member) bool { return len(r.xattrsOf(a, m)) > 0 },
		compare: compare,
	}
}

// attributes are what getfattr wrote of one file.
type attributes struct {
	name   string // "" after the last
	values map[string]string
}

// readAttributes reads a file's lines, up to and with the empty one.
func readAttributes(in *bufio.Reader) (*attributes, error) {
	f := &attributes{values: make(map[string]string)}
	for {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return f, nil
		}
		if err != nil {
			return nil, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return f, nil
		}
		if name, ok := strings.CutPrefix(line, "# file: "); ok {
			f.name = unescape(name)
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		decoded, err := hex.DecodeString(strings.TrimPrefix(value, "0x"))
		if err != nil {
			return nil, fmt.Errorf("the node's getfattr wrote %q", Printable(line))
		}
		f.values[unescape(key)] = string(decoded)
	}
}

// contents asks for digests of regular files. Our side of each comes from
// archive/tar, which fills in the holes of sparse files.
func (r *restoration) contents() inquiry {
	next := ""
	compare := func(a *archive, m member, answers *bufio.Reader) error {
		if next == "" {
			var err error
			if next, err = answers.ReadString(0); err != nil && (next != "" || !errors.Is(err, io.EOF)) {
				return err
			}
		}
		sum, name, _ := strings.Cut(strings.TrimSuffix(next, "\x00"), "  ")
		if name != m.name {
			return nil // its absence was told
		}
		next = ""
		want, err := contentOf(a)
		switch {
		case err != nil:
			r.differ(m, "its content could not be compared: %v", err)
		case sum != want:
			r.differ(m, "its content is another")
		}
		return nil
	}
	return inquiry{
		tool: "sha256sum --zero --version", without: "contents were", script: digestScript,
		about:   func(_ *archive, m member) bool { return m.hasData() && !m.whiteout },
		compare: compare,
	}
}

// contentOf hashes the current member's data, with its holes.
func contentOf(a *archive) (string, error) {
	one := tar.NewReader(io.MultiReader(bytes.NewReader(a.head), dataReader{a}, bytes.NewReader(zeroRecord[:])))
	header, err := one.Next()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.CopyN(h, one, header.Size)
	return hex.EncodeToString(h.Sum(nil)), err
}

// A dataReader reads what is left of the current member's data.
type dataReader struct{ a *archive }

// Read reads up to the end of the data's padding.
func (d dataReader) Read(p []byte) (int, error) {
	if d.a.left == 0 {
		return 0, io.EOF
	}
	n, err := d.a.source.Read(p[:min(int64(len(p)), d.a.left)])
	d.a.left -= int64(n)
	if err != nil && d.a.left > 0 {
		return n, truncated(err)
	}
	return n, nil
}
