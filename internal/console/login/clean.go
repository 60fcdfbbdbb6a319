package login

import (
	"regexp"
	"strings"
)

var (
	// escapes are what terminals are told: colours, titles, modes.
	escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)|\x1b[PX^_][^\x1b]*\x1b\\|\x1b[ -/]*[0-~]`)
	// messages are lines of the kernel and of systemd. They begin wherever the
	// cursor was, in the middle of a prompt too, and end with their line. One that
	// has not ended yet reaches to the end of the text.
	messages = regexp.MustCompile(`(<\d{1,3}>)?\[ *\d+\.\d{6}\][^\n]*(\n|$)|\[(  OK  |FAILED|DEPEND|  WARN|\*[* ]{2,}|[* ]{2,}\*| {2,}\*+ *) *\][^\n]*(\n|$)`)
	// ended are those of them whose line has ended.
	ended = regexp.MustCompile(strings.ReplaceAll(messages.String(), `(\n|$)`, `\n`))
	// panics is the kernel's last word.
	panics = regexp.MustCompile(`Kernel panic - not syncing[^\r\n]*`)
	// unfinished is an escape sequence whose end is still to come.
	unfinished = regexp.MustCompile(`\x1b[^@-~]?[0-?]*$`)
)

// clean is a text as a person reads it: without escape sequences, other control
// characters, and the messages of the kernel.
func clean(raw string) string {
	text := escapes.ReplaceAllString(raw, "")
	text = unfinished.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, "\r", "")
	text = messages.ReplaceAllString(text, "")
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r == 0x7f) {
			return -1
		}
		return r
	}, text)
}

// lastLine is what the cursor stands behind.
func lastLine(text string) string {
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		return text[i+1:]
	}
	return text
}
