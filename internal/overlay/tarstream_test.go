package overlay

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pack makes an archive of the headers with archive/tar, an implementation that
// shares nothing with ours. A regular file's data is its size in "x".
func pack(tb testing.TB, headers ...tar.Header) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1700000000, 123456789)
		}
		if h.Format == tar.FormatUnknown {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, strings.Repeat("x", int(h.Size))); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func opaqueDir(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y"}}
}

func members(b []byte) ([]member, error) {
	var list []member
	_, err := readMembers(bytes.NewReader(b), func(_ *archive, m member) error {
		list = append(list, m)
		return nil
	})
	return list, err
}

// filter passes an archive on without its whiteouts, as a restore does.
func filter(b []byte) ([]byte, error) {
	var out bytes.Buffer
	_, err := readMembers(bytes.NewReader(b), func(a *archive, m member) error {
		if m.whiteout {
			return nil
		}
		out.Write(a.head)
		return a.body(&out)
	})
	out.Write(zeroRecord[:])
	return out.Bytes(), err
}

func TestArchiveMembers(t *testing.T) {
	long := strings.Repeat("d/", 300) + "f"
	b := pack(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./f", Typeflag: tar.TypeReg, Size: 513, Mode: 0o4755, Uid: 4000000000, ModTime: time.Unix(-2, 500000000)},
		opaqueDir("./o/"),
		tar.Header{Name: "./gone", Typeflag: tar.TypeChar},
		tar.Header{Name: "./gone-2", Typeflag: tar.TypeLink, Linkname: "./gone"},
		tar.Header{Name: "./f-2", Typeflag: tar.TypeLink, Linkname: "./f"},
		tar.Header{Name: "./null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "./s", Typeflag: tar.TypeSymlink, Linkname: "../../etc"},
		tar.Header{Name: "./" + long, Typeflag: tar.TypeReg, Size: 1},
		tar.Header{Name: "./gnu" + long, Typeflag: tar.TypeReg, Size: 1, Format: tar.FormatGNU, ModTime: time.Unix(1, 0)},
		tar.Header{Name: "./m", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.metacopy": ""}},
		tar.Header{Name: "./w", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.trusted.overlay.whiteout": "y"}},
		tar.Header{Name: "./p", Typeflag: tar.TypeFifo},
	)
	list, err := members(b)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, m := range list {
		fmt.Fprintf(&got, "%s %q %o %d %d %s %q %d:%d %v %v\n", m.name, m.kind, m.mode, m.uid, m.size, m.mtime, m.link, m.major, m.minor, m.whiteout, m.xattrs)
	}
	const now = "1700000000.123456789"
	want := strings.Join([]string{
		`. '5' 755 0 0 ` + now + ` "" 0:0 false {false false false false}`,
		`./f '0' 4755 4000000000 513 -2.500000000 "" 0:0 false {false false false false}`,
		`./o '5' 755 0 0 ` + now + ` "" 0:0 false {true false false false}`,
		`./gone '3' 0 0 0 ` + now + ` "" 0:0 true {false false false false}`,
		`./gone-2 '1' 0 0 0 ` + now + ` "./gone" 0:0 true {false false false false}`,
		`./f-2 '1' 0 0 0 ` + now + ` "./f" 0:0 false {false false false false}`,
		`./null '3' 0 0 0 ` + now + ` "" 1:3 false {false false false false}`,
		`./s '2' 0 0 0 ` + now + ` "../../etc" 0:0 false {false false false false}`,
		`./` + long + ` '0' 0 0 1 ` + now + ` "" 0:0 false {false false false false}`,
		`./gnu` + long + ` '0' 0 0 1 1.000000000 "" 0:0 false {false false false false}`,
		`./m '0' 0 0 0 ` + now + ` "" 0:0 false {false true false false}`,
		`./w '0' 0 0 0 ` + now + ` "" 0:0 true {false false false true}`,
		`./p '6' 0 0 0 ` + now + ` "" 0:0 false {false false false false}`,
	}, "\n") + "\n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	filtered, err := filter(b)
	if err != nil {
		t.Fatal(err)
	}
	if list, err = members(filtered); err != nil || len(list) != 10 {
		t.Errorf("filtered: %d members, %v", len(list), err)
	}
}

func TestArchiveRefuses(t *testing.T) {
	ok := tar.Header{Name: "./f", Typeflag: tar.TypeReg, Size: 600}
	whole := pack(t, ok)
	end := len(whole) - 2*blockBytes
	patch := func(at int, with string) []byte {
		b := bytes.Clone(whole)
		copy(b[at:], with)
		return b
	}
	for name, test := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":              {nil, errTruncated},
		"no closing blocks":    {whole[:end], errTruncated},
		"one closing block":    {whole[:end+blockBytes], errTruncated},
		"half a block":         {whole[:end+blockBytes+100], errTruncated},
		"cut in the data":      {whole[:2000], errTruncated},
		"cut in a header":      {whole[:100], errTruncated},
		"another archive":      {append(bytes.Clone(whole), whole...), errTrailing},
		"one zero block":       {append(whole[:end+blockBytes:end+blockBytes], whole...), errTrailing},
		"a flipped header bit": {patch(end-3*blockBytes+5, "?"), nil},
		"no magic":             {patch(257, "xxxxx"), nil},
		"absolute":             {pack(t, tar.Header{Name: "/etc/passwd", Typeflag: tar.TypeReg}), nil},
		"parent":               {pack(t, tar.Header{Name: "./a/../../f", Typeflag: tar.TypeReg}), nil},
		"link to parent":       {pack(t, ok, tar.Header{Name: "./l", Typeflag: tar.TypeLink, Linkname: "../f"}), nil},
		"link to absolute":     {pack(t, ok, tar.Header{Name: "./l", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"}), nil},
		"long name to parent":  {pack(t, tar.Header{Name: strings.Repeat("a/../", 60) + "../f", Typeflag: tar.TypeReg}), nil},
		"global header":        {patch(156, "g"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := members(test.b)
			if err == nil || (test.want != nil && !errors.Is(err, test.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestParseTimestamp(t *testing.T) {
	for s, want := range map[string]string{
		"0": "0.000000000", "1.5": "1.500000000", "-0.5": "-1.500000000", "-1": "-1.000000000",
		"-2.000000001": "-3.999999999", "9223372036.1234567899": "9223372036.123456789",
		"x": "", "": "", "--1": "", "1.x": "", "+1": "", "-+1": "",
	} {
		got, err := parseTimestamp(s)
		if (err != nil) != (want == "") || (err == nil && got.String() != want) {
			t.Errorf("%q: got %s, %v", s, got, err)
		}
	}
}

// sample makes an archive with GNU tar, sparse files and long names included.
func sample(tb testing.TB, format string) []byte {
	tb.Helper()
	if _, err := exec.LookPath("tar"); err != nil {
		tb.Skip(err)
	}
	dir := tb.TempDir()
	for name, size := range map[string]int64{"a": 3, "sparse": 8 << 20, strings.Repeat("n", 200): 1} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		_, err = f.WriteAt([]byte("data"), size/2)
		if err := errors.Join(err, f.Truncate(size), f.Close()); err != nil {
			tb.Fatal(err)
		}
	}
	b, err := exec.Command("tar", "cf", "-", "--format="+format, "--sparse", "-C", dir, ".").Output()
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestArchiveSparse(t *testing.T) {
	for _, format := range []string{"posix", "gnu"} {
		b := sample(t, format)
		list, err := members(b)
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		sizes := make(map[string]int64)
		for _, m := range list {
			sizes[m.name] = m.size
		}
		if sizes["./sparse"] != 8<<20 || len(list) != 4 || len(b) > 1<<20 {
			t.Errorf("%s: %v in %d bytes", format, sizes, len(b))
		}
		passed, err := filter(b)
		if err != nil || !bytes.HasPrefix(b, bytes.TrimRight(passed, "\x00")) {
			t.Errorf("%s: what was passed on is not what came in: %v", format, err)
		}
	}
}

// FuzzUnpackOverlay feeds the reader anything. What it passes on it must accept
// again, without whiteouts, and no name may lead out.
func FuzzUnpackOverlay(f *testing.F) {
	f.Add(pack(f, tar.Header{Name: "./f", Typeflag: tar.TypeReg, Size: 10}, opaqueDir("./o"), tar.Header{Name: "./gone", Typeflag: tar.TypeChar}))
	f.Add(pack(f, tar.Header{Name: "./gone", Typeflag: tar.TypeChar}, tar.Header{Name: "./l", Typeflag: tar.TypeLink, Linkname: "./gone"}))
	f.Add(pack(f, tar.Header{Name: "/abs/../x", Typeflag: tar.TypeReg}))
	f.Add(pack(f, tar.Header{Name: strings.Repeat("long/", 60), Typeflag: tar.TypeDir, Format: tar.FormatGNU, ModTime: time.Unix(0, 0)}))
	f.Add(sample(f, "posix"))
	f.Add(sample(f, "gnu"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before, err := members(b)
		if err != nil {
			return
		}
		passed, err := filter(b)
		if err != nil {
			t.Fatal(err)
		}
		after, err := members(passed)
		if err != nil {
			t.Fatalf("what was passed on is refused: %v", err)
		}
		kept := 0
		for _, m := range before {
			if m.whiteout {
				continue
			}
			if kept >= len(after) || after[kept] != m {
				t.Fatalf("%+v was lost or changed", m)
			}
			kept++
		}
		for _, m := range after {
			if m.whiteout || strings.Contains("/"+m.name+"/", "/../") || strings.HasPrefix(m.name, "/") || (m.kind == typeHardLink && strings.Contains("/"+m.link+"/", "/../")) {
				t.Fatalf("%+v was passed on", m)
			}
		}
		if kept != len(after) {
			t.Fatalf("%d members became %d", kept, len(after))
		}
	})
}
