package login

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// keyScript puts a line into root's authorized_keys unless the same key begins one.
const keyScript = `umask 077
d=/root/.ssh f=/root/.ssh/authorized_keys
mkdir -p $d && chmod 0700 $d && touch $f && chmod 0600 $f || exit 1
grep -q "^$k\( \|\$\)" $f && exit 0
[ -z "$(tail -c 1 $f)" ] || echo >>$f
printf '%s\n' "$l" >>$f || exit 1
if command -v restorecon >/dev/null; then restorecon -R $d; fi
echo "added"`

// seeLive looks whether a live image runs: what is done next is meant for one.
func (d *dialog) seeLive(ctx context.Context, r *Result) error {
	if !d.LiveOnly {
		return nil
	}
	out, err := d.ask(ctx, `while read -r i p d r m x; do [ "$m" != / ] || { x=${x#* - }; t=${x%% *}; }; done </proc/self/mountinfo; echo "$t"`)
	r.Disk = strings.TrimSpace(out) != "overlay"
	return err
}

func (d *dialog) putKey(ctx context.Context, r *Result) error {
	if d.AuthorizedKey == "" || r.Disk {
		return nil
	}
	fields := strings.Fields(d.AuthorizedKey)
	if len(fields) < 2 || !isKey(fields[0], fields[1]) || strings.ContainsAny(d.AuthorizedKey, "\n\r") {
		return d.fail(bmc.KindSSH, "login.authorizedKey is no public key in ssh's form", "name the .pub file, which has one line: a type, the key, a comment")
	}
	d.say("putting the public key into authorized_keys")
	out, code, err := d.script(ctx, "l="+quote(d.AuthorizedKey)+"\nk="+quote(fields[0]+" "+fields[1])+"\n"+keyScript, answerWithin)
	if err != nil {
		return err
	}
	if code != 0 {
		return d.fail(bmc.KindSSH, "the public key could not be put into /root/.ssh/authorized_keys: %s", "see whether the node can write there", d.lastWords(out))
	}
	r.Added = strings.Contains(out, "added")
	return nil
}

// quote quotes a text for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (d *dialog) runCommands(ctx context.Context, r *Result) error {
	if r.Disk {
		return nil
	}
	for i, command := range d.Commands {
		name, _, _ := strings.Cut(strings.TrimSpace(command), " ")
		d.say("running " + name + " on the console")
		out, code, err := d.script(ctx, "export LIVECD_SYNC_NODE="+quote(d.Node)+" LIVECD_SYNC_ADDRESS="+quote(d.Address)+"\n"+command, 0)
		if err != nil {
			return err
		}
		if code != 0 {
			return d.fail(bmc.KindProtocol, "command %d of login.commands (%s) ended with status %d: %s",
				"correct the command; apply again runs them all once more", i+1, name, code, d.lastWords(out))
		}
	}
	return nil
}

// lastWords is the end of what a command said.
func (d *dialog) lastWords(out string) string {
	lines := strings.Split(strings.TrimSpace(d.screen.hide(out)), "\n")
	words := strings.Join(lines[max(0, len(lines)-3):], "; ")
	if words == "" {
		return "it said nothing"
	}
	return words
}

const (
	hostKeyTries = 10
	hostKeyPause = 3 * time.Second
)

// readHostKeys reads the node's public host keys. They are made when sshd first
// starts, which may be after the console's login prompt.
func (d *dialog) readHostKeys(ctx context.Context, r *Result) error {
	d.say("reading the ssh host keys")
	for range hostKeyTries {
		out, _, err := d.script(ctx, HostKeyScript, answerWithin)
		if err != nil {
			return err
		}
		if r.HostKeys = HostKeys(out); len(r.HostKeys) > 0 {
			return nil
		}
		if _, err := d.screen.wait(ctx, 0, hostKeyPause, func() bool { return false }); err != nil {
			return err
		}
	}
	return nil
}

// HostKeyScript prints a node's public host keys.
const HostKeyScript = `cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null || :`

// HostKeys are the whole keys among lines of public keys, without comments.
func HostKeys(text string) []string {
	var keys []string
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && isKey(f[0], f[1]) {
			keys = append(keys, f[0]+" "+f[1])
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// isKey reports whether a public key is whole as far as can be seen: it begins
// with its own type, and its parts, each with its length, come to its end (RFC
// 4253 6.6). A line that loses some of it brings no other key into being.
func isKey(kind, data string) bool {
	b, err := base64.StdEncoding.DecodeString(data)
	parts := 0
	for ; err == nil && len(b) >= 4; parts++ {
		n := binary.BigEndian.Uint32(b)
		if uint64(n) > uint64(len(b)-4) || parts == 0 && string(b[4:4+n]) != kind {
			return false
		}
		b = b[4+n:]
	}
	return err == nil && len(b) == 0 && parts > 1
}
