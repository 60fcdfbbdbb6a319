package overlay

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"strings"
)

// A Remote runs scripts on one node.
type Remote interface {
	// Run runs the command and returns once its exit status has arrived and
	// all it wrote has been handed on. The error is an *ExitError when the
	// status is not 0, a *bmc.Error when there was none, and ctx's error in a
	// *bmc.Error when ctx ended first. Calls may not overlap. A read of Stdin
	// that is under way when the command ends is not waited for.
	Run(ctx context.Context, c Command) error
}

// A Command is a POSIX shell script and what goes in and comes out of it.
type Command struct {
	Script string
	Args   []string  // $1, $2, …; none may hold a NUL
	Stdin  io.Reader // nil: empty; an error from it, but io.EOF, ends the command
	Stdout io.Writer // nil: thrown away; an error from it ends the command
	Stderr io.Writer // nil: only what ExitError keeps; an error from it is ignored
}

// An ExitError is the exit status of a command that did not end with 0.
type ExitError struct {
	Status int
	Signal string // without "SIG"; "" unless a signal ended the command
	Stderr string // its last lines, bounded and fit to be printed
}

// Error gives the status and the last lines of stderr.
func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Status)
	if e.Signal != "" {
		how = "signal " + e.Signal
	}
	if e.Stderr == "" {
		return how
	}
	return how + ": " + e.Stderr
}

// A Tail keeps the last lines of what is written to it, for an ExitError. It is
// used by one goroutine, and read after that has ended.
type Tail struct {
	Also io.Writer // is written everything, too; nil: nobody. Its errors are ignored
	end  []byte
}

// What a Tail keeps.
const (
	tailBytes = 4 << 10
	tailLines = 10
)

// Write takes part of stderr; it never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.end = append(t.end, p...)
	if len(t.end) > 2*tailBytes {
		t.end = append(t.end[:0], t.end[len(t.end)-tailBytes:]...)
	}
	if t.Also != nil {
		_, _ = t.Also.Write(p) // see Also
	}
	return len(p), nil
}

// String returns the last lines, fit to be printed.
func (t *Tail) String() string {
	text := string(t.end[max(0, len(t.end)-tailBytes):])
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, line := range lines {
		lines[i] = Printable(line)
	}
	return strings.Join(lines, "; ")
}

// The scripts that run on a node. They need a POSIX shell and, for all but
// probe, root, GNU tar, GNU coreutils and findutils; see withTools for nodes that
// lack those.
var (
	//go:embed scripts/probe.sh
	probeScript string
	//go:embed scripts/backup.sh
	backupScript string
	//go:embed scripts/names.sh
	namesScript string
	//go:embed scripts/again.sh
	againScript string
	//go:embed scripts/whole.sh
	wholeScript string
	//go:embed scripts/unsaved.sh
	unsavedScript string
	//go:embed scripts/survey.sh
	surveyScript string
	//go:embed scripts/put.sh
	putScript string
	//go:embed scripts/medium.sh
	mediumScript string
	//go:embed scripts/size.sh
	sizeScript string
	//go:embed scripts/digest.sh
	digestScript string
	//go:embed scripts/unnamed.sh
	unnamedScript string
	//go:embed scripts/speed.sh
	speedScript string
	//go:embed scripts/merged.sh
	mergedScript string
	//go:embed scripts/clear.sh
	clearScript string
	//go:embed scripts/extract.sh
	extractScript string
	//go:embed scripts/list.sh
	listScript string
	//go:embed scripts/mark.sh
	markScript string
)
