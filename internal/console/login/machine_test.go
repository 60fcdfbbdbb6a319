package login

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A machine is a node's end of a serial line: getty, login, PAM and a shell, with
// a root account that keeps what is done to it.
type machine struct {
	t        *testing.T
	password string
	expired  bool
	asks     bool // for a password even where it is empty
	wordings wordings
	policy   func(string) string // why a new password is not taken, or ""
	lines    []string            // root's authorized_keys
	hostKeys string
	root     string   // the type of what is mounted at /
	ran      []string // commands
	fails    map[string]int
	current  bool // asks for the current password first
	again    bool // wants a new login after a change

	greeting string // said before anything is typed
	open     bool   // root is logged in from the start
	typed    string // left half typed by somebody
	asleep   int    // how many Enters getty eats
	noise    string // said in the middle of each prompt
	echoes   bool   // echoes passwords
	garble   int    // how many of the new passwords arrive wrong
	ps1      string // root's prompt
	ends     string // said before the line is closed, when root is typed
	mute     bool   // says nothing at all

	conn    net.Conn
	keys    *bufio.Reader
	logouts int
	typos   []string // what the shell did not know
	names   []string // who was typed at the login prompt
}

type wordings struct{ login, password, current, fresh, again, forced string }

var unix = wordings{
	login: "pit login: ", password: "Password: ", current: "Current password: ", fresh: "New password: ", again: "Retype new password: ",
	forced: "You are required to change your password immediately (administrator enforced).",
}

const aHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIQ2cBRyoFIFbgLLRdWSYeQjS4Fl6ceEOovWd3vQ8Ib9"

// newMachine is one as a fresh image has it: an empty password that has expired.
func newMachine(t *testing.T) *machine {
	t.Helper()
	return &machine{t: t, expired: true, root: "overlay", wordings: unix, hostKeys: aHostKey + " root@pit\n", ps1: "pit:~ # ", fails: map[string]int{}}
}

// start gives the other end of the line. The machine ends when it is closed.
func (m *machine) start() net.Conn {
	ours, its := net.Pipe()
	m.conn, m.keys = its, bufio.NewReader(its)
	go func() {
		defer its.Close()
		_ = m.say(m.greeting)
		if m.open {
			m.shell()
		}
		for err := error(nil); err == nil; {
			err = m.getty()
		}
	}()
	return ours
}

func (m *machine) say(text string) error {
	if m.mute {
		return nil
	}
	_, err := io.WriteString(m.conn, strings.ReplaceAll(text, "\n", "\r\n"))
	return err
}

// prompt says a prompt, with whatever gets into its middle.
func (m *machine) prompt(text string) error {
	if m.noise == "" {
		return m.say(text)
	}
	half := len(text) / 2
	return m.say(text[:half] + m.noise + text[half:])
}

// line reads a line as a terminal in line mode does.
func (m *machine) line(echo bool) (string, error) {
	line := []byte(m.typed)
	m.typed = ""
	for {
		c, err := m.keys.ReadByte()
		if err != nil {
			return "", err
		}
		switch c {
		case 0x15:
			line = line[:0]
		case 0x03:
			line = line[:0]
			_ = m.say("^C\n")
		case 0x04:
			if len(line) == 0 {
				_ = m.say("\n")
				return "", io.ErrUnexpectedEOF
			}
		case '\r':
			if echo {
				return string(line), m.say(string(line) + "\n")
			}
			return string(line), m.say("\n")
		default:
			line = append(line, c)
		}
	}
}

// getty does one login; its error is the end of the line.
func (m *machine) getty() error {
	for ; m.asleep > 0; m.asleep-- {
		if _, err := m.line(false); err != nil {
			return err
		}
	}
	if err := m.prompt("\nWelcome to the toolkit\n\n" + m.wordings.login); err != nil {
		return err
	}
	name, err := m.line(true)
	if err != nil || name == "" {
		return ignoreAbort(err)
	}
	m.names = append(m.names, name)
	if m.ends != "" {
		_ = m.say(m.ends)
		return io.EOF
	}
	return ignoreAbort(m.login(name))
}

// ignoreAbort: Ctrl-D ends a login, and getty begins again.
func ignoreAbort(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

func (m *machine) secret(prompt string) (string, error) {
	if err := m.prompt(prompt); err != nil {
		return "", err
	}
	return m.line(m.echoes)
}

func (m *machine) login(name string) error {
	if m.password != "" || m.asks || name != "root" {
		given, err := m.secret(m.wordings.password)
		if err != nil {
			return err
		}
		if given != m.password || name != "root" || m.asks && given == "" {
			time.Sleep(3 * time.Second)
			return m.say("\nLogin incorrect\n")
		}
	}
	if m.expired {
		done, err := m.change()
		if err != nil || !done || m.again {
			return err
		}
	}
	_ = m.say("Last login: Mon Nov 23 10:00:00 UTC 2026 on ttyS0\nHave a lot of fun...\n")
	return m.shell()
}

// change is the forced change, with pam_pwquality's three tries.
func (m *machine) change() (bool, error) {
	_ = m.say(m.wordings.forced + "\n")
	if m.current || m.password != "" {
		given, err := m.secret(m.wordings.current)
		if err != nil {
			return false, err
		}
		if given != m.password {
			return false, m.say("passwd: Authentication token manipulation error\n")
		}
	}
	return m.setPassword()
}

func (m *machine) setPassword() (bool, error) {
	for range 3 {
		fresh, err := m.secret(m.wordings.fresh)
		if err != nil {
			return false, err
		}
		if m.garble > 0 {
			m.garble--
			fresh += "~"
		}
		if why := m.refuses(fresh); why != "" {
			_ = m.say(why + "\n")
			continue
		}
		again, err := m.secret(m.wordings.again)
		if err != nil {
			return false, err
		}
		if again != fresh {
			_ = m.say("Sorry, passwords do not match.\n")
			continue
		}
		m.password, m.expired = fresh, false
		return true, nil
	}
	return false, m.say("passwd: Have exhausted maximum number of retries for service\n\nAuthentication token manipulation error\n")
}

func (m *machine) refuses(fresh string) string {
	if m.policy == nil {
		return ""
	}
	return m.policy(fresh)
}

// shell is root's, and those inside it.
func (m *machine) shell() error {
	ps1, s, echo := []string{m.ps1}, "", true
	for {
		if m.typed == "" { // else it was said long ago
			if err := m.say(ps1[len(ps1)-1]); err != nil {
				return err
			}
		}
		line, err := m.line(echo)
		if err != nil {
			return err
		}
		switch {
		case line == "sh":
			ps1 = append(ps1, "sh-4.4# ")
		case strings.HasPrefix(line, "set +o emacs"):
			_, after, _ := strings.Cut(line, "PS1=")
			ps1[len(ps1)-1], echo = strings.ReplaceAll(after, "'", ""), false
		case strings.HasSuffix(line, "exit"):
			if ps1, echo = ps1[:len(ps1)-1], true; len(ps1) == 0 {
				m.logouts++
				return m.say("logout\n")
			}
		case line == "passwd root":
			if _, err := m.setPassword(); err != nil {
				return err
			}
			_ = m.say("passwd: password updated successfully\n")
		case line == "s=":
			s = ""
		case strings.HasPrefix(line, "s=$s'"):
			s += strings.TrimSuffix(strings.TrimPrefix(line, "s=$s'"), "'")
		case strings.HasPrefix(line, "echo \"=$"):
			_ = m.say("=" + strconv.Itoa(len(s)) + "=\n")
		case strings.HasPrefix(line, "s=$(printf"):
			mark := strings.TrimSuffix(strings.Fields(line)[6], ";")
			out, status := m.run(decode(s))
			_ = m.say("\n@begin-" + mark + "\n" + out + m.noise + "\n@end-" + mark + " " + strconv.Itoa(status) + "\n")
		case line != "":
			m.typos = append(m.typos, line)
			_ = m.say(line + ": command not found\n")
		}
	}
}

func decode(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			n, _ := strconv.ParseUint(s[i+1:i+4], 8, 8)
			b.WriteByte(byte(n))
			i += 3
		case '%':
			i++
			fallthrough
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// run does what the scripts of this package do.
func (m *machine) run(script string) (string, int) {
	switch {
	case script == "id -u":
		return "0\n", 0
	case strings.Contains(script, "/etc/shadow"):
		return map[bool]string{true: "set", false: "empty"}[m.password != ""] + "\n", 0
	case strings.Contains(script, "authorized_keys"):
		return m.addKey(strings.Split(script, "'")[1])
	case strings.Contains(script, "ssh_host_"):
		return m.hostKeys, 0
	}
	if strings.Contains(script, "mountinfo") {
		return m.root + "\n", 0
	}
	if export, command, found := strings.Cut(script, "\n"); found && export == "export LIVECD_SYNC_NODE='n1' LIVECD_SYNC_ADDRESS='10.0.0.1'" {
		script = command
	}
	m.ran = append(m.ran, script)
	return "did " + script + " as " + m.password + "\n", m.fails[script]
}

func (m *machine) addKey(line string) (string, int) {
	for _, l := range m.lines {
		if l == line {
			return "", 0
		}
	}
	m.lines = append(m.lines, line)
	return "added\n", 0
}

func (m *machine) String() string {
	return fmt.Sprintf("password %q, expired %v, keys %q, names %q, ran %q, logouts %d", m.password, m.expired, m.lines, m.names, m.ran, m.logouts)
}
