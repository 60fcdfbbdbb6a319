package sshremote

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// authentication is what there is to log in with.
type authentication struct {
	methods []ssh.AuthMethod
	used    []string // in words, for errors
	agent   net.Conn // nil without one
}

// authentication collects keys and passwords. Public keys go into one method,
// because x/crypto tries each method once.
func (c Config) authentication(ctx context.Context) (*authentication, error) {
	a := &authentication{}
	var signers []ssh.Signer
	if c.Identity != "" {
		signer, err := c.readIdentity()
		if err != nil {
			return nil, err
		}
		signers = append(signers, signer)
		a.used = append(a.used, "the key "+c.Identity)
	}
	var keyring agent.ExtendedAgent
	if c.Agent != "" {
		// An agent that is gone is no reason to fail: another method may do.
		dialer := net.Dialer{Timeout: c.Timeout}
		if conn, err := dialer.DialContext(ctx, "unix", c.Agent); err == nil {
			a.agent, keyring = conn, agent.NewClient(conn)
			a.used = append(a.used, "the keys of the ssh agent")
		}
	}
	if len(signers) > 0 || keyring != nil {
		a.methods = append(a.methods, ssh.PublicKeysCallback(func() ([]ssh.Signer, error) {
			if keyring == nil {
				return signers, nil
			}
			more, err := keyring.Signers()
			if err != nil {
				return signers, nil //nolint:nilerr // likewise
			}
			return append(signers[:len(signers):len(signers)], more...), nil
		}))
	}
	if c.Password != "" {
		a.methods = append(a.methods, ssh.Password(c.Password.Reveal()), ssh.KeyboardInteractive(c.answer))
		a.used = append(a.used, "the password")
	}
	return a, nil
}

// answer gives the password to the one question whose answer is not shown.
func (c Config) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	if len(questions) == 0 {
		return nil, nil
	}
	if len(questions) != 1 || echos[0] {
		return nil, errors.New("the node asks for more than a password")
	}
	return []string{c.Password.Reveal()}, nil
}

func (c Config) readIdentity() (ssh.Signer, error) {
	e := &bmc.Error{Op: "read the ssh key " + c.Identity, Kind: bmc.KindAuth}
	pem, err := os.ReadFile(c.Identity)
	if err != nil {
		e.Err, e.Hint = err, "see ssh.identity in the site file"
		if p, ok := errors.AsType[*fs.PathError](err); ok {
			e.Err = p.Err
		}
		return nil, e
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err == nil {
		return signer, nil
	}
	e.Err, e.Hint = errors.New("it is no private key that can be read"), "name the private key, not the .pub file"
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		e.Err, e.Hint = errors.New("it has a passphrase"), "load it into an ssh agent (ssh-add) and leave ssh.identity out"
	}
	return nil, e
}

func (a *authentication) close() {
	if a.agent != nil {
		a.agent.Close()
	}
}

func (a *authentication) names() string {
	if len(a.used) == 0 {
		return "no key, agent or password at all"
	}
	return strings.Join(a.used, ", ")
}

func (a *authentication) hint() string {
	if len(a.used) == 0 {
		return "set ssh.identity or ssh.password, or start an ssh agent"
	}
	return "see ssh.identity, ssh.password and ssh.user; a live system that was just booted may need its first login, on its console"
}

// A refusedError is a login that a node refused, or that it ends until the password is
// changed.
type refusedError struct{ error }

// Refused reports whether a node was reached and did not let in.
func Refused(err error) bool { _, ok := errors.AsType[refusedError](err); return ok }

// PublicKey is the public half of a private key, as authorized_keys has it. Its errors
// are of type *bmc.Error.
func PublicKey(identity string) (string, error) {
	signer, err := Config{Identity: identity}.readIdentity()
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " livecd-sync", nil
}

// isAuthError tells a refused login; x/crypto has no type for it. Message 51 is
// SSH_MSG_USERAUTH_FAILURE, which it does not always expect.
func isAuthError(err error) bool {
	text := err.Error()
	return strings.Contains(text, "unable to authenticate") || strings.Contains(text, "unexpected message type 51 ")
}
