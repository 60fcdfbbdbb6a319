// The command pack builds the program that is sent to nodes, for each
// architecture, and compresses it into the directory it is given. The same source
// and the same Go make the same files.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/overlay/nodeside"
)

const program = "github.com/livecd-sync/livecd-sync/internal/overlay/nodeside/main"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pack DIRECTORY")
		os.Exit(64)
	}
	for _, arch := range nodeside.Architectures() {
		if err := pack(os.Args[1], arch); err != nil {
			fmt.Fprintf(os.Stderr, "pack for %s: %v\n", arch, err)
			os.Exit(1)
		}
	}
}

// pack builds for one architecture. What was there stays if that fails.
func pack(dir, arch string) error {
	tmp, err := os.MkdirTemp("", "livecd-sync-pack.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // it is in a directory that is cleared
	name := filepath.Join(tmp, "program")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", name, program) //nolint:noctx // it ends with its child
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	plain, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	packed := encoder.EncodeAll(plain, nil)
	file := filepath.Join(dir, nodeside.FileName(arch))
	fmt.Fprintf(os.Stderr, "%s: %d KiB, %d KiB as it runs\n", file, len(packed)>>10, len(plain)>>10)
	if err := os.WriteFile(file+".new", packed, 0o644); err != nil { //nolint:gosec // it is no secret
		return err
	}
	return os.Rename(file+".new", file)
}
