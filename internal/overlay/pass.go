package overlay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A backupPass is one reading of the upper dir into a draft.
type backupPass struct {
	req    *BackupRequest
	remote Remote
	store  Store
	draft  Draft
	base   Manifest // whose unchanged members are copied; its ID is "" without one
	zstd   bool     // the node compresses

	files  *backupFiles
	asm    *assembly
	raw    digest // the tar archive
	stored digest // what is written to the store
	moved  digest // what the node sent
	said   messages

	present   nameSet           // names in the upper dir, when they were asked for
	is        map[nameKey]entry // what the upper dir holds; with a base only
	suspect   map[string]bool   // directories that may have been renamed since the base
	partial   map[string]bool   // names of which the upper dir has only part
	renamed   []string          // directories among them, renamed on the node
	isRenamed map[string]bool   // the same
	again     []string          // read again, since they changed
	unread    []string          // of which not all could be read

	flattened, copied, omitted int64
	skipped                    []Skipped
	skippedRoom                budget
	leftOut                    []LeftOut
	warnings                   []string
}

// run reads, and leaves the draft's files complete.
func (b *backupPass) run(ctx context.Context) (err error) {
	if b.files, err = openFiles(b.draft); err != nil {
		return storeError(err)
	}
	defer func() { _ = b.files.close() }() // a second time, if all went well
	b.stored = digest{w: b.files.archive, h: sha256.New()}
	encoder, err := zstd.NewWriter(&b.stored, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		return storeError(err)
	}
	defer func() { _ = encoder.Close() }()
	b.raw = digest{w: encoder, h: sha256.New()}
	b.moved = digest{h: sha256.New()}
	b.partial, b.isRenamed = make(map[string]bool), make(map[string]bool)
	b.asm = newAssembly(b.progress(), b.files)
	for _, part := range []func(context.Context) error{b.listNames, b.readUpper, b.copyBase, b.readWhole, b.readMissing, b.readAgain, b.lookAside} {
		if err := part(ctx); err != nil {
			return b.explain(ctx, err)
		}
	}
	if err := errors.Join(b.asm.finish(), encoder.Close(), b.files.close()); err != nil {
		return storeError(err)
	}
	return nil
}

// progress tells the request's Progress of every write.
func (b *backupPass) progress() io.Writer {
	if b.req.Progress == nil {
		return &b.raw
	}
	return writerFunc(func(p []byte) (int, error) {
		n, err := b.raw.Write(p)
		b.req.Progress(b.raw.n)
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

// Write calls the function.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// command is a script with the boot and the upper dir that it is for.
func (b *backupPass) command(script string, args ...string) Command {
	return Command{Script: script, Stderr: &b.said, Args: append([]string{b.req.Running.BootID, b.req.upperDir()}, args...)}
}

// receive adds what a command sends to the archive.
func (b *backupPass) receive(ctx context.Context, c Command, compressed bool, choose func(member) fate) error {
	err := stream(ctx, b.remote, c, changedOnly, func(r io.Reader) error {
		part := io.TeeReader(r, writerFunc(b.count))
		if !compressed {
			return b.asm.add(part, choose)
		}
		decoder, err := zstd.NewReader(part, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return err
		}
		defer decoder.Close()
		return b.asm.add(decoder, choose)
	})
	if compressed {
		// A tar that was killed leaves an archive without an end, well compressed.
		if end := b.endOfPipe(); end != nil && (err == nil || b.said.ended != "") {
			return end
		}
	}
	return err
}

// endOfPipe is what a tar ended with whose output went into a pipe.
func (b *backupPass) endOfPipe() error {
	said := b.said.warnings() // for the last line
	status, err := strconv.Atoi(b.said.ended)
	if err != nil {
		return &streamError{ran: &ExitError{Status: statusPipe, Stderr: strings.Join(said, "; ")}}
	}
	if status > 1 {
		return &streamError{ran: &ExitError{Status: status, Stderr: strings.Join(said[max(0, len(said)-3):], "; ")}}
	}
	return nil
}

func (b *backupPass) count(p []byte) (int, error) {
	b.moved.n += int64(len(p))
	return len(p), nil
}

// readUpper reads the upper dir, or what has changed in it since the base.
func (b *backupPass) readUpper(ctx context.Context) error {
	how, since := "", ""
	if b.zstd {
		how = "zstd"
	}
	if b.base.ID != "" {
		since = fmt.Sprint(b.base.Clock.Time - clockMargin)
	}
	c := b.command(backupScript, append([]string{how, since}, b.req.Exclude...)...)
	err := b.receive(ctx, c, b.zstd, b.ownOrPartial)
	if err == nil && b.base.ID != "" && len(b.partial)+len(b.renamed) > 0 {
		return baseError("files of which the upper dir has only part have come since")
	}
	return err
}

// ownOrPartial leaves out those members that overlayfs keeps part of in the
// layers below, for readWhole to read; without that they would be zeros, or
// missing, over any other image (metacopy and redirect_dir). Names that share a
// file with one of those are read with it, so that they go on sharing it.
func (b *backupPass) ownOrPartial(m member) fate {
	link := m.kind == typeHardLink
	switch {
	case b.inRenamed(m.name):
		if link && !b.inRenamed(m.link) {
			b.partial[m.link] = true
		}
		return drop
	case m.kind == typeDir && m.xattrs.redirect:
		b.renamed = append(b.renamed, m.name)
		b.isRenamed[m.name] = true
		return seal
	case m.xattrs.metacopy, link && (b.partial[m.link] || b.inRenamed(m.link)):
		b.partial[m.name] = true
		return drop
	}
	return keep
}

// inRenamed reports whether name lies in a directory that was renamed.
func (b *backupPass) inRenamed(name string) bool {
	if len(b.renamed) == 0 {
		return false
	}
	for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
		if b.isRenamed[name[:at]] {
			return true
		}
	}
	return false
}

// readWhole reads from the merged view what the upper dir has only part of.
func (b *backupPass) readWhole(ctx context.Context) error {
	var names []string
	for name := range b.partial {
		names = append(names, name)
		names = append(names, b.asm.links[name]...)
	}
	slices.Sort(names)
	files := slices.Compact(names)
	names = append(slices.Clone(files), b.renamed...)
	if len(names) == 0 {
		return nil
	}
	before := b.asm.tally.counts.Entries
	err := b.receive(ctx, b.inMergedView(names), false, func(m member) fate {
		if b.isRenamed[m.name] {
			return drop // written already, as opaque
		}
		return keep
	})
	if err != nil {
		return err
	}
	b.flattened = b.asm.tally.counts.Entries - before
	return nil // what is missing readMissing finds
}

func (b *backupPass) inMergedView(names []string) Command {
	return Command{
		Script: mergedScript, Args: append([]string{b.req.Running.BootID, wholeScript, "--recursion"}, b.req.Exclude...),
		Stdin: terminated(names), Stderr: &b.said,
	}
}

// readAgain reads once more what changed while it was read. What shrinks again
// makes the backup partial, and so does what shrank and is not to be had from the
// upper dir alone.
func (b *backupPass) readAgain(ctx context.Context) error {
	b.said.warnings() // for the last line
	for _, name := range b.said.shrunk {
		if b.partial[name] || b.inRenamed(name) {
			b.unread = append(b.unread, name)
		}
	}
	b.again = b.withLinks(slices.Concat(b.said.changed, b.said.shrunk))
	if len(b.again) == 0 {
		return nil
	}
	b.said.changed, b.said.shrunk = nil, nil
	if err := b.reread(ctx, b.again); err != nil {
		return err
	}
	b.said.warnings()
	b.unread = append(b.unread, b.said.shrunk...)
	return nil
}

// withLinks adds the other names of files that have several: tar makes a file
// that it replaces anew, and the others would keep what it was. It leaves out
// what was read from the merged view.
func (b *backupPass) withLinks(names []string) []string {
	var out []string
	for _, name := range names {
		if !b.partial[name] && !b.inRenamed(name) {
			out = append(out, name)
			out = append(out, b.asm.links[name]...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (b *backupPass) reread(ctx context.Context, names []string) error {
	c := b.command(againScript)
	c.Stdin = terminated(names)
	return b.receive(ctx, c, false, func(m member) fate {
		if !m.xattrs.metacopy {
			return keep
		}
		if !b.asm.has(m.name) { // the upper dir has only part of it since just now
			b.unread = append(b.unread, m.name)
		}
		return drop
	})
}

// explain picks what an error was, and says it for people.
func (b *backupPass) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return cancelled(ctx, backupOp)
	}
	if b.stored.err != nil {
		return storeError(b.stored.err)
	}
	failed, ok := errors.AsType[*streamError](err)
	switch {
	case !ok:
		return err
	case failed.consumed != nil:
		return consumeError(failed.consumed)
	}
	if exit, ok := errors.AsType[*ExitError](failed.ran); ok && exit.Status == 2 {
		return &bmc.Error{
			Op: backupOp, Kind: bmc.KindOverlay,
			Err:  fmt.Errorf("tar on the node could not read everything: %s", exit.Stderr),
			Hint: "see to what tar names, or leave it out with overlay.exclude",
		}
	}
	return remoteError(backupOp, failed.ran)
}

func consumeError(err error) error {
	if _, ok := errors.AsType[archiveError](err); !ok {
		return storeError(err)
	}
	return &bmc.Error{
		Op: backupOp, Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("what the node sent is not the archive of an upper dir: %w", err),
		Hint: "run the command again, and see what the node's shell prints at login",
	}
}

func storeError(err error) error {
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		return e
	}
	return &bmc.Error{Op: "write to the store", Kind: bmc.KindOverlay, Err: err, Hint: "see whether the store's disk or mount is well"}
}

// backupFiles are the files of a draft while they are written.
type backupFiles struct {
	closers         []io.Closer
	archive         io.Writer
	deleted, opaque *bufio.Writer
}

func openFiles(draft Draft) (*backupFiles, error) {
	var files backupFiles
	var writers []io.Writer
	for _, name := range []string{ArchiveFile, DeletedFile, OpaqueFile} {
		w, err := draft.Write(name)
		if err != nil {
			return nil, errors.Join(err, files.close())
		}
		files.closers = append(files.closers, w)
		writers = append(writers, w)
	}
	files.archive = writers[0]
	files.deleted, files.opaque = bufio.NewWriter(writers[1]), bufio.NewWriter(writers[2])
	return &files, nil
}

func (f *backupFiles) list(m member) error {
	w := f.deleted
	if !m.whiteout {
		if !m.xattrs.opaque {
			return nil
		}
		w = f.opaque
	}
	_, err := w.WriteString(m.name + "\x00")
	return err
}

// close flushes and closes all files; a second time it does nothing.
func (f *backupFiles) close() error {
	var errs []error
	if f.opaque != nil && f.closers != nil {
		errs = append(errs, f.deleted.Flush(), f.opaque.Flush())
	}
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	f.closers = nil
	return errors.Join(errs...)
}
