package uppertar

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkWrite compares Write with GNU tar over many small files and a few
// large ones.
func BenchmarkWrite(b *testing.B) {
	needRoot(b, "tar")
	dir := tmpfs(b)
	var total int64
	fill := func(name string, n int) {
		data := make([]byte, n)
		_, err := rand.Read(data)
		must(b, err)
		must(b, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(b, os.WriteFile(filepath.Join(dir, name), data, 0o644))
		total += int64(n)
	}
	for i := range 20_000 {
		fill(fmt.Sprintf("small/%d/%d", i/200, i), 900)
	}
	for i := range 10 {
		fill(fmt.Sprintf("large/%d", i), 20<<20)
	}
	b.Run("Write", func(b *testing.B) {
		b.SetBytes(total)
		b.ReportAllocs()
		for b.Loop() {
			root, err := os.Open(dir)
			must(b, err)
			sink := exec.CommandContext(b.Context(), "cat") // its output is thrown away
			into, err := sink.StdinPipe()
			must(b, err)
			must(b, sink.Start())
			outcome, err := Write(into, root, WriteOptions{})
			if err != nil || outcome.Status() != 0 {
				b.Fatal(err, outcome)
			}
			must(b, into.Close())
			must(b, sink.Wait())
			must(b, root.Close())
		}
	})
	b.Run("GNUTar", func(b *testing.B) {
		b.SetBytes(total)
		for b.Loop() {
			// Into a pipe, as on a node: tar reads nothing when it sees /dev/null.
			cmd := exec.CommandContext(b.Context(), "sh", "-c", `tar "$@" | cat >/dev/null`, "sh")
			cmd.Args = append(append(cmd.Args, gnuCreate...), "-C", dir, ".")
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, out)
			}
		}
	})
}
