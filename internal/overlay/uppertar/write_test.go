package uppertar

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// meddling calls a func when the first bytes of an archive are written.
type meddling struct {
	bytes.Buffer
	meddle func()
}

// Write meddles.
func (m *meddling) Write(p []byte) (int, error) {
	if m.meddle != nil {
		m.meddle()
		m.meddle = nil
	}
	return m.Buffer.Write(p)
}

// TestChanging changes files while they are read, and compares what is said.
func TestChanging(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b-shrinks", "c-vanishes", "d"} {
		must(t, os.WriteFile(path(name), bytes.Repeat([]byte(name), 200_000), 0o600))
	}
	must(t, os.Truncate(path("b-shrinks"), 1_000_000))
	must(t, os.Mkdir(path("e"), 0o700))
	var said bytes.Buffer
	w := &meddling{meddle: func() {
		must(t, os.Truncate(path("a"), 199_999))
		f, err := os.OpenFile(path("b-shrinks"), os.O_WRONLY, 0)
		must(t, err)
		must(t, f.Close())
		must(t, os.Remove(path("c-vanishes")))
		must(t, os.Remove(path("e")))
	}}
	outcome, err := Write(w, open(t, dir), WriteOptions{Messages: &said})
	must(t, err)
	want := "./a: File shrank by 1 byte; padding with zeros\n" +
		"./a: file changed as we read it\n" +
		"./c-vanishes: File removed before we read it\n" +
		"./e: File removed before we read it\n" +
		".: file changed as we read it\n"
	if said.String() != want || outcome.Status() != 1 {
		t.Errorf("%+v\n%s", outcome, said.String())
	}
	into := t.TempDir()
	if said, outcome := extract(t, w.Bytes(), into, ExtractOptions{}); outcome.Status() != 0 {
		t.Errorf("%+v %s", outcome, said)
	}
	got, err := os.ReadFile(filepath.Join(into, "a"))
	must(t, err)
	if len(got) != 200_000 || got[199_999] != 0 {
		t.Errorf("%d bytes of a", len(got))
	}
}

// TestSockets compares with what GNU tar says of sockets, odd names and all.
func TestSockets(t *testing.T) {
	needRoot(t, "tar")
	dir := t.TempDir()
	must(t, onOwnThread(func() error { // names of sockets are short
		must(t, unix.Chdir(dir))
		for _, name := range []string{"plain", "a b:c\\d", "line\nbreak\x01\a\x7f", "latin\xe9", "quote'\"*"} {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
			must(t, err)
			l.SetUnlinkOnClose(false)
			must(t, l.Close())
		}
		return nil
	}))
	_, theirs, _ := gnuTar(t, nil, append(gnuCreate, "--sort=name", "-C", dir, ".")...)
	_, ours, outcome := write(t, dir, WriteOptions{})
	// GNU tar escapes colons here and nowhere else; a reader cuts at the last.
	want := strings.NewReplacer("tar: ", "", `\:`, ":").Replace(theirs)
	if !sameLines(ours, want) || strings.Count(ours, ": socket ignored\n") != 5 || outcome.Status() != 0 {
		t.Errorf("%+v\n%s\nGNU tar:\n%s", outcome, ours, theirs)
	}
}

func sameLines(a, b string) bool {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// asNobody runs f on a thread without any rights.
func asNobody(t testing.TB, f func() error) error {
	t.Helper()
	return onOwnThread(func() error {
		const nobody = 65534
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} {
			if _, _, errno := unix.RawSyscall(call, nobody, nobody, nobody); errno != 0 {
				return errno
			}
		}
		return f()
	})
}

func TestUnreadable(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "closed"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "g"), []byte("open"), 0o644))
	for _, ignore := range []bool{false, true} {
		root := open(t, dir)
		var said, out bytes.Buffer
		w := newWriter(root, WriteOptions{Messages: &said, IgnoreUnreadable: ignore})
		w.out, w.copy = bufio.NewWriter(&out), make([]byte, copyBytes)
		must(t, asNobody(t, func() error { return w.entry(int(root.Fd()), ".", ".", true) }))
		if said.String() != "./closed: Cannot open: Permission denied\n./f: Cannot open: Permission denied\n" || (w.said.outcome.Status() == 2) == ignore {
			t.Errorf("%+v\n%s", w.said.outcome, said.String())
		}
	}
}

// listing is what GNU tar finds in an archive.
func listing(t testing.TB, archive []byte) []string {
	t.Helper()
	out, said, status := gnuTar(t, bytes.NewReader(archive), "tf", "-", "--quoting-style=escape")
	if status != 0 {
		t.Fatalf("tar tf: %d %s", status, said)
	}
	list := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	slices.Sort(list)
	return list
}

// TestExclude leaves out what GNU tar does.
func TestExclude(t *testing.T) {
	needRoot(t, "tar")
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c.d"), 0o755))
	for _, name := range []string{"a/b/c.d/e", "a/f.log", "a/b/F.log", "x[1]", "x1", "back\\slash", "star*", "-", "a/-rf", "]", "é", "a/b/new\nline", "a^b", "q?", "a/1-2"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	for _, p := range []string{
		"*.log", "f.log", "./a", "a", "a/b", "b/c.d", "a/*", "*/e", "?", "x[1]", "x\\[1\\]", "x[0-9]", "x[!0]", "x[^1]*", "[[:digit:]]*", "*[[:upper:]].log",
		"c.d/", "./", ".", "*", "b*e", "./*/b", "/a", "back\\\\slash", "back\\slash", "star\\*", "[]]", "[", "x[1", "-*", "é", "[é]*", "[\xc3]?", "*line", "a^b", "a[^x]b",
		"[a-]*", "[z-a]", "c?d", "c.d/e", "a/b/c.d/e/f", "", "\\", "a\\", "q\\?", "[[:nothing:]]*", "[\\]]", "[a-\\]]", "a**b", "*a*b*", "1-2", "[1]-[2]", "**", "*/", "./a/b/c.d/*",
	} {
		want, said, _ := gnuTar(t, nil, append(gnuCreate, "--exclude="+p, "-C", dir, ".")...)
		got, _, _ := write(t, dir, WriteOptions{Exclude: []string{p}})
		if w, g := listing(t, want), listing(t, got); !slices.Equal(w, g) {
			t.Errorf("--exclude=%s\nGNU tar %q\nWrite   %q\n%s", p, w, g, said)
		}
	}
	const letters = "ab*?[]!-.\\/cde1f:"
	random := rand.New(rand.NewPCG(1, 2)) // the same ones each time
	for range 150 {
		var b strings.Builder
		for range 1 + random.IntN(7) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		p := b.String()
		want, _, _ := gnuTar(t, nil, append(gnuCreate, "--exclude="+p, "-C", dir, ".")...)
		got, _, _ := write(t, dir, WriteOptions{Exclude: []string{p}})
		if w, g := listing(t, want), listing(t, got); !slices.Equal(w, g) {
			t.Errorf("--exclude=%s\nGNU tar %q\nWrite   %q", p, w, g)
		}
	}
}

// TestNames writes what a list names, and what it does not, as GNU tar does.
func TestNames(t *testing.T) {
	needRoot(t, "tar")
	dir := upper(t)
	list := "./lab/moved\x00./lab/odd names/new\nline\x00./lab/gone-file\x00./lab/sparse\x00./lab\x00lab/link-1\x00./lab/link-2\x00./lab/not there\x00./lab/acl-dir"
	for _, recurse := range []bool{false, true} {
		flag := "--no-recursion"
		if recurse {
			flag = "--recursion"
		}
		want, theirs, status := gnuTar(t, strings.NewReader(list), append(gnuCreate, "--ignore-failed-read", "--null", flag, "-C", dir, "-T", "-")...)
		got, ours, outcome := write(t, dir, WriteOptions{Names: strings.NewReader(list), Recurse: recurse, IgnoreUnreadable: true})
		if w, g := listing(t, want), listing(t, got); !slices.Equal(w, g) {
			t.Errorf("%s\nGNU tar %q\nWrite   %q", flag, w, g)
		}
		t.Logf("GNU tar: %d %s\nWrite: %d %s", status, theirs, outcome.Status(), ours)
		if ours != "./lab/not there: Cannot stat: No such file or directory\n" || outcome.Status() != status {
			t.Errorf("%+v %s", outcome, ours)
		}
	}
	_, _, outcome := write(t, dir, WriteOptions{Names: strings.NewReader("gone")})
	if outcome.Status() != 2 {
		t.Errorf("a name that is not there: %+v", outcome)
	}
	for _, bad := range []string{"../x", "/etc/passwd", "a/../../b"} {
		if _, err := Write(io.Discard, open(t, dir), WriteOptions{Names: strings.NewReader(bad)}); err == nil {
			t.Errorf("%q was looked for", bad)
		}
	}
	var ours bytes.Buffer
	_, err := Names(&ours, open(t, dir), WriteOptions{Exclude: []string{"*.new", "odd*"}})
	must(t, err)
	theirs, _, _ := gnuTar(t, nil, "cvf", "/dev/null", "--quoting-style=escape", "--exclude=*.new", "--exclude=odd*", "-C", dir, ".")
	if !sameLines(ours.String(), string(theirs)) {
		t.Errorf("names:\n%s\nGNU tar:\n%s", ours.String(), theirs)
	}
}

// TestNewer writes what has changed since.
func TestNewer(t *testing.T) {
	needRoot(t, "tar")
	dir := upper(t)
	var st unix.Stat_t
	must(t, unix.Stat(dir+"/lab/modified", &st)) // its data's time is in 1969, its status's is now
	for since, fewer := range map[int64]bool{st.Ctim.Sec - 100: false, st.Ctim.Sec + 100: true, 0: false} {
		want, _, _ := gnuTar(t, nil, append(gnuCreate, fmt.Sprintf("--newer=@%d", since), "-C", dir, ".")...)
		got, _, _ := write(t, dir, WriteOptions{Newer: &since})
		w, g := listing(t, want), listing(t, got)
		if !slices.Equal(w, g) || fewer != (len(g) < 60) {
			t.Errorf("since %d\nGNU tar %q\nWrite   %q", since, w, g)
		}
	}
}

// TestOneFileSystem leaves out what is mounted below.
func TestOneFileSystem(t *testing.T) {
	needRoot(t, "tar")
	dir := tmpfs(t)
	must(t, os.Mkdir(dir+"/m", 0o755))
	must(t, unix.Mount("tmpfs", dir+"/m", "tmpfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir+"/m", 0)) })
	must(t, os.WriteFile(dir+"/m/f", nil, 0o600))
	archive, _, _ := write(t, dir, WriteOptions{})
	if got := listing(t, archive); !slices.Equal(got, []string{"./", "./m/"}) {
		t.Errorf("%q", got)
	}
}

type full struct{ room int }

// Write writes until there is no room.
func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, unix.ENOSPC
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/f", make([]byte, 1<<20), 0o600))
	for _, room := range []int{0, 1 << 10, 1 << 18, 1 << 20} {
		if _, err := Write(&full{room}, open(t, dir), WriteOptions{}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
}
