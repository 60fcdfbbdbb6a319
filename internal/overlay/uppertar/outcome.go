package uppertar

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

// An Outcome counts what could not be done as asked.
type Outcome struct {
	Changed int64 // files that changed, shrank or went while they were read
	Failed  int64 // what could not be read, made or removed
}

// Status is the exit status that GNU tar has for it.
func (o Outcome) Status() int {
	switch {
	case o.Failed > 0:
		return 2
	case o.Changed > 0:
		return 1
	}
	return 0
}

// A teller writes messages and counts. Messages that cannot be written are lost:
// the count is what decides.
type teller struct {
	to      io.Writer
	outcome Outcome
}

func (t *teller) note(name, format string, args ...any) {
	if t.to == nil {
		return
	}
	fmt.Fprintf(t.to, "%s: %s\n", quoteName(name), fmt.Sprintf(format, args...))
}

func (t *teller) changed(name, format string, args ...any) {
	t.outcome.Changed++
	t.note(name, format, args...)
}

func (t *teller) failed(name, what string, err error) {
	t.outcome.Failed++
	t.warn(name, what, err)
}

// warn tells of an error that GNU tar does not count.
func (t *teller) warn(name, what string, err error) {
	t.note(name, "%s: %s", what, reason(err))
}

// reason is what strerror says of an error number, and any other error's text.
func reason(err error) string {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	s := errno.Error()
	return strings.ToUpper(s[:1]) + s[1:]
}

// quoteName writes a name as GNU tar does with --quoting-style=escape in the C
// locale.
func quoteName(name string) string {
	const controls, letters = "\a\b\f\n\r\t\v\\", `abfnrtv\`
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		at := strings.IndexByte(controls, c)
		switch {
		case at >= 0:
			b.WriteByte('\\')
			b.WriteByte(letters[at])
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
