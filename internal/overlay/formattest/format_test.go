package formattest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// The reader.

const (
	block     = 512
	record    = 10240
	maxWindow = 8 << 20
)

// A manifest is what the page's table lists.
type manifest struct {
	Version                   int
	ID, Node, Site            string
	CreatedAt                 time.Time
	Purpose, BootID           string
	Clock                     struct{ Time, Uptime int64 }
	Image                     string
	Volume                    struct{ ID, Created string }
	Kernel, UpperDir          string
	Options                   struct{ Metacopy, RedirectDir, Index string }
	Excludes                  []string
	Portable                  bool
	Flattened                 int
	Partial                   bool
	Counts                    counts
	Changed                   []string
	Skipped                   []skipped
	LeftOut                   []leftOut
	Omitted                   int
	Warnings                  []string
	Base                      string
	Copied                    int
	MovedBytes, RawBytes      int64
	RawSHA256                 string
	StoredBytes               int64
	StoredSHA256, ToolVersion string
	Age                       *struct {
		Recipients  []string
		PlainBytes  int64
		PlainSHA256 string
	}
}

type skipped struct{ Path, Why string }

type leftOut struct {
	Path               string
	Bytes              int64
	SHA256             string
	Mode, Owner, MTime string
}

type counts struct {
	Entries, Files, Directories, Symlinks, HardLinks, Special, Whiteouts, Opaque int
}

// A member is one of the archive: its bytes from its extended header to the last
// block of its data, and what archive/tar makes of it.
type member struct {
	*tar.Header
	start, end int
	records    map[string]string // of its extended header
	name       string            // without the "/" that ends a directory's
	whiteout   bool
}

func (m *member) opaque() bool {
	return m.Typeflag == tar.TypeDir && m.records[overlayAttr+"opaque"] == "y"
}

const (
	xattr       = "SCHILY.xattr."
	overlayAttr = xattr + "trusted.overlay."
)

// A backup is what was read of one.
type backup struct {
	dir      string
	keys     []age.Identity
	manifest manifest
	raw      []byte // the archive
	members  []*member
	counting map[string]*member // the last of each name
}

// A flaw is why a backup is not whole, and which point of "Is it whole?" found it.
type flaw struct {
	point int
	err   error
}

func (f *flaw) Error() string { return fmt.Sprintf("point %d: %v", f.point, f.err) }

// read reads a backup and looks at the five points in their order. keys are those
// of a store that encrypts.
func read(dir string, keys ...age.Identity) (*backup, error) {
	b := &backup{dir: dir, keys: keys}
	for i, look := range []func() error{b.describes, b.stored, b.decompresses, b.holds, b.lists} {
		if err := look(); err != nil {
			return b, &flaw{i + 1, err}
		}
	}
	return b, nil
}

var (
	idForm   = regexp.MustCompile(`^\d{8}T\d{6}Z(-([2-9]|[1-9]\d+))?$`)
	nodeForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hexForm  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// describes is point 1.
func (b *backup) describes() error {
	text, err := os.ReadFile(filepath.Join(b.dir, "manifest.json"))
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return errors.New("manifest.json is not UTF-8")
	}
	if err := json.Unmarshal(text, &b.manifest); err != nil {
		return err
	}
	id, node := filepath.Base(b.dir), filepath.Base(filepath.Dir(b.dir))
	switch m := b.manifest; {
	case m.Version != 1:
		return fmt.Errorf("version %d is not known", m.Version)
	case m.ID != id || !idForm.MatchString(id):
		return fmt.Errorf("%q in a directory %q", m.ID, id)
	case m.Node != node || !nodeForm.MatchString(node):
		return fmt.Errorf("node %q in a directory %q", m.Node, node)
	}
	return nil
}

var fileSet = []string{"RESTORE.txt", "SHA256SUMS", "deleted.lst", "manifest.json", "opaque.lst", "overlay.tar.zst"}

// named is what a file is called, which may be encrypted.
func (b *backup) named(name string) string {
	if b.manifest.Age != nil && slices.Contains([]string{"overlay.tar.zst", "deleted.lst", "opaque.lst"}, name) {
		return name + ".age"
	}
	return name
}

// plain reads a file, and decrypts it if it has to be.
func (b *backup) plain(name string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(b.dir, b.named(name)))
	if err != nil || b.named(name) == name {
		return text, err
	}
	r, err := age.Decrypt(bytes.NewReader(text), b.keys...)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// stored is point 2.
func (b *backup) stored() error {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return err
	}
	digests := make(map[string]string)
	var names, want []string
	for _, name := range fileSet {
		want = append(want, b.named(name))
	}
	for _, e := range entries {
		names = append(names, e.Name())
		content, err := os.ReadFile(filepath.Join(b.dir, e.Name()))
		if err != nil {
			return err
		}
		digests[e.Name()] = digest(content)
		if e.Name() == b.named("overlay.tar.zst") && int64(len(content)) != b.manifest.StoredBytes {
			return fmt.Errorf("%d bytes, storedBytes is %d", len(content), b.manifest.StoredBytes)
		}
	}
	if !slices.Equal(names, want) {
		return fmt.Errorf("files %q", names)
	}
	if is := digests[b.named("overlay.tar.zst")]; is != b.manifest.StoredSHA256 {
		return fmt.Errorf("storedSHA256 is not %s", is)
	}
	sums, err := os.ReadFile(filepath.Join(b.dir, "SHA256SUMS"))
	if err != nil {
		return err
	}
	delete(digests, "SHA256SUMS")
	listed := make(map[string]string)
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		listed[name] = sum
	}
	if !maps.Equal(listed, digests) {
		return fmt.Errorf("SHA256SUMS: %s", cmp.Diff(digests, listed))
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// decompresses is point 3.
func (b *backup) decompresses() error {
	text, err := b.plain("overlay.tar.zst")
	if err != nil {
		return err
	}
	if a := b.manifest.Age; a != nil && (int64(len(text)) != a.PlainBytes || digest(text) != a.PlainSHA256) {
		return fmt.Errorf("%d bytes with the digest %s, not plainBytes and plainSHA256", len(text), digest(text))
	}
	if err := frames(text); err != nil {
		return err
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer d.Close()
	if b.raw, err = d.DecodeAll(text, nil); err != nil {
		return err
	}
	if int64(len(b.raw)) != b.manifest.RawBytes || digest(b.raw) != b.manifest.RawSHA256 {
		return fmt.Errorf("%d bytes with the digest %s, not rawBytes and rawSHA256", len(b.raw), digest(b.raw))
	}
	return nil
}

// frames looks at the zstd frames, which are all of b (RFC 8878, 3.1.1).
func frames(b []byte) error {
	for len(b) > 0 {
		var h zstd.Header
		if err := h.Decode(b); err != nil {
			return err
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		if h.Skippable || window > maxWindow {
			return fmt.Errorf("a frame that is skippable (%v) or has a window of %d bytes", h.Skippable, window)
		}
		b = b[h.HeaderSize:]
		for last := false; !last; {
			if len(b) < 3 {
				return io.ErrUnexpectedEOF
			}
			v := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
			last = v&1 == 1
			size := v >> 3
			if v>>1&3 == 1 { // one byte that is repeated
				size = 1
			}
			if len(b) < 3+size {
				return io.ErrUnexpectedEOF
			}
			b = b[3+size:]
		}
		if h.HasCheckSum {
			b = b[min(4, len(b)):] // the decoder misses it
		}
	}
	return nil
}

// holds is point 4.
func (b *backup) holds() error {
	var err error
	if b.members, err = walk(b.raw); err != nil {
		return err
	}
	r := tar.NewReader(bytes.NewReader(b.raw))
	b.counting = make(map[string]*member)
	for i, m := range b.members {
		if m.Header, err = r.Next(); err != nil {
			return fmt.Errorf("member %d: %w", i, err)
		}
		m.name = strings.TrimSuffix(m.Name, "/")
		if err := b.form(i, m); err != nil {
			return fmt.Errorf("member %d, %q: %w", i, m.Name, err)
		}
		b.counting[m.name] = m
	}
	if _, err := r.Next(); err != io.EOF {
		return fmt.Errorf("after the last member: %w", err)
	}
	if is := b.count(); is != b.manifest.Counts {
		return fmt.Errorf("counts %s", cmp.Diff(b.manifest.Counts, is))
	}
	return nil
}

// walk finds the members, and the end of the archive (POSIX.1-2001, pax).
func walk(raw []byte) ([]*member, error) {
	var members []*member
	m := &member{}
	for at := 0; ; {
		if at+2*block > len(raw) {
			return nil, errors.New("it has no end")
		}
		h := raw[at : at+block]
		if zero(h) {
			if !zero(raw[at:]) || m.records != nil || len(raw)%record != 0 {
				return nil, errors.New("its end is not two blocks of zeros and more up to 10,240 bytes")
			}
			return members, nil
		}
		size, err := header(h)
		if err != nil {
			return nil, fmt.Errorf("at %d: %w", at, err)
		}
		end := at + block + (size+block-1)/block*block
		if end > len(raw) || !zero(raw[at+block+size:end]) {
			return nil, fmt.Errorf("at %d: data that is cut off, or not filled with zeros", at)
		}
		if h[156] == tar.TypeXHeader && m.records == nil {
			m.start = at
			if m.records, err = extended(raw[at+block : at+block+size]); err != nil {
				return nil, fmt.Errorf("at %d: %w", at, err)
			}
		} else if strings.IndexByte("0123456", h[156]) >= 0 && m.records != nil {
			m.end = end
			members, m = append(members, m), &member{}
		} else {
			return nil, fmt.Errorf("at %d: type %q", at, h[156])
		}
		at = end
	}
}

// zeros are compared with, since sparse files have gigabytes of them.
var zeros [64 << 10]byte

func zero(b []byte) bool {
	for ; len(b) > len(zeros); b = b[len(zeros):] {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
	}
	return bytes.Equal(b, zeros[:len(b)])
}

// header checks a header block and returns how many bytes of data follow.
func header(h []byte) (int, error) {
	if string(h[257:265]) != "ustar\x0000" {
		return 0, errors.New("it has no header of POSIX.1")
	}
	sum := 8 * ' '
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += rune(c)
		}
	}
	if want, err := octal(h[148:156]); err != nil || want != int(sum) {
		return 0, errors.New("its checksum is wrong")
	}
	return octal(h[124:136])
}

func octal(b []byte) (int, error) {
	n, err := strconv.ParseUint(strings.Trim(string(b), " \x00"), 8, 36)
	return int(n), err
}

// extended reads the records of an extended header: "LENGTH KEY=VALUE\n".
func extended(b []byte) (map[string]string, error) {
	records := make(map[string]string)
	for len(b) > 0 {
		length, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.Atoi(length)
		if err != nil || n <= len(length) || n > len(b) || b[n-1] != '\n' {
			return nil, errors.New("an extended record has no length")
		}
		key, value, _ := strings.Cut(string(b[len(length)+1:n-1]), "=")
		records[key], b = value, b[n:]
	}
	return records, nil
}

// recordForm is every extended record that the page has.
var recordForm = regexp.MustCompile(`^(SCHILY\.xattr\..+|SCHILY\.acl\.(access|default)|[mac]time|path|linkpath|size|uid|gid|GNU\.sparse\.(major|minor|name|realsize))$`)

// form checks one member. Those before it are in b.counting.
func (b *backup) form(i int, m *member) error {
	if (i == 0) != (m.Name == "./") || !strings.HasPrefix(m.Name, "./") || slices.Contains(strings.Split(m.Name, "/"), "..") {
		return errors.New("not a name that it may have there")
	}
	for key := range m.records {
		if !recordForm.MatchString(key) {
			return fmt.Errorf("a record %q", key)
		}
	}
	for _, key := range []string{"metacopy", "redirect"} {
		if _, has := m.records[overlayAttr+key]; has && b.manifest.Portable {
			return fmt.Errorf("%s, and yet portable", key)
		}
	}
	if m.records["GNU.sparse.name"] != "" && m.records["GNU.sparse.major"]+"."+m.records["GNU.sparse.minor"] != "1.0" {
		return errors.New("sparse in another form than 1.0")
	}
	switch m.Typeflag {
	case tar.TypeChar:
		m.whiteout = m.Devmajor == 0 && m.Devminor == 0
	case tar.TypeLink:
		target := b.counting[m.Linkname]
		if target == nil {
			return fmt.Errorf("a link to %q, which is no earlier member", m.Linkname)
		}
		m.whiteout = target.whiteout
	}
	return nil
}

func (b *backup) count() counts {
	c := counts{Entries: len(b.members)}
	for _, m := range b.members {
		switch {
		case m.whiteout:
			c.Whiteouts++
		case m.Typeflag == tar.TypeReg:
			c.Files++
		case m.Typeflag == tar.TypeDir:
			c.Directories++
		case m.Typeflag == tar.TypeSymlink:
			c.Symlinks++
		case m.Typeflag == tar.TypeLink:
			c.HardLinks++
		default:
			c.Special++
		}
		if m.opaque() {
			c.Opaque++
		}
	}
	return c
}

// lists is point 5.
func (b *backup) lists() error {
	for name, is := range map[string]func(*member) bool{
		"deleted.lst": func(m *member) bool { return m.whiteout },
		"opaque.lst":  (*member).opaque,
	} {
		var want strings.Builder
		for _, m := range b.members {
			if is(m) {
				want.WriteString(m.name + "\x00")
			}
		}
		has, err := b.plain(name)
		if err != nil {
			return err
		}
		if string(has) != want.String() {
			return fmt.Errorf("%s: %s", name, cmp.Diff(want.String(), string(has)))
		}
	}
	return nil
}

// content hashes the parts of a file that are not zeros, each with its place.
func content(r io.Reader) string {
	h := sha256.New()
	for at, part := 0, make([]byte, len(zeros)); ; at++ {
		n, err := io.ReadFull(r, part)
		if !zero(part[:n]) {
			fmt.Fprint(h, at, ":")
			h.Write(part[:n])
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return hex.EncodeToString(h.Sum(nil)[:8])
		}
		if err != nil {
			return err.Error()
		}
	}
}

// views describes what is to be seen of each name, as view does. A whiteout is
// "", and a hard link what it is linked to.
func (b *backup) views(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	r := tar.NewReader(bytes.NewReader(b.raw))
	for _, m := range b.members {
		h, err := r.Next()
		must(t, err)
		switch {
		case m.whiteout:
			all[m.name] = ""
		case m.Typeflag == tar.TypeLink:
			all[m.name] = all[m.Linkname]
		default:
			d := fmt.Sprintf("%04o %d:%d %d.%09d", h.Mode&0o7777, h.Uid, h.Gid, h.ModTime.Unix(), h.ModTime.Nanosecond())
			switch h.Typeflag {
			case tar.TypeReg:
				d += fmt.Sprintf(" %d bytes %s", h.Size, content(r))
			case tar.TypeSymlink:
				d += fmt.Sprintf(" -> %q", h.Linkname)
			case tar.TypeChar, tar.TypeBlock:
				d += fmt.Sprintf(" %c %d:%d", h.Typeflag, h.Devmajor, h.Devminor)
			default:
				d += fmt.Sprintf(" %c", h.Typeflag)
			}
			all[m.name] = d + m.attributes()
		}
	}
	return all
}

// attributes are the extended ones, as the merged view shows them.
func (m *member) attributes() string {
	var list []string
	for key, value := range m.records {
		name, ok := strings.CutPrefix(key, xattr)
		if !ok {
			continue
		}
		name = strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)
		if inner, ok := strings.CutPrefix(name, "trusted.overlay."); ok {
			if inner, ok = strings.CutPrefix(inner, "overlay."); !ok {
				continue
			}
			name = "trusted.overlay." + inner
		}
		list = append(list, fmt.Sprintf(" %s=%x", name, value))
	}
	slices.Sort(list)
	return strings.Join(list, "")
}

// unescape reads a name of the manifest: \ooo and \\, and printable UTF-8.
func unescape(t *testing.T, s string) string {
	t.Helper()
	var name []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			name = append(name, s[i])
			continue
		}
		if strings.HasPrefix(s[i:], `\\`) {
			name = append(name, '\\')
			i++
			continue
		}
		n, err := strconv.ParseUint(s[i+1:min(i+4, len(s))], 8, 8)
		if err != nil || i+4 > len(s) {
			t.Fatalf("%q: what is escaped is three octal digits", s)
		}
		name = append(name, byte(n))
		i += 3
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return c == utf8.RuneError || !unicode.IsPrint(c) }); i >= 0 {
		t.Errorf("%q holds what is not printable", s)
	}
	return string(name)
}

// The nodes.

// An image is what nodes boot, any number of times.
type image struct {
	dir   string
	boots int
}

// tarScript stands before the node's tar: what /run/meanwhile says happens once
// the first MiB of an archive has gone out, and what /run/complaints has is said.
const tarScript = `#!/bin/sh
[ ! -e /run/complaints ] || cat /run/complaints >&2
PATH=TARS:$PATH
[ -e /run/meanwhile ] || exec tar "$@"
{ tar "$@"; echo $? >/run/status; } | { dd bs=1M count=1 iflag=fullblock 2>/dev/null; sh /run/meanwhile; cat; }
exit "$(cat /run/status)"
`

func newImage(t *testing.T) *image {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "a real overlay mount needs root")
	}
	for _, program := range []string{"unshare", "nsenter", "chroot", "setfattr", "setfacl", "setcap", "zstd", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Unable(t, err.Error())
		}
	}
	realTar, err := exec.LookPath("tar")
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	if out, err := exec.Command("unshare", "-m", "-p", "-f", "true").CombinedOutput(); err != nil {
		testenv.Unable(t, fmt.Sprintf("namespaces are refused: %s", out))
	}
	img := &image{dir: t.TempDir()}
	must(t, os.Chmod(img.dir, 0o755))
	must(t, os.MkdirAll(img.path("lower/usr/local/bin"), 0o755))
	run(t, "sh", "../testdata/lower.sh", img.path("lower"))
	script := strings.ReplaceAll(tarScript, "TARS", filepath.Dir(realTar))
	must(t, os.WriteFile(img.path("lower/usr/local/bin/tar"), []byte(script), 0o755))
	must(t, os.WriteFile(img.path("cmdline"), []byte("root=live:CDLABEL=LAB quiet\n"), 0o644))
	return img
}

func (img *image) path(name string) string { return filepath.Join(img.dir, name) }

// bootScript DIR BOOTID: a live system as far as an overlay goes, in namespaces
// of its own. DIR holds lower (the image's own tree, over the machine's) and
// cmdline. The image lies below /run, where the system itself reaches it.
const bootScript = `set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/overlay/rw /run/overlay/work /run/image /run/root
mount --bind / /run/image
cp -a "$1/lower" /run/lower
mount -t overlay overlay \
	-o "lowerdir=/run/lower:/run/image,upperdir=/run/overlay/rw,workdir=/run/overlay/work${OPTIONS:+,$OPTIONS}" /run/root
root=/run/root
mount -t proc proc $root/proc
mount --bind "$1/cmdline" $root/proc/cmdline
mount --bind "$2" $root/proc/sys/kernel/random/boot_id
mount --rbind /sys $root/sys
mount -t tmpfs tmpfs $root/dev
mknod -m 666 $root/dev/null c 1 3
mknod -m 666 $root/dev/zero c 1 5
mknod -m 666 $root/dev/urandom c 1 9
mount -t tmpfs tmpfs $root/tmp
mount --rbind /run $root/run
exec chroot $root sh -c 'echo booted; exec cat'`

// A node is a booted system, and the overlay.Remote that runs scripts on it.
type node struct {
	pid    string // of a process in it
	root   string // its "/", as this process sees it
	bootID string
}

// boot starts a system with a new overlay, mounted with options. It ends with
// the test, and with it all that it has mounted.
func (img *image) boot(t *testing.T, options string) *node {
	t.Helper()
	img.boots++
	bootID := fmt.Sprintf("00000000-0000-4000-8000-%012d", img.boots)
	must(t, os.WriteFile(img.path(bootID), []byte(bootID+"\n"), 0o644))
	cmd := exec.Command("unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private",
		"sh", "-c", bootScript, "sh", img.dir, img.path(bootID))
	cmd.Env = append(os.Environ(), "OPTIONS="+options, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdin, err := cmd.StdinPipe() // the node is up until it ends
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(stdout, make([]byte, len("booted\n"))); err != nil {
		_ = cmd.Wait()
		t.Fatalf("the node did not start: %s", errs.String())
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
	must(t, err)
	pid := strings.TrimSpace(string(b))
	return &node{pid: pid, root: "/proc/" + pid + "/root", bootID: bootID}
}

// Run runs a command in the node's namespaces.
func (n *node) Run(ctx context.Context, c overlay.Command) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	args := append([]string{"-t", n.pid, "-m", "-p", "-r", "-w", "--", "sh", "-c", c.Script, "livecd-sync"}, c.Args...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = c.Stdout, &errs
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(&errs, c.Stderr)
	}
	if c.Stdin != nil {
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		// Not waited for: a read may be under way when the command ends.
		go func() {
			if _, err := io.Copy(stdin, readOnly{c.Stdin, cancel}); err == nil {
				_ = stdin.Close()
			}
		}()
	}
	err := cmd.Run()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &overlay.ExitError{Status: exit.ExitCode(), Stderr: errs.String()}
	}
	return err
}

// A readOnly ends a command when what it reads has an error.
type readOnly struct {
	io.Reader
	cancel context.CancelCauseFunc
}

func (r readOnly) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.cancel(err)
	}
	return n, err
}

// sh runs a script on the node and returns what it wrote.
func (n *node) sh(t *testing.T, script string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := n.Run(t.Context(), overlay.Command{Script: script, Args: args, Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// oddName is not UTF-8, and has a backslash, a newline and a letter beyond ASCII.
const oddName = "odd\xe9\\\n\u00e9"

// change makes changes of every kind, with one of each that cannot be in an
// archive: a socket, and a file without a name.
func (n *node) change(t *testing.T) {
	t.Helper()
	script, err := os.ReadFile("../testdata/change.sh")
	must(t, err)
	n.sh(t, string(script))
	n.sh(t, `cd /lab
setfattr -n 'user.a=b%c' -v x modified
setfattr -n trusted.overlay.opaque -v y acl-dir # as an overlay inside this one does
(exec 3>unnamed && rm unnamed && exec tail -f /dev/null) </dev/null >/dev/null 2>&1 &
until [ -d /proc/$! ] && [ ! -e unnamed ] && ls -l /proc/$!/fd | grep -q unnamed; do :; done`)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.root + "/lab/socket" + oddName})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
}

// look describes one file as the node sees it; "" if it is not there.
func (n *node) look(t *testing.T, name string) string {
	t.Helper()
	full := n.root + "/" + name
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		if err != unix.ENOENT {
			t.Error(err)
		}
		return ""
	}
	d := fmt.Sprintf("%04o %d:%d %d.%09d", st.Mode&0o7777, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f, err := os.Open(full)
		must(t, err)
		defer f.Close()
		d += fmt.Sprintf(" %d bytes %s", st.Size, content(f))
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		must(t, err)
		d += fmt.Sprintf(" -> %q", target)
	case unix.S_IFCHR:
		d += fmt.Sprintf(" %c %d:%d", tar.TypeChar, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFBLK:
		d += fmt.Sprintf(" %c %d:%d", tar.TypeBlock, unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFDIR:
		d += fmt.Sprintf(" %c", tar.TypeDir)
	case unix.S_IFIFO:
		d += fmt.Sprintf(" %c", tar.TypeFifo)
	}
	return d + attributes(t, full)
}

func attributes(t *testing.T, name string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	must(t, err)
	var list []string
	for _, key := range strings.FieldsFunc(string(buf[:n]), func(c rune) bool { return c == 0 }) {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, key, value)
		must(t, err)
		list = append(list, fmt.Sprintf(" %s=%x", key, value[:n]))
	}
	sort.Strings(list)
	return strings.Join(list, "")
}

// view describes all of /lab, and what was changed elsewhere, below a directory
// of the node. Names of one file get the first of them.
func (n *node) view(t *testing.T, root string) map[string]string {
	t.Helper()
	all, first := make(map[string]string), make(map[[2]uint64]string)
	for _, top := range []string{"lab", "usr/bin/lab-new", "usr/lib/lab-dir", "etc/lab-new", "etc/passwd"} {
		from := n.root + root
		must(t, filepath.WalkDir(from+top, func(full string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(full, &st); err != nil {
				return err
			}
			name := strings.TrimPrefix(full, from)
			inode := [2]uint64{st.Dev, st.Ino}
			if first[inode] == "" || d.IsDir() {
				first[inode] = name
			}
			all["./"+name] = n.look(t, root+name) + " = " + first[inode] + fmt.Sprint(" ", st.Blocks, " blocks")
			return nil
		}))
	}
	return all
}

// A shelf is a store in a directory.
type shelf struct {
	overlay.Store
	dir  string
	keys []age.Identity
}

// newShelf makes a store, which encrypts if there are keys.
func newShelf(t *testing.T, keys ...*age.X25519Identity) *shelf {
	t.Helper()
	s := &shelf{dir: t.TempDir()}
	described := site.Store{Name: "test", URL: "file://" + s.dir}
	for _, key := range keys {
		if described.Age == nil {
			described.Age = &site.Age{}
		}
		described.Age.Recipients = append(described.Age.Recipients, key.Recipient().String())
		s.keys = append(s.keys, key)
	}
	var err error
	s.Store, err = store.Open(described, store.Config{})
	must(t, err)
	return s
}

func request() overlay.BackupRequest {
	return overlay.BackupRequest{Node: "n1", Site: "lab", Image: "lab-1", Purpose: overlay.PurposeReset, ToolVersion: "test"}
}

// backUp makes a backup and reads it.
func (s *shelf) backUp(t *testing.T, n *node, req overlay.BackupRequest) *backup {
	t.Helper()
	m, err := overlay.Backup(t.Context(), n, s, req)
	must(t, err)
	b, err := read(filepath.Join(s.dir, req.Node, m.ID), s.keys...)
	must(t, err)
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// What the page says of a backup that is whole.

var mounts = map[string]string{"plain": "", "metacopy": "metacopy=on,redirect_dir=on"}

func TestBackup(t *testing.T) {
	img := newImage(t)
	for name, options := range mounts {
		t.Run(name, func(t *testing.T) {
			n := img.boot(t, options)
			n.change(t)
			s := newShelf(t)
			began := time.Now().Truncate(time.Second)
			b := s.backUp(t, n, request())
			sumsAreRead(t, b)
			manifestIsLast(t, b)
			manifestIsListed(t, b)
			manifestIsTrue(t, n, b, began)
			if (b.manifest.Flattened > 0) != (options != "") {
				t.Errorf("%d members are from the merged view", b.manifest.Flattened)
			}
			archiveIsTrue(t, n, b)
			everythingIsThere(t, n, b)
			restoresByHand(t, img, n, b)
		})
	}
}

func sumsAreRead(t *testing.T, b *backup) {
	t.Helper()
	cmd := exec.Command("sha256sum", "-c", "--strict", "SHA256SUMS")
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), ": OK\n") != len(fileSet)-1 {
		t.Errorf("sha256sum -c: %v\n%s", err, out)
	}
}

func manifestIsLast(t *testing.T, b *backup) {
	t.Helper()
	last, err := os.Stat(filepath.Join(b.dir, "manifest.json"))
	must(t, err)
	for _, name := range fileSet {
		st, err := os.Stat(filepath.Join(b.dir, b.named(name)))
		must(t, err)
		if st.ModTime().After(last.ModTime()) {
			t.Errorf("%s was written after manifest.json", name)
		}
	}
}

// pageRow is a row of the page's table of members.
var pageRow = regexp.MustCompile("(?m)^\\| (`[^|]+`) \\| ([^|]+) \\| (.+) \\|$")

// quoted is what stands between backquotes.
var quoted = regexp.MustCompile("`(\\w+)`")

// manifestIsListed compares the manifest's members and their types with the
// page's table, as it is.
func manifestIsListed(t *testing.T, b *backup) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/backup-format.md")
	must(t, err)
	_, page, found := bytes.Cut(page, []byte("\n## manifest.json\n"))
	page, _, more := bytes.Cut(page, []byte("\n## "))
	if !found || !more {
		t.Fatal("the page has no table of members")
	}
	listed := make(map[string]string)
	for _, row := range pageRow.FindAllStringSubmatch(string(page), -1) {
		if b.manifest.Age == nil && strings.HasPrefix(row[3], "only where the store encrypts") {
			continue
		}
		types := strings.Split(row[2], ", ")
		if strings.ContainsAny(row[2], "{") {
			types = []string{row[2]}
		} else if row[2] == "object" {
			types = []string{"{" + strings.Join(words(row[3]), ", ") + "}"}
		}
		for i, name := range words(row[1]) {
			listed[name] = strings.Trim(types[min(i, len(types)-1)], "`")
		}
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "manifest.json"))
	must(t, err)
	var members map[string]any
	must(t, json.Unmarshal(text, &members))
	has := make(map[string]string)
	for name, value := range members {
		has[name] = typeOf(value, listed[name])
	}
	if diff := cmp.Diff(listed, has); diff != "" {
		t.Errorf("the page (-) and the manifest (+):\n%s", diff)
	}
}

func words(s string) []string {
	var list []string
	for _, m := range quoted.FindAllStringSubmatch(s, -1) {
		if !slices.Contains(list, m[1]) {
			list = append(list, m[1])
		}
	}
	return list
}

// nested are the members of objects that are no strings.
var nested = []string{"time", "uptime", "bytes", "plainBytes", "entries", "files", "directories", "symlinks", "hardLinks", "special", "whiteouts", "opaque"}

// typeOf names a value's type as the page does; said is what the page calls it.
func typeOf(v any, said string) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case float64:
		if v != float64(int64(v)) {
			return fmt.Sprint(v)
		}
		if said == "1" && v == 1 {
			return said
		}
		return "number"
	case nil:
		if strings.HasPrefix(said, "[") || said == "strings" {
			return said // an empty list
		}
	case []any:
		is := said
		for _, element := range v {
			if said == "strings" {
				is = typeOf(element, "") + "s"
			} else {
				is = "[" + typeOf(element, strings.Trim(said, "[]")) + "]"
			}
			if is != said {
				return is
			}
		}
		return is
	case map[string]any:
		return typeOfObject(v, said)
	}
	return fmt.Sprintf("%T", v)
}

func typeOfObject(v map[string]any, said string) string {
	names := strings.Split(strings.Trim(said, "{}"), ", ")
	for name, value := range v {
		want := "string"
		switch {
		case slices.Contains(nested, name):
			want = "number"
		case name == "recipients":
			want = "strings"
		}
		if is := typeOf(value, want); is != want || !slices.Contains(names, name) {
			return fmt.Sprintf("{… %s: %s …}", name, is)
		}
	}
	if len(v) != len(names) {
		return fmt.Sprintf("%d members", len(v))
	}
	return said
}

// manifestIsTrue compares the manifest with the node and the request.
func manifestIsTrue(t *testing.T, n *node, b *backup, began time.Time) {
	t.Helper()
	m := b.manifest
	var name unix.Utsname
	must(t, unix.Uname(&name))
	same := func(what string, is, want any) {
		t.Helper()
		if is != want {
			t.Errorf("%s is %v, want %v", what, is, want)
		}
	}
	same("site, image, purpose and toolVersion", fmt.Sprint(m.Site, m.Image, m.Purpose, m.ToolVersion), fmt.Sprint("lab", "lab-1", "reset", "test"))
	same("bootID", m.BootID, n.bootID)
	same("kernel", m.Kernel, unix.ByteSliceToString(name.Release[:]))
	same("upperDir", m.UpperDir, "/run/overlay/rw")
	same("volume", m.Volume.ID+m.Volume.Created, "")
	on := map[bool]string{true: "on", false: "off"}[m.Flattened > 0]
	same("options", m.Options, struct{ Metacopy, RedirectDir, Index string }{on, on, "off"})
	same("portable and partial", fmt.Sprint(m.Portable, m.Partial), "true false")
	same("lists", len(m.Excludes)+len(m.Changed)+len(m.LeftOut)+len(m.Warnings)+m.Omitted, 0)
	same("base", m.Base, "")
	same("copied", m.Copied, 0)
	if m.MovedBytes <= 0 || m.MovedBytes > m.RawBytes {
		t.Errorf("movedBytes is %d", m.MovedBytes)
	}
	for _, sum := range []string{m.RawSHA256, m.StoredSHA256} {
		same("form of "+sum, hexForm.MatchString(sum), true)
	}
	timesAreTrue(t, n, m, began)
	var names []string
	for _, s := range m.Skipped {
		names = append(names, unescape(t, s.Path))
		same("why of "+s.Path, s.Why != "", true)
	}
	slices.Sort(names)
	same("skipped", fmt.Sprintf("%q", names), fmt.Sprintf("%q", []string{"./lab/socket" + oddName, "./lab/unnamed"}))
}

func timesAreTrue(t *testing.T, n *node, m manifest, began time.Time) {
	t.Helper()
	id, err := time.Parse("20060102T150405Z", m.ID)
	must(t, err)
	now := time.Now()
	if id.Before(began) || m.CreatedAt.Before(id) || m.CreatedAt.After(now) || m.Clock.Time < began.Unix() || m.Clock.Time > m.CreatedAt.Unix() {
		t.Errorf("began %v, id %s, clock %v, createdAt %v", began, m.ID, m.Clock, m.CreatedAt)
	}
	var uptime float64
	_, err = fmt.Sscan(n.sh(t, "cat /proc/uptime"), &uptime)
	must(t, err)
	if m.Clock.Uptime <= 0 || float64(m.Clock.Uptime) > uptime || uptime-float64(m.Clock.Uptime) > now.Sub(began).Seconds()+2 {
		t.Errorf("the clock's uptime is %d, the node's %v", m.Clock.Uptime, uptime)
	}
}

// archiveIsTrue compares each member with what the node shows under its name.
func archiveIsTrue(t *testing.T, n *node, b *backup) {
	t.Helper()
	for name, want := range b.views(t) {
		if is := n.look(t, name); is != want {
			t.Errorf("%q\n\tin the archive %s\n\ton the node    %s", name, want, is)
		}
	}
	for _, name := range []string{"access", "default"} {
		for _, m := range b.members {
			_, text := m.records["SCHILY.acl."+name]
			_, binary := m.records[xattr+"system.posix_acl_"+name]
			if text != binary {
				t.Errorf("%q: the two forms of its ACL are not both there", m.Name)
			}
		}
	}
	for _, name := range []string{"sparse", "huge", "hole"} {
		if m := b.counting["./lab/"+name]; m.records["GNU.sparse.major"] != "1" || m.end-m.start > 64<<10 {
			t.Errorf("%s is not in it as a sparse file: %v", name, m.records)
		}
	}
	for _, m := range b.members {
		if m.Typeflag == tar.TypeLink && !m.whiteout {
			a, aerr := os.Lstat(n.root + "/" + m.Name)
			b, berr := os.Lstat(n.root + "/" + m.Linkname)
			if aerr != nil || berr != nil || !os.SameFile(a, b) {
				t.Errorf("%q is not linked to %q", m.Name, m.Linkname)
			}
		}
	}
}

// everythingIsThere compares the names with those of the upper dir.
func everythingIsThere(t *testing.T, n *node, b *backup) {
	t.Helper()
	elsewhere := make(map[string]bool)
	for _, s := range b.manifest.Skipped {
		elsewhere[unescape(t, s.Path)] = true
	}
	top := n.root + b.manifest.UpperDir
	must(t, filepath.WalkDir(top, func(full string, _ fs.DirEntry, err error) error {
		name := "." + strings.TrimPrefix(full, top)
		if (b.counting[name] != nil) == elsewhere[name] {
			t.Errorf("%q is not in the archive once, or skipped", name)
		}
		return err
	}))
}

// handStep is a step of RESTORE.txt, and handCommand what it says to type.
var (
	handStep    = regexp.MustCompile(`(?m)^\d\. `)
	handCommand = regexp.MustCompile(`(?m)^ {5}(.*)$`)
)

// handCommands are the commands of the steps 1 to 3, by their numbers.
func handCommands(t *testing.T, b *backup) (commands [4]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "RESTORE.txt"))
	must(t, err)
	steps := handStep.Split(string(text), -1)
	if len(steps) != 5 {
		t.Fatalf("RESTORE.txt has %d steps", len(steps)-1)
	}
	for i := range commands {
		for _, line := range handCommand.FindAllStringSubmatch(steps[i], -1) {
			commands[i] += line[1] + "\n"
		}
	}
	return commands
}

// restoresByHand does what the steps 1 to 3 of RESTORE.txt say, on a system that
// has booted the image anew, with nothing but the programs they name.
func restoresByHand(t *testing.T, img *image, was *node, b *backup) {
	t.Helper()
	commands := handCommands(t, b)
	ask, mount, _ := strings.Cut(commands[3], "\n")
	n := img.boot(t, "")
	must(t, os.CopyFS(n.root+"/run/backup", os.DirFS(b.dir)))
	n.sh(t, `mkdir /run/tools; for p in sha256sum mkdir zstd tar grep mount; do
	PATH=/usr/sbin:/usr/bin:/sbin:/bin; ln -s "$(command -v $p)" /run/tools/$p || exit 1; done`)
	typed := func(script string) string { return n.sh(t, "set -e; PATH=/run/tools; cd /run/backup\n"+script) }
	if said := typed(commands[1]); strings.Count(said, "\n") != strings.Count(said, ": OK\n") || said == "" {
		t.Errorf("step 1 says %s", said)
	}
	typed(commands[2])
	lower := regexp.MustCompile(`(?m)^\d+ \d+ \S+ / / .*\blowerdir=([^,]+)`).FindStringSubmatch(typed(ask))
	if lower == nil {
		t.Fatalf("%s does not say what LOWERDIR is", ask)
	}
	typed(strings.ReplaceAll(mount, "LOWERDIR", lower[1]))
	want := was.view(t, "/")
	delete(want, "./lab/socket"+oddName)
	has := n.view(t, "/run/nextroot/")
	var late []string
	for name := range apart(b) {
		if want[name] != has[name] {
			late = append(late, name)
		}
		want[name], has[name] = timeless(want[name]), timeless(has[name])
	}
	if diff := cmp.Diff(want, has); diff != "" {
		t.Errorf("what was there (-) and what was restored (+):\n%s", diff)
	}
	if len(late) != 0 {
		t.Errorf("the mtime of %q is not restored by hand", late)
	}
}

// timeless is a description without its time.
func timeless(s string) string {
	f := strings.SplitN(s, " ", 4)
	return f[0] + " " + f[1] + " " + f[len(f)-1]
}

// apart are the directories that have members behind the first one after them that
// they do not have. GNU tar sets a directory's time when it meets that one.
func apart(b *backup) map[string]bool {
	found, left := make(map[string]bool), make(map[string]bool)
	var open []string // each within the one before
	for _, m := range b.members {
		for len(open) > 0 && !strings.HasPrefix(m.name, open[len(open)-1]+"/") {
			left[open[len(open)-1]] = true
			open = open[:len(open)-1]
		}
		for dir := m.name; dir != "."; {
			dir = dir[:strings.LastIndexByte(dir, '/')]
			found[dir] = found[dir] || left[dir]
		}
		if m.Typeflag == tar.TypeDir {
			open = append(open, m.name)
		}
	}
	maps.DeleteFunc(found, func(_ string, late bool) bool { return !late })
	return found
}

func TestIncrement(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.change(t)
	s := newShelf(t)
	first := s.backUp(t, n, request())
	req := request()
	req.Purpose = overlay.PurposeDue
	n.sh(t, "cd /lab; rm gone* setuid; echo more >>appended")
	// What changed a moment ago is sent again, for clocks have seconds.
	var b *backup
	for try := 0; b == nil || b.manifest.Copied == 0; try++ {
		if try == 200 {
			t.Fatal("nothing is ever copied")
		}
		if b != nil {
			first = b
		}
		b = s.backUp(t, n, req)
	}
	if b.manifest.Base != filepath.Base(first.dir) || b.manifest.Purpose != "due" || b.manifest.MovedBytes >= first.manifest.MovedBytes {
		t.Errorf("base %q, purpose %q, moved %d bytes", b.manifest.Base, b.manifest.Purpose, b.manifest.MovedBytes)
	}
	same := 0
	for _, m := range b.members {
		if old := first.counting[m.name]; old != nil && bytes.Equal(b.raw[m.start:m.end], first.raw[old.start:old.end]) {
			same++
		}
	}
	if b.manifest.Copied > same {
		t.Errorf("%d members were copied, %d are as they were", b.manifest.Copied, same)
	}
	manifestIsListed(t, b)
	archiveIsTrue(t, n, b)
	socket := slices.ContainsFunc(b.manifest.Skipped, func(s skipped) bool { return unescape(t, s.Path) == "./lab/socket"+oddName })
	if !socket {
		t.Error("an increment's skipped has no socket that was there before its base")
	}
	must(t, os.Remove(n.root+"/lab/socket"+oddName))
	everythingIsThere(t, n, b)
	must(t, s.Delete(t.Context(), "n1", b.manifest.Base))
	if _, err := read(b.dir); err != nil {
		t.Errorf("without its base: %v", err)
	}
}

func TestChanged(t *testing.T) {
	n := newImage(t).boot(t, "")
	name := "/lab/" + oddName
	n.sh(t, `head -c 3M /dev/urandom >"$1"; printf %s 'echo more >>"$(cat /run/name)"' >/run/meanwhile; printf %s "$1" >/run/name`, name)
	b := newShelf(t).backUp(t, n, request())
	if m := b.manifest; m.Partial || len(m.Changed) != 1 || unescape(t, m.Changed[0]) != "."+name {
		t.Fatalf("partial: %v, changed: %q", m.Partial, m.Changed)
	}
	manifestIsListed(t, b)
	var members []*member
	for _, m := range b.members {
		if m.name == "."+name {
			members = append(members, m)
		}
	}
	if len(members) != 2 || members[1].Size <= members[0].Size || b.counting["."+name] != members[1] {
		t.Errorf("it is not in it twice, the later one the longer")
	}
}

func TestPartial(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.sh(t, "head -c 4M /dev/urandom >/lab/shrinks; echo truncate -s -400K /lab/shrinks >/run/meanwhile")
	s, req := newShelf(t), request()
	if m, err := overlay.Backup(t.Context(), n, s, req); err == nil || !m.Partial {
		t.Errorf("partial: %v, error: %v", m.Partial, err)
	}
	n.sh(t, "head -c 4M /dev/urandom >/lab/shrinks")
	req.AllowPartial = true
	b := s.backUp(t, n, req)
	if m := b.manifest; !m.Partial || !slices.Equal(m.Changed, []string{"./lab/shrinks"}) {
		t.Errorf("partial: %v, changed: %q", m.Partial, m.Changed)
	}
	manifestIsListed(t, b)
}

func TestLeftOut(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.sh(t, `cd /lab; printf 12 >"$1.secret"; mkdir d.secret; echo in >d.secret/in; ln -s to l.secret; mkfifo f.secret
set -- "$1.secret" d.secret/in; chown 7:8 "$@"; chmod 4640 "$@"; TZ=UTC touch -d '2001-02-03 04:05:06.123456789' "$@"`, oddName)
	req := request()
	req.Exclude, req.Purpose, req.Image = []string{"*.secret"}, overlay.PurposeManual, ""
	req.Volume = site.Volume{ID: "LAB", Created: "2026-11-23T05:00:00.00+01:00"}
	b := newShelf(t).backUp(t, n, req)
	if m := b.manifest; m.Purpose != "manual" || m.Image != "" || m.Volume.ID != "LAB" || m.Volume.Created != req.Volume.Created {
		t.Errorf("purpose %q, image %q, volume %q", m.Purpose, m.Image, m.Volume)
	}
	manifestIsListed(t, b)
	has := make(map[string]leftOut)
	for _, l := range b.manifest.LeftOut {
		name := unescape(t, l.Path)
		l.Path = ""
		has[name] = l
	}
	file := leftOut{Mode: "4640", Owner: "7:8", MTime: "981173106.123456789"}
	odd, in := file, file
	odd.Bytes, odd.SHA256 = 2, digest([]byte("12"))
	in.Bytes, in.SHA256 = 3, digest([]byte("in\n"))
	want := map[string]leftOut{
		"./lab/" + oddName + ".secret": odd,
		"./lab/d.secret/in":            in,
		"./lab/l.secret":               {},
		"./lab/f.secret":               {},
	}
	if diff := cmp.Diff(want, has); diff != "" || !slices.Equal(b.manifest.Excludes, req.Exclude) {
		t.Errorf("left out by %q:\n%s", b.manifest.Excludes, diff)
	}
	for name := range b.counting {
		if strings.Contains(name, ".secret") {
			t.Errorf("%q is in the archive", name)
		}
	}
}

func TestLeftOutNoFile(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.sh(t, "cd /lab; rm -r gone-dir; mkdir empty")
	req := request()
	req.Exclude = []string{"gone-dir", "empty"}
	m := newShelf(t).backUp(t, n, req).manifest
	// Directories are not listed.
	if len(m.LeftOut) != 1 || m.LeftOut[0].Path != "./lab/gone-dir" || m.LeftOut[0].SHA256 != "" {
		t.Errorf("a whiteout and an empty directory were excluded, and leftOut is %v", m.LeftOut)
	}
}

func TestOmitted(t *testing.T) {
	img, req := newImage(t), request()
	req.Exclude = []string{"*.secret"}
	const files = `cd /lab; i=0; while [ $i -lt 10007 ]; do : >$i.secret; i=$((i+1)); done`
	n := img.boot(t, "")
	n.sh(t, files)
	if m := newShelf(t).backUp(t, n, req).manifest; len(m.LeftOut) != 10000 || m.Omitted != 7 {
		t.Errorf("%d names left out and %d omitted", len(m.LeftOut), m.Omitted)
	}
	n = img.boot(t, "")
	n.sh(t, "mkdir /lab/d.secret; "+files)
	m := newShelf(t).backUp(t, n, req).manifest
	if len(m.LeftOut)+m.Omitted != 10007 {
		t.Errorf("of 10007 files %d are in leftOut and %d omitted", len(m.LeftOut), m.Omitted)
	}
}

func TestEncrypted(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.change(t)
	var keys []*age.X25519Identity
	var public []string
	for range 2 {
		key, err := age.GenerateX25519Identity()
		must(t, err)
		keys, public = append(keys, key), append(public, key.Recipient().String())
	}
	b := newShelf(t, keys...).backUp(t, n, request())
	sumsAreRead(t, b)
	manifestIsLast(t, b)
	manifestIsListed(t, b)
	archiveIsTrue(t, n, b)
	everythingIsThere(t, n, b)
	if !slices.Equal(b.manifest.Age.Recipients, public) {
		t.Errorf("to %q, want %q", b.manifest.Age.Recipients, public)
	}
	for _, key := range keys {
		if _, err := read(b.dir, key); err != nil {
			t.Error(err)
		}
	}
	stranger, err := age.GenerateX25519Identity()
	must(t, err)
	if _, err := read(b.dir, stranger); err == nil {
		t.Error("anybody can read it")
	}
	file("overlay.tar.zst.age", flip)(t, b.dir)
	if _, err := read(b.dir, keys[0]); err == nil {
		t.Error("a bit is not missed")
	}
}

func TestWarnings(t *testing.T) {
	n := newImage(t).boot(t, "")
	s := newShelf(t)
	for _, said := range []int{3, 300} {
		n.sh(t, `i=0; while [ $i -lt $1 ]; do echo "tar: odd $i"; i=$((i+1)); done >/run/complaints; echo >/lab/$1`, strconv.Itoa(said))
		b := s.backUp(t, n, request())
		if w := b.manifest.Warnings; len(w) == 0 || len(w) > 200 || !strings.Contains(w[0], "odd 0") {
			t.Errorf("%d warnings: %q", len(w), w)
		}
		manifestIsListed(t, b)
	}
}

// TestDirectory watches what comes and goes in a node's directory.
func TestDirectory(t *testing.T) {
	n := newImage(t).boot(t, "")
	s := newShelf(t)
	dir := filepath.Join(s.dir, "n1")
	must(t, os.Mkdir(dir, 0o700))
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO)
	must(t, err)
	req := request()
	at := time.Date(2026, 11, 23, 6, 0, 0, 0, time.FixedZone("", 3600))
	req.Now = func() time.Time { return at }
	for _, want := range []string{"20261123T050000Z", "20261123T050000Z-2", "20261123T050000Z-3"} {
		if b := s.backUp(t, n, req); b.manifest.ID != want {
			t.Errorf("%s is not called %s", b.manifest.ID, want)
		}
	}
	must(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{At: at}))
	must(t, s.Delete(t.Context(), "n1", "20261123T050000Z"))
	buf := make([]byte, 64<<10)
	length, err := unix.Read(fd, buf)
	must(t, err)
	seen := appeared(buf[:length])
	for _, name := range []string{".lock", "reboot.json", ".new-20261123T050000Z-2", "20261123T050000Z-2", ".old-20261123T050000Z"} {
		if !seen[name] {
			t.Errorf("%s was never there; %q were", name, slices.Sorted(maps.Keys(seen)))
		}
		if delete(seen, name); idForm.MatchString(name) != (name == "20261123T050000Z-2") {
			t.Errorf("the form of %s misleads", name)
		}
	}
	for name := range seen {
		if idForm.MatchString(name) && name != "20261123T050000Z" && name != "20261123T050000Z-3" {
			t.Errorf("%s looks like a backup", name)
		}
	}
}

// appeared are the names in what inotify wrote.
func appeared(events []byte) map[string]bool {
	seen := make(map[string]bool)
	for len(events) > 0 { // struct inotify_event
		end := 16 + binary.NativeEndian.Uint32(events[12:16])
		seen[unix.ByteSliceToString(events[16:end])] = true
		events = events[end:]
	}
	return seen
}

// Damage.

// sealed brings SHA256SUMS up to date.
func sealed(t *testing.T, dir string) {
	t.Helper()
	var sums strings.Builder
	for _, name := range fileSet {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil && name != "SHA256SUMS" {
			fmt.Fprintf(&sums, "%s  %s\n", digest(b), name)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o600))
}

type damage func(t *testing.T, dir string)

// file changes a file, and nothing that says what it is.
func file(name string, change func([]byte) []byte) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), change(b), 0o600))
	}
}

// list changes a file along with its digest.
func list(name string, change func([]byte) []byte) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		file(name, change)(t, dir)
		sealed(t, dir)
	}
}

// says changes what the manifest says.
func says(change func(m map[string]any)) damage {
	return list("manifest.json", func(b []byte) []byte {
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var m map[string]any
		if err := d.Decode(&m); err != nil {
			panic(err)
		}
		change(m)
		b, err := json.Marshal(m)
		if err != nil {
			panic(err)
		}
		return b
	})
}

// packs replaces overlay.tar.zst, along with what says how it is stored.
func packs(change func([]byte) []byte) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		var b []byte
		file("overlay.tar.zst", func(old []byte) []byte { b = change(old); return b })(t, dir)
		says(func(m map[string]any) { m["storedBytes"], m["storedSHA256"] = len(b), digest(b) })(t, dir)
	}
}

// archives changes the archive, along with what says how long it is.
func archives(change func([]byte) []byte) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		var b []byte
		packs(func(old []byte) []byte { b = change(unpack(old)); return pack(b, maxWindow) })(t, dir)
		says(func(m map[string]any) { m["rawBytes"], m["rawSHA256"] = len(b), digest(b) })(t, dir)
	}
}

func unpack(b []byte) []byte {
	d, err := zstd.NewReader(nil)
	if err != nil {
		panic(err)
	}
	defer d.Close()
	if b, err = d.DecodeAll(b, nil); err != nil {
		panic(err)
	}
	return b
}

// pack writes a frame that does not say how long it is, as a stream's does not.
func pack(b []byte, window int) []byte {
	var out bytes.Buffer
	e, err := zstd.NewWriter(&out, zstd.WithWindowSize(window))
	if err != nil {
		panic(err)
	}
	if _, err := e.Write(b); err != nil {
		panic(err)
	}
	if err := e.Flush(); err != nil { // more than one block
		panic(err)
	}
	if err := e.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// ends is where the archive's members end.
func ends(raw []byte) int {
	members, err := walk(raw)
	if err != nil {
		panic(err)
	}
	return members[len(members)-1].end
}

// adds puts members at the end of the archive.
func adds(headers ...tar.Header) damage {
	return archives(func(raw []byte) []byte {
		var more bytes.Buffer
		w := tar.NewWriter(&more)
		for _, h := range headers {
			h.Format, h.ModTime = tar.FormatPAX, time.Unix(1, 1)
			if err := w.WriteHeader(&h); err != nil {
				panic(err)
			}
		}
		if err := w.Flush(); err != nil {
			panic(err)
		}
		b := append(slices.Clone(raw[:ends(raw)]), more.Bytes()...)
		return append(b, make([]byte, record+record-len(b)%record)...)
	})
}

// patches changes the header of the second member, along with its checksum.
func patches(change func(h []byte)) damage {
	return archives(func(raw []byte) []byte {
		members, err := walk(raw)
		if err != nil {
			panic(err)
		}
		raw = slices.Clone(raw)
		h := raw[members[1].end-block : members[1].end] // a directory: no data
		change(h)
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return raw
	})
}

// counted says that so many members more are of a kind.
func counted(kinds map[string]int) damage {
	return says(func(m map[string]any) {
		c, _ := m["counts"].(map[string]any)
		for kind, more := range kinds {
			n, err := c[kind].(json.Number).Int64()
			if err != nil {
				panic(err)
			}
			c[kind] = int(n) + more
		}
	})
}

func both(all ...damage) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		for _, d := range all {
			d(t, dir)
		}
	}
}

func without(name string) damage {
	return func(t *testing.T, dir string) {
		t.Helper()
		must(t, os.Remove(filepath.Join(dir, name)))
		if name != "SHA256SUMS" {
			sealed(t, dir)
		}
	}
}

func flip(b []byte) []byte { b[len(b)/2] ^= 1; return b }

func cut(b []byte) []byte { return b[:len(b)-1] }

func secondFirst(b []byte) []byte {
	names := strings.SplitAfter(string(b), "\x00")
	names[0], names[1] = names[1], names[0]
	return []byte(strings.Join(names, ""))
}

func firstGone(b []byte) []byte {
	_, rest, _ := bytes.Cut(b, []byte{0})
	return rest
}

func oneMore(b []byte) []byte { return append(b, "./etc/lab-new\x00"...) }

func added(b []byte) []byte { return append(b, "./added\x00"...) }

func linked(b []byte) []byte { return append(b, "./link\x00"...) }

var (
	reg      = tar.Header{Name: "./added", Typeflag: tar.TypeReg, Mode: 0o644}
	char     = tar.Header{Name: "./added", Typeflag: tar.TypeChar}
	oneFile  = counted(map[string]int{"entries": 1, "files": 1})
	named    = func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	withAttr = func(key string) tar.Header {
		return tar.Header{Name: "./added", Typeflag: tar.TypeReg, PAXRecords: map[string]string{key: "y"}}
	}
)

// damages are ways to break a backup, by the point that has to find each. All but
// what a point is about holds.
var damages = map[int]map[string]damage{
	1: {
		"no manifest":       without("manifest.json"),
		"half a manifest":   list("manifest.json", func(b []byte) []byte { return b[:len(b)/2] }),
		"another version":   says(func(m map[string]any) { m["version"] = 2 }),
		"another's ID":      says(func(m map[string]any) { m["id"] = "20200101T000000Z" }),
		"another's node":    says(func(m map[string]any) { m["node"] = "n2" }),
		"bytes, not UTF-8":  list("manifest.json", func(b []byte) []byte { return bytes.Replace(b, []byte("lab"), []byte("l\xe9b"), 1) }),
		"a wrongly cut off": list("manifest.json", func([]byte) []byte { return nil }),
	},
	2: {
		"a bit":              file("overlay.tar.zst", flip),
		"the last byte":      file("overlay.tar.zst", cut),
		"a bit and its sum":  list("overlay.tar.zst", flip),
		"storedBytes":        says(func(m map[string]any) { m["storedBytes"] = 7 }),
		"storedSHA256":       says(func(m map[string]any) { m["storedSHA256"] = digest(nil) }),
		"a list":             file("deleted.lst", firstGone),
		"the other list":     file("opaque.lst", firstGone),
		"the way back":       file("RESTORE.txt", flip),
		"a bit of the sums":  file("SHA256SUMS", func(b []byte) []byte { b[3] ^= 1; return b }),
		"a line of the sums": file("SHA256SUMS", func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }),
		"no list":            without("deleted.lst"),
		"no archive":         without("overlay.tar.zst"),
		"no sums":            without("SHA256SUMS"),
		"the manifest":       file("manifest.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"lab"`), []byte(`"bal"`), 1) }),
	},
	3: {
		"a bit":          packs(flip),
		"the last byte":  packs(cut),
		"another":        packs(func(b []byte) []byte { return pack(flip(unpack(b)), maxWindow) }),
		"nothing":        packs(func([]byte) []byte { return nil }),
		"a wide window":  packs(func(b []byte) []byte { return pack(unpack(b), 2*maxWindow) }),
		"what follows":   packs(func(b []byte) []byte { return append(b, 0) }),
		"a second frame": packs(func(b []byte) []byte { return append(b, b...) }),
		"rawBytes":       says(func(m map[string]any) { m["rawBytes"] = 7 }),
		"rawSHA256":      says(func(m map[string]any) { m["rawSHA256"] = digest(nil) }),
	},
	4: {
		"no end":         archives(func(raw []byte) []byte { return raw[:ends(raw)] }),
		"half an end":    archives(func(raw []byte) []byte { return raw[:ends(raw)+block] }),
		"no padding":     archives(func(raw []byte) []byte { return raw[:ends(raw)+2*block] }),
		"odd padding":    archives(func(raw []byte) []byte { return append(raw, make([]byte, block)...) }),
		"what follows":   archives(func(raw []byte) []byte { raw[len(raw)-1] = 1; return raw }),
		"cut off":        archives(func(raw []byte) []byte { return raw[:record] }),
		"a header's bit": archives(func(raw []byte) []byte { raw[100] ^= 1; return raw }),
		"nothing":        archives(func([]byte) []byte { return nil }),
		"not from ./ on": archives(func(raw []byte) []byte {
			m, _ := walk(raw)
			return append(raw[m[0].end:], make([]byte, record-(m[0].end%record))...)
		}),
		"GNU's own form":    patches(func(h []byte) { copy(h[257:], "ustar  \x00") }),
		"a kind":            patches(func(h []byte) { h[156] = tar.TypeLink }),
		"an unknown kind":   patches(func(h []byte) { h[156] = '7' }),
		"an absolute name":  both(adds(named("/added")), oneFile),
		"a name without ./": both(adds(named("added")), oneFile),
		"a name with ..":    both(adds(named("./lab/../added")), oneFile),
		"./ again":          both(adds(tar.Header{Name: "./", Typeflag: tar.TypeDir}), counted(map[string]int{"entries": 1, "directories": 1})),
		"part of a file":    both(adds(withAttr(overlayAttr+"metacopy")), oneFile),
		"somewhere else":    both(adds(withAttr(overlayAttr+"redirect")), oneFile),
		"a link to nothing": both(adds(tar.Header{Name: "./added", Linkname: "./nothing", Typeflag: tar.TypeLink}), counted(map[string]int{"entries": 1, "hardLinks": 1})),
		"one more":          adds(reg),
	},
	5: {
		"not deleted":       list("deleted.lst", firstGone),
		"deleted as well":   list("deleted.lst", oneMore),
		"another order":     list("deleted.lst", secondFirst),
		"no NUL at its end": list("deleted.lst", cut),
		"not opaque":        list("opaque.lst", firstGone),
		"opaque as well":    list("opaque.lst", oneMore),
		"in another order":  list("opaque.lst", secondFirst),
		"an opaque's NUL":   list("opaque.lst", cut),
		"one more":          both(adds(char), counted(map[string]int{"entries": 1, "whiteouts": 1})),
	},
}

// still are changes that leave a backup whole.
var still = map[string]damage{
	"nothing":           func(*testing.T, string) {},
	"an unknown member": says(func(m map[string]any) { m["unheardOf"] = true }),
	"several frames": packs(func(b []byte) []byte {
		b = unpack(b)
		return append(pack(b[:record], maxWindow), pack(b[record:], maxWindow)...)
	}),
	"more padding":        archives(func(raw []byte) []byte { return append(raw, make([]byte, record)...) }),
	"a later member":      both(adds(reg, reg), counted(map[string]int{"entries": 2, "files": 2})),
	"not for any image":   both(adds(withAttr(overlayAttr+"metacopy")), oneFile, says(func(m map[string]any) { m["portable"] = false })),
	"deleted for good":    both(adds(reg, char), counted(map[string]int{"entries": 2, "files": 1, "whiteouts": 1}), list("deleted.lst", added)),
	"deleted and not":     both(adds(char, reg), counted(map[string]int{"entries": 2, "files": 1, "whiteouts": 1}), list("deleted.lst", added)),
	"a linked whiteout":   both(adds(char, tar.Header{Name: "./link", Linkname: "./added", Typeflag: tar.TypeLink}), counted(map[string]int{"entries": 2, "whiteouts": 2}), list("deleted.lst", added), list("deleted.lst", linked)),
	"other overlay marks": both(adds(withAttr(overlayAttr+"origin")), oneFile),
}

func TestDamage(t *testing.T) {
	n := newImage(t).boot(t, "")
	n.change(t)
	b := newShelf(t).backUp(t, n, request())
	copied := func(t *testing.T) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "n1", b.manifest.ID)
		must(t, os.CopyFS(dir, os.DirFS(b.dir)))
		return dir
	}
	for name, change := range still {
		t.Run("still/"+name, func(t *testing.T) {
			dir := copied(t)
			change(t, dir)
			if _, err := read(dir); err != nil {
				t.Error(err)
			}
		})
	}
	for point, ways := range damages {
		for name, change := range ways {
			t.Run(fmt.Sprintf("%d/%s", point, name), func(t *testing.T) {
				dir := copied(t)
				change(t, dir)
				_, err := read(dir)
				if f, ok := errors.AsType[*flaw](err); !ok || f.point != point {
					t.Errorf("it is found by %v", err)
				}
			})
		}
	}
}
