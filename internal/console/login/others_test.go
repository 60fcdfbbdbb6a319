package login

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// otherLogin is the getty, login and passwd of other systems than Debian: it
// keeps an account's password, and whether it has expired, in its directory $1,
// and says what the file words there has it say. It runs in a real terminal, and
// leads to a real shell.
const otherLogin = `cd "$1" || exit
expires= changing= askEmpty= current= new= again= warns= refuses= mismatch= changed= logsOut= second= locked= echoes= aborted=
. ./words
ask() { printf '%s' "$1"; [ -n "$echoes" ] || stty -echo; IFS= read -r answer || exit; [ -n "$echoes" ] || { stty echo; echo; }; }
change() {
	[ -z "$changing" ] || printf '%s\n' "$changing"
	if [ -n "$current" ]; then ask "$current"; [ "$answer" = "$(cat password)" ] || { echo "Authentication failure"; exit; }; fi
	for try in 1 2 3; do
		ask "$new"; first=$answer
		if [ -z "$first" ]; then echo "No password supplied"; continue; fi
		if [ -n "$refuses" ]; then echo "$refuses"; continue; fi
		[ -z "$warns" ] || echo "$warns"
		ask "$again"
		if [ -n "$mismatch" ] && [ $try = 1 ] || [ "$answer" != "$first" ]; then echo "$mismatch"; continue; fi
		[ -z "$aborted" ] || break
		printf %s "$first" >password; rm -f expired; [ -z "$changed" ] || echo "$changed"; return
	done
	echo "${aborted:-Password change aborted.}"; exit
}
[ ! -e dialog ] || { rm dialog; change; exit; }
[ ! -e forget ] || { rm forget; read -r lost; }
printf '\n%s' "$login"; IFS= read -r name; [ "$name" = root ] || exit
if [ -n "$locked" ]; then ask 'Password: '; echo "$locked"; exit; fi
if [ -s password ] || [ -n "$askEmpty" ]; then
	ask "$password"
	[ -z "$second" ] || ask "$second"
	[ "$answer" = "$(cat password)" ] || { printf '\nLogin incorrect\n'; exit; }
fi
if [ -e expired ]; then [ -z "$expires" ] || printf '%s\n' "$expires"; change; [ -z "$logsOut" ] || exit 0; fi
echo "Last login: Mon Nov 23 05:00:00 UTC 2026 on ttyS0"
echo "Have a lot of fun..."
cd /root; HOME=/root PS1='pit:~ # ' exec sh -i
`

// An otherSystem is otherLogin on a serial line of a box.
type otherSystem struct {
	*box
	line *tape
}

// newOther makes one: files are those of its directory, beside the words.
func newOther(t *testing.T, words string, files map[string]string) *otherSystem {
	t.Helper()
	b := newBox(t, "")
	b.run("mkdir other")
	b.write("other/words", words)
	b.write("other/login", otherLogin)
	for name, content := range files {
		b.write("other/"+name, content)
	}
	return &otherSystem{b, &tape{File: b.console("sh", b.dir+"/other/login", b.dir+"/other")}}
}

// A tape is a serial line that is listened in on. What the kernel writes comes
// in between.
type tape struct {
	*os.File
	kernel string              // written in the middle of whatever is read
	typed  func(string) string // what becomes of what is typed
	all    bytes.Buffer        // what was read
}

// Read implements io.Reader.
func (l *tape) Read(p []byte) (int, error) {
	n, err := l.File.Read(p[:len(p)-len(l.kernel)])
	if l.kernel != "" && n > 0 {
		cut := n / 2
		rest := append([]byte(l.kernel), p[cut:n]...)
		n = cut + copy(p[cut:], rest)
	}
	l.all.Write(p[:n])
	return n, err
}

// Write implements io.Writer.
func (l *tape) Write(p []byte) (int, error) {
	text := string(p)
	if l.typed != nil {
		text = l.typed(text)
	}
	if _, err := l.File.WriteString(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString implements io.StringWriter, which an os.File does, too.
func (l *tape) WriteString(s string) (int, error) { return l.Write([]byte(s)) }

func (o *otherSystem) run(l Login) (Result, error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), 2*time.Minute)
	defer cancel()
	r, err := l.Run(ctx, o.line)
	if err != nil && strings.Contains(err.Error(), wanted) {
		o.t.Errorf("the password is in the error: %v", err)
	}
	if o.t.Failed() {
		o.t.Logf("%q", o.line.all.String())
	}
	return r, err
}

// What systems ask and say, each as its sources or its users show it.
var others = []struct {
	name, words string
	password    string // before; "" is an empty one
	file        string // a further file of its directory
	unexpired   bool
	says        string // in the error; "": there is none
}{
	{
		name: "the pre-install toolkit", // SLE 15; the CSM page shows this dialog
		words: `login='pit login: ' password='Password: ' askEmpty=1
expires='You are required to change your password immediately (administrator enforced)'
changing='Changing password for root.' current='Current password: ' new='New password: ' again='Retype new password: '`,
	},
	{
		name: "SLES 11, pam_unix2",
		words: `login='ncn login: ' password='Password: ' expires='Your password has expired. Choose a new password.'
changing='Changing password for root.' current='Old Password: ' new='New Password: ' again='Reenter New Password: ' changed='Password changed.'`,
		password: "first",
	},
	{
		name: "RHEL 7",
		words: `login='localhost login: ' password='Password: ' expires='You are required to change your password immediately (root enforced)'
changing='Changing password for root.' current='(current) UNIX password: ' new='New password: ' again='Retype new password: '`,
		password: "first",
	},
	{
		name: "Debian 9",
		words: `login='debian login: ' expires='You are required to change your password immediately (root enforced)'
new='Enter new UNIX password: ' again='Retype new UNIX password: '`,
	},
	{
		name: "shadow without PAM, which lets nobody in after a change",
		words: `login='box login: ' password='Password: ' logsOut=1
expires='Your password has expired.  Choose a new password.' changing='Changing password for root
Enter the new password (minimum of 5 characters)
Please use a combination of upper and lower case letters and numbers.'
new='New password: ' again='Re-enter new password: ' changed='Password changed.'`,
	},
	{
		name:     "an old login that names the account",
		words:    `login='login: ' password="root's password: " changing='Changing password for root' current='Enter current password: ' new='Enter new password: ' again='Verify new password: '`,
		password: "first",
	},
	{
		name:  "a warning of pam_pwquality",
		words: `login='n1 login: ' new='New password: ' warns='BAD PASSWORD: The password is shorter than 15 characters' again='Retype new password: '`,
	},
	{
		name:     "two modules ask",
		words:    `login='n1 login: ' password='Password: ' second='LDAP Password: ' new='New password: ' again='Retype new password: '`,
		password: "first",
	},
	{
		name:  "the line lost a byte of the new password",
		words: `login='n1 login: ' new='New password: ' again='Retype new password: ' mismatch='Sorry, passwords do not match.'`,
	},
	{name: "getty eats what is typed first", words: `login='n1 login: ' new='New password: ' again='Retype new password: '`, file: "forget"},
	{name: "a dialog that somebody left", words: `login='n1 login: ' new='New password: ' again='Retype new password: '`, file: "dialog"},
	{name: "the password is set already", words: `login='n1 login: ' password='Password: '`, password: wanted, unexpired: true},
	{
		name:  "what is typed is echoed",
		words: `login='n1 login: ' echoes=1 new='New password: ' again='Retype new password: ' aborted='passwd: Authentication token manipulation error'`,
		says:  "passwd: Authentication token manipulation error",
	},
	{
		name: "pam_pwhistory", words: `login='n1 login: ' new='New password: ' refuses='Password has been already used. Choose another.'`,
		says: "refuses the new password: Password has been already used. Choose another.",
	},
	{
		name:  "pam_pwquality, once",
		words: `login='n1 login: ' new='New password: ' again='Retype new password: ' warns='BAD PASSWORD: is too simple' aborted='Have exhausted maximum number of retries for service'`,
		says:  "refuses the new password: BAD PASSWORD: is too simple",
	},
	{name: "pam_faillock", words: `login='n1 login: ' locked='The account is locked due to 3 failed logins.'`, says: "root may not log in: The account is locked due to 3 failed logins."},
	{name: "an account that has expired", words: `login='n1 login: ' locked='Your account has expired; please contact your system administrator.'`, says: "root may not log in: Your account has expired"},
}

func TestOthersDialogs(t *testing.T) {
	t.Parallel()
	for _, c := range others {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"password": c.password}
			if !c.unexpired {
				files["expired"] = ""
			}
			if c.file != "" {
				files[c.file] = ""
			}
			o := newOther(t, c.words, files)
			o.write("etc/shadow", "root:$5$x$set:19000:0:99999:7:::\n") // what there is to see of it
			l := keyOnly(t)
			l.Commands = []string{"touch /root/ran"}
			if c.password != wanted {
				l.Initial = bmc.Secret(c.password)
			}
			r, err := o.run(l)
			if c.says != "" {
				if bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(err.Error(), c.says) || bmc.HintOf(err) == "" {
					t.Errorf("%s: %v\n  → %s", bmc.KindOf(err), err, bmc.HintOf(err))
				}
				return
			}
			if err != nil || r.Changed == c.unexpired || !r.Added {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := o.read("other/password"); got != wanted {
				t.Errorf("the password is %q", got)
			}
			if got := o.read("root/.ssh/authorized_keys") + o.read("root/ran"); got != aKey+"\n" {
				t.Errorf("authorized_keys: %q", got)
			}
			if shown := o.line.all.String(); strings.Contains(shown, wanted) || !strings.HasSuffix(shown, "login: ") {
				t.Errorf("the password was shown, or somebody is still logged in: %q", shown)
			}
		})
	}
}

// What the kernel writes in the middle of everything confuses nothing, however
// much it is; nor is what it writes taken for a prompt.
func TestNoise(t *testing.T) {
	t.Parallel()
	o := newOther(t, others[0].words, map[string]string{"expired": "", "password": ""})
	o.line.kernel = strings.Repeat("[ 1234.567890] usb 1-1: login: Password: New password: # \r\n", 40)
	r, err := o.run(keyOnly(t))
	if err != nil || !r.Changed || !r.Added || len(r.HostKeys) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A kernel that never stops writing keeps nobody waiting.
func TestEndlessNoise(t *testing.T) {
	t.Parallel()
	o := newOther(t, others[0].words, map[string]string{"expired": "", "password": ""})
	noisy := &noisy{tape: o.line, chunks: make(chan chunk)}
	go noisy.pump()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := keyOnly(t).Run(ctx, noisy)
	if err != nil || !r.Changed || !r.Added {
		t.Errorf("%+v, %v", r, err)
	}
	for range noisy.chunks { // the reader ends with its line
	}
}

// A noisy line says something of the kernel's ten times a second.
type noisy struct {
	*tape
	chunks chan chunk
}

type chunk struct {
	text []byte
	err  error
}

func (l *noisy) pump() {
	defer close(l.chunks)
	for {
		buf := make([]byte, 1024)
		n, err := l.tape.Read(buf)
		l.chunks <- chunk{buf[:n], err}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (l *noisy) Read(p []byte) (int, error) {
	select {
	case c := <-l.chunks:
		return copy(p, c.text), c.err
	case <-time.After(100 * time.Millisecond):
		return copy(p, "[ 1234.567890] hub 1-0:1.0: config failed\r\n"), nil
	}
}

// A line that loses what is typed, now and then, loses no login and no byte of
// what is put on the node.
func TestLossyLine(t *testing.T) {
	t.Parallel()
	o := newOther(t, others[0].words, map[string]string{"expired": "", "password": ""})
	lose, lost := []string{"root", "NzaC1lZDI1", "AAAAC3"}, 0
	o.line.typed = func(s string) string {
		if lost < len(lose) && strings.Contains(s, lose[lost]) {
			s = strings.Replace(s, lose[lost], lose[lost][1:], 1)
			lost++
		}
		return s
	}
	r, err := o.run(keyOnly(t))
	if err != nil || lost != len(lose) || !r.Added {
		t.Errorf("%d lost, %+v, %v", lost, r, err)
	}
	if got := o.read("root/.ssh/authorized_keys"); got != aKey+"\n" {
		t.Errorf("authorized_keys: %q", got)
	}
}

// keyOnly is a login without commands.
func keyOnly(t *testing.T) Login {
	t.Helper()
	l := aLogin(t)
	l.Commands, l.LiveOnly = nil, false // what runs the test has no overlay at /
	return l
}
