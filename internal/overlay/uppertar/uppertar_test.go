package uppertar

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// needRoot skips a test that needs root and the programs given, and says why;
// under CI that is a failure.
func needRoot(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "owners, devices and trusted.* need root")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			testenv.Unable(t, err.Error())
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, f.Close()) })
	return f
}

// gnuCreate and gnuExtract are what the scripts run on a node that has GNU tar.
var (
	gnuCreate = []string{
		"cf", "-", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner",
		"--sparse", "--one-file-system", "--quoting-style=escape",
	}
	gnuExtract = []string{
		"xpf", "-", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--same-owner",
		"--sparse", "--delay-directory-restore", "--warning=no-timestamp",
	}
)

func gnuTar(t testing.TB, stdin io.Reader, args ...string) (stdout []byte, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tar", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.Bytes(), errs.String(), exit.ExitCode()
	}
	must(t, err)
	return out.Bytes(), errs.String(), 0
}

// tmpfs mounts an empty file system for the length of a test.
func tmpfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// upper makes an upper dir with every kind of change in it, by changing a real
// overlay.
func upper(t testing.TB) string {
	t.Helper()
	needRoot(t, "unshare", "setfattr", "setfacl", "setcap", "tar")
	dir := tmpfs(t)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	abs, err := filepath.Abs("../testdata")
	must(t, err)
	// change.sh works in /lab, and in /usr and /etc.
	script := `set -e
sh "$2/lower.sh" "$1/lower"
mount -t overlay overlay -o "lowerdir=$1/lower:/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
mkdir -p "$1/merged$2" && mount --bind "$2" "$1/merged$2"
mount -t tmpfs tmpfs "$1/merged/dev"
for d in null:3 zero:5 urandom:9; do mknod -m 666 "$1/merged/dev/${d%:*}" c 1 "${d#*:}"; done
chroot "$1/merged" sh "$2/change.sh"
cd "$1/merged/lab"
ln -s "$(printf '%03000d' 0)" long-link
setfattr -n user.a=b%c -v 0x0a0d003d25 xattrs
setfattr -n security.selinux -v 0x7800 xattrs
touch -h -d '1901-01-01 00:00:00.000000001' long-link
touch -d '2400-01-01 00:00:00.5' fifo
chown -h 4294967294:2097152 long-link device
cd "$1/upper/lab" && printf '%0300d' 0 >"$(printf '%0255d' 1)"
head -c 1000001 /dev/urandom >odd-size
truncate -s 3M many-holes && for i in 1 3 5 7 99 300 700; do printf x | dd of=many-holes bs=1 seek=$((i * 4096 + i)) conv=notrunc 2>/dev/null; done
truncate -s 1000003 odd-hole && printf end | dd of=odd-hole bs=1 seek=1000000 conv=notrunc 2>/dev/null
: >empty`
	run(t, "unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", dir, abs)
	return filepath.Join(dir, "upper")
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// dig makes names beyond PATH_MAX, which GNU tar writes and cannot extract.
func dig(t testing.TB, dir string) {
	t.Helper()
	at, err := unix.Open(dir+"/lab", unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range 25 {
		name := fmt.Sprintf("%0200d", i)
		must(t, unix.Mkdirat(at, name, 0o755))
		next, err := unix.Openat(at, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(at)
		at = next
	}
	defer unix.Close(at)
	must(t, onOwnThread(func() error {
		must(t, unix.Fchdir(at))
		return errors.Join(os.WriteFile("f", []byte("deep"), 0o600), unix.Link("f", "g"), unix.Symlink("f", "l"),
			unix.Mknod("p", unix.S_IFIFO|0o640, 0), unix.Setxattr("f", "trusted.deep", []byte("1"), 0))
	}))
}

// view describes all that lies below a directory.
func view(t testing.TB, dir string) map[string]string {
	t.Helper()
	v := &viewer{t: t, view: make(map[string]string), first: make(map[uint64]string)}
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	must(t, onOwnThread(func() error { v.walk(int(f.Fd()), ".", "."); return nil }))
	return v.view
}

type viewer struct {
	t     testing.TB
	view  map[string]string
	first map[uint64]string
}

func (v *viewer) walk(parent int, base, name string) {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		v.view[name] = err.Error()
		return
	}
	d := fmt.Sprintf("%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	kind := st.Mode & unix.S_IFMT
	if (kind == unix.S_IFREG || kind == unix.S_IFLNK) && st.Nlink > 1 {
		if v.first[st.Ino] == "" {
			v.first[st.Ino] = name
		}
		d += " linked to " + v.first[st.Ino]
	}
	_ = unix.Fchdir(parent)
	all, err := namedHolder(base).read()
	d += fmt.Sprintf(" %q %v", all, err)
	switch kind {
	case unix.S_IFLNK:
		target, err := readLink(parent, base)
		d += fmt.Sprintf(" -> %q %v", target, err)
	case unix.S_IFCHR, unix.S_IFBLK:
		d += fmt.Sprintf(" device %#x", st.Rdev)
	case unix.S_IFREG, unix.S_IFDIR:
		fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			d += err.Error()
			break
		}
		defer unix.Close(fd)
		if kind == unix.S_IFREG {
			d += fmt.Sprintf(" %d bytes in %d blocks %s", st.Size, st.Blocks, sumOf(fd, &st))
			break
		}
		list, err := names(fd)
		if err != nil {
			d += err.Error()
		}
		sort.Strings(list)
		for _, entry := range list {
			v.walk(fd, entry, name+"/"+entry)
		}
	}
	v.view[name] = d
}

// sumOf hashes the pages that are not zero, each with its place.
func sumOf(fd int, st *unix.Stat_t) string {
	h := sha256.New()
	buf := make([]byte, 4096)
	regions, sparse := findRegions(fd, st)
	if !sparse {
		regions = []region{{0, st.Size}}
	}
	for _, r := range regions {
		for at := r.at - r.at%4096; at < r.at+r.n; at += 4096 {
			n, err := readAt(fd, buf, at)
			if err != nil {
				return err.Error()
			}
			if !isZero(buf[:n]) {
				fmt.Fprint(h, at, n)
				h.Write(buf[:n])
			}
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8])
}

func compare(t testing.TB, what string, want, got map[string]string) {
	t.Helper()
	var list []string
	for name, was := range want {
		if is := got[name]; is != was {
			list = append(list, fmt.Sprintf("%.100q\n\twant %.400s\n\tgot  %.400s", name, was, is))
		}
	}
	for name, is := range got {
		if _, ok := want[name]; !ok {
			list = append(list, fmt.Sprintf("%.100q is there: %.300s", name, is))
		}
	}
	sort.Strings(list)
	if len(list) > 0 {
		t.Errorf("%s: %d of %d differ\n%s", what, len(list), len(want), strings.Join(list[:min(len(list), 10)], "\n"))
	}
}

func write(t testing.TB, dir string, o WriteOptions) (archive []byte, said string, outcome Outcome) {
	t.Helper()
	var b, errs bytes.Buffer
	o.Messages = &errs
	outcome, err := Write(&b, open(t, dir), o)
	must(t, err)
	return b.Bytes(), errs.String(), outcome
}

func extract(t testing.TB, archive []byte, dir string, o ExtractOptions) (said string, outcome Outcome) {
	t.Helper()
	var errs bytes.Buffer
	o.Messages = &errs
	outcome, err := Extract(bytes.NewReader(archive), open(t, dir), o)
	if err != nil {
		t.Errorf("extract: %v", err)
	}
	return errs.String(), outcome
}

// TestLikeGNUTar writes one upper dir with GNU tar and with Write, and extracts
// both archives with GNU tar and with Extract. All four trees are the upper dir.
func TestLikeGNUTar(t *testing.T) {
	dir := upper(t)
	want := view(t, dir)
	if len(want) < 80 {
		t.Fatalf("only %d names", len(want))
	}
	theirs, said, status := gnuTar(t, nil, append(gnuCreate, "-C", dir, ".")...)
	if status != 0 || said != "" {
		t.Fatalf("GNU tar: %d %s", status, said)
	}
	ours, said, outcome := write(t, dir, WriteOptions{})
	if outcome.Status() != 0 || said != "" {
		t.Errorf("Write: %+v %s", outcome, said)
	}
	t.Logf("%d names; GNU tar %d bytes, Write %d", len(want), len(theirs), len(ours))
	for what, archive := range map[string][]byte{"GNU tar's": theirs, "Write's": ours} {
		into := tmpfs(t)
		if _, said, status := gnuTar(t, bytes.NewReader(archive), append(gnuExtract, "-C", into)...); status != 0 || said != "" {
			t.Errorf("%s archive by GNU tar: %d %s", what, status, said)
		}
		compare(t, what+" archive by GNU tar", want, view(t, into))
		into = tmpfs(t)
		if said, outcome := extract(t, archive, into, ExtractOptions{Upper: true}); outcome.Status() != 0 || said != "" {
			t.Errorf("%s archive by Extract: %+v %s", what, outcome, said)
		}
		compare(t, what+" archive by Extract", want, view(t, into))
		// Over what is there already, and what is in the way.
		must(t, os.RemoveAll(filepath.Join(into, "lab/moved")))
		must(t, os.Symlink("/etc", filepath.Join(into, "lab/moved")))
		must(t, os.Remove(filepath.Join(into, "lab/xattrs")))
		must(t, os.Mkdir(filepath.Join(into, "lab/xattrs"), 0o755))
		if said, outcome := extract(t, archive, into, ExtractOptions{Upper: true}); outcome.Status() != 0 || said != "" {
			t.Errorf("%s archive by Extract, again: %+v %s", what, outcome, said)
		}
		compare(t, what+" archive by Extract, again", want, view(t, into))
	}
}

// TestDeep goes beyond PATH_MAX, with openat2 and without.
func TestDeep(t *testing.T) {
	dir := upper(t)
	dig(t, dir)
	want := view(t, dir)
	theirs, said, status := gnuTar(t, nil, append(gnuCreate, "-C", dir, ".")...)
	if status != 0 {
		t.Fatalf("GNU tar: %d %s", status, said)
	}
	ours, said, outcome := write(t, dir, WriteOptions{})
	if outcome.Status() != 0 {
		t.Errorf("Write: %+v %s", outcome, said)
	}
	for what, archive := range map[string][]byte{"GNU tar's": theirs, "Write's": ours} {
		for _, step := range []bool{false, true} {
			into := tmpfs(t)
			var errs bytes.Buffer
			x := newExtractor(bytes.NewReader(archive), open(t, into), ExtractOptions{Upper: true, Messages: &errs})
			x.tree.step = x.tree.step || step
			if err := onOwnThread(x.run); err != nil || errs.Len() > 0 {
				t.Errorf("%v: %s", err, errs.String())
			}
			compare(t, fmt.Sprintf("%s, step by step %v", what, step), want, view(t, into))
		}
	}
}
