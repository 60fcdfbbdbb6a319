package overlay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// link is a node with zstd and a large overlay, over a network of a certain
// speed.
type link struct {
	t      *testing.T
	pause  time.Duration // for each MiB of the probe
	packed []byte
	asked  string // what backup.sh was asked to compress with
	clock  time.Time
}

// Run answers.
func (l *link) Run(ctx context.Context, c overlay.Command) error {
	switch name, _, _ := strings.Cut(strings.TrimPrefix(c.Script, "# "), " "); name {
	case "size":
		_, err := io.WriteString(c.Stdout, "1048576\t.\n")
		return err
	case "speed":
		if l.pause == 0 {
			return &overlay.ExitError{Status: 1, Stderr: "head: cannot open '/dev/zero'"}
		}
		for range 8 {
			if _, err := c.Stdout.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
			l.clock = l.clock.Add(l.pause)
		}
		return nil
	case "backup":
		l.asked = c.Args[2]
		if l.asked == "" {
			_, err := c.Stdout.Write(l.packed)
			return err
		}
		w, err := zstd.NewWriter(c.Stdout)
		must(l.t, err)
		_, err = w.Write(l.packed)
		must(l.t, err)
		must(l.t, w.Close())
		_, err = io.WriteString(c.Stderr, "livecd-sync: tar ended with 0\n")
		return err
	}
	return scripted(func(overlay.Command) error { return nil }).Run(ctx, c)
}

// TestWhoCompresses: the node does where the network is the slower of the two.
func TestWhoCompresses(t *testing.T) {
	for _, test := range []struct {
		pause time.Duration
		want  string
	}{{0, "zstd"}, {8 * time.Millisecond, "zstd"}, {time.Second, "zstd"}, {time.Millisecond, ""}} {
		l := &link{t: t, pause: test.pause, packed: pack(t, 3000), clock: time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)}
		req := request(overlay.PurposeReset)
		req.Now = func() time.Time { return l.clock }
		req.Running = overlay.Running{BootID: scriptedBoot, Root: true, Live: true, UpperDir: "/upper", Tar: "tar (GNU tar) 1.34", HasZstd: true}
		got, err := overlay.Backup(t.Context(), l, openStore(t, t.TempDir()), req)
		must(t, err)
		if l.asked != test.want || got.Counts.Files != 1 {
			t.Errorf("at %s for a MiB the node was asked for %q, want %q: %+v", test.pause, l.asked, test.want, got.Counts)
		}
	}
}

// endless writes its block over and over.
type endless struct{ block []byte }

func (e endless) writeTo(w io.Writer, n int64) error {
	for ; n > 0; n -= int64(len(e.block)) {
		if _, err := w.Write(e.block[:min(n, int64(len(e.block)))]); err != nil {
			return err
		}
	}
	return nil
}

// TestMemoryIsBounded streams 2 GiB in one file: what is in use stays far below.
func TestMemoryIsBounded(t *testing.T) {
	const size = 2 << 30
	head := pack(t, 0)[:1536] // ".", a whiteout and the header of an empty file
	head = append([]byte{}, head...)
	copy(head[1024+124:], fmt.Sprintf("%011o\x00", size))
	copy(head[1024+148:], "        ")
	sum := 0
	for _, c := range head[1024:1536] {
		sum += int(c)
	}
	copy(head[1024+148:], fmt.Sprintf("%06o\x00 ", sum))
	source := endless{block: bytes.Repeat([]byte("a line of a log that says little "), 1<<15)}
	remote := scripted(func(c overlay.Command) error {
		if _, err := c.Stdout.Write(head); err != nil {
			return err
		}
		if err := source.writeTo(c.Stdout, size); err != nil {
			return err
		}
		_, err := c.Stdout.Write(make([]byte, 10240))
		return err
	})
	var peak atomic.Uint64
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	dir := t.TempDir()
	got, err := overlay.Backup(t.Context(), remote, openStore(t, dir), request(overlay.PurposeReset))
	close(done)
	<-watched
	must(t, err)
	if got.RawBytes < size {
		t.Errorf("%d bytes were read", got.RawBytes)
	}
	if mib := peak.Load() >> 20; mib > 200 {
		t.Errorf("%d MiB were in use", mib)
	} else {
		t.Logf("%d MiB at most were in use", mib)
	}
	if _, err := os.Stat(filepath.Join(dir, "n1", got.ID, overlay.ArchiveFile)); err != nil {
		t.Error(err)
	}
}
