package library_test

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
	"github.com/livecd-sync/livecd-sync/internal/media/library"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// What a release to measure with is made of: mostly what is compressed already, as
// container images and packages are, and some text.
const (
	benchISO     = 256 << 20
	benchRelease = 1 << 30
)

func benchmarkRelease(b *testing.B) string {
	b.Helper()
	name := filepath.Join(b.TempDir(), "csm.tar.gz")
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		b.Fatal(err)
	}
	w := tar.NewWriter(z)
	add := func(name string, body io.Reader, size int64) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyN(w, body, size); err != nil {
			b.Fatal(err)
		}
	}
	dense := rand.NewChaCha8([32]byte{1})
	text := &repeated{bytes.Repeat([]byte("name: cray-hms-smd, version: 7.1.0, digest of an image and more of such a list\n"), 1<<12)}
	var image bytes.Buffer
	if err := isotest.Write(&image, isotest.Image{VolumeID: "CRAYLIVE"}); err != nil {
		b.Fatal(err)
	}
	rest := int64(benchRelease - benchISO)
	add("csm/docker.tar", dense, rest/2)
	add("csm/pit.iso", io.MultiReader(&image, dense), benchISO)
	add("csm/charts.yaml", text, rest/4)
	add("csm/rpms", dense, rest/4)
	for _, c := range []io.Closer{w, z, f} {
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
	return name
}

type repeated struct{ b []byte }

func (r *repeated) Read(p []byte) (int, error) { return copy(p, r.b), nil }

// BenchmarkTakeOut compares taking the ISO out of a release, digested, checked and
// synced to the disk, with what tar takes for all of it and for the ISO alone.
func BenchmarkTakeOut(b *testing.B) {
	packed := benchmarkRelease(b)
	b.Run("livecd-sync", func(b *testing.B) {
		b.SetBytes(benchRelease)
		for b.Loop() {
			l := &library.Library{Dir: b.TempDir(), Clock: bmc.SystemClock{}}
			if _, err := l.Local(b.Context(), site.Image{Name: "pit", Release: packed}, nil); err != nil {
				b.Fatal(err)
			}
			_ = os.RemoveAll(l.Dir) // or the disk fills
		}
	})
	if _, err := exec.LookPath("tar"); err != nil {
		testenv.Unable(b, err.Error())
	}
	for what, members := range map[string][]string{"tar xzf": nil, "tar xzf ISO": {"csm/pit.iso"}} {
		b.Run(what, func(b *testing.B) {
			b.SetBytes(benchRelease)
			for b.Loop() {
				dir := b.TempDir()
				if out, err := exec.CommandContext(b.Context(), "tar", append([]string{"xzf", packed, "-C", dir}, members...)...).CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				_ = os.RemoveAll(dir)
			}
		})
	}
}
