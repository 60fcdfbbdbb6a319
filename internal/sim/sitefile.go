package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

const (
	siteFileName    = "site.yaml"
	controlFileName = "control.url"
)

// anyPortProfile is the row of profiles.cue for a MegaRAC that mounts images from
// any port.
const anyPortProfile = "ami-megarac"

// siteFileMark is the first line of a site file that may be overwritten.
const siteFileMark = "# Made by livecd-sync sim; made anew whenever the simulation starts here.\n"

// ownSiteFile refuses a directory with somebody's own site file.
func (s *Site) ownSiteFile() error {
	b, err := os.ReadFile(s.SiteFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sim: look for an earlier site file: %w", err)
	}
	if !strings.HasPrefix(string(b), siteFileMark) {
		return fmt.Errorf("sim: %s was not made by a simulation and is not overwritten: name another directory", s.SiteFile())
	}
	return nil
}

func (s *Site) writeSiteFile() error {
	for _, n := range s.nodes {
		if err := writeFile(filepath.Join(s.cfg.Dir, certificateFile(n.spec.Name)), string(n.cert.pem)); err != nil {
			return err
		}
	}
	var b strings.Builder
	s.siteHead(&b)
	b.WriteString("\nnodes:\n")
	for _, n := range s.nodes {
		n.siteEntry(&b, s.cfg.Want, s.anyPort)
	}
	return writeFile(s.SiteFile(), b.String())
}

func certificateFile(node string) string { return "certs/" + node + ".pem" }

func (s *Site) siteHead(b *strings.Builder) {
	fmt.Fprintf(b, `%s#
# All of it is on this machine's loopback interface. Try, in this directory:
#   livecd-sync plan   -f %s
#   livecd-sync apply  -f %s
#   livecd-sync status -f %s
apiVersion: livecd-sync/v1
site: %s

images:
`, siteFileMark, siteFileName, siteFileName, siteFileName, word(s.cfg.Site))
	for _, i := range s.cfg.Images {
		fmt.Fprintf(b, "  %s: {url: %q}  # volume %s\n", word(i.Name), s.images.url(i.Name), i.VolumeID)
	}
	store := url.URL{Scheme: "file", Path: filepath.Join(s.cfg.Dir, "backups")}
	fmt.Fprintf(b, `
stores:
  admin: {url: %q}

defaults:  # every node inherits; a node's own value wins
  bmc:
    username: root
    password: {file: %s}
  ssh:
    user: root
    port: %d
    identity: %s
    hostKey: any  # a live image makes new host keys at each boot
`, store.String(), bmcPasswordFile, sshPort, identityFile)
	if s.cfg.Want != "" {
		fmt.Fprintf(b, "  image: %s\n", word(s.cfg.Want))
	}
	b.WriteString(`  reset: needed
  boot: {within: 2m}
  overlay: {store: admin, keep: 5, exclude: ["*.squashfs"], restore: latest}
`)
}

// word is a name as YAML: bare if it cannot be taken for a number or a boolean.
func word(s string) string {
	if strings.Contains(s, "-") && unicode.IsLetter(rune(s[0])) && plainName.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}

// siteEntry writes a node's part of the site file. The certificates are told in
// both ways that suit self-signed ones.
func (n *Node) siteEntry(b *strings.Builder, want string, anyPort bool) {
	trust := fmt.Sprintf("{fingerprint: %q}", n.cert.fingerprint())
	if n.spec.Kind != bmcsim.ILO5 {
		trust = fmt.Sprintf("{ca: %q}", certificateFile(n.spec.Name))
	}
	profile := ""
	if anyPort && (n.spec.Kind == bmcsim.Gigabyte || n.spec.Kind == bmcsim.Gigabyte13) {
		profile = ", profile: " + anyPortProfile
	}
	fmt.Fprintf(b, "  %s:  # %s\n", word(n.spec.Name), n.spec.Kind)
	fmt.Fprintf(b, "    bmc: {address: %q, tls: %s%s}\n", n.BMCAddress(), trust, profile)
	hostKey := ""
	if n.spec.FirstLogin {
		hostKey = ", hostKey: console"
	}
	fmt.Fprintf(b, "    ssh: {address: %q%s}\n", n.address, hostKey)
	if n.spec.FirstLogin {
		fmt.Fprintf(b, "    console: {socket: %q}\n    login: {password: {file: %s}, within: 1m}\n", n.Status().Console, rootPasswordFile)
	}
	if n.spec.QEMU {
		fmt.Fprintf(b, "    console: {socket: %q}\n", n.Status().Console)
		b.WriteString("    boot: {within: 10m}  # emulated: slow on a busy machine\n")
	}
	if n.spec.Want != "" && n.spec.Want != want {
		fmt.Fprintf(b, "    image: %s\n", word(n.spec.Want))
	}
	if len(n.spec.Groups) > 0 {
		fmt.Fprintf(b, "    groups: [%s]\n", strings.Join(n.spec.Groups, ", "))
	}
}

func (s *Site) writeControlURL() error {
	name := filepath.Join(s.cfg.Dir, controlFileName)
	if err := os.WriteFile(name, []byte(s.control.url+"\n"), 0o600); err != nil {
		return fmt.Errorf("sim: write %s: %w", name, err)
	}
	return nil
}
