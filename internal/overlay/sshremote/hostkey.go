package sshremote

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A hostKeyCheck decides on the key that a node shows and remembers why.
type hostKeyCheck struct {
	callback ssh.HostKeyCallback
	// algorithms lists what to ask for, a connection each.
	algorithms [][]string
	many       bool     // the next group may bring another key
	source     string   // where the wanted keys are from
	shown      []string // fingerprints that were refused
	wanted     []string // fingerprints
	revoked    bool
	peer       string // what is reached
	hint       string // what to do about another key; "" for a node's
}

func (c Config) hostKeyCheck() (*hostKeyCheck, error) {
	switch {
	case c.HostKey.Any:
		return &hostKeyCheck{callback: ssh.InsecureIgnoreHostKey(), algorithms: [][]string{c.Algorithms.hostKeys()}, peer: c.peer()}, nil //nolint:gosec // the site file says so
	case c.HostKey.Fingerprint != "":
		return c.checkFingerprint(), nil
	case c.HostKey.KnownHosts != "":
		return c.checkKnownHosts()
	}
	return nil, &bmc.Error{
		Op: "ssh to " + c.address(), Kind: bmc.KindSSH,
		Err:  fmt.Errorf("nothing says which host key the %s must show", c.peer()),
		Hint: "set " + c.hostKeyName() + " to a known_hosts file, a SHA256:… fingerprint or any",
	}
}

func (c Config) checkFingerprint() *hostKeyCheck {
	check := &hostKeyCheck{peer: c.peer(), hint: c.Hints.NewKey, many: true, source: c.hostKeyName(), wanted: []string{c.HostKey.Fingerprint}}
	for _, k := range c.Algorithms.keys() {
		check.algorithms = append(check.algorithms, k.algorithms)
	}
	check.callback = func(_ string, _ net.Addr, key ssh.PublicKey) error {
		shown := ssh.FingerprintSHA256(key)
		if shown == strings.TrimRight(c.HostKey.Fingerprint, "=") {
			return nil
		}
		check.shown = append(check.shown, shown)
		return errHostKey
	}
	return check
}

var errHostKey = errors.New("the node's host key is not the one that is wanted")

func (c Config) checkKnownHosts() (*hostKeyCheck, error) {
	known, err := knownhosts.New(c.HostKey.KnownHosts)
	if err != nil {
		e := &bmc.Error{
			Op: "read " + c.HostKey.KnownHosts, Kind: bmc.KindSSH, Err: err,
			Hint: "see " + c.hostKeyName() + " in the site file; it wants a file in the form of ssh's known_hosts",
		}
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			e.Err = p.Err
		}
		if errors.Is(err, fs.ErrNotExist) {
			e.Hint = cmp.Or(c.Hints.NewKey, e.Hint)
		}
		return nil, e
	}
	check := &hostKeyCheck{peer: c.peer(), hint: c.Hints.NewKey, source: c.HostKey.KnownHosts}
	check.algorithms = [][]string{check.known(known, c.address(), c.Algorithms)}
	check.callback = func(host string, remote net.Addr, key ssh.PublicKey) error {
		err := known(host, remote, key)
		if err == nil {
			return nil
		}
		_, check.revoked = errors.AsType[*knownhosts.RevokedError](err)
		check.shown = append(check.shown, ssh.FingerprintSHA256(key))
		return errHostKey
	}
	return check, nil
}

// known asks the file for the node's keys by showing it one that cannot be
// there, so that the node can be asked for a key of a type that the file has. It
// returns all when the file has none.
func (h *hostKeyCheck) known(callback ssh.HostKeyCallback, address string, trust Algorithms) []string {
	err := callback(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{})
	e, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok || len(e.Want) == 0 {
		return trust.hostKeys()
	}
	var algorithms []string
	for _, k := range trust.keys() {
		if slices.ContainsFunc(e.Want, func(w knownhosts.KnownKey) bool { return w.Key.Type() == k.kind }) {
			algorithms = append(algorithms, k.algorithms...)
		}
	}
	if len(algorithms) == 0 {
		algorithms = trust.hostKeys()
	}
	for _, w := range e.Want {
		h.wanted = append(h.wanted, ssh.FingerprintSHA256(w.Key))
	}
	return algorithms
}

// An otherKeyError is a host key that was not taken.
type otherKeyError struct{ error }

// OtherHostKey reports whether a node was not spoken to because it showed another host
// key than the wanted one.
func OtherHostKey(err error) bool { _, ok := errors.AsType[otherKeyError](err); return ok }

// KnownHosts writes host keys, each "TYPE BASE64", as a known_hosts file has them.
func KnownHosts(address string, port int, keys []string) string {
	if port == 0 {
		port = 22
	}
	host := knownhosts.Normalize(net.JoinHostPort(address, strconv.Itoa(port)))
	var b strings.Builder
	for _, k := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		b.WriteString(host + " " + k + "\n")
	}
	return b.String()
}

// KeysOf are the host keys of a text that KnownHosts has written.
func KeysOf(text string) []string {
	var keys []string
	for line := range strings.Lines(text) {
		if _, key, found := strings.Cut(strings.TrimSpace(line), " "); found {
			keys = append(keys, key)
		}
	}
	return keys
}

// noKey is a public key that no node has.
type noKey struct{}

// Type returns a name that no key type has.
func (noKey) Type() string { return "none" }

// Marshal returns nothing.
func (noKey) Marshal() []byte { return nil }

// Verify verifies nothing.
func (noKey) Verify([]byte, *ssh.Signature) error { return errHostKey }

// mayRetry reports whether another group of algorithms may bring the wanted key.
func (h *hostKeyCheck) mayRetry(err error) bool {
	negotiation, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	return h.many && (errors.Is(err, errHostKey) || (ok && negotiation != nil))
}

func (h *hostKeyCheck) refused() bool { return len(h.shown) > 0 }

// refusal tells both fingerprints and what to do.
func (h *hostKeyCheck) refusal() (hint string, err error) {
	const liveHint = "a live ISO makes new host keys at each boot: set ssh.hostKey: any on a network that you trust, or "
	shown := strings.Join(h.shown, ", ")
	switch {
	case h.revoked:
		return "find out who answers at this address before anything else",
			fmt.Errorf("the %s shows the host key %s, which %s has revoked", h.peer, shown, h.source)
	case len(h.wanted) == 0:
		return cmp.Or(h.hint, liveHint+"add the key to the file once you have compared it on the console"),
			fmt.Errorf("the %s shows the host key %s, and %s has none for it", h.peer, shown, h.source)
	}
	return cmp.Or(h.hint, liveHint+"put the new key in place once you have compared it on the console"),
		fmt.Errorf("the %s's host key has changed: it shows %s where %s has %s", h.peer, shown, h.source, strings.Join(h.wanted, ", "))
}
