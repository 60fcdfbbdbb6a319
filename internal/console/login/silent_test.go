package login

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A peer is the other end of a console: it remembers what is typed, and hands each
// piece of it to heard.
type peer struct {
	conn  net.Conn
	mu    sync.Mutex
	typed strings.Builder
}

func newPeer(heard func(p *peer, text string)) (net.Conn, *peer) {
	ours, its := net.Pipe()
	p := &peer{conn: its}
	go func() {
		defer its.Close()
		buf := make([]byte, 4096)
		for {
			n, err := its.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.typed.Write(buf[:n])
			p.mu.Unlock()
			if heard != nil {
				heard(p, string(buf[:n]))
			}
		}
	}()
	return ours, p
}

func (p *peer) say(text string) { _, _ = io.WriteString(p.conn, text) } // fails once nobody listens

func (p *peer) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.typed.String()
}

// Where no login comes from, nothing is typed that could do harm, and what stands
// there is told.
func TestNoPrompt(t *testing.T) {
	for name, c := range map[string]struct {
		screen string
		kind   bmc.Kind
		says   string
		enters bool // Enter may be typed
	}{
		"a boot that stands still":          {"[    4.100000] loop: module loaded\r\nMounting the live image...\r\n", bmc.KindTimeout, "Mounting the live image...", true},
		"a boot menu":                       {"  GNU GRUB  version 2.06\r\n *Live\r\n  Install\r\n", bmc.KindTimeout, "*Live", false},
		"another":                           {"ISOLINUX 6.04\r\nboot: ", bmc.KindTimeout, "boot:", false},
		"firmware":                          {"Press <F9> to enter setup\r\n", bmc.KindTimeout, "Press <F9>", false},
		"the boot loader's prompt":          {"grub> ", bmc.KindTimeout, "grub>", false},
		"the firmware's shell":              {"UEFI Interactive Shell v2.2\r\nShell> ", bmc.KindTimeout, "Shell>", false},
		"an initrd's shell":                 {"Warning: /dev/disk/by-label/CDROM does not exist\r\n\r\ndracut:/# ", bmc.KindMedia, "emergency shell", false},
		"emergency mode":                    {"Give root password for maintenance\r\n(or press Control-D to continue): ", bmc.KindMedia, "emergency shell", false},
		"a panic":                           {"[    2.300000] Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", bmc.KindMedia, "its boot has ended: Kernel panic - not syncing: VFS: Unable to mount root fs", false},
		"what looks like root's prompt":     {"Loading #", bmc.KindTimeout, "Loading #", true},
		"what looks like a person's prompt": {"Reading 45%", bmc.KindTimeout, "Reading 45%", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
				defer cancel()
				console, p := newPeer(nil)
				go p.say(c.screen)
				_, err := aLogin(t).Run(ctx, console)
				if bmc.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || bmc.HintOf(err) == "" {
					t.Errorf("%s: %v\n  → %s", bmc.KindOf(err), err, bmc.HintOf(err))
				}
				if typed := p.all(); strings.Trim(typed, wake) != "" || (typed != "") != c.enters {
					t.Errorf("typed %q", typed)
				}
			})
		})
	}
}

// A menu that has passed keeps nobody from waking getty.
func TestLongBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		console, p := newPeer(func(p *peer, text string) {
			if strings.Contains(text, "root") {
				p.say("root\r\nYour account has expired; please contact your system administrator.\r\n")
			}
			p.say("\r\npit login: ")
		})
		go func() {
			p.say("GNU GRUB version 2.06\r\n*Live\r\nReading 45%")
			for i := range 20 {
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return
				}
				p.say(strings.Repeat("Starting something, which takes its time...\r\n", i*5))
			}
		}()
		_, err := aLogin(t).Run(ctx, console)
		if bmc.KindOf(err) != bmc.KindAuth || !strings.Contains(err.Error(), "root may not log in: Your account has expired") {
			t.Error(err)
		}
	})
}

// A console that breaks is told as what it is, whatever its error.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &bmc.Error{Op: "console of n1", Kind: bmc.KindBusy, Err: errors.New("another has it"), Hint: "wait"}
		for _, c := range []struct {
			err  error
			kind bmc.Kind
		}{{own, bmc.KindBusy}, {io.EOF, bmc.KindUnreachable}, {errors.New("connection reset"), bmc.KindUnreachable}} {
			if _, err := aLogin(t).Run(t.Context(), broken{c.err}); bmc.KindOf(err) != c.kind || bmc.HintOf(err) == "" {
				t.Errorf("%v: %s: %v", c.err, bmc.KindOf(err), err)
			}
		}
	})
}

type broken struct{ err error }

// Read implements io.Reader.
func (b broken) Read([]byte) (int, error) { return 0, b.err }

// Write implements io.Writer.
func (b broken) Write([]byte) (int, error) { return 0, b.err }

// Close implements io.Closer.
func (broken) Close() error { return nil }

// A console that says anything, in any order and in pieces, and repeats what is
// typed into it, brings no password into an error, and the login to an end.
func TestAnythingSaid(t *testing.T) {
	words := []string{
		"pit login: ", "Password: ", "Current password: ", "New password: ", "Retype new password: ", "\r\n", "\n", "\r", "# ", "root@pit:~# ", "$ ",
		"BAD PASSWORD: is too simple\r\n", "Login incorrect\r\n", "Sorry, passwords do not match.\r\n", "passwd: password updated successfully\r\n",
		kernel, "[  OK  ] Started Getty.\r\n", "\x1b[2J\x1b[1;1H", "\b\b\b", "Last login: ", "Have a lot of fun...\r\n",
		"\xff\xfe", "login: Password: ", "Authentication token manipulation error\r\n",
	}
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 7))
			console, p := newPeer(func(p *peer, text string) {
				for range random.IntN(4) {
					if random.IntN(3) > 0 {
						p.say(words[random.IntN(len(words))])
						continue
					}
					cut := random.IntN(len(text) + 1) // an echo, with the kernel in its middle
					p.say(text[:cut] + strings.Repeat(kernel, random.IntN(2)) + text[cut:])
				}
			})
			go p.say(words[random.IntN(4)])
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
			defer cancel()
			l := Login{Node: "n1", Password: "s3cret-wanted", Initial: "s3cret-initial", AuthorizedKey: aKey, Commands: []string{"true"}}
			l.Progress = func(s string) {
				if strings.Contains(s, "s3cret") {
					t.Errorf("seed %d: %s", seed, s)
				}
			}
			_, err := l.Run(ctx, console)
			if err == nil {
				t.Errorf("seed %d: it went well: %q", seed, p.all())
				return
			}
			if strings.Contains(err.Error()+bmc.HintOf(err), "s3cret") {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
}
