package sim

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// secrets are what proves who one is in a simulated site. They are new at each
// start.
type secrets struct {
	bmcPassword string
	login       login
}

// Files below the site's directory.
const (
	bmcPasswordFile = "secrets/bmc-password"
	sshPasswordFile = "secrets/ssh-password"
	identityFile    = "secrets/id_ed25519"
	// rootPasswordFile is what the site file has root's password changed to.
	rootPasswordFile = "secrets/root-password"
)

func newSecrets(dir string) (secrets, error) {
	s := secrets{bmcPassword: rand.Text(), login: login{password: rand.Text()}}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return s, fmt.Errorf("sim: make an ssh key: %w", err)
	}
	if s.login.key, err = ssh.NewPublicKey(public); err != nil {
		return s, fmt.Errorf("sim: make an ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "livecd-sync sim")
	if err != nil {
		return s, fmt.Errorf("sim: make an ssh key: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return s, fmt.Errorf("sim: make the directory for secrets: %w", err)
	}
	for name, content := range map[string][]byte{
		bmcPasswordFile: []byte(s.bmcPassword + "\n"), sshPasswordFile: []byte(s.login.password + "\n"), rootPasswordFile: []byte(rand.Text() + "\n"),
		identityFile: pem.EncodeToMemory(block), identityFile + ".pub": ssh.MarshalAuthorizedKey(s.login.key),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return s, fmt.Errorf("sim: write %s: %w", name, err)
		}
	}
	return s, nil
}

// authorizedKey is the line for those that may log in with the identity.
func (s secrets) authorizedKey() []byte { return ssh.MarshalAuthorizedKey(s.login.key) }
