package isomap_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media/isomap"
	"github.com/livecd-sync/livecd-sync/internal/media/isotest"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// part is a file that begins as files of its kind do, with bytes of its own.
func part(size int, fill byte, at int, magic string) []byte {
	b := bytes.Repeat([]byte{fill}, size)
	copy(b[at:], magic)
	return b
}

// live is an image as live ISOs are: made by a program that makes them.
func live(t testing.TB, rockRidge bool) (image []byte, files map[string][]byte) {
	t.Helper()
	xorriso, err := exec.LookPath("xorriso")
	if err != nil {
		testenv.Unable(t, "there is no xorriso (Debian: xorriso)")
	}
	files = map[string][]byte{
		"boot/x86_64/loader/linux":  part(300<<10, 'k', 0x202, "HdrS"),
		"boot/x86_64/loader/initrd": part(500<<10, 'i', 0, "\x1f\x8b"),
		"LiveOS/rootfs.img":         part(2<<20, 'r', 0, "hsqs"),
		"boot/efi.img":              part(128<<10, 'e', 0, "\xeb\x3c\x90"),
		"boot/bios.img":             part(24<<10, 'b', 0, "\xfa"),
		"EFI/BOOT/grub.efi":         part(100<<10, 'g', 0, "MZ"),
		"docs/readme.txt":           part(200<<10, 'd', 0, "read me"),
	}
	dir := t.TempDir()
	for name, b := range files {
		name = filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "live.iso")
	args := []string{
		"-as", "mkisofs", "-o", out, "-V", "LIVE", "-b", "boot/bios.img", "-no-emul-boot", "-boot-load-size", "4",
		"-eltorito-alt-boot", "-e", "boot/efi.img", "-no-emul-boot",
	}
	if rockRidge {
		args = append(args, "-R")
	}
	if said, err := exec.CommandContext(t.Context(), xorriso, append(args, filepath.Join(dir, "tree"))...).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v: %s", err, said)
	}
	image, err = os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return image, files
}

func mapOf(t testing.TB, image []byte) isomap.Map {
	t.Helper()
	m, err := isomap.Read(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMapOfALiveImage(t *testing.T) {
	for _, rockRidge := range []bool{true, false} {
		t.Run(fmt.Sprintf("rock ridge %v", rockRidge), func(t *testing.T) {
			image, files := live(t, rockRidge)
			m := mapOf(t, image)
			for file, kind := range map[string]isomap.Kind{
				"boot/x86_64/loader/linux": isomap.Kernel, "boot/x86_64/loader/initrd": isomap.Initrd, "LiveOS/rootfs.img": isomap.Root,
				"boot/efi.img": isomap.BootLoader, "boot/bios.img": isomap.BootLoader, "EFI/BOOT/grub.efi": isomap.BootLoader,
			} {
				found := false
				for _, p := range m.Parts {
					found = found || p.Kind == kind && bytes.Equal(image[p.From:p.To], files[file])
				}
				if !found {
					t.Errorf("no %s is where %s is: %+v", kind, file, m.Parts)
				}
			}
			for _, p := range m.Parts {
				if strings.Contains(strings.ToLower(p.Name), "readme") {
					t.Errorf("%s is a %s", p.Name, p.Kind)
				}
			}
		})
	}
}

func TestProgress(t *testing.T) {
	image, _ := live(t, true)
	m := mapOf(t, image)
	where := func(k isomap.Kind) isomap.Span { return m.Of(k)[0] }
	kernel, root := where(isomap.Kernel), where(isomap.Root)
	var read isomap.Spans
	for _, step := range []struct {
		from, to int64
		want     isomap.Progress
	}{
		{0, 0, isomap.Progress{Phase: isomap.NotConnected}},
		{16 * 2048, 20 * 2048, isomap.Progress{Phase: isomap.Mounted}},
		{where(isomap.BootLoader).From, where(isomap.BootLoader).From + 512, isomap.Progress{Phase: isomap.Loading}},
		{kernel.From, kernel.From + 4096, isomap.Progress{Phase: isomap.Loading}}, // to see what it is
		{kernel.From, kernel.From + 100<<10, isomap.Progress{Phase: isomap.Starting, Read: 100 << 10, Of: 800 << 10}},
		{root.From, root.From + 2048, isomap.Progress{Phase: isomap.Starting, Read: 100 << 10, Of: 800 << 10}},
		{root.From + 1<<20, root.From + 2<<20, isomap.Progress{Phase: isomap.Running, Read: 1<<20 + 2048, Of: 2 << 20}},
		{root.From, root.To, isomap.Progress{Phase: isomap.Running, Read: 2 << 20, Of: 2 << 20}},
	} {
		read.Add(step.from, step.to)
		if got := m.Progress(read); got != step.want {
			t.Errorf("after %d-%d: %+v, want %+v", step.from, step.to, got, step.want)
		}
	}
	if got := (isomap.Map{}).Progress(read); got.Phase != isomap.Mounted {
		t.Errorf("of an image that nothing is known of: %+v", got)
	}
}

// An image of a format that nobody knows has a root file system all the same.
func TestMapOfASmallImage(t *testing.T) {
	var b bytes.Buffer
	if err := isotest.Write(&b, isotest.Image{VolumeID: "X", Created: time.Unix(0, 0), Size: 1 << 20, Boot: []byte{0xf4}}); err != nil {
		t.Fatal(err)
	}
	m := mapOf(t, b.Bytes())
	if len(m.Of(isomap.Root)) != 1 || len(m.Of(isomap.BootLoader)) != 1 || m.Parts[0].Name != "/LIVE.IMG" {
		t.Errorf("%+v", m.Parts)
	}
}

func TestMapOfNoImage(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 100), make([]byte, 100_000)} {
		if m, err := isomap.Read(bytes.NewReader(b), int64(len(b))); err == nil || len(m.Parts) > 0 {
			t.Errorf("%d bytes have %+v", len(b), m)
		}
	}
}

// Whatever an image says, its parts are in it, and reading them ends.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := isotest.Write(&b, isotest.Image{VolumeID: "X", Size: isotest.MinSize, Boot: []byte{0xf4}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	circle := bytes.Clone(b.Bytes())
	binary.LittleEndian.PutUint32(circle[21*2048+68+2:], 21) // the file is the root directory
	circle[21*2048+68+25] = 2
	f.Add(circle)
	f.Fuzz(func(t *testing.T, image []byte) {
		m, _ := isomap.Read(bytes.NewReader(image), int64(len(image)))
		for _, p := range m.Parts {
			if p.From < 0 || p.To > int64(len(image)) || p.To < p.From {
				t.Errorf("%+v lies outside", p)
			}
		}
		var read isomap.Spans
		read.Add(0, int64(len(image)))
		if p := m.Progress(read); p.Read > p.Of {
			t.Errorf("%+v", p)
		}
	})
}
