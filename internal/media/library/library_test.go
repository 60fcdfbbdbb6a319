package library_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
	"github.com/livecd-sync/livecd-sync/internal/media/library"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var pit = isotest.Image{VolumeID: "CRAY-PIT-1.7", Created: time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC), Size: 300_000}

func iso(t testing.TB, img isotest.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := isotest.Write(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// noise is what does not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

type file struct {
	name string
	body []byte
	link string
}

// archive packs files as tar does.
func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func release(t testing.TB, image []byte) []byte {
	t.Helper()
	return zipped(t, archive(t,
		file{name: "csm-1.7.0/docs/README.md", body: []byte("read me")},
		file{name: "csm-1.7.0/rpm/noise.rpm", body: noise(3 << 20)},
		file{name: "csm-1.7.0/pre-install-toolkit-1.7.0.iso", body: image},
		file{name: "csm-1.7.0/pre-install-toolkit-latest.iso", link: "pre-install-toolkit-1.7.0.iso"},
		file{name: "csm-1.7.0/._pre-install-toolkit-1.7.0.iso", body: []byte("Mac OS X")},
		file{name: "csm-1.7.0/install.sh", body: noise(1 << 20)},
	))
}

func open(t testing.TB) *library.Library {
	t.Helper()
	return &library.Library{Dir: filepath.Join(t.TempDir(), "cache"), Clock: bmc.SystemClock{}}
}

// left are the files of the library, but for locks.
func left(t testing.TB, l *library.Library) []string {
	t.Helper()
	all, err := os.ReadDir(l.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		if filepath.Ext(e.Name()) != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func wantError(t *testing.T, err error, kind bmc.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of kind %q saying %q", kind, texts)
	}
	if bmc.KindOf(err) != kind || bmc.HintOf(err) == "" {
		t.Errorf("error %q of kind %q with hint %q, want kind %q and a hint", err, bmc.KindOf(err), bmc.HintOf(err), kind)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error()+"\n"+bmc.HintOf(err), text) {
			t.Errorf("error %q with hint %q does not say %q", err, bmc.HintOf(err), text)
		}
	}
}

func TestFile(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", File: write(t, filepath.Join(t.TempDir(), "pit.iso"), body)}
	if loc, ok := l.Known(img); ok {
		t.Errorf("Known before it was read: %+v", loc)
	}
	var reads int
	progress := func(p library.Progress) { reads++ }
	got, err := l.Local(t.Context(), img, progress)
	want := media.Local{
		Name: "pit", Path: img.File, Size: int64(len(body)), SHA256: digest(body),
		Volume: site.Volume{ID: "CRAY-PIT-1.7", Created: "2026-11-23T05:00:00.00+00:00"},
	}
	if err != nil || got != want || reads == 0 {
		t.Fatalf("Local = %+v, %v, want %+v; %d reads", got, err, want, reads)
	}
	reads = 0
	later := &library.Library{Dir: l.Dir, Clock: l.Clock} // another process
	if got, ok := later.Known(img); !ok || got != want {
		t.Errorf("Known = %+v, %v, want %+v", got, ok, want)
	}
	if got, err := later.Local(t.Context(), img, progress); err != nil || got != want || reads > 0 {
		t.Errorf("Local = %+v, %v after %d more reads, want none", got, err, reads)
	}
}

// A file of the same size and time is told from the one before all the same.
func TestFileReplaced(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", File: write(t, filepath.Join(t.TempDir(), "pit.iso"), body)}
	if _, err := l.Local(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(img.File)
	if err != nil {
		t.Fatal(err)
	}
	body[len(body)-1] ^= 1
	write(t, img.File, body)
	if err := os.Chtimes(img.File, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Known(img); ok {
		t.Error("the file that was replaced is taken for the one that was read")
	}
	if got, err := l.Local(t.Context(), img, nil); err != nil || got.SHA256 != digest(body) {
		t.Errorf("Local = %+v, %v, want the digest %s", got, err, digest(body))
	}
}

func TestFilePinned(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", File: write(t, filepath.Join(t.TempDir(), "pit.iso"), body), SHA256: digest(body)}
	if _, err := l.Local(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	img.SHA256 = strings.Repeat("0", 64)
	_, err := l.Look(img) // it needs no reading
	wantError(t, err, bmc.KindMedia, digest(body), img.SHA256, "images.pit.sha256")
	if _, ok := l.Known(img); ok {
		t.Error("an image with another digest is Known")
	}
	_, err = open(t).Local(t.Context(), img, nil)
	wantError(t, err, bmc.KindMedia, digest(body), img.SHA256)
}

func TestFileFailures(t *testing.T) {
	dir, body := t.TempDir(), iso(t, pit)
	write(t, filepath.Join(dir, "empty.iso"), nil)
	write(t, filepath.Join(dir, "short.iso"), body[:len(body)-1])
	write(t, filepath.Join(dir, "text.iso"), []byte("hello"))
	for name, want := range map[string]string{
		"empty.iso": "it is empty", "short.iso": "truncated", "text.iso": "not an ISO 9660 image", ".": "it is a directory", "gone.iso": "no such file",
	} {
		_, err := open(t).Local(t.Context(), site.Image{Name: "pit", File: filepath.Join(dir, name)}, nil)
		wantError(t, err, bmc.KindMedia, want)
	}
	_, err := open(t).Local(t.Context(), site.Image{Name: "pit", URL: "http://10.1.1.1/iso/pit.iso"}, nil)
	wantError(t, err, bmc.KindURL, "web server")
}

func TestFileChangesMeanwhile(t *testing.T) {
	img := isotest.Image{VolumeID: "BIG", Size: 4 << 20}
	for what, change := range map[string]func(name string) error{
		"it changed while it was read": func(name string) error {
			f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		},
		"changed":                          func(name string) error { return os.Truncate(name, 1<<20) },
		"it was removed while it was read": os.Remove,
	} {
		name := write(t, filepath.Join(t.TempDir(), "pit.iso"), iso(t, img))
		l := open(t)
		var once sync.Once
		_, err := l.Local(t.Context(), site.Image{Name: "pit", File: name}, func(library.Progress) {
			once.Do(func() {
				if err := change(name); err != nil {
					t.Error(err)
				}
			})
		})
		wantError(t, err, bmc.KindMedia, what)
		if names := left(t, l); len(names) > 0 {
			t.Errorf("%s: it left %v", what, names)
		}
	}
}

// Without a place for it, an image is digested all the same.
func TestNoPlace(t *testing.T) {
	l, body := &library.Library{Clock: bmc.SystemClock{}}, iso(t, pit)
	img := site.Image{Name: "pit", File: write(t, filepath.Join(t.TempDir(), "pit.iso"), body)}
	if got, err := l.Local(t.Context(), img, nil); err != nil || got.SHA256 != digest(body) {
		t.Errorf("Local = %+v, %v", got, err)
	}
	if _, ok := l.Known(img); !ok {
		t.Error("it was forgotten at once")
	}
	_, err := l.Local(t.Context(), site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}, nil)
	wantError(t, err, bmc.KindMedia, "no place", "XDG_CACHE_HOME")
}

func TestRelease(t *testing.T) {
	l, body := open(t), iso(t, pit)
	packed := release(t, body)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "csm-1.7.0.tar.gz"), packed)}
	if _, ok := l.Known(img); ok {
		t.Error("Known before it was read")
	}
	var last library.Progress
	got, err := l.Local(t.Context(), img, func(p library.Progress) {
		if p.Done < last.Done {
			t.Errorf("progress went back from %+v to %+v", last, p)
		}
		last = p
	})
	if err != nil || got.SHA256 != digest(body) || got.Volume.ID != "CRAY-PIT-1.7" || got.Size != int64(len(body)) {
		t.Fatalf("Local = %+v, %v", got, err)
	}
	if b, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(b, body) || filepath.Dir(got.Path) != l.Dir {
		t.Errorf("%s is not the ISO that was packed: %v", got.Path, err)
	}
	if want := (library.Progress{Doing: library.Extracting, Done: int64(len(packed)), Total: int64(len(packed))}); last != want {
		t.Errorf("the last progress was %+v, want %+v", last, want)
	}
	never := func(p library.Progress) { t.Errorf("it is read again: %+v", p) }
	if again, err := (&library.Library{Dir: l.Dir, Clock: l.Clock}).Local(t.Context(), img, never); err != nil || again != got {
		t.Errorf("Local again = %+v, %v, want %+v", again, err, got)
	}
	img.SHA256 = digest(body) // it is the only one, so it was the one that is meant
	if again, ok := l.Known(img); !ok || again != got {
		t.Errorf("Known, pinned = %+v, %v", again, ok)
	}
	if err := os.Remove(img.Release); err != nil { // tens of GB that are not needed any more
		t.Fatal(err)
	}
	if again, ok := l.Known(img); !ok || again != got {
		t.Errorf("Known without the release = %+v, %v", again, ok)
	}
}

// What is whole is not done again: not the ISO that lies there with other times.
func TestReleaseISOMoved(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}
	got, err := l.Local(t.Context(), img, nil)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(got.Path, old, old); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.Known(img); ok {
		t.Error("what was touched is Known")
	}
	again, err := l.Local(t.Context(), img, func(p library.Progress) {
		if p.Doing != library.Digesting {
			t.Errorf("it is taken out again: %+v", p)
		}
	})
	if err != nil || again != got {
		t.Errorf("Local = %+v, %v, want %+v", again, err, got)
	}
	write(t, got.Path, append(body[:len(body)-1:len(body)-1], 'x')) // damaged
	if again, err = l.Local(t.Context(), img, nil); err != nil || again != got {
		t.Errorf("Local = %+v, %v, want %+v", again, err, got)
	}
	if b, _ := os.ReadFile(got.Path); !bytes.Equal(b, body) {
		t.Error("the damaged ISO is still there")
	}
}

func TestReleaseReplaced(t *testing.T) {
	l := open(t)
	img := site.Image{Name: "pit", Release: filepath.Join(t.TempDir(), "r.tar.gz")}
	for _, volume := range []string{"FIRST", "SECOND"} {
		write(t, img.Release, release(t, iso(t, isotest.Image{VolumeID: volume})))
		if _, ok := l.Known(img); ok {
			t.Errorf("%s is Known already", volume)
		}
		if got, err := l.Local(t.Context(), img, nil); err != nil || got.Volume.ID != volume {
			t.Errorf("Local = %+v, %v, want volume %s", got, err, volume)
		}
	}
}

func TestReleaseWithTwoISOs(t *testing.T) {
	l, a, b := open(t), iso(t, isotest.Image{VolumeID: "A"}), iso(t, isotest.Image{VolumeID: "B"})
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"),
		zipped(t, archive(t, file{name: "csm/a.iso", body: a}, file{name: "csm/B.ISO", body: b}, file{name: "csm/z", body: noise(4 << 20)})))}
	_, err := l.Local(t.Context(), img, nil)
	wantError(t, err, bmc.KindMedia, "2 ISOs", "csm/a.iso (sha256 "+digest(a)+")", "csm/B.ISO (sha256 "+digest(b)+")", "images.pit.sha256")
	if names := left(t, l); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
	for _, body := range [][]byte{a, b} {
		img.SHA256 = digest(body)
		got, err := l.Local(t.Context(), img, nil)
		if err != nil || got.SHA256 != img.SHA256 {
			t.Fatalf("Local = %+v, %v, want the ISO with digest %s", got, err, img.SHA256)
		}
		if content, _ := os.ReadFile(got.Path); !bytes.Equal(content, body) {
			t.Errorf("%s has other bytes", got.Path)
		}
	}
	img.SHA256 = strings.Repeat("0", 64)
	_, err = l.Local(t.Context(), img, nil)
	wantError(t, err, bmc.KindMedia, digest(a), digest(b), img.SHA256)
}

func TestReleaseFailures(t *testing.T) {
	body := iso(t, pit)
	good := release(t, body)
	tarOnly := archive(t, file{name: "csm/pit.iso", body: body}, file{name: "csm/more", body: noise(2 << 20)})
	unmarked := archive(t, file{name: "csm/more", body: []byte("more")}, file{name: "csm/pit.iso", body: body})
	unmarked = unmarked[:len(unmarked)-1024]
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	sum := bytes.Clone(good)
	sum[len(sum)-6] ^= 1 // of the checksum at the end
	for name, tc := range map[string]struct {
		content []byte
		want    []string
	}{
		"no ISO":                      {zipped(t, archive(t, file{name: "csm/README", body: []byte("hello")})), []string{"there is no ISO in it"}},
		"an empty archive":            {zipped(t, archive(t)), []string{"there is no ISO in it"}},
		"empty":                       {nil, []string{"it is empty"}},
		"not a gzip":                  {[]byte("PK\x03\x04 this is something else"), []string{"not compressed by gzip"}},
		"a bare tar":                  {tarOnly, []string{"tar archive that is not compressed"}},
		"a bare ISO":                  {body, []string{"not compressed by gzip"}},
		"no tar inside":               {zipped(t, []byte(strings.Repeat("hello ", 1000))), []string{"no tar archive"}},
		"cut in the header":           {good[:5], []string{"truncated"}},
		"cut in the middle":           {good[:len(good)*2/3], []string{"it is truncated", "gzip"}},
		"cut in the checksum":         {good[:len(good)-4], []string{"it is truncated", "gzip"}},
		"broken in the middle":        {flipped, []string{"it is damaged", "csm-1.7.0/"}},
		"a wrong checksum":            {sum, []string{"it is damaged"}},
		"tar cut in a file":           {zipped(t, tarOnly[:len(tarOnly)-1<<20]), []string{"tar archive in it is truncated", "csm/more"}},
		"tar cut in the ISO":          {zipped(t, tarOnly[:100_000]), []string{"tar archive in it is truncated", "csm/pit.iso"}},
		"tar cut between files":       {zipped(t, unmarked), []string{"tar archive in it is truncated", "csm/pit.iso"}},
		"tar cut in a header":         {zipped(t, unmarked[:512+512+100]), []string{"tar archive in it is truncated"}},
		"garbage between files":       {zipped(t, append(bytes.Clone(unmarked), noise(4096)...)), []string{"damaged", "csm/pit.iso"}},
		"an ISO that is none":         {zipped(t, archive(t, file{name: "csm/pit.iso", body: noise(100_000)})), []string{"csm/pit.iso", "not an ISO 9660 image"}},
		"an empty ISO":                {zipped(t, archive(t, file{name: "csm/pit.iso"})), []string{"csm/pit.iso", "not an ISO 9660 image"}},
		"a truncated ISO":             {zipped(t, archive(t, file{name: "csm/pit.iso", body: body[:len(body)-2048]})), []string{"csm/pit.iso", "truncated"}},
		"something behind the stream": {append(bytes.Clone(good), "garbage, which is no further stream"...), []string{"it is damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t)
			_, err := l.Local(t.Context(), site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), tc.content)}, nil)
			wantError(t, err, bmc.KindMedia, tc.want...)
			if names := left(t, l); len(names) > 0 {
				t.Errorf("it left %v", names)
			}
		})
	}
	_, err := open(t).Local(t.Context(), site.Image{Name: "pit", Release: t.TempDir()}, nil)
	wantError(t, err, bmc.KindMedia, "it is a directory")
	_, err = open(t).Local(t.Context(), site.Image{Name: "pit", Release: filepath.Join(t.TempDir(), "gone.tar.gz")}, nil)
	wantError(t, err, bmc.KindMedia, "no such file")
}

// Streams of several gzip members, as pigz and bgzip write them, are one.
func TestReleaseOfSeveralStreams(t *testing.T) {
	body := iso(t, pit)
	all := archive(t, file{name: "csm/pit.iso", body: body})
	packed := append(zipped(t, all[:50_000]), zipped(t, all[50_000:])...)
	got, err := open(t).Local(t.Context(), site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), packed)}, nil)
	if err != nil || got.SHA256 != digest(body) {
		t.Errorf("Local = %+v, %v", got, err)
	}
}

// With the digest known, what follows the ISO is not needed, and not read.
func TestReleasePinnedEndsEarly(t *testing.T) {
	body := iso(t, pit)
	good := zipped(t, archive(t, file{name: "csm/pit.iso", body: body}, file{name: "csm/more", body: noise(16 << 20)}))
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), good), SHA256: digest(body)}
	var read int64
	got, err := open(t).Local(t.Context(), img, func(p library.Progress) { read = p.Done })
	if err != nil || got.SHA256 != img.SHA256 || read > int64(len(good))*3/4 {
		t.Errorf("Local = %+v, %v after %d of %d bytes", got, err, read, len(good))
	}
}

func TestReleaseCancelled(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := l.Local(ctx, img, func(p library.Progress) {
		if p.Done > 2<<20 {
			cancel()
		}
	})
	wantError(t, err, bmc.KindCancelled)
	if names := left(t, l); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
	if got, err := l.Local(t.Context(), img, nil); err != nil || got.SHA256 != digest(body) {
		t.Errorf("Local afterwards = %+v, %v", got, err)
	}
}

func TestReleaseChangesMeanwhile(t *testing.T) {
	l := open(t)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, iso(t, pit)))}
	var once sync.Once
	_, err := l.Local(t.Context(), img, func(library.Progress) {
		once.Do(func() {
			now := time.Now()
			if err := os.Chtimes(img.Release, now, now); err != nil {
				t.Error(err)
			}
		})
	})
	wantError(t, err, bmc.KindMedia, "it changed while it was read")
	if names := left(t, l); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
}

// Of many that need it at one time, one takes it out.
func TestReleaseOnce(t *testing.T) {
	dir, body := t.TempDir(), iso(t, pit)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}
	var working atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			l := &library.Library{Dir: dir, Clock: bmc.SystemClock{}}
			var once sync.Once
			got, err := l.Local(t.Context(), img, func(p library.Progress) {
				if p.Doing != library.Waiting {
					once.Do(func() { working.Add(1) })
				}
			})
			if err != nil || got.SHA256 != digest(body) {
				t.Errorf("Local = %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if n := working.Load(); n != 1 {
		t.Errorf("%d have taken it out, want 1", n)
	}
}

// What a process that was killed has left is no ISO, and is in nobody's way.
func TestReleaseAfterAKill(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}
	ctx, cancel := context.WithCancel(t.Context())
	var names []string
	_, err := l.Local(ctx, img, func(p library.Progress) {
		if names == nil && p.Done > 3<<20 {
			names = left(t, l)
			cancel()
		}
	})
	if bmc.KindOf(err) != bmc.KindCancelled || len(names) != 1 {
		t.Fatalf("Local ended in %v, with %v there", err, names)
	}
	write(t, filepath.Join(l.Dir, names[0]), noise(2<<20))
	if _, ok := l.Known(img); ok {
		t.Error("half an ISO is Known")
	}
	if got, err := l.Local(t.Context(), img, nil); err != nil || got.SHA256 != digest(body) {
		t.Errorf("Local = %+v, %v", got, err)
	}
	if now := left(t, l); len(now) != 2 {
		t.Errorf("there are %v, want an ISO and an entry", now)
	}
}

// An entry that somebody has written, or that is damaged, leads nowhere else.
func TestEntryFromElsewhere(t *testing.T) {
	l, body := open(t), iso(t, pit)
	img := site.Image{Name: "pit", Release: write(t, filepath.Join(t.TempDir(), "r.tar.gz"), release(t, body))}
	if _, err := l.Local(t.Context(), img, nil); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(l.Dir, "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := bytes.Replace(b, []byte(`"iso": "`), []byte(`"iso": "../`), 1)
	for _, content := range [][]byte{elsewhere, b[:len(b)/2], []byte("null"), nil} {
		write(t, names[0], content)
		if got, ok := (&library.Library{Dir: l.Dir, Clock: l.Clock}).Known(img); ok {
			t.Errorf("Known with the entry %q: %+v", content, got)
		}
	}
}

// On a disk that is too small it says so before it writes, and where others fill it
// meanwhile it leaves nothing.
func TestReleaseWithoutRoom(t *testing.T) {
	l := open(t)
	if err := os.Mkdir(l.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", l.Dir, "tmpfs", 0, "size=16m"); err != nil {
		testenv.Unable(t, "a small file system cannot be mounted: "+err.Error())
	}
	defer func() {
		if err := unix.Unmount(l.Dir, 0); err != nil {
			t.Error(err)
		}
	}()
	dir := t.TempDir()
	large := site.Image{Name: "large", Release: write(t, filepath.Join(dir, "large.tar.gz"), release(t, iso(t, isotest.Image{Size: 20 << 20})))}
	_, err := l.Local(t.Context(), large, nil)
	wantError(t, err, bmc.KindMedia, "pre-install-toolkit-1.7.0.iso has 20 MiB", "16 MiB are free", "XDG_CACHE_HOME")
	if names := left(t, l); len(names) > 0 {
		t.Errorf("it left %v", names)
	}

	// It fits when it is begun; but before much of it can be written, the disk is full.
	image := append(iso(t, pit), noise(12<<20)...)
	medium := site.Image{Name: "medium", Release: write(t, filepath.Join(dir, "medium.tar.gz"), zipped(t, archive(t, file{name: "csm/pit.iso", body: image})))}
	var once sync.Once
	_, err = l.Local(t.Context(), medium, func(library.Progress) {
		names := left(t, l)
		if len(names) == 0 {
			return
		}
		if st, err := os.Stat(filepath.Join(l.Dir, names[0])); err == nil && st.Size() > 0 {
			once.Do(func() { _ = os.WriteFile(filepath.Join(l.Dir, "other.lock"), noise(16<<20), 0o600) }) // as far as it goes
		}
	})
	wantError(t, err, bmc.KindMedia, "csm/pit.iso has 13 MiB", "no space is left there")
	if names := left(t, l); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
}
