package console

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	// ipmiPort is that of IPMI over LAN.
	ipmiPort = 623
	// ipmiWithin bounds one run of ipmitool that is to answer, and the activation of
	// a console. Against a BMC that does not answer it gives up by itself sooner.
	ipmiWithin = time.Minute
	// freeTries is how often, a second apart, a console that was just given free is
	// tried.
	freeTries = 5
)

// A solWay is IPMI's serial over LAN, by ipmitool.
type solWay struct {
	// sticky: the BMC goes on counting a session after the machine's reboot, and
	// lets nobody in until it is ended (docs-csm, "Loss of Console Connections and
	// Logs on Gigabyte Nodes").
	sticky bool
}

func (w solWay) describe(t Target) string {
	return "IPMI serial over LAN at " + t.at(t.Says.IPMI.Port, ipmiPort)
}

func (w solWay) open(ctx context.Context, t Target) (Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*ipmiWithin)
	defer cancel()
	tool, err := t.ipmitool()
	if err != nil {
		return nil, err
	}
	c, err := tool.activate(ctx)
	if errors.Is(err, errTaken) {
		c, err = w.takeOver(ctx, tool)
	}
	if err != nil {
		return nil, tool.explain(ctx, err)
	}
	return c, nil
}

// takeOver ends the session that has the console, if that may be, and activates
// it. A session from this machine, or from nobody that the BMC could name, may be
// one that sticks; anybody else's is left alone unless Take says otherwise.
func (w solWay) takeOver(ctx context.Context, tool ipmitool) (*solConn, error) {
	h := tool.holder(ctx)
	if !tool.target.Take && (!w.sticky || !h.mayBeOurs(tool.ownAddress(ctx))) {
		return nil, tool.target.taken(h.String(), true)
	}
	if _, err := tool.run(ctx, "sol", "deactivate"); err != nil && !strings.Contains(err.Error(), "already de-activated") {
		return nil, err
	}
	tool.target.note("an earlier session on this console was ended: %s", h)
	for tries := 1; ; tries++ {
		c, err := tool.activate(ctx)
		if !errors.Is(err, errTaken) || tries == freeTries {
			return c, err
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
	}
}

// ipmitool runs the program of that name for one BMC. The password goes through
// its environment alone.
type ipmitool struct {
	target Target
	argv   []string // the program and what every run is given
	env    []string
	host   string
	port   int
}

func (t Target) ipmitool() (ipmitool, error) {
	host, port, err := t.bmcPort(t.Says.IPMI.Port, ipmiPort)
	if err != nil {
		return ipmitool{}, err
	}
	if t.Credential.Username == "" {
		return ipmitool{}, t.fail(bmc.KindAuth, errors.New("there is no user name for IPMI"), "write bmc.username and bmc.password in the site file")
	}
	program, err := exec.LookPath("ipmitool")
	if err != nil {
		return ipmitool{}, t.fail(bmc.KindUnsupported, errors.New("its BMC gives it by IPMI, and the program ipmitool is not installed here"),
			"install it: apt-get, dnf or zypper install ipmitool; or write another console: in the site file")
	}
	tool := ipmitool{
		target: t, host: host, port: port,
		argv: []string{program, "-I", "lanplus", "-H", host, "-p", strconv.Itoa(port), "-U", t.Credential.Username, "-E"},
		// -E reads the first of the two that is there.
		env: []string{"IPMITOOL_PASSWORD=" + t.Credential.Password.Reveal(), "IPMI_PASSWORD=" + t.Credential.Password.Reveal()},
	}
	if t.Console.OldAlgorithms {
		tool.argv = append(tool.argv, "-C", "3") // RAKP-HMAC-SHA1, AES-CBC-128: what every BMC of IPMI 2.0 has
	}
	return tool, nil
}

// errTaken is a console that another session has.
var errTaken = errors.New("another session has the console")

// A toolError is what ipmitool says when it fails.
type toolError string

func (e toolError) Error() string { return string(e) }

// Is reports whether it says that another session has the console.
func (e toolError) Is(target error) bool {
	return target == errTaken && (strings.Contains(string(e), "already active on another session") || strings.Contains(string(e), "activation limit reached"))
}

// run runs ipmitool and returns what it prints.
func (i ipmitool) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ipmiWithin)
	defer cancel()
	argv := append(i.argv[1:len(i.argv):len(i.argv)], args...)
	cmd := exec.CommandContext(ctx, i.argv[0], argv...)
	cmd.Env = append(os.Environ(), i.env...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return "", failure(complaint.String(), err)
	}
	return out.String(), nil
}

// failure is what ipmitool complained of last, or how it ended.
func failure(complaint string, err error) error {
	said := ""
	for line := range strings.Lines(complaint) {
		switch line = plain(line); {
		case line == "", strings.HasPrefix(line, "tcgetattr:"): // it has no terminal, and needs none
		case strings.HasPrefix(line, "Unable to Get Channel Cipher Suites"): // it goes on without
		case said != "" && strings.HasPrefix(line, "Error in SOL session"):
		case strings.HasPrefix(said, "Address lookup"): // what follows from that
		default:
			said = line
		}
	}
	if said == "" {
		return err
	}
	return toolError(said)
}

// raw sends one IPMI command, and returns the bytes of its answer.
func (i ipmitool) raw(ctx context.Context, request ...byte) ([]byte, error) {
	args := []string{"raw"}
	for _, b := range request {
		args = append(args, fmt.Sprintf("0x%02x", b))
	}
	said, err := i.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(strings.Join(strings.Fields(said), ""))
}

// A holder is whoever has the console, as far as the BMC tells.
type holder struct {
	user string
	from netip.Addr
}

func (h holder) String() string {
	switch {
	case h.user == "" && !h.from.IsValid():
		return "the BMC does not say whose session it is"
	case !h.from.IsValid():
		return "it is a session of " + h.user
	case h.user == "":
		return "it is a session from " + h.from.String()
	}
	return "it is a session of " + h.user + " from " + h.from.String()
}

// mayBeOurs reports whether nothing speaks against the session being one that this
// machine left behind.
func (h holder) mayBeOurs(own netip.Addr) bool { return !h.from.IsValid() || h.from == own }

// The bytes of the commands by which IPMI 2.0 names who has a payload: sections
// 24.3 (Get Payload Instance Info), 22.20 (Get Session Info), 22.29 (Get User Name).
const (
	netFnApp           = 0x06
	getPayloadInstance = 0x4b
	getSessionInfo     = 0x3d
	getUserName        = 0x46
	payloadSOL         = 0x01
	sessionByID        = 0xff
	sessionUser        = 3 // the offset of the user's number in the answer
	sessionAddress     = 6 // that of the IPv4 address, where it is a session over LAN
)

// holder asks the BMC who has the console. What it does not say stays empty.
func (i ipmitool) holder(ctx context.Context) holder {
	var h holder
	instance, err := i.raw(ctx, netFnApp, getPayloadInstance, payloadSOL, 1)
	if err != nil || len(instance) < 4 || binary.LittleEndian.Uint32(instance) == 0 {
		return h
	}
	session, err := i.raw(ctx, append([]byte{netFnApp, getSessionInfo, sessionByID}, instance[:4]...)...)
	if err != nil || len(session) <= sessionUser {
		return h
	}
	h.from = consoleAddress(session)
	if name, err := i.raw(ctx, netFnApp, getUserName, session[sessionUser]&0x3f); err == nil {
		name, _, _ = bytes.Cut(name, []byte{0})
		h.user = plain(string(name))
	}
	return h
}

// consoleAddress is the address that a session comes from, in an answer to Get
// Session Info. Not every BMC tells it.
func consoleAddress(session []byte) netip.Addr {
	if len(session) < sessionAddress+4 {
		return netip.Addr{}
	}
	from, _ := netip.AddrFromSlice(session[sessionAddress : sessionAddress+4])
	if from.IsUnspecified() {
		return netip.Addr{}
	}
	return from
}

// ownAddress is this machine's address towards the BMC.
func (i ipmitool) ownAddress(ctx context.Context) netip.Addr {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", net.JoinHostPort(i.host, strconv.Itoa(i.port)))
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return local.Addr().Unmap()
}

// operational begins what ipmitool prints once the console is open.
const operational = "[SOL Session operational."

// activate opens the console. ipmitool has a terminal for what it prints, so that
// it does not keep it back, and a pipe for what it reads: at the pipe's end it
// ends the session.
func (i ipmitool) activate(ctx context.Context) (*solConn, error) {
	its, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &solConn{input: ours, newline: true, complaint: new(complaint)}
	argv := append(i.argv[:len(i.argv):len(i.argv)], "sol", "activate")
	c.commandConn, err = i.target.run(ctx, argv, i.env, func(cmd *exec.Cmd, out *os.File) {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = its, out, c.complaint
	})
	_ = its.Close() // ipmitool has it
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	c.failed = func(err error) error { return i.target.lost(failure(c.complaint.String(), err)) }
	stop := context.AfterFunc(ctx, c.hangUp)
	defer stop()
	if err := c.awaitOperational(); err != nil {
		_ = c.Close() // the error before says more
		return nil, err
	}
	return c, nil
}

// explain makes an error of ipmitool one for people.
func (i ipmitool) explain(ctx context.Context, err error) error {
	t := i.target
	if stopped := t.cancelled(ctx); stopped != nil {
		return stopped
	}
	if e, ok := errors.AsType[*bmc.Error](err); ok {
		return e
	}
	byHand := fmt.Sprintf("try it by hand: ipmitool -I lanplus -H %s -p %d -U %s -a sol activate", i.host, i.port, t.Credential.Username)
	said := err.Error()
	switch {
	case errors.Is(err, errTaken):
		return t.taken("the BMC did not give it free", false)
	case strings.Contains(said, "Address lookup"):
		return t.fail(bmc.KindUnreachable, err, "correct bmc.address in the site file")
	case strings.Contains(said, "Unable to establish"):
		return t.fail(bmc.KindUnreachable, fmt.Errorf("the BMC at %s gives no IPMI session; ipmitool says: %w", t.at(t.Says.IPMI.Port, ipmiPort), err),
			"see whether IPMI over LAN is switched on in the BMC, and whether bmc.username and bmc.password hold for IPMI too; old BMCs may need console.oldAlgorithms: true; "+byHand)
	case strings.Contains(said, "payload disabled"), strings.Contains(said, "payload type disabled"):
		return t.fail(bmc.KindUnsupported, err, "switch serial over LAN on in the BMC's settings, and for this user")
	}
	return t.fail(bmc.KindProtocol, fmt.Errorf("ipmitool says: %w", err), byHand)
}

// A complaint is what ipmitool writes to stderr, its end. It is safe for concurrent
// use.
type complaint struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (c *complaint) Write(p []byte) (int, error) {
	const most = 8 << 10
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if len(c.text) > most {
		c.text = c.text[len(c.text)-most:]
	}
	return len(p), nil
}

// String is what was written last.
func (c *complaint) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// A solConn is a console by ipmitool.
type solConn struct {
	*commandConn
	complaint *complaint
	input     *os.File
	newline   bool   // what was typed last ended a line, or nothing was typed
	rest      []byte // what was said after ipmitool's own line
	ending    sync.Once
}

// awaitOperational reads ipmitool's own line.
func (c *solConn) awaitOperational() error {
	var said []byte
	buf := make([]byte, 512)
	for {
		n, err := c.terminal.Read(buf)
		said = append(said, buf[:n]...)
		if at := bytes.Index(said, []byte(operational)); at >= 0 {
			if end := bytes.IndexByte(said[at:], '\n'); end >= 0 {
				c.rest = said[at+end+1:]
				return nil
			}
		}
		if err != nil {
			<-c.ended                                                                  // nobody has the terminal open any more
			return failure(c.complaint.String(), fmt.Errorf("it ended: %v", c.result)) //nolint:errorlint // it is not to be asked what it is
		}
	}
}

// Read implements Conn.
func (c *solConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	return c.commandConn.Read(p)
}

// escape is ipmitool's own, at the beginning of a line; twice it stands for itself.
const escape = '~'

// Write implements Conn.
func (c *solConn) Write(p []byte) (int, error) {
	out := make([]byte, 0, len(p)+1)
	newline := c.newline
	for _, b := range p {
		if newline && b == escape {
			out = append(out, escape)
		}
		out = append(out, b)
		newline = b == '\r' || b == '\n'
	}
	if _, err := c.input.Write(out); err != nil {
		return 0, c.target.lost(err)
	}
	c.newline = newline
	return len(p), nil
}

// Break implements Breaker. ipmitool takes the request at the beginning of a line
// only.
func (c *solConn) Break() error {
	if !c.newline {
		return c.target.fail(bmc.KindUnsupported, errors.New("ipmitool sends a break at the beginning of a line only"), "press Enter first")
	}
	if _, err := c.input.Write([]byte{escape, 'B'}); err != nil {
		return c.target.lost(err)
	}
	return nil
}

// Close implements Conn. At the end of its input ipmitool ends the session, so
// that the BMC counts it no longer; a BMC that does not answer is not waited for.
func (c *solConn) Close() error {
	c.ending.Do(func() {
		_ = c.input.Close() // a pipe holds nothing that could be lost
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-c.ended:
		case <-timer.C:
		}
	})
	return c.commandConn.Close()
}
