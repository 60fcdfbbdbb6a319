package login

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	// answerWithin is how long a shell may take for what costs it nothing. A
	// machine that has just started has much to do.
	answerWithin = 30 * time.Second
	// pieceMost is how much of a script is typed at once, in bytes: a terminal in
	// line mode takes 4095, and serial lines of BMCs lose keys that come too fast.
	pieceMost = 96
)

// openShell starts a plain shell inside the one that is there: with a prompt that
// nothing else can say, without line editing, echo and history.
func (d *dialog) openShell(ctx context.Context) error {
	if err := d.screen.write("\x15sh\r"); err != nil {
		return err
	}
	if _, err := d.screen.wait(ctx, settle, answerWithin/10, func() bool { return strings.TrimSpace(lastLine(d.screen.text())) != "" }); err != nil {
		return err
	}
	mark := rand.Text()[:10]
	// Typed in two parts, so that its echo is not taken for it.
	prompt := "@login-" + mark + "> "
	keys := "\x15set +o emacs +o vi 2>/dev/null; stty -echo 2>/dev/null; unset HISTFILE; PS2= PS1='@login-''" + mark + "> '\r"
	if err := d.screen.write(keys); err != nil {
		return err
	}
	good, err := d.screen.wait(ctx, settle, answerWithin, func() bool { return strings.Contains(d.screen.text(), prompt) })
	if err != nil {
		return err
	}
	if !good {
		return d.fail(bmc.KindProtocol, "what is on the console looks like a shell and is none", "log out on the console: livecd-sync console "+d.Node)
	}
	d.prompt = prompt
	who, err := d.ask(ctx, "id -u")
	if err != nil {
		return err
	}
	if strings.TrimSpace(who) != "0" {
		return d.fail(bmc.KindBusy, "whoever is logged in there is not root", "log out on the console: livecd-sync console "+d.Node)
	}
	return nil
}

// line types a line into our shell and waits for its prompt.
func (d *dialog) line(ctx context.Context, text string, within time.Duration) error {
	if err := d.screen.write(text + "\r"); err != nil {
		return err
	}
	good, err := d.screen.wait(ctx, 0, within, func() bool { return strings.Contains(d.screen.text(), d.prompt) })
	if err == nil && !good {
		err = d.fail(bmc.KindTimeout, "the shell on the console does not answer any more", "look at the console: livecd-sync console "+d.Node)
	}
	return err
}

// encode writes a script in characters that no terminal and no shell changes
// between single quotes, as a format of printf: shells disagree on octal numbers
// elsewhere.
func encode(script string) string {
	var b strings.Builder
	for i := range len(script) {
		c := script[i]
		switch {
		case c == '%':
			b.WriteString("%%")
		case c < ' ', c >= 0x7f, c == '\'', c == '\\', c == '!':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// pieces cuts a text.
func pieces(text string, size int) []string {
	var out []string
	for len(text) > size {
		out, text = append(out, text[:size]), text[size:]
	}
	return append(out, text)
}

// load types a script into the shell's variable s, and sees that it arrived.
func (d *dialog) load(ctx context.Context, script string) error {
	code := encode(script)
	for range retypes {
		if err := d.line(ctx, "s=", answerWithin); err != nil {
			return err
		}
		for _, piece := range pieces(code, pieceMost) {
			if err := d.line(ctx, "s=$s'"+piece+"'", answerWithin); err != nil {
				return err
			}
		}
		if err := d.line(ctx, `echo "=${#s}="`, answerWithin); err != nil {
			return err
		}
		if strings.Contains(d.screen.text(), "="+strconv.Itoa(len(code))+"=") {
			return nil
		}
	}
	return d.fail(bmc.KindProtocol, "what is typed does not arrive whole on the node", "the serial line may be at fault; try console.way, or set the password by hand")
}

// script runs a script, and returns what it said and its exit status. within is
// how long it may be silent; 0: as long as the context lasts.
func (d *dialog) script(ctx context.Context, script string, within time.Duration) (string, int, error) {
	if err := d.load(ctx, script); err != nil {
		return "", 0, err
	}
	d.frames++
	mark := rand.Text()[:10]
	begin, end := "@begin-"+mark, "@end-"+mark+" "
	run := `s=$(printf "${s}x"); s=${s%x}; printf '\n%s%s\n' '@begin-' ` + mark + `; (eval "$s") </dev/null 2>&1; printf '\n%s%s %s\n' '@end-' ` + mark + ` "$?"`
	if err := d.line(ctx, run, within); err != nil {
		return "", 0, err
	}
	_, rest, begun := strings.Cut(d.screen.text(), begin+"\n")
	out, status, ended := strings.Cut(rest, "\n"+end)
	word, _, _ := strings.Cut(status, "\n")
	code, err := strconv.Atoi(strings.TrimSpace(word))
	if !begun || !ended || err != nil {
		return "", 0, d.fail(bmc.KindProtocol, "what the node's shell said could not be read", "run apply again: it goes on from what it finds")
	}
	return out, code, nil
}

// ask runs a script that must succeed.
func (d *dialog) ask(ctx context.Context, script string) (string, error) {
	out, code, err := d.script(ctx, script, answerWithin)
	if err == nil && code != 0 {
		err = d.fail(bmc.KindProtocol, "a command on the console ended with status %d", "look at the console: livecd-sync console "+d.Node, code)
	}
	return out, err
}

// leave logs out of what this dialog has opened, as well as it can be done: a
// console must not be left open, nor one that was open be closed.
func (d *dialog) leave(ctx context.Context) {
	if !d.asRoot {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	keys := "\x03\x15\r" // ends what is still running
	if d.prompt != "" {
		keys = "\x15stty echo 2>/dev/null; exit\r"
		if d.screen.wrongPlace(d.prompt) {
			keys = "\x03" + keys
		}
	}
	d.asRoot = false
	if d.screen.write(keys) != nil {
		return
	}
	_, err := d.screen.wait(ctx, settle, leaving/2, func() bool { return strings.TrimSpace(d.screen.text()) != "" })
	if err != nil || !d.ours {
		return
	}
	if d.screen.write("\x15exit\r") != nil {
		return
	}
	_, _ = d.screen.wait(ctx, settle, leaving/2, func() bool { return d.screen.look() == atLogin })
}

// wrongPlace reports whether the screen does not end in our prompt.
func (s *screen) wrongPlace(prompt string) bool {
	return !strings.HasSuffix(strings.TrimSpace(s.text()), strings.TrimSpace(prompt))
}
