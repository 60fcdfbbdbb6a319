package overlay

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/overlay/nodeside"
)

// withTools returns remote; for a node without GNU tar one on which the program
// of package nodeside does what the scripts do with GNU tar, find, stat, rm and
// sha256sum. Such a node is sent no compressed archives.
func (r *Running) withTools(remote Remote) Remote {
	if r.HasGNUTar() {
		return remote
	}
	r.HasZstd = false
	return tooled{remote, r.Machine}
}

// takeTools is withTools for a restore. GNU tar packs names that are too long for a
// system call, and does not extract them; the program goes from directory to
// directory, so it is sent to any node that it was built for.
func (r *restoration) takeTools(remote Remote) {
	r.remote = r.running.withTools(remote)
	if _, err := nodeside.Program(r.running.Machine); r.tooLong > 0 && err == nil {
		r.remote = tooled{remote, r.running.Machine}
	}
}

// hasProgram reports whether the program of package nodeside does the work.
func (r *restoration) hasProgram() bool { _, ok := r.remote.(tooled); return ok }

// toolsMissing is an error if a node has neither GNU tar nor a machine that the
// program was built for. It is a *bmc.Error of KindUnsupported.
func (r *Running) toolsMissing() error {
	if r.HasGNUTar() {
		return nil
	}
	_, err := nodeside.Program(r.Machine)
	return err
}

// tooled is a Remote that sends its tools along.
type tooled struct {
	Remote
	machine string
}

// Run runs the command, by the program if it needs GNU's tools.
func (t tooled) Run(ctx context.Context, c Command) error {
	if asksForTool(c) {
		return nil // the program does that, too
	}
	args, ok := programArgs(c)
	if !ok {
		return t.Remote.Run(ctx, c)
	}
	call, err := nodeside.Push(t.machine, c.Stdin, args...)
	if err != nil {
		return err
	}
	c.Script, c.Args, c.Stdin = call.Script, call.Args, call.Stdin
	err = t.Remote.Run(ctx, c)
	if exit, ok := errors.AsType[*ExitError](err); ok {
		if said := nodeside.Explain(exit.Status, exit.Stderr); said != nil {
			return said
		}
	}
	return err
}

// programArgs translates a script and its arguments to those of the program; ok
// is false for a script that busybox can run.
func programArgs(c Command) (args []string, ok bool) {
	switch c.Script {
	case backupScript: // without whether to compress
		return slices.Concat([]string{"create"}, c.Args[:2], c.Args[3:]), true
	case mergedScript: // BOOT BODY [ARGUMENT]...
		return bodyArgs("merged", c.Args[:1], c.Args[1:])
	case belowScript: // BOOT DIR BODY
		return bodyArgs("below", c.Args[:2], c.Args[2:])
	case mediumScript: // BOOT MERGED PATH BODY [ARGUMENT]...
		return bodyArgs("medium", []string{c.Args[0], c.Args[2]}, c.Args[3:])
	}
	verb, ok := map[string]string{
		unnamedScript: "unnamed", holdersScript: "holders", namesScript: "names", againScript: "again", surveyScript: "survey", unsavedScript: "unsaved",
		offlineLookScript: "offline-look", offlineBeginScript: "offline-begin", offlineEndScript: "offline-end",
	}[c.Script]
	return append([]string{verb}, c.Args...), ok
}

// bodyArgs translates a script that runs another one, with its arguments.
func bodyArgs(verb string, before, body []string) (args []string, ok bool) {
	inner, ok := map[string]string{
		clearScript: "clear", extractScript: "extract", unpackScript: "unpack", listScript: "list", xattrsScript: "xattrs",
		digestScript: "digest", wholeScript: "whole", putScript: "put",
	}[body[0]]
	return slices.Concat([]string{verb}, before, []string{inner}, body[1:]), ok
}

// asksForTool reports whether a command only tries whether a tool is there.
func asksForTool(c Command) bool {
	return (c.Script == mergedScript || c.Script == belowScript) && strings.HasSuffix(c.Args[len(c.Args)-1], " --version >&2")
}
