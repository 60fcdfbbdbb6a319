package login

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	wanted = "Tr0ub4dor&3 x"
	aKey   = aHostKey + " admin@here"
)

func aLogin(t *testing.T) Login {
	t.Helper()
	return Login{
		Node: "n1", Address: "10.0.0.1", LiveOnly: true, Password: wanted, AuthorizedKey: aKey, Commands: []string{"csi-setup-lan0.sh 10.1.1.2/24 'a b'"},
		Progress: func(s string) {
			if strings.Contains(s, wanted) {
				t.Errorf("the password is in the progress: %s", s)
			}
		},
	}
}

// within runs a login for an hour of the bubble's time at most.
func within(t *testing.T, l Login, m *machine, d time.Duration) (Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r, err := l.Run(ctx, m.start())
	if err != nil && (strings.Contains(err.Error(), wanted) || strings.Contains(bmc.HintOf(err), wanted)) {
		t.Errorf("the password is in the error: %v", err)
	}
	synctest.Wait()
	return r, err
}

const kernel = "[   12.345678] usb 1-1: new high-speed USB device number 2 using xhci_hcd\n"

// Every machine comes to the same: root's password changed, the key there once,
// the commands run, nobody logged in. A second login finds nothing to do.
func TestRun(t *testing.T) {
	cases := map[string]func(*machine){
		"as the image has it":    func(*machine) {},
		"getty sleeps":           func(m *machine) { m.asleep = 2 },
		"an old screen":          func(m *machine) { m.greeting = "[  OK  ] Started Serial Getty on ttyS0.\n\npit login: " },
		"half a line was typed":  func(m *machine) { m.open, m.expired, m.typed, m.ps1 = true, false, "rm -rf /", "pit:~ # " },
		"kernel messages":        func(m *machine) { m.noise = kernel },
		"systemd's messages":     func(m *machine) { m.noise = "[  OK  ] Started OpenSSH Daemon.\n" },
		"colours":                func(m *machine) { m.ps1 = "\x1b]0;root@pit\x07\x1b[1m\x1b[31mpit:~ #\x1b[m \x1b[?2004h" },
		"a prompt that is none":  func(m *machine) { m.ps1 = "what now? " },
		"a dollar for root":      func(m *machine) { m.ps1 = "$ " },
		"asks for the empty one": func(m *machine) { m.current = true },
		"old pam_unix": func(m *machine) {
			m.wordings.current, m.wordings.fresh, m.wordings.again = "(current) UNIX password: ", "Enter new UNIX password: ", "Retype new UNIX password: "
			m.current = true
		},
		"pam_unix2": func(m *machine) {
			m.wordings.current, m.wordings.fresh, m.wordings.again = "Old Password: ", "New Password: ", "Reenter New Password: "
			m.wordings.forced = "Your password has expired. Choose a new password.\nChanging password for root."
			m.current = true
		},
		"repeats": func(m *machine) {
			m.wordings.fresh, m.wordings.again = "New password for root: ", "Repeat new password: "
		},
		"not expired":            func(m *machine) { m.expired = false },
		"set before":             func(m *machine) { m.password, m.expired = wanted, false },
		"set, and expired again": func(m *machine) { m.password = wanted },
		"wants a new login":      func(m *machine) { m.again = true },
		"a shell is open":        func(m *machine) { m.open = true; m.expired = false },
		"echoes":                 func(m *machine) { m.echoes = true },
		"keys get lost":          func(m *machine) { m.garble = 1 },
		"warns": func(m *machine) {
			m.wordings.again = "BAD PASSWORD: The password is shorter than 8 characters\nRetype new password: "
		},
	}
	for name, set := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				set(m)
				fresh, open := m.password != wanted, m.open
				l := aLogin(t)
				r, err := within(t, l, m, time.Hour)
				if err != nil {
					t.Fatalf("%v\n  → %s\n%s", err, bmc.HintOf(err), m)
				}
				want := Result{Changed: fresh || name == "set, and expired again", Added: true, HostKeys: []string{aHostKey}}
				if d := cmp.Diff(want, r); d != "" {
					t.Error(d)
				}
				if strings.Contains(strings.Join(m.typos, " "), "rm") {
					t.Error("it sent off what somebody had left half typed")
				}
				if m.password != wanted || m.expired || len(m.lines) != 1 || len(m.ran) != 1 || m.ran[0] != l.Commands[0] {
					t.Error(m)
				}
				if left := map[bool]int{true: 0, false: 1}[open]; m.logouts != left {
					t.Errorf("logged out %d times of %d", m.logouts, left)
				}
				m.open, m.greeting = open, ""
				r, err = within(t, l, m, time.Hour)
				if err != nil || r.Changed || r.Added || len(m.lines) != 1 || len(m.ran) != 2 {
					t.Errorf("the second time: %+v, %v\n%s", r, err, m)
				}
			})
		})
	}
}

func tooSimple(string) string { return "BAD PASSWORD: it is too simplistic/systematic" }

// What goes wrong is said with the last lines of the screen, and leaves nobody
// logged in.
func TestErrors(t *testing.T) {
	cases := map[string]struct {
		set           func(*machine)
		login         func(*Login)
		kind          bmc.Kind
		message, hint string
	}{
		"policy": {set: func(m *machine) { m.policy = tooSimple }, kind: bmc.KindAuth, message: "refuses the new password: BAD PASSWORD: it is too simplistic", hint: "login.password"},
		"policy, echoed": {set: func(m *machine) {
			m.policy, m.echoes = func(p string) string { return "BAD PASSWORD: " + p + " is a palindrome" }, true
		}, kind: bmc.KindAuth, message: "(secret) is a palindrome", hint: "login.password"},
		"used before":         {set: func(m *machine) { m.wordings.again = "Password has been already used. Choose another.\nNew password: " }, kind: bmc.KindAuth, message: "already used", hint: "login.password"},
		"never arrives alike": {set: func(m *machine) { m.garble = 9 }, kind: bmc.KindAuth, message: "twice alike", hint: "login.password"},
		"another password":    {set: func(m *machine) { m.password = "other" }, kind: bmc.KindAuth, message: "root is not let in", hint: "If it is the disk that asks there, switch the node off and run apply again"},
		"silent":              {set: func(m *machine) { m.mute = true }, kind: bmc.KindTimeout, message: "no login prompt came in time (nothing was on the screen)", hint: "login.within"},
		"never comes":         {set: func(m *machine) { m.greeting = "dracut-initqueue: still waiting\n"; m.asleep = 1e6 }, kind: bmc.KindTimeout, message: "on the screen was:\n    dracut-initqueue: still waiting", hint: "livecd-sync console n1"},
		"emergency": {set: func(m *machine) {
			m.wordings.login = "Give root password for maintenance\n(or press Control-D to continue): "
		}, kind: bmc.KindMedia, message: "emergency shell", hint: "console"},
		"taken":            {set: func(m *machine) { m.ends = "Info: SOL payload already active on another session\n" }, kind: bmc.KindBusy, message: "somebody else has the console", hint: "end the other session"},
		"ends":             {set: func(m *machine) { m.ends = "bye\n" }, kind: bmc.KindUnreachable, message: "the console ended", hint: "run apply again"},
		"somebody's shell": {set: func(m *machine) { m.open, m.ps1 = true, "bob@pit:~$ " }, kind: bmc.KindBusy, message: "somebody who is not root", hint: "log out"},
		"command":          {set: func(m *machine) { m.fails["csi-setup-lan0.sh 10.1.1.2/24 'a b'"] = 3 }, kind: bmc.KindProtocol, message: "command 1 of login.commands (csi-setup-lan0.sh) ended with status 3: did csi-setup-lan0.sh 10.1.1.2/24 'a b' as (secret)", hint: "correct the command"},
		"no key":           {login: func(l *Login) { l.AuthorizedKey = "-----BEGIN OPENSSH PRIVATE KEY-----" }, kind: bmc.KindSSH, message: "no public key", hint: ".pub"},
		"empty password":   {login: func(l *Login) { l.Password = "" }, kind: bmc.KindAuth, message: "empty", hint: "password"},
		"a line's end":     {login: func(l *Login) { l.Password = "two\nlines" }, kind: bmc.KindAuth, message: "cannot be typed", hint: "secret"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(t)
				if c.set != nil {
					c.set(m)
				}
				l := aLogin(t)
				if c.login != nil {
					c.login(&l)
				}
				_, err := within(t, l, m, 10*time.Minute)
				e, ok := errors.AsType[*bmc.Error](err)
				if !ok || e.Kind != c.kind || !strings.Contains(err.Error(), c.message) || !strings.Contains(e.Hint, c.hint) {
					t.Errorf("got %s: %v\n  → %s\nwant %s: %s\n  → %s", bmc.KindOf(err), err, bmc.HintOf(err), c.kind, c.message, c.hint)
				}
				if name == "command" && m.logouts != 1 {
					t.Errorf("it stayed logged in: %s", m)
				}
				if strings.HasPrefix(name, "policy") && (m.password != "" || len(m.names) > 1) {
					t.Error(m)
				}
			})
		})
	}
}

// What has booted its disk is left as it is; only its host keys are read.
func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.root, m.password, m.expired = "ext4", wanted, false
		r, err := within(t, aLogin(t), m, time.Hour)
		if err != nil || !r.Disk || r.Added || len(r.HostKeys) != 1 || len(m.lines) != 0 || len(m.ran) != 0 || m.logouts != 1 {
			t.Errorf("%+v, %v\n%s", r, err, m)
		}
	})
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		m.mute = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		l := aLogin(t)
		if _, err := l.Run(ctx, m.start()); bmc.KindOf(err) != bmc.KindCancelled {
			t.Error(err)
		}
	})
}

func TestClean(t *testing.T) {
	for raw, want := range map[string]string{
		"Pass[   12.345678] usb 1-1: new\r\nword: ":        "Password: ",
		"Password: <6>[   12.345678] usb 1-1: new":         "Password: ",
		"\x1b[1mpit\x1b[0m login: \x1b[":                   "pit login: ",
		"a\r\n[  OK  ] Started X.\r\nb[   *** ] wait\r\nc": "a\nbc",
		"[root@pit ~]# ":         "[root@pit ~]# ",
		"\x1b]0;title\x07x\x08y": "xy",
	} {
		if got := clean(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

func TestLook(t *testing.T) {
	for text, want := range map[string]sight{
		"Last login: ": nothing, "Last failed login: ": nothing, "login: bob": nothing, "": nothing, "pit login: \n": nothing,
		"ncn-m001-pit login: ": atLogin, "login:": atLogin, "Username: ": atLogin,
		"Password: ": atPassword, "Password for root:": atPassword,
		"Current password: ": atCurrent, "(current) UNIX password: ": atCurrent, "Old Password: ": atCurrent,
		"New password: ": atNew, "Enter new UNIX password: ": atNew, "New Password: ": atNew, "New password for root: ": atNew,
		"Retype new password: ": atAgain, "Re-enter new password: ": atAgain, "Reenter New Password: ": atAgain, "New password (again): ": atAgain, "Repeat new password: ": atAgain,
		"pit:~ # ": atRootShell, "[root@pit ~]# ": atRootShell, "bob@pit:~$ ": atUserShell,
		"grub> ": atLoader, "Shell> ": atLoader, "dracut:/# ": atEmergency,
		"Give root password for maintenance\n(or press Control-D to continue): ": atEmergency,
	} {
		if got := look(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestHostKeys(t *testing.T) {
	const blob = "AAAAC3NzaC1lZDI1NTE5AAAAIIQ2cBRyoFIFbgLLRdWSYeQjS4Fl6ceEOovWd3vQ8Ib9"
	if got := HostKeys("noise\n" + aHostKey + " root@pit\nssh-rsa " + blob + "\n" + aHostKey + "\n"); len(got) != 1 || got[0] != aHostKey {
		t.Errorf("%q", got)
	}
	for i := range len(blob) - 4 { // what the line may lose
		if lost := blob[:i] + blob[i+4:]; lost != blob && isKey("ssh-ed25519", lost) {
			t.Errorf("%d: %s is taken for a key", i, lost)
		}
	}
	for _, bad := range []string{"", "AAAA", "AAAAAAAAAAA=", "/////w==", "AAAAC3NzaC1lZDI1NTE5", blob[:8]} {
		if isKey("ssh-ed25519", bad) {
			t.Errorf("%q is taken for a key", bad)
		}
	}
}

func TestEncode(t *testing.T) {
	script := "echo 'a!b\\c' \"$x\" \tü%\n"
	code := encode(script)
	if decode(code) != script || strings.ContainsAny(code, "'!\n\tü") {
		t.Errorf("%q", code)
	}
	if got := strings.Join(pieces(strings.Repeat("x", 10), 4), ","); got != "xxxx,xxxx,xx" {
		t.Error(got)
	}
}
