package overlay

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// placed reads an archive below a prefix and returns its members, and the
// archive that is passed on.
func placed(b []byte, prefix string) (list []member, out []byte, err error) {
	a := newArchive(bytes.NewReader(b))
	a.foreign = &layout{prefix: prefix}
	var passed bytes.Buffer
	for {
		m, err := a.next()
		if errors.Is(err, io.EOF) {
			passed.Write(zeroRecord[:])
			return list, passed.Bytes(), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if m.outside {
			continue
		}
		list = append(list, m)
		passed.Write(a.head)
		if err := a.body(&passed); err != nil {
			return nil, nil, err
		}
	}
}

// FuzzRename takes the upper dir out of anything. What is passed on says the
// same by the new names, to this parser and to archive/tar.
func FuzzRename(f *testing.F) {
	long := strings.Repeat("long/", 60)
	headers := []tar.Header{
		{Name: "run/rw/", Typeflag: tar.TypeDir},
		{Name: "run/rw/f", Typeflag: tar.TypeReg, Size: 600},
		{Name: "run/rw/l", Typeflag: tar.TypeLink, Linkname: "run/rw/f"},
		{Name: "run/rw/s", Typeflag: tar.TypeSymlink, Linkname: long},
		{Name: "run/rw/" + long, Typeflag: tar.TypeDir},
		{Name: "run/rw/l2", Typeflag: tar.TypeLink, Linkname: "run/rw/" + long + "x"},
		{Name: "run/work/", Typeflag: tar.TypeDir},
	}
	for _, format := range []tar.Format{tar.FormatPAX, tar.FormatGNU} {
		list := append([]tar.Header{}, headers...)
		for i := range list {
			list[i].Format, list[i].ModTime = format, time.Unix(1, 0)
		}
		f.Add(pack(f, list...))
	}
	f.Add(pack(f, tar.Header{Name: "/run/rw/f", Typeflag: tar.TypeReg, Size: 1}))
	f.Add(pack(f, tar.Header{Name: "run/rw/" + strings.Repeat("d", 90) + "/" + strings.Repeat("f", 90), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR, ModTime: time.Unix(1, 0)}))
	f.Add(bytes.ReplaceAll(sample(f, "posix"), []byte("./"), []byte("rw")))
	f.Add(sample(f, "gnu"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, prefix := range []string{"", "run/rw", "rw"} {
			before, passed, err := placed(b, prefix)
			if err != nil {
				continue
			}
			after, err := members(passed)
			if err != nil || len(after) != len(before) {
				t.Fatalf("%d members became %d: %v", len(before), len(after), err)
			}
			for i, m := range after {
				if m != before[i] {
					t.Fatalf("%+v became %+v", before[i], m)
				}
			}
		}
	})
}

// TestRenameByAnother reads renamed archives with archive/tar.
func TestRenameByAnother(t *testing.T) {
	long := strings.Repeat("long/", 60)
	for _, format := range []tar.Format{tar.FormatPAX, tar.FormatGNU} {
		b := pack(t,
			tar.Header{Name: "run/rw/" + long + "f", Typeflag: tar.TypeReg, Size: 600, Format: format, ModTime: time.Unix(1, 0)},
			tar.Header{Name: "run/rw/l", Typeflag: tar.TypeLink, Linkname: "run/rw/" + long + "f", Format: format, ModTime: time.Unix(1, 0)},
			tar.Header{Name: "run/rw/s", Typeflag: tar.TypeSymlink, Linkname: "/run/rw/" + long, Format: format, ModTime: time.Unix(1, 0)})
		_, passed, err := placed(b, "run/rw")
		if err != nil {
			t.Fatal(err)
		}
		r := tar.NewReader(bytes.NewReader(passed))
		for _, want := range [][2]string{{"./" + long + "f", ""}, {"./l", "./" + long + "f"}, {"./s", "/run/rw/" + long}} {
			h, err := r.Next()
			if err != nil || h.Name != want[0] || h.Linkname != want[1] {
				t.Fatalf("%s: %+v, %v", format, h, err)
			}
			data, err := io.ReadAll(r)
			if err != nil || len(data) != int(h.Size) {
				t.Errorf("%s: %d bytes, %v", format, len(data), err)
			}
		}
	}
}
