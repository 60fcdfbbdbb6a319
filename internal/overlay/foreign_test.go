package overlay_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// fractions are what most archives lose of times.
var fractions = regexp.MustCompile(`(\d)\.\d{9}`)

func wholeSeconds(view map[string]string) map[string]string {
	for name, is := range view {
		view[name] = fractions.ReplaceAllString(is, "$1")
	}
	return view
}

const byHand = `cd /lab
rm -rf opaque && mkdir opaque && echo new >opaque/new
rm -rf gone-dir gone-file emptied/f
echo modified >modified && chmod 640 chmodded && chown 1234:4321 chowned
echo one >link-1 && ln link-1 link-2 && ln -s ../etc/passwd up && ln -s /absolute/target absolute
rm -rf turned-file && echo file >turned-file && rm turned-dir && mkdir turned-dir && echo in >turned-dir/f
mkfifo fifo && mknod device c 1 3
mkdir -p "odd names" && echo 1 >"odd names/a b" && echo 2 >"odd names/$(printf 'new\nline')"
echo 5 >"$(printf '%0255d' 0)"
deep=.; for i in 1 2 3 4 5 6; do deep=$deep/$(printf '%050d' "$i"); done; mkdir -p "$deep" && echo deep >"$deep/f"
ln "$deep/f" deep-link; ln -s "$deep/f" deep-symlink
echo new >/etc/lab-new`

// TestForeign restores archives that were packed by hand, each way there is, and
// compares all that such an archive has kept.
func TestForeign(t *testing.T) {
	m := newMachine(t)
	n := m.boot(t, "")
	n.run(byHand)
	before := wholeSeconds(n.view())
	for name, test := range map[string]struct{ pack, program string }{
		"as the page has it": {"tar czf - /run/overlay/overlayfs/rw", "tar"},
		"from the parent":    {"cd /run/overlay/overlayfs && tar cf - rw", "tar"},
		"with its work dir":  {"cd /run && tar czf - overlay/overlayfs", "tar"},
		"bare":               {"tar czf - -C /run/overlay/overlayfs/rw .", "tar"},
		"bare, no dots":      {"cd /run/overlay/overlayfs/rw && tar cf - *", "tar"},
		"absolute names":     {"tar czPf - /run/overlay/overlayfs/rw", "tar"},
		"posix":              {"tar cf - --format=posix /run/overlay/overlayfs/rw", "tar"},
		"ustar":              {"cd /run/overlay/overlayfs && tar cf - --format=ustar --exclude='*0000*' --exclude=deep-* rw", "tar"},
		"zstd":               {"tar cf - /run/overlay/overlayfs/rw | zstd -q", "zstd"},
		"xz":                 {"tar cf - /run/overlay/overlayfs/rw | xz -1", "xz"},
		"bzip2":              {"tar cf - /run/overlay/overlayfs/rw | bzip2", "bzip2"},
		"busybox":            {"busybox tar cf - /run/overlay/overlayfs/rw", "busybox"},
		"bsdtar":             {"cd /run/overlay/overlayfs && bsdtar cf - rw", "bsdtar"},
		"bsdtar, ustar":      {"cd /run/overlay/overlayfs && bsdtar cf - --format ustar --exclude='*0000*' --exclude 'deep-*' rw", "bsdtar"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(test.program); err != nil {
				testenv.Unable(t, err.Error())
			}
			file := filepath.Join(t.TempDir(), "overlay.tar")
			n.t = t
			must(t, os.WriteFile(file, []byte(n.run(test.pack+" 2>/dev/null")), 0o600))
			next := m.boot(t, "")
			report, err := overlay.Restore(t.Context(), next.conn, nil, overlay.RestoreRequest{Node: "n1", Archive: file})
			must(t, err)
			after := wholeSeconds(next.view())
			list := differences(before, after)
			list = slices.DeleteFunc(list, func(d string) bool {
				name, _, _ := strings.Cut(d, "\n")
				return strings.HasPrefix(name, `"lab/opaque`) ||
					strings.Contains(test.pack, "exclude") && (strings.Contains(d, "0000") || strings.Contains(name, `"lab/deep-`)) ||
					strings.HasPrefix(test.pack, "bsdtar") && name == `"lab/chowned"`
			})
			if len(list) > 0 || len(report.Differences) > 0 {
				t.Errorf("%d differences:\n%s\n%q", len(list), strings.Join(list, "\n"), report.Differences)
			}
			t.Logf("%q %q", report.Notes, report.Reappear)
			reappeared := strings.Contains(after["lab/opaque/old"], "bytes")
			if told := slices.Contains(report.Reappear, "/lab/opaque"); told != reappeared || slices.Contains(report.Reappear, "/lab/emptied") {
				t.Errorf("deleted files show again: %v; told: %q", reappeared, report.Reappear)
			}
		})
	}
}

// packed makes an archive of headers; a file's data is its size in zeros.
func packed(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		must(t, w.WriteHeader(&h))
		_, err := w.Write(make([]byte, h.Size))
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(t, errors.Join(err, w.Close()))
	return out.Bytes()
}

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	must(t, err)
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// TestForeignRefuses shows a restore archives that are damaged, or not of an
// upper dir: the node is not asked to do anything.
func TestForeignRefuses(t *testing.T) {
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 3000, Mode: 0o644}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	whole := packed(t, dir("rw/"), dir("rw/etc/"), file("rw/etc/f"))
	flipped := gzipped(t, whole)
	flipped[len(flipped)-6] ^= 1
	for name, test := range map[string]struct {
		archive []byte
		want    string
	}{
		"nothing":             {nil, "damaged"},
		"text":                {[]byte(strings.Repeat("hello world\n", 100)), "damaged"},
		"cut in the data":     {whole[:2500], "damaged"},
		"no closing blocks":   {whole[:len(whole)-1024], "closing blocks"},
		"one closing block":   {whole[:len(whole)-512], "closing blocks"},
		"cut before gzip":     {gzipped(t, whole[:2560]), "damaged"},
		"cut after gzip":      {gzipped(t, whole)[:60], "damaged"},
		"gzip's checksum":     {flipped, "damaged"},
		"cut after zstd":      {zstandard(t, whole)[:40], "damaged"},
		"two archives":        {append(bytes.Clone(whole), whole...), "closing blocks"},
		"more than an upper":  {packed(t, dir("run/overlayfs/rw/"), file("run/overlayfs/rw/f"), file("etc/passwd")), "cannot be told"},
		"of /run":             {packed(t, file("run/utmp"), file("etc/passwd")), "cannot be told"},
		"below a mount":       {packed(t, dir("mnt/upper/"), dir("mnt/upper/etc/"), file("mnt/upper/etc/f")), `below "mnt/upper"`},
		"below /var":          {packed(t, file("var/tmp/rescue/etc/f"), file("var/tmp/rescue/root/f")), `below "var/tmp/rescue"`},
		"of homes":            {packed(t, file("home/a/f")), "begins with \"home\""},
		"v7, a device":        {v7(packed(t, tar.Header{Name: "rw/etc/d", Typeflag: tar.TypeChar})), "is none"},
		"of anything":         {packed(t, file("holiday.jpg")), "cannot be told"},
		"leads out":           {packed(t, file("rw/../../etc/passwd")), "leads out"},
		"a link out of it":    {packed(t, file("rw/f"), tar.Header{Name: "rw/l", Typeflag: tar.TypeLink, Linkname: "etc/shadow"}), "leads out"},
		"through a link":      {packed(t, tar.Header{Name: "rw/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, file("rw/l/shadow")), "below a symbolic link"},
		"through a hard link": {packed(t, tar.Header{Name: "rw/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "rw/m", Typeflag: tar.TypeLink, Linkname: "rw/l"}, file("rw/m/shadow")), "below a symbolic link"},
		"a link through":      {packed(t, tar.Header{Name: "rw/l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, tar.Header{Name: "rw/m", Typeflag: tar.TypeLink, Linkname: "rw/l/shadow"}), "below a symbolic link"},
		"leans on the image":  {packed(t, tar.Header{Name: "rw/f", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.metacopy": ""}}), "metacopy"},
	} {
		t.Run(name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "overlay.tar.gz")
			must(t, os.WriteFile(name, test.archive, 0o600))
			remote := scripted(func(c overlay.Command) error {
				t.Errorf("the node was asked to run %q", c.Script)
				return nil
			})
			_, err := overlay.Restore(t.Context(), remote, nil, overlay.RestoreRequest{Node: "n1", Archive: name})
			if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// v7 makes headers of the tar before POSIX of an archive's, which has no data.
func v7(archive []byte) []byte {
	for at := 0; at < len(archive) && archive[at] != 0; at += 512 {
		h := archive[at : at+512]
		clear(h[257:])
		copy(h[148:156], "        ")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return archive
}

// TestForeignOld: archives of the tar before POSIX, archives with global headers,
// and archives whose place is named, are read as GNU tar reads them.
func TestForeignOld(t *testing.T) {
	m := newMachine(t)
	n := m.boot(t, "")
	n.run("mkdir -p /mnt/up/etc/old/sub /mnt/up/lab/kept && cd /mnt/up/etc/old && echo one >sub/f && chmod 640 sub/f && chown 12:34 sub/f && ln sub/f g && ln -s sub/f l && chmod 750 sub && touch -d @1000000000 sub/f")
	const look = "cd /etc/old && stat -c '%n %f %u %g %Y %h %N' sub sub/f g l && cat g"
	for name, test := range map[string]struct{ pack, prefix string }{
		"v7":          {"tar cf - --format=v7 -C /mnt --transform 's,^up,rw,' up", ""},
		"v7, bare":    {"cd /mnt/up && tar cf - --format=v7 etc lab", "."},
		"oldgnu":      {"tar cf - --format=oldgnu -C /mnt up", "up"},
		"global":      {"tar cf - --format=posix --pax-option=comment=x,gname=g,mtime=1000000000,uid=12,gid=34 -C /mnt/up ./etc ./lab", ""},
		"by a prefix": {"tar cf - -C / mnt/up", "/mnt/up/"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "overlay.tar")
			n.t = t
			must(t, os.WriteFile(file, []byte(n.run(test.pack)), 0o600))
			next := m.boot(t, "")
			next.run("mkdir /tmp/gnu")
			report, err := overlay.Restore(t.Context(), next.conn, nil, overlay.RestoreRequest{Node: "n1", Archive: file, Prefix: test.prefix})
			must(t, err)
			// GNU tar's own reading is what counts.
			packed, err := os.ReadFile(file)
			must(t, err)
			must(t, next.conn.Run(t.Context(), overlay.Command{Script: "tar xpf - --numeric-owner -C /tmp/gnu", Stdin: bytes.NewReader(packed)}))
			want := next.run("cd $(dirname $(find /tmp/gnu -name old -path '*/etc/*'))/.. && " + strings.Replace(look, "cd /etc/old", "cd etc/old", 1))
			if got := next.run(look); got != want || !strings.Contains(got, "sub/f 81a0 12 34 1000000000 2 ") {
				t.Errorf("got\n%s\nGNU tar makes of it\n%s", got, want)
			}
			if len(report.Differences) > 0 {
				t.Errorf("differences: %q", report.Differences)
			}
		})
	}
	_, err := overlay.Restore(t.Context(), n.conn, nil, overlay.RestoreRequest{Node: "n1", Archive: filepath.Join(t.TempDir(), "none"), Prefix: "x"})
	if bmc.KindOf(err) != bmc.KindOverlay {
		t.Errorf("no file: %v", err)
	}
	file := filepath.Join(t.TempDir(), "overlay.tar")
	must(t, os.WriteFile(file, packed(t, tar.Header{Name: "rw/etc/f", Typeflag: tar.TypeReg}), 0o600))
	_, err = overlay.Restore(t.Context(), n.conn, nil, overlay.RestoreRequest{Node: "n1", Archive: file, Prefix: "other"})
	if !strings.Contains(fmt.Sprint(err), `nothing below "other"`) {
		t.Errorf("a prefix that is not there: %v", err)
	}
}

// TestForeignChanges replaces the archive while it is being restored.
func TestForeignChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "overlay.tar")
	h := tar.Header{Name: "rw/etc/f", Typeflag: tar.TypeReg, Mode: 0o644}
	must(t, os.WriteFile(name, packed(t, h), 0o600))
	remote := scripted(func(c overlay.Command) error {
		if c.Stdin != nil {
			_, err := io.Copy(io.Discard, c.Stdin)
			return err
		}
		h.Mode = 0o600
		must(t, os.WriteFile(name, packed(t, h), 0o600))
		return nil
	})
	_, err := overlay.Restore(t.Context(), remote, nil, overlay.RestoreRequest{Node: "n1", Archive: name})
	if !strings.Contains(fmt.Sprint(err), "was changed while") {
		t.Errorf("got %v", err)
	}
}
