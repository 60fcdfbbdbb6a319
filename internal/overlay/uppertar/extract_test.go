package uppertar

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// An archiveMaker makes archives that nobody should send.
type archiveMaker struct{ b []byte }

func (a *archiveMaker) add(h header, data string, records ...string) *archiveMaker {
	if h.size == 0 {
		h.size = int64(len(data))
	}
	if h.mode == 0 {
		h.mode = 0o644
	}
	if h.kind == 0 {
		h.kind = typeFile
	}
	var pax []byte
	for i := 0; i+1 < len(records); i += 2 {
		pax = appendRecord(pax, records[i], records[i+1])
	}
	a.b = h.appendTo(a.b, pax)
	a.b = append(a.b, data...)
	a.b = appendPadding(a.b, len(data))
	return a
}

func (a *archiveMaker) end() []byte { return append(a.b, make([]byte, 2*blockBytes)...) }

func archiveOf(h header, data string, records ...string) []byte {
	return (&archiveMaker{}).add(h, data, records...).end()
}

// A cage is a directory to extract to, with ways out of it, and a sentinel
// beside it.
type cage struct {
	t      testing.TB
	dir    string
	before string
}

func newCage(t testing.TB) *cage {
	t.Helper()
	c := &cage{t: t, dir: t.TempDir()}
	out := filepath.Join(c.dir, "outside")
	must(t, errors.Join(
		os.Mkdir(c.root(), 0o777), os.Chmod(c.root(), 0o777), os.Chmod(c.dir, 0o755),
		os.MkdirAll(out+"/dir", 0o777), os.Chmod(out, 0o777), os.Chmod(out+"/dir", 0o777),
		os.WriteFile(out+"/file", []byte("sentinel"), 0o666), os.Chmod(out+"/file", 0o666),
		os.Symlink("../outside", c.root()+"/out"), os.Symlink(out, c.root()+"/abs"),
		os.Symlink("../outside/file", c.root()+"/outfile"), os.Symlink("/", c.root()+"/slash"),
		os.Mkdir(c.root()+"/d", 0o777), os.Symlink("../../outside/dir", c.root()+"/d/up"),
		os.WriteFile(c.root()+"/f", []byte("in"), 0o666)))
	c.before = c.outside()
	return c
}

func (c *cage) root() string { return filepath.Join(c.dir, "root") }

// outside describes everything in the cage but what is below its root.
func (c *cage) outside() string {
	var b strings.Builder
	must(c.t, filepath.WalkDir(c.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == c.root() {
			return fs.SkipDir
		}
		var st unix.Stat_t
		must(c.t, unix.Lstat(name, &st))
		fmt.Fprintln(&b, name, st.Mode, st.Uid, st.Gid, st.Size, st.Nlink, st.Mtim, st.Ctim)
		return nil
	}))
	content, err := os.ReadFile(c.dir + "/outside/file")
	fmt.Fprintln(&b, string(content), err)
	return b.String()
}

// check fails the test if anything outside has changed, or the stage was left.
func (c *cage) check(what string) {
	c.t.Helper()
	if after := c.outside(); after != c.before {
		c.t.Fatalf("%s: outside there was\n%s\nand is\n%s", what, c.before, after)
	}
	list, err := os.ReadDir(c.root())
	if err == nil && slices.ContainsFunc(list, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), stagePrefix) }) {
		c.t.Fatalf("%s: the stage was left", what)
	}
}

// escapes are archives that try to get out.
func escapes() map[string][]byte {
	file := func(name string) []byte { return archiveOf(header{name: name}, "evil") }
	link := func(to string) header { return header{name: "l", kind: typeHardLink, link: to} }
	then := func(h header, name string) []byte {
		return (&archiveMaker{}).add(h, "").add(header{name: name}, "evil").end()
	}
	return map[string][]byte{
		"..":                      file("../outside/file"),
		"a/../..":                 file("d/../../outside/file"),
		"ends in ..":              archiveOf(header{name: "d/up/..", kind: typeDir, mode: 0o700}, ""),
		"absolute":                file("/outside/file"),
		"through a link":          file("out/file"),
		"through a link, new":     file("out/new"),
		"through an absolute one": file("abs/new"),
		"through a deeper one":    file("d/up/new"),
		"onto a link":             file("outfile"),
		"a directory on a link":   archiveOf(header{name: "out", kind: typeDir, mode: 0o700, uid: 7}, ""),
		"below a link":            archiveOf(header{name: "out/dir", kind: typeDir, mode: 0o700, uid: 7}, ""),
		"its own link":            then(header{name: "x", kind: typeSymlink, link: "../outside"}, "x/file"),
		"its own link, directory": (&archiveMaker{}).add(header{name: "x", kind: typeSymlink, link: "../outside"}, "").add(header{name: "x/new", kind: typeDir}, "").end(),
		"a directory, then a link": (&archiveMaker{}).add(header{name: "x", kind: typeDir, mode: 0o700}, "").
			add(header{name: "x", kind: typeSymlink, link: "../outside/dir"}, "").add(header{name: "x/new"}, "evil").end(),
		"hard link":              archiveOf(link("../outside/file"), ""),
		"hard link by a link":    archiveOf(link("out/file"), ""),
		"hard link to a link":    then(link("outfile"), "l"),
		"hard link, absolute":    archiveOf(link("/etc/passwd"), ""),
		"hard link to directory": then(link("out"), "l/file"),
		"by a pax path":          archiveOf(header{name: "x"}, "evil", "path", "../outside/file"),
		"by a sparse name":       archiveOf(header{name: "x"}, "evil", keySparseName, "../outside/file"),
		"by a pax linkpath":      archiveOf(header{name: "x", kind: typeHardLink, link: "f"}, "", "linkpath", "../outside/file"),
		"NUL in a name":          archiveOf(header{name: "x"}, "evil", "path", "x\x00/../../outside/file"),
		"device":                 then(header{name: "dev", kind: typeBlock, major: 7, minor: 0}, "dev"),
		"the directory itself":   archiveOf(header{name: ".", kind: typeSymlink, link: "../outside"}, ""),
		"empty name":             archiveOf(header{name: "x"}, "evil", "path", ""),
		"huge":                   archiveOf(header{name: "x", size: 1 << 62}, "evil"),
		"negative":               archiveOf(header{name: "x"}, "evil", "size", "-512"),
		"lying map":              archiveOf(header{name: "x"}, "1\n9223372036854775000\n512\n", keySparseHigh, "1", keySparseLow, "0", keySparseSize, "9223372036854775807"),
		"overlapping map":        archiveOf(header{name: "x"}, "2\n0\n512\n0\n512\n"+strings.Repeat("\x00", 498)+strings.Repeat("x", 1024), keySparseHigh, "1", keySparseLow, "0", keySparseSize, "1024"),
		"endless map":            archiveOf(header{name: "x"}, "99999999\n"+strings.Repeat("0\n", 9999), keySparseHigh, "1", keySparseLow, "0", keySparseSize, "1"),
		"huge hole":              archiveOf(header{name: "x"}, "1\n4611686018427387904\n0\n"+strings.Repeat("\x00", 490), keySparseHigh, "1", keySparseLow, "0", keySparseSize, "4611686018427387904"),
		"long component":         file(strings.Repeat("n", 300)),
		"xattr":                  archiveOf(header{name: "x"}, "in", keyXattr+"user.a", strings.Repeat("v", 70000), keyXattr, "x", keyACL, "user::rwx\nnonsense"),
		"set-user-ID of another": archiveOf(header{name: "x", mode: 0o6755}, "in"),
	}
}

// TestEscapes tries every way out, with openat2 and without, as root and without.
func TestEscapes(t *testing.T) {
	for what, archive := range escapes() {
		for _, step := range []bool{false, true} {
			for _, upper := range []bool{false, true} {
				c := newCage(t)
				outcome, err := c.extract(archive, step, upper, false)
				c.check(what)
				if os.Geteuid() == 0 {
					c := newCage(t)
					_, _ = c.extract(archive, step, upper, true)
					c.check(what + ", as nobody")
				}
				if refused := err != nil || outcome.Failed > 0; step && upper {
					t.Logf("%s: refused %v (%v)", what, refused, err)
				}
			}
		}
	}
}

func (c *cage) extract(archive []byte, step, upper, nobody bool) (Outcome, error) {
	c.t.Helper()
	root, err := os.Open(c.root())
	must(c.t, err)
	defer root.Close()
	x := newExtractor(bytes.NewReader(archive), root, ExtractOptions{Upper: upper, Messages: io.Discard})
	x.tree.step = x.tree.step || step
	if nobody {
		err = asNobody(c.t, x.run)
	} else {
		err = onOwnThread(x.run)
	}
	return x.said.outcome, err
}

// FuzzUnpackOverlay extracts random archives: nothing outside changes.
func FuzzUnpackOverlay(f *testing.F) {
	for _, archive := range escapes() {
		f.Add(archive, byte(0))
		f.Add(archive, byte(5))
	}
	f.Fuzz(func(t *testing.T, archive []byte, how byte) {
		for at := 0; at+blockBytes <= len(archive); at += blockBytes {
			if b := archive[at : at+blockBytes]; string(b[257:262]) == "ustar" {
				seal(b) // or hardly any input would get past the checksum
			}
		}
		c := newCage(t)
		_, _ = c.extract(archive, how&1 != 0, how&2 != 0, how&4 != 0 && os.Geteuid() == 0)
		c.check("an archive")
	})
}

func seal(block []byte) {
	copy(block[148:156], "        ")
	var sum uint64
	for _, c := range block {
		sum += uint64(c)
	}
	putOctal(block[148:155], sum)
}

// TestMergedView leaves out what cannot be written through a merged view.
func TestMergedView(t *testing.T) {
	needRoot(t, "tar")
	dir := upper(t)
	want := view(t, dir)
	archive, _, _ := write(t, dir, WriteOptions{})
	into := tmpfs(t)
	if said, outcome := extract(t, archive, into, ExtractOptions{}); outcome.Status() != 0 || said != "" {
		t.Errorf("%+v %s", outcome, said)
	}
	for name, d := range want {
		if strings.HasPrefix(d, "020000 ") && strings.HasSuffix(d, "device 0x0") {
			delete(want, name)
			continue
		}
		if _, after, found := strings.Cut(d, `{"trusted.overlay.opaque" "y"}`); found {
			want[name] = strings.Replace(d[:len(d)-len(after)], `{"trusted.overlay.opaque" "y"}`, "", 1) + strings.TrimPrefix(after, " ")
		}
	}
	got := view(t, into)
	for name, d := range want { // what else overlayfs notes for itself
		if strings.Contains(d, "trusted.overlay.") {
			if strings.Contains(got[name], "trusted.overlay.") {
				t.Errorf("%s: %s", name, got[name])
			}
			delete(want, name)
			delete(got, name)
		}
	}
	compare(t, "without whiteouts", want, got)
}

// TestInheritedACLs extracts below a directory whose default ACL new files get.
func TestInheritedACLs(t *testing.T) {
	needRoot(t, "setfacl")
	into := tmpfs(t)
	run(t, "setfacl", "-d", "-m", "u:1234:rwx", into)
	archive := (&archiveMaker{}).add(header{name: "f"}, "x").add(header{name: "d", kind: typeDir, mode: 0o750}, "").
		add(header{name: "d/p", kind: typeFifo, mode: 0o4600}, "").end()
	if said, outcome := extract(t, archive, into, ExtractOptions{}); outcome.Status() != 0 {
		t.Errorf("%+v %s", outcome, said)
	}
	for name, want := range map[string]string{"./f": "100644 0:0 0.000000000 []", "./d": "040750 0:0 0.000000000 []", "./d/p": "014600 0:0 0.000000000 []"} {
		if got := view(t, into)[name]; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestCutShort cuts an archive everywhere: files are what they were or what they
// are to be, and the stage is gone.
func TestCutShort(t *testing.T) {
	archive := (&archiveMaker{}).add(header{name: "f"}, strings.Repeat("new", 1000)).
		add(header{name: "d", kind: typeDir, mode: 0o700}, "").add(header{name: "d/g"}, strings.Repeat("new", 1000)).end()
	for at := 0; at < len(archive); at += 61 {
		c := newCage(t)
		if _, err := c.extract(archive[:at], false, false, false); !errors.Is(err, errTruncated) {
			t.Errorf("cut at %d: %v", at, err)
		}
		c.check("a cut archive")
		for name, was := range map[string]string{"f": "in", "d/g": ""} {
			got, _ := os.ReadFile(filepath.Join(c.root(), name))
			if s := string(got); s != was && s != strings.Repeat("new", 1000) {
				t.Errorf("cut at %d: %s is %d bytes", at, name, len(s))
			}
		}
	}
}

// TestOldFormats reads what GNU tar writes in its own format.
func TestOldFormats(t *testing.T) {
	needRoot(t, "tar")
	dir := upper(t)
	for _, args := range [][]string{{"--format=gnu", "--sparse"}, {"--format=gnu"}, {"--format=posix", "--sparse", "--sparse-version=1.0"}, {"--format=posix"}} {
		archive, said, status := gnuTar(t, nil, append(append([]string{"cf", "-", "--numeric-owner", "--exclude=huge", "--exclude=fifo", "--exclude=long-link", "-C", dir}, args...), ".")...)
		if status != 0 {
			t.Fatalf("%q: %s", args, said)
		}
		want, got := tmpfs(t), tmpfs(t)
		if _, said, status := gnuTar(t, bytes.NewReader(archive), append(gnuExtract, "-C", want)...); status != 0 {
			t.Fatalf("%q: %s", args, said)
		}
		if said, outcome := extract(t, archive, got, ExtractOptions{Upper: true}); outcome.Status() != 0 || said != "" {
			t.Errorf("%q: %+v %s", args, outcome, said)
		}
		compare(t, fmt.Sprint(args), view(t, want), view(t, got))
	}
}

// TestNoRoom tells of a full file system, and goes on.
func TestNoRoom(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	archive := (&archiveMaker{}).add(header{name: "big"}, strings.Repeat("x", 1<<20)).add(header{name: "small"}, "x").end()
	said, outcome := extract(t, archive, dir, ExtractOptions{})
	if said != "big: Cannot write: No space left on device\n" || outcome.Status() != 2 {
		t.Errorf("%+v %s", outcome, said)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 || list[0].Name() != "small" {
		t.Errorf("%v", list)
	}
}
