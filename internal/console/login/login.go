package login

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Login is what a first login shall come to. Root logs in.
type Login struct {
	Node string // for errors
	// Initial is the password that the image comes with; "" is an empty one.
	Initial bmc.Secret
	// Password is the one that root shall have.
	Password bmc.Secret
	// AuthorizedKey is a line for root's authorized_keys, or "".
	AuthorizedKey string
	// Commands are run one after the other by root's shell, each to its end, with
	// nothing to read.
	Commands []string
	// LiveOnly leaves what does not run from an overlay, a machine that has booted its
	// disk, as it is: of it only the host keys are read, so that ssh can tell.
	LiveOnly bool
	// Address is the node's, for commands: they find it in $LIVECD_SYNC_ADDRESS, and
	// its name in $LIVECD_SYNC_NODE.
	Address string
	// Inside: the stream is a terminal that ssh gave to root, and no console. Nobody
	// asks there who logs in, and it may end once the password has been changed.
	Inside bool
	// Progress is told what is being done, without secrets; nil: nobody is.
	Progress func(string)
}

// A Result is what a login came to.
type Result struct {
	Changed bool // the password was changed; else it was the wanted one before
	Added   bool // the key was not in authorized_keys before
	Disk    bool // it runs no live image, and neither key nor commands were for it
	// HostKeys are the node's public ssh host keys, as known_hosts has them
	// without the host: "ssh-ed25519 AAAA…".
	HostKeys []string
	// Ended: the terminal ended with the change of the password, before anything else
	// was done. Only where Inside is set.
	Ended bool
}

const (
	// nudge is how long a silent screen is left alone before it is woken.
	nudge = 4 * time.Second
	// nudgeAsked is the same for a login that is being judged, which takes its time
	// on purpose.
	nudgeAsked = 10 * time.Second
	// nudgeMost is how long that comes to be.
	nudgeMost = 30 * time.Second
	// leaving is how long a login that came to nothing may take to leave the
	// console as it should be left.
	leaving = 10 * time.Second
)

// Run logs in over a console, which it closes. It can be done again at any time:
// what is as it should be stays. ctx bounds it; a login prompt that has not come
// by then is a *bmc.Error of kind timeout, as all its errors are of that type. No
// secret is in them, nor in what Progress is told.
func (l Login) Run(ctx context.Context, conn io.ReadWriteCloser) (Result, error) {
	d := l.dialog(conn)
	defer d.screen.close() //nolint:errcheck // what had to be known was read from it
	if err := l.check(); err != nil {
		return Result{}, err
	}
	// A console that takes no more keys must not hold anybody for ever.
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(2 * leaving):
			_ = d.screen.close()
		case <-d.screen.stop:
		}
	})
	defer stop()
	result, err := d.run(ctx)
	if err != nil {
		err = d.explain(ctx, err)
		d.leave(ctx)
	}
	return result, err
}

// dialog begins a dialog.
func (l Login) dialog(conn io.ReadWriteCloser) *dialog {
	d := &dialog{Login: l, screen: newScreen(conn, l.Password, l.Initial)}
	d.tries, d.asking = []bmc.Secret{l.Initial}, l.Inside
	if l.Password != l.Initial {
		d.tries = append(d.tries, l.Password)
	}
	return d
}

// check refuses what cannot be typed.
func (l Login) check() error {
	if strings.ContainsFunc(l.Password.Reveal()+l.Initial.Reveal(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return l.fail(bmc.KindAuth, "login.password or login.initial has a character in it that cannot be typed, such as the end of a line", "write the secret without it")
	}
	if l.Password == "" {
		return l.fail(bmc.KindAuth, "login.password is empty", "set it to the password that root shall have")
	}
	return nil
}

// A dialog is one login under way.
type dialog struct {
	Login
	screen *screen
	passwords
	asRoot  bool   // a shell of root's is open
	ours    bool   // and this dialog has opened it
	prompt  string // of our own shell inside it, "" before it is there
	frames  int    // how many were read, so that each has a mark of its own
	changed bool
}

func (d *dialog) say(what string) {
	if d.Progress != nil {
		d.Progress(d.screen.hide(what))
	}
}

func (d *dialog) run(ctx context.Context) (Result, error) {
	var r Result
	if err := d.logIn(ctx); err != nil {
		return d.endedBy(ctx, err)
	}
	if err := d.openShell(ctx); err != nil {
		return r, err
	}
	for _, do := range []func(context.Context, *Result) error{d.seeLive, d.ensurePassword, d.putKey, d.runCommands, d.readHostKeys} {
		if err := do(ctx, &r); err != nil {
			return r, err
		}
	}
	d.leave(ctx)
	return r, nil
}
