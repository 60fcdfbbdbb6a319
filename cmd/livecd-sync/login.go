package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/console"
	"github.com/livecd-sync/livecd-sync/internal/console/login"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// login does a node's first login: over ssh where that lets in whoever has to change
// the password, else over the serial console. It keeps the host keys that it has read
// there.
func (t *target) login(ctx context.Context, n site.Node, within time.Duration, progress func(string)) (string, error) {
	want, err := t.loginOf(ctx, n)
	if err != nil {
		return "", err
	}
	want.Progress = progress
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r, done, err := t.nodes.loginInside(ctx, n, want)
	if !done {
		r, err = t.loginOnConsole(ctx, n, want)
	}
	if err != nil {
		return "", err
	}
	if n.SSH.HostKey.Console {
		if err := t.nodes.keepHostKeys(n, r.HostKeys); err != nil {
			return "", err
		}
	}
	return describeLogin(r), nil
}

func (t *target) loginOnConsole(ctx context.Context, n site.Node, want login.Login) (login.Result, error) {
	at, err := t.consoleOf(ctx, n)
	if err != nil {
		return login.Result{}, err
	}
	conn, err := console.Open(ctx, at)
	if err != nil {
		return login.Result{}, err
	}
	return want.Run(ctx, conn)
}

// loginInside does the first login in a terminal that ssh gives to root: with a key
// that the image has, or an empty password that sshd takes, it lets in whoever changes
// the password. It reports whether that was done, or needs nobody else to try.
func (c *nodes) loginInside(ctx context.Context, n site.Node, want login.Login) (r login.Result, done bool, err error) {
	want.Inside = true
	var password bmc.Secret // none at first: an account must not be locked by guesses
	for range 2 {
		terminal, err := c.terminal(ctx, n, password)
		if err != nil {
			return r, r.Changed, err
		}
		one, err := want.Run(ctx, terminal)
		one.Changed = one.Changed || r.Changed
		r = one
		switch kind := bmc.KindOf(err); {
		case err == nil && !r.Ended:
			return r, true, nil
		case err != nil:
			return r, r.Changed || ctx.Err() != nil || kind == bmc.KindAuth || kind == bmc.KindMedia, err
		}
		password = want.Password // sshd ended the session that it was changed in
	}
	return r, true, &bmc.Error{
		Op: "log in to " + n.Name + " over ssh", Kind: bmc.KindSSH, Err: errors.New("it wants the password changed again and again"),
		Hint: "look at it: ssh " + n.SSH.User + "@" + n.SSH.Address,
	}
}

// terminal is one that ssh gives, on a connection of its own.
func (c *nodes) terminal(ctx context.Context, n site.Node, password bmc.Secret) (io.ReadWriteCloser, error) {
	conn, err := c.dial(ctx, n, password)
	if err != nil {
		return nil, err
	}
	terminal, err := conn.Terminal(ctx)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return ownTerminal{terminal, conn}, nil
}

// An ownTerminal ends with its connection.
type ownTerminal struct {
	*sshremote.Terminal
	conn *sshremote.Conn
}

// Close implements io.Closer.
func (t ownTerminal) Close() error { return errors.Join(t.Terminal.Close(), t.conn.Close()) }

func describeLogin(r login.Result) string {
	if r.Disk {
		return "logged in; it runs from its disk, which was left as it is"
	}
	var did []string
	if r.Changed {
		did = append(did, "root's password changed")
	}
	if r.Added {
		did = append(did, "the public key added")
	}
	if len(did) == 0 {
		return "logged in; root's password and the public key were there"
	}
	return "logged in; " + strings.Join(did, ", ")
}

// loginOf is what a node's first login shall come to.
func (t *target) loginOf(ctx context.Context, n site.Node) (login.Login, error) {
	l := login.Login{Node: n.Name, Commands: n.Login.Commands, LiveOnly: true, Address: n.SSH.Address}
	var err error
	if l.Password, err = t.secrets.Get(ctx, n.Login.Password); err != nil {
		return l, err
	}
	if l.Initial, err = t.secrets.Get(ctx, n.Login.Initial); err != nil {
		return l, err
	}
	l.AuthorizedKey, err = publicKeyOf(n)
	return l, err
}

// publicKeyOf is the line that lets the node's ssh.identity in, or what
// login.authorizedKey says; "" where neither is given.
func publicKeyOf(n site.Node) (string, error) {
	file := n.Login.AuthorizedKey
	if file == "" {
		if n.SSH.Identity == "" {
			return "", nil
		}
		return sshremote.PublicKey(n.SSH.Identity)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", &bmc.Error{Op: "read login.authorizedKey of " + n.Name, Kind: bmc.KindAuth, Err: err, Hint: "name the .pub file of the key that ssh uses"}
	}
	return strings.TrimSpace(string(b)), nil
}

// checkLogins reads every public key that the selected nodes' first logins need, so
// that one that is missing shows before anything is done.
func (t *target) checkLogins() error {
	var missing []error
	asked := map[string]bool{}
	for _, n := range t.site.Nodes {
		if n.Login == nil || asked[n.Login.AuthorizedKey+"\x00"+n.SSH.Identity] {
			continue
		}
		asked[n.Login.AuthorizedKey+"\x00"+n.SSH.Identity] = true
		if _, err := publicKeyOf(n); err != nil {
			missing = append(missing, fmt.Errorf("%s: %w\n  → %s", n.At("login.authorizedKey"), err, bmc.HintOf(err)))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return plainError{errors.Join(missing...)}
}

// locked reports whether a node that did not let in wants its first login.
func locked(n site.Node, err error) bool {
	if n.Login == nil {
		return false
	}
	return sshremote.Refused(err) || n.SSH.HostKey.Console && (sshremote.OtherHostKey(err) || errors.Is(err, errNoHostKey))
}

var errNoHostKey = errors.New("its host key has not been read over the console yet")

// hostKey is what the node must show.
func (c *nodes) hostKey(n site.Node) (site.HostKey, error) {
	if !n.SSH.HostKey.Console {
		return n.SSH.HostKey, nil
	}
	file := c.hostKeyFile(n)
	_, err := os.Stat(file)
	switch {
	case file == "", errors.Is(err, fs.ErrNotExist):
		return site.HostKey{}, &bmc.Error{
			Op: "ssh to " + n.SSH.Address, Kind: bmc.KindSSH, Err: errNoHostKey,
			Hint: "livecd-sync apply reads it there; or set ssh.hostKey to what is known",
		}
	case err != nil:
		return site.HostKey{}, &bmc.Error{Op: "read the node's host keys", Kind: bmc.KindSSH, Err: err, Hint: "delete the file: it is read over the console again"}
	}
	return site.HostKey{KnownHosts: file}, nil
}

// hostKeyFile is where a node's host keys are kept; "" where the environment names no
// place.
func (c *nodes) hostKeyFile(n site.Node) string {
	if c.state == "" {
		return ""
	}
	return filepath.Join(c.state, c.site.Name, n.Name)
}

// keepHostKeys keeps the host keys that were read over the console, for later runs
// while the same boot lasts. The file may be deleted at any time.
func (c *nodes) keepHostKeys(n site.Node, keys []string) error {
	file := c.hostKeyFile(n)
	e := &bmc.Error{Op: "keep the host keys of " + n.Name, Kind: bmc.KindSSH}
	switch {
	case file == "":
		e.Err, e.Hint = errors.New("there is no place for them"), "set HOME or XDG_STATE_HOME"
		return e
	case len(keys) == 0:
		e.Err, e.Hint = errors.New("it has none below /etc/ssh"), "see whether sshd runs there; then run apply again"
		return e
	}
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = replaceFile(file, sshremote.KnownHosts(n.SSH.Address, n.SSH.Port, keys))
	}
	if err != nil {
		e.Err, e.Hint = err, "mend the directory: without it every run logs in on the console again"
		return e
	}
	return nil
}

// replaceFile writes a file so that whoever reads it finds the old or the new one.
func replaceFile(name, text string) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it may be gone
	}
	return err
}

// readHostKeysAgain keeps what the node's host keys are now: a restore puts those of the
// boot that was backed up in their place, and sshd shows them from then on. The
// node itself says so, over a connection that was checked.
func (c *nodes) readHostKeysAgain(ctx context.Context, n site.Node, remote overlay.Remote) error {
	if !n.SSH.HostKey.Console {
		return nil
	}
	var out strings.Builder
	if err := remote.Run(ctx, overlay.Command{Script: login.HostKeyScript, Stdout: &out}); err != nil {
		return err
	}
	before, err := os.ReadFile(c.hostKeyFile(n))
	if err != nil {
		return err
	}
	keys := append(sshremote.KeysOf(string(before)), login.HostKeys(out.String())...)
	return c.keepHostKeys(n, keys)
}

// hostOf is what a node is, whose answer was err.
func hostOf(n site.Node, err error) (plan.Host, error) {
	if locked(n, err) {
		return plan.HostLocked{Err: err}, nil
	}
	return nil, err
}
