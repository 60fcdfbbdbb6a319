package login

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	// retypes is how often a new password is typed that did not arrive twice alike.
	retypes = 3
	// namesMost is how often root is typed at a login prompt in all.
	namesMost = 6
	// wake is Ctrl-U, so that what somebody has left half typed is not sent off,
	// and Enter.
	wake = "\x15\r"
	// abort is Ctrl-D, which ends a question for a password.
	abort = "\x04"
)

// passwords is how far the dialog has come with them.
type passwords struct {
	tries   []bmc.Secret // what may let root in, in the order of trying
	tried   int          // how many of them were refused
	named   int          // how often root was typed
	asking  bool         // root was typed, and what is asked now is about that
	sent    bool         // and a password after it
	typed   int          // how often the new password was typed in this change
	refused []string     // why a new password was not taken
	again   int          // changes that went wrong on the way
}

// login is the password that lets root in, as far as is known.
func (p *passwords) login() bmc.Secret { return p.tries[min(p.tried, len(p.tries)-1)] }

// logIn comes from whatever is on the screen to a root shell's prompt.
func (d *dialog) logIn(ctx context.Context) error {
	d.say("waiting for a login prompt on the console")
	patience := nudge
	for {
		good, err := d.screen.wait(ctx, settle, patience, func() bool { return d.screen.look() != nothing })
		switch {
		case err != nil:
			return err
		case !good && d.mayBeShell():
			return d.enter()
		case !good: // silent
			if d.screen.panic != "" && patience >= nudgeMost {
				return d.fail(bmc.KindMedia, "its boot has ended: %s", "look at the console: livecd-sync console "+d.Node, d.screen.panic)
			}
			if patience >= nudgeMost && d.Inside {
				return d.fail(bmc.KindTimeout, "nothing is asked that is understood", "try it by hand: ssh root@"+d.Address)
			}
			patience = min(2*patience, nudgeMost)
			if _, err := d.wake(); err != nil {
				return err
			}
			continue
		}
		done, err := d.answer(ctx, d.screen.look())
		if err != nil || done {
			return err
		}
		if patience = nudge; d.asking {
			patience = nudgeAsked
		}
	}
}

// wake types Enter, where that can do no harm, and reports whether it did.
func (d *dialog) wake() (bool, error) {
	if d.screen.panic != "" || !mayWake(d.screen.text()) {
		return false, nil
	}
	return true, d.screen.write(wake)
}

// mayBeShell reports whether a login that asks nothing more may have led to a
// shell whose prompt looks like none.
func (d *dialog) mayBeShell() bool {
	return d.asking && strings.TrimSpace(lastLine(d.screen.text())) != ""
}

// answer answers one prompt, and reports whether a shell was reached.
func (d *dialog) answer(ctx context.Context, s sight) (bool, error) {
	switch s {
	case atLogin:
		return false, d.answerName(ctx)
	case atPassword, atCurrent, atNew, atAgain:
		return false, d.answerSecret(ctx, s)
	case atRootShell, atUserShell: // some give root a prompt of the latter kind
		if !d.asking {
			if there, err := d.provoke(ctx, s); err != nil || !there {
				return false, err
			}
		}
		if d.asking || s == atRootShell {
			return true, d.enter()
		}
		return false, d.fail(bmc.KindBusy, "somebody who is not root is logged in there", "log out on the console: livecd-sync console "+d.Node)
	case atEmergency:
		return false, d.fail(bmc.KindMedia, "its boot has ended in an emergency shell", "look at the console: livecd-sync console "+d.Node)
	case atLoader, nothing:
	}
	// A boot loader goes on by itself, or does not: nothing is typed there.
	_, err := d.screen.wait(ctx, 0, 0, func() bool { return d.screen.look() != s })
	return false, err
}

// provoke reports whether what looks like a prompt comes back after an Enter.
// Else it is none: much that a machine says while it starts ends like one.
func (d *dialog) provoke(ctx context.Context, s sight) (bool, error) {
	came, err := d.screen.next(ctx, nudge)
	if err != nil || came {
		return false, err
	}
	if typed, err := d.wake(); err != nil || !typed {
		return false, err
	}
	return d.screen.wait(ctx, settle, nudge, func() bool { return d.screen.look() == s })
}

// enter notes that a shell is there.
func (d *dialog) enter() error {
	d.changed = d.changed || d.typed >= 2
	d.asRoot, d.ours = true, d.asking
	return nil
}

// answerName says who logs in, after a look at what came of the last time.
func (d *dialog) answerName(ctx context.Context) error {
	text := d.screen.text()
	switch {
	case d.asking && barred.MatchString(text):
		return d.fail(bmc.KindAuth, "root may not log in: %s", "unlock it on the node (faillock --user root --reset), or boot it anew",
			strings.TrimSpace(barred.FindString(text)))
	case d.typed > 0:
		if err := d.changeEnded(ctx, text); err != nil {
			return err
		}
	case d.sent && incorrect.MatchString(text):
		if d.tried++; d.tried >= len(d.tries) {
			return d.keptOut(text)
		}
	}
	switch d.named++; {
	case d.named > namesMost && incorrect.MatchString(text):
		return d.keptOut(text)
	case d.named > namesMost:
		return d.fail(bmc.KindProtocol, "the login prompt came back again and again", "look at the console: livecd-sync console "+d.Node)
	}
	d.asking, d.sent = true, false
	d.say("logging in as root on the console")
	return d.screen.write("root\r")
}

// keptOut is the error of a root that no password lets in.
func (d *dialog) keptOut(text string) error {
	return d.fail(bmc.KindAuth, "root is not let in, neither with the initial password nor with the new one: %s",
		"write login.initial as the image has it; root may also be kept from logging in on this terminal (/etc/securetty, pam_faillock). If it is the disk that asks there, switch the node off and run apply again",
		strings.TrimSpace(incorrect.FindString(text)))
}

// changeEnded judges a change that ended without a shell.
func (d *dialog) changeEnded(ctx context.Context, text string) error {
	why := reasons(text)
	done := d.typed >= 2 && len(why) == 0 && !incorrect.MatchString(text)
	d.typed = 0
	switch {
	case noMatch.MatchString(text):
		return d.onceMore(ctx)
	case done: // some want a new login after a change
		d.changed, d.tries, d.tried = true, []bmc.Secret{d.Password}, 0
		return nil
	}
	return d.refusal(ctx, append(d.refused, why...))
}

// endedBy judges a login that err has ended: sshd ends a session in which an expired
// password was changed.
func (d *dialog) endedBy(ctx context.Context, err error) (Result, error) {
	if !d.Inside || d.typed == 0 || !errors.Is(err, errEnded) {
		return Result{}, err
	}
	if why := reasons(d.screen.text()); d.typed < 2 || len(why) > 0 {
		return Result{}, d.refusal(ctx, append(d.refused, why...))
	}
	return Result{Changed: true, Ended: true}, nil
}

// onceMore allows another change, for keys may get lost on a serial line.
func (d *dialog) onceMore(ctx context.Context) error {
	d.again++
	d.typed = 0
	if d.again >= retypes {
		return d.refusal(ctx, []string{"it did not arrive twice alike"})
	}
	return nil
}

// answerSecret answers a question for a password.
func (d *dialog) answerSecret(ctx context.Context, s sight) error {
	if !d.asking { // of somebody else's login, which Enter ends
		return d.screen.write(wake)
	}
	text := d.screen.text()
	if why := reasons(text); d.typed > 0 {
		d.refused = append(d.refused, why...)
	}
	switch {
	case s == atPassword, s == atCurrent:
		d.sent = true
		return d.screen.writeSecret(d.login().Reveal() + "\r")
	case s == atNew && d.typed > 0 && noMatch.MatchString(text):
		if err := d.onceMore(ctx); err != nil {
			return err
		}
	case s == atNew && d.typed > 0:
		return d.refusal(ctx, d.refused)
	}
	if s == atNew {
		d.say("changing root's password")
	}
	d.typed++
	return d.screen.writeSecret(d.Password.Reveal() + "\r")
}

// refusal is the error of a new password that the node does not take. It ends
// the question, so that the console is left at a login prompt.
func (d *dialog) refusal(ctx context.Context, why []string) error {
	words := "no reason was given"
	if len(why) > 0 {
		words = d.screen.hide(strings.Join(why, "; "))
	}
	d.leaveQuestion(ctx)
	return d.fail(bmc.KindAuth, "the node refuses the new password: %s", "set login.password to one that the image's password policy takes", words)
}

// leaveQuestion ends questions for passwords, as well as it can be done.
func (d *dialog) leaveQuestion(ctx context.Context) {
	for range retypes {
		switch d.screen.look() {
		case atNew, atAgain, atCurrent, atPassword:
		default:
			return
		}
		if d.screen.write(abort) != nil {
			return
		}
		if _, err := d.screen.wait(ctx, settle, time.Second, func() bool { return d.screen.look() != nothing }); err != nil {
			return
		}
	}
}

// ensurePassword sets the password from the shell when logging in did not ask
// for it: somebody was logged in already, or the image has one that has not
// expired.
func (d *dialog) ensurePassword(ctx context.Context, r *Result) error {
	err := d.setPassword(ctx, r.Disk)
	r.Changed = d.changed
	return err
}

func (d *dialog) setPassword(ctx context.Context, disk bool) error {
	if disk || d.changed || d.asking && !d.Inside && d.tried < len(d.tries) && d.login() == d.Password {
		return nil
	}
	state, err := d.ask(ctx, `while IFS=: read -r u p c x; do [ "$u" = root ] || continue; if [ -z "$p" ]; then echo empty; elif [ "$c" = 0 ]; then echo expired; else echo set; fi; done </etc/shadow`)
	if err != nil {
		return err
	}
	initial := d.asking && d.login() == d.Initial && !d.Inside
	if strings.TrimSpace(state) == "set" && !initial {
		return nil // somebody has set it, and is logged in
	}
	return d.passwd(ctx)
}

// passwd changes the password from our shell.
func (d *dialog) passwd(ctx context.Context) error {
	d.typed, d.refused, d.again = 0, nil, 0
	wasAsking := d.asking
	d.asking = true
	defer func() { d.asking = wasAsking }()
	if err := d.screen.write("passwd root\r"); err != nil {
		return err
	}
	for {
		ended := func() bool { return strings.Contains(d.screen.text(), d.prompt) }
		good, err := d.screen.wait(ctx, settle, answerWithin, func() bool { return ended() || d.screen.look() != nothing })
		switch {
		case err != nil:
			return err
		case !good:
			return d.fail(bmc.KindProtocol, "passwd does not answer", "look at the console: livecd-sync console "+d.Node)
		case ended():
			text := d.screen.text()
			if d.typed < 2 || len(reasons(text)) > 0 || noMatch.MatchString(text) {
				return d.refusal(ctx, append(d.refused, reasons(text)...))
			}
			d.changed = true
			return nil
		}
		switch s := d.screen.look(); s {
		case atPassword, atCurrent, atNew, atAgain:
			if err := d.answerSecret(ctx, s); err != nil {
				return err
			}
		default:
			return d.fail(bmc.KindProtocol, "passwd asks what is not understood: %s", "look at the console: livecd-sync console "+d.Node, fmt.Sprintf("%q", d.screen.hide(lastLine(d.screen.text()))))
		}
	}
}
