// Package nodeside holds the program that is sent to nodes without GNU tar, and
// how it is sent: over ssh, into a directory of its own, run, and removed.
//
// The program is package main below this one. It is built for each architecture
// before this package is, by the Makefile, and embedded; a build without them
// works, and says so when a node needs one.
package nodeside

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

//go:embed bin
var built embed.FS

//go:embed push.sh
var pushScript string

// The exit statuses of the script, away from those of the program and of others.
const (
	StatusNowhere = 81 // no directory from which a program may be run, or a signal
	StatusForeign = 82 // it does not run on this machine
	StatusNoRoom  = 83 // it did not arrive whole
)

// inputLine parts what fills the buffers of a head that reads ahead from what
// the program reads; the program looks for it.
const inputLine = "\nlivecd-sync: input\n"

// aheadBytes is how far a head may read ahead: stdio has 4 KiB for a pipe,
// busybox uses it, and GNU's reads no further than it was told.
const aheadBytes = 64 << 10

// machines are what "uname -m" says, by Go's name for it.
var machines = map[string][]string{
	"amd64": {"x86_64", "amd64"},
	"arm64": {"aarch64", "arm64"},
}

// Architectures lists what the program is built for, by Go's names.
func Architectures() []string { return []string{"amd64", "arm64"} }

// FileName is what the program for an architecture is called where it is embedded.
func FileName(arch string) string { return "linux-" + arch + ".zst" }

// A Call is a script for a node with what it needs.
type Call struct {
	Script string
	Args   []string
	Stdin  io.Reader
}

// Push makes a call that runs the program on a node, on a machine of the type
// that "uname -m" says. stdin is what the program reads; nil: nothing.
//
// The error is a *bmc.Error: of KindUnsupported if the program was not built for
// such a machine, or not into this livecd-sync.
func Push(machine string, stdin io.Reader, args ...string) (Call, error) {
	program, err := Program(machine)
	if err != nil {
		return Call{}, err
	}
	if stdin == nil {
		stdin = bytes.NewReader(nil)
	}
	return Call{
		Script: pushScript,
		Args:   append([]string{"livecd-sync." + rand.Text(), machine, strconv.Itoa(len(program))}, args...),
		Stdin:  io.MultiReader(bytes.NewReader(program), bytes.NewReader(make([]byte, aheadBytes)), bytes.NewReader([]byte(inputLine)), stdin),
	}, nil
}

// Program returns the program for a machine of the type that "uname -m" says.
// The error is as of Push.
func Program(machine string) ([]byte, error) {
	e := &bmc.Error{Op: "run livecd-sync's own tar on the node", Kind: bmc.KindUnsupported}
	for _, arch := range Architectures() {
		if !slices.Contains(machines[arch], machine) {
			continue
		}
		packed, err := built.ReadFile("bin/" + FileName(arch))
		if errors.Is(err, fs.ErrNotExist) {
			e.Err = fmt.Errorf("this build has no helper for %s", arch)
			e.Hint = "build with make, which builds the helper first; or put GNU tar into the image"
			return nil, e
		}
		if err != nil {
			return nil, &bmc.Error{Op: e.Op, Kind: bmc.KindUnsupported, Err: err, Hint: "build livecd-sync anew with make"}
		}
		return unpack(packed)
	}
	e.Err = fmt.Errorf("there is no helper for a machine of type %q", machine)
	e.Hint = "put GNU tar into the image"
	return nil, e
}

func unpack(packed []byte) ([]byte, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer decoder.Close()
	program, err := decoder.DecodeAll(packed, nil)
	if err != nil {
		return nil, &bmc.Error{
			Op: "run livecd-sync's own tar on the node", Kind: bmc.KindUnsupported,
			Err: fmt.Errorf("the helper in this build is damaged: %w", err), Hint: "build livecd-sync anew with make",
		}
	}
	return program, nil
}

// Explain makes a *bmc.Error of an exit status of the script, and nil of one that
// is the program's own. said is what came on stderr.
func Explain(status int, said string) error {
	e := &bmc.Error{Op: "run livecd-sync's own tar on the node", Kind: bmc.KindOverlay}
	switch status {
	case StatusNowhere:
		e.Err, e.Hint = fmt.Errorf("no directory to run it from: %s", said), "log in by hand and remount one of them with exec; or put GNU tar into the image"
	case StatusForeign:
		e.Err, e.Hint = fmt.Errorf("it does not run there: %s", said), "see uname -a on the node; or put GNU tar into the image"
	case StatusNoRoom:
		e.Err, e.Hint = fmt.Errorf("it did not arrive whole: %s", said), "log in by hand and see df /run /dev/shm /tmp"
	default:
		return nil
	}
	return e
}
