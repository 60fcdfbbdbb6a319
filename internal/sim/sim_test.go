package sim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fast is Default without waiting.
func fast(dir string) sim.Config {
	cfg := sim.Default(dir)
	cfg.Timing = sim.Timing{BMC: bmcsim.Timing{Post: time.Millisecond, MediaTask: time.Millisecond, EnableDelay: time.Millisecond}}
	return cfg
}

func start(t *testing.T, cfg sim.Config) *sim.Site {
	t.Helper()
	s, err := sim.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// one is a site of one node.
func one(t *testing.T, spec sim.NodeSpec) (*sim.Site, *sim.Node) {
	t.Helper()
	cfg := fast(t.TempDir())
	spec.Name = "n1"
	cfg.Nodes = []sim.NodeSpec{spec}
	s := start(t, cfg)
	return s, s.Node("n1")
}

func live() sim.InitialState { return sim.InitialState{Image: "pit-1.6"} }

func await(t *testing.T, n *sim.Node, ok func(sim.Status) bool) sim.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Await(ctx, ok); err != nil {
		t.Fatal(err)
	}
	return n.Status()
}

func bootsFrom(n int, r sim.Running) func(sim.Status) bool {
	return func(s sim.Status) bool { return s.Boots >= n && s.Running == r }
}

// logIn opens an ssh connection with the identity that the site file names.
func logIn(t *testing.T, s *sim.Site, n *sim.Node) (*ssh.Client, ssh.PublicKey) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(s.SiteFile()), "secrets", "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	var host ssh.PublicKey
	c, err := ssh.Dial("tcp", n.SSHAddress(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.HostKeyCallback(func(_ string, _ net.Addr, k ssh.PublicKey) error { host = k; return nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, host
}

// run runs a script on the node and returns what it writes.
func run(t *testing.T, s *sim.Site, n *sim.Node, script string, stdin io.Reader) (stdout, stderr string, status int) {
	t.Helper()
	c, _ := logIn(t, s, n)
	defer c.Close()
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var out, errs bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &out, &errs
	err = session.Run(script)
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitStatus()
	}
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out.String(), errs.String(), 0
}

func mustRun(t *testing.T, s *sim.Site, n *sim.Node, script string, stdin io.Reader) string {
	t.Helper()
	out, errs, status := run(t, s, n, script, stdin)
	if status != 0 || errs != "" {
		t.Fatalf("%s: status %d, stderr %q", script, status, errs)
	}
	return out
}

func TestDefaultStartsInItsInitialStates(t *testing.T) {
	s := start(t, fast(t.TempDir()))
	want := map[string]sim.Running{
		"ncn-m001": sim.RunningLive, "ncn-m002": sim.RunningLive, "ncn-s001": sim.RunningLive,
		"ncn-s002": sim.RunningNothing, "ncn-w001": sim.RunningDisk, "ncn-w002": sim.RunningNothing,
	}
	got := map[string]sim.Running{}
	for _, n := range s.Nodes() {
		got[n.Name()] = n.Status().Running
	}
	if !maps.Equal(got, want) {
		t.Errorf("nodes run %v, want %v; notes %q", got, want, s.Notes())
	}
	if got, err := s.Node("ncn-m001").ReadOverlay("/etc/motd"); err != nil || got != "ncn-m001: admin node\n" {
		t.Errorf("ReadOverlay = %q, %v", got, err)
	}
}

func TestNodeTellsItsBootAndItsMedium(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	if got := mustRun(t, s, n, "cat /proc/sys/kernel/random/boot_id", nil); got != n.BootID()+"\n" {
		t.Errorf("boot_id = %q, want %q", got, n.BootID())
	}
	info := mustRun(t, s, n, "cat /proc/self/mountinfo", nil)
	for _, part := range []string{"upperdir=/run/overlay/overlayfs/rw", "- overlay ", "/run/initramfs/live ro", "- iso9660 /dev/sr0"} {
		if !strings.Contains(info, part) {
			t.Errorf("mountinfo has no %q:\n%s", part, info)
		}
	}
	sector := mustRun(t, s, n, "dd if=/dev/block/11:0 bs=2048 skip=16 count=1 2>/dev/null", nil)
	v, err := media.ParseVolume([]byte(sector))
	want := site.Volume{ID: "CRAY-PIT-1.6.0", Created: "2026-03-02T10:00:00.00+01:00"}
	if err != nil || v != want || n.Volume() != want {
		t.Errorf("the node's medium is %+v, %v, Volume %+v, want %+v", v, err, n.Volume(), want)
	}
}

func TestScripts(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: sim.InitialState{Image: "pit-1.6", Overlay: map[string]string{"etc/motd": "hello\n", "srv/a b": "x"}}})
	for _, tc := range []struct{ name, script, stdin, want string }{
		{"uid", "id -u", "", "0\n"},
		{"which", "command -v tar >/dev/null && command -v nosuch || echo none", "", "none\n"},
		{"test and redirect", "[ -d /run/overlay/overlayfs/rw ] && echo y >/tmp/f && cat </tmp/f", "", "y\n"},
		{"merged view is the upper", "cat /run/overlay/overlayfs/rw/etc/motd", "", "hello\n"},
		{"cd", "cd /etc && cat motd && pwd", "", "hello\n/etc\n"},
		{"glob", "cd /srv; for f in *; do echo \"$f\"; done", "", "a b\n"},
		{"stdin is shared", "head -c 2; echo; cat", "abcd", "ab\ncd"},
		{"bind in a namespace", `mkdir -p /run/r && unshare -m sh -c 'mount --bind / "$1" && exec chroot "$1" sh -c "cat etc/motd; [ -e run ] || echo alone"' name /run/r; ls /run/r | wc -l`, "", "hello\nalone\n0\n"},
		{"bind and unbind", "mkdir -p /run/r && mount --bind / /run/r && cat /run/r/etc/motd && umount /run/r && ls /run/r | wc -l", "", "hello\n0\n"},
		{"xargs", "cd /srv && xargs -0 stat --printf='%s %n\\n' --", "a b\x00", "1 a b\n"},
		{"xargs sh", "xargs -0 -n 2 sh -c 'echo $# $0 $1' zero", "a\x00b\x00c\x00", "2 zero a\n1 zero c\n"},
		{"nice", "polite='ionice -c 2 -n 7 nice -n 10'; exec $polite echo hi", "", "hi\n"},
		{"unshare builtin", "unshare -m true && echo ok", "", "ok\n"},
		{"umask", "umask 077; echo ok", "", "ok\n"},
		{
			"names are the node's", "find /etc /run/overlay -name 'motd' -o -name rw; cd /srv; stat -c %n /srv/a*; readlink -f /srv; tar cf - /nosuch 2>&1 >/dev/null | head -n 1", "",
			"/etc/motd\n/run/overlay/overlayfs/rw\n/srv/a b\n/srv\ntar: Removing leading `/' from member names\n",
		},
		{"xargs tar", "xargs tar -cf /tmp/x.tar -C /proc -- && tar tf /tmp/x.tar", "cmdline", "cmdline\n"},
		{"sh -s", "sh -s a b", "echo $# $2", "2 b\n"},
		{"base64 and od", "echo hi | base64; printf '\\001\\377' | od -An -v -tx1", "", "aGkK\n 01 ff\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := mustRun(t, s, n, tc.script, strings.NewReader(tc.stdin)); got != tc.want {
				t.Errorf("%s\nwrote %q, want %q", tc.script, got, tc.want)
			}
		})
	}
}

func TestExitStatuses(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	for script, want := range map[string]int{
		"exit 66": 66, "nosuch": 127, "cat /nosuch": 1, "if": 2,
		"printf x | xargs sh -c 'exit 1'": 123, "false": 1, "tar tf /nosuch": 2,
	} {
		if _, _, got := run(t, s, n, script, nil); got != want {
			t.Errorf("%s: status %d, want %d", script, got, want)
		}
	}
}

func TestArchiveOfTheOverlayGoesOutAndIn(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	if err := n.WriteOverlay("etc/site/conf", "precious\n"); err != nil {
		t.Fatal(err)
	}
	mustRun(t, s, n, "ln -s /etc/site/conf /etc/link; chmod 640 /etc/site/conf; mkdir -m 555 /etc/locked; ln /etc/site/conf /etc/hard", nil)
	archive := mustRun(t, s, n, "tar cf - --format=posix --xattrs --xattrs-include='*' --acls --numeric-owner --sparse --one-file-system --exclude='*.squashfs' -C /run/overlay/overlayfs/rw .", nil)

	n.PowerCut()
	n.Machine().SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
	n.Machine().SetPower(bmc.PowerOn)
	await(t, n, bootsFrom(2, sim.RunningLive))
	if got, err := n.ReadOverlay("etc/site/conf"); err == nil {
		t.Fatalf("the overlay survived a reset: %q", got)
	}
	mustRun(t, s, n, "mkdir -p /run/r; unshare -m sh -c 'mount --bind / /run/r; exec chroot /run/r sh -c \"tar xpf - --xattrs --acls --numeric-owner --same-owner --sparse --delay-directory-restore --warning=no-timestamp\"'", strings.NewReader(archive))
	got := mustRun(t, s, n, "cat /etc/link; stat -c '%a %h' /etc/site/conf; stat -c %a /etc/locked", nil)
	if want := "precious\n640 2\n555\n"; got != want {
		t.Errorf("after the restore: %q, want %q", got, want)
	}
}

func TestResetForgetsTheOverlayAndTheHostKey(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	if err := n.WriteOverlay("root/notes", "x"); err != nil {
		t.Fatal(err)
	}
	bootID := n.BootID()
	old, hostKey := logIn(t, s, n)
	client := n.Machine().Client()
	if err := client.SetBootOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.Reset(t.Context(), bmc.Restart); err != nil {
		t.Fatal(err)
	}
	if err := old.Wait(); err == nil {
		t.Error("the connection ended in good order, want it broken by the reset")
	}
	st := await(t, n, bootsFrom(2, sim.RunningLive))
	_, newKey := logIn(t, s, n)
	if bytes.Equal(hostKey.Marshal(), newKey.Marshal()) || st.BootID == bootID {
		t.Error("the host key or the boot id is that of the boot before")
	}
	if _, err := n.ReadOverlay("root/notes"); err == nil {
		t.Error("the overlay survived the reset")
	}
	if st.Resets != 1 {
		t.Errorf("%d resets, want 1", st.Resets)
	}
}

func TestBootsWhatIsMounted(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: sim.InitialState{Off: true}})
	client := n.Machine().Client()
	for _, step := range []func() error{
		func() error { return client.InsertMedia(t.Context(), s.ImageURL("pit-1.7")) },
		func() error { return client.SetBootOnce(t.Context()) },
		func() error { return client.Reset(t.Context(), bmc.PowerUp) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, n, bootsFrom(1, sim.RunningLive))
	if id, err := media.Identify(t.Context(), nil, site.Image{URL: s.ImageURL("pit-1.7")}); err != nil || id.Volume != n.Volume() {
		t.Errorf("the node runs %+v, the image is %+v, %v", n.Volume(), id, err)
	}
	if got := s.ImageReads("pit-1.7"); got < 3 {
		t.Errorf("%d range reads of the image, want one at mount and some at boot", got)
	}
	// The override is spent: the next boot is from the disk, with the CD in view.
	if err := client.Reset(t.Context(), bmc.Restart); err != nil {
		t.Fatal(err)
	}
	await(t, n, bootsFrom(2, sim.RunningDisk))
	info := mustRun(t, s, n, "cat /proc/self/mountinfo; dd if=/dev/sr0 bs=2048 skip=16 count=1 2>/dev/null | wc -c", nil)
	if !strings.Contains(info, "- ext4 /dev/sda2") || strings.Contains(info, "overlay") || !strings.HasSuffix(info, "2048\n") {
		t.Errorf("a system on the disk tells\n%s", info)
	}
	if err := n.WriteOverlay("x", "y"); err == nil {
		t.Error("a system on the disk has an overlay")
	}
}

func TestUnreadableImageBootsTheDisk(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: sim.InitialState{Off: true}})
	n.Machine().SetMounted(s.ImageURL("no-such"))
	n.Machine().SetOverride(bmc.BootOverride{Target: "Cd", Enabled: "Once", Mode: "UEFI"})
	n.Machine().SetPower(bmc.PowerOn)
	await(t, n, bootsFrom(1, sim.RunningDisk))
}

func TestPowerCutEndsWhatRuns(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	c, _ := logIn(t, s, n)
	session, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo ready; sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	n.PowerCut()
	if _, ok := errors.AsType[*ssh.ExitMissingError](session.Wait()); !ok {
		t.Error("the session got an exit status from a node without power")
	}
	await(t, n, func(s sim.Status) bool { return s.Running == sim.RunningNothing })
	if _, err := ssh.Dial("tcp", n.SSHAddress(), &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()}); err == nil {
		t.Error("a node without power answers")
	}
}

func TestLoginIsChecked(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	password, err := os.ReadFile(filepath.Join(filepath.Dir(s.SiteFile()), "secrets", "ssh-password"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		user, password string
		ok             bool
	}{{"root", strings.TrimSpace(string(password)), true}, {"root", "guess", false}, {"admin", strings.TrimSpace(string(password)), false}} {
		c, err := ssh.Dial("tcp", n.SSHAddress(), &ssh.ClientConfig{
			User: tc.user,
			Auth: []ssh.AuthMethod{ssh.Password(tc.password)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
		if (err == nil) != tc.ok {
			t.Errorf("login of %s: %v, want success %v", tc.user, err, tc.ok)
		}
		if err == nil {
			_ = c.Close()
		}
	}
}

func TestRedfishOverTLS(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	cert, err := os.ReadFile(filepath.Join(filepath.Dir(s.SiteFile()), "certs", "n1.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	for range 2 {
		resp, err := (&http.Client{Transport: transport}).Get("https://" + n.BMCAddress() + "/redfish/v1/")
		if err != nil {
			t.Fatal(err)
		}
		var root struct{ RedfishVersion string }
		if err := json.NewDecoder(resp.Body).Decode(&root); err != nil || root.RedfishVersion == "" {
			t.Errorf("service root: %+v, %v", root, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if n.Handshakes() != 1 {
		t.Errorf("%d handshakes for two requests on one connection, want 1", n.Handshakes())
	}
}

func TestControl(t *testing.T) {
	s, n := one(t, sim.NodeSpec{Initial: live()})
	b, err := os.ReadFile(filepath.Join(filepath.Dir(s.SiteFile()), "control.url"))
	if err != nil {
		t.Fatal(err)
	}
	base := strings.TrimSpace(string(b))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	do := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(answer)
	}
	for _, tc := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "nodes/n1/write", `{"path": "/etc/motd", "content": "by control"}`, 204},
		{"POST", "nodes/n1/write", `{"path": "/../../../x", "content": "inside"}`, 204},
		{"POST", "nodes/n1/write", `{"path": "/", "content": ""}`, 409},
		{"POST", "nodes/n1/write", `nonsense`, 400},
		{"POST", "nodes/n1/behaviour", `{"Busy": true, "RetryAfter": 3}`, 204},
		{"POST", "nodes/n1/behaviour", `{"NoSuch": true}`, 400},
		{"POST", "nodes/n2/cut", "", 404},
		{"GET", "nodes/n1", "", 200},
	} {
		if got, answer := do(tc.method, tc.path, tc.body); got != tc.status {
			t.Errorf("%s %s %s: status %d %s, want %d", tc.method, tc.path, tc.body, got, answer, tc.status)
		}
	}
	if got, err := n.ReadOverlay("etc/motd"); got != "by control" {
		t.Errorf("etc/motd is %q, %v", got, err)
	}
	if got, err := n.ReadOverlay("x"); got != "inside" {
		t.Errorf("x is %q, %v", got, err)
	}
	if b := n.Machine().Behaviour(); !b.Busy || b.RetryAfter != 3 {
		t.Errorf("behaviour is %+v", b)
	}
	if got, answer := do("POST", "nodes/n1/disk-boot", ""); got != 204 {
		t.Errorf("disk-boot: %d %s", got, answer)
	}
	_, answer := do("GET", "nodes", "")
	var all []sim.Status
	if err := json.Unmarshal([]byte(answer), &all); err != nil || len(all) != 1 || all[0].Running != sim.RunningDisk {
		t.Errorf("nodes: %s, %v", answer, err)
	}
	if resp, err := (&http.Client{Transport: transport}).Get(base[:strings.LastIndex(strings.TrimSuffix(base, "/"), "/")] + "/nodes"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("without the secret: %v, %v, want 404", resp, err)
	} else {
		_ = resp.Body.Close()
	}
}

func TestSeveralSitesAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	addresses := make(chan string, 12)
	for range 4 {
		cfg := fast(t.TempDir())
		cfg.Nodes = cfg.Nodes[:3]
		wg.Go(func() {
			s, err := sim.Start(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			for _, n := range s.Nodes() {
				addresses <- n.BMCAddress()
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(addresses)
	for a := range addresses {
		if ap, err := netip.ParseAddrPort(a); err != nil || !ap.Addr().IsLoopback() {
			t.Errorf("a BMC listens on %q, %v, want a loopback address", a, err)
		}
	}
}

func TestOneSimulationToADirectory(t *testing.T) {
	cfg := fast(t.TempDir())
	s := start(t, cfg)
	if _, err := sim.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another simulation") {
		t.Errorf("a second start in the directory: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfg).Close(); err != nil { // what the first left behind is in nobody's way
		t.Error(err)
	}
}

func TestRefusesConfigs(t *testing.T) {
	occupied := t.TempDir()
	if err := os.WriteFile(filepath.Join(occupied, "site.yaml"), []byte("site: precious\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*sim.Config){
		"no directory":    func(c *sim.Config) { c.Dir = "" },
		"not overwritten": func(c *sim.Config) { c.Dir = occupied },
		"not plain":       func(c *sim.Config) { c.Nodes[0].Name = "../x" },
		"used twice":      func(c *sim.Config) { c.Nodes[0].Name = c.Nodes[1].Name },
		"not among":       func(c *sim.Config) { c.Nodes[0].Initial.Image = "pit-2" },
		"runs no image":   func(c *sim.Config) { c.Nodes[0].Initial.Image = "" },
		"too many":        func(c *sim.Config) { c.Nodes = make([]sim.NodeSpec, 201) },
		"the image name":  func(c *sim.Config) { c.Images[0].Name = "a/b" },
		"the volume id":   func(c *sim.Config) { c.Images[0].VolumeID = strings.Repeat("V", 33) },
		"has no name":     func(c *sim.Config) { c.Site = "" },
	} {
		cfg := fast(t.TempDir())
		change(&cfg)
		s, err := sim.Start(t.Context(), cfg)
		if err == nil {
			t.Errorf("no error that says %q", want)
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

func TestSiteFileIsValid(t *testing.T) {
	s := start(t, fast(filepath.Join(t.TempDir(), "a simulated site")))
	desired, err := siteload.Load(s.SiteFile())
	if err != nil {
		t.Fatal(err)
	}
	if len(desired.Nodes) != len(s.Nodes()) || desired.Images["pit-1.7"].URL != s.ImageURL("pit-1.7") {
		t.Errorf("the site file says %+v", desired)
	}
	for _, n := range desired.Nodes {
		sn := s.Node(n.Name)
		if n.BMC.URL != "https://"+sn.BMCAddress() || net.JoinHostPort(n.SSH.Address, fmt.Sprint(n.SSH.Port)) != sn.SSHAddress() ||
			n.Image != "pit-1.7" || !n.SSH.HostKey.Any || !n.OverlayManaged() {
			t.Errorf("the site file says of %s: %+v", n.Name, n)
		}
		for _, file := range []string{n.BMC.Password.File, n.SSH.Identity, n.BMC.TLS.CA} {
			if _, err := os.Stat(file); file != "" && err != nil {
				t.Errorf("the site file names a file for %s: %v", n.Name, err)
			}
		}
	}
}

func TestSiteFile(t *testing.T) {
	s := start(t, fast(t.TempDir()))
	b, err := os.ReadFile(s.SiteFile())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for _, n := range s.Nodes() {
		for _, part := range []string{n.Name() + ":", n.BMCAddress()} {
			if !strings.Contains(text, part) {
				t.Errorf("the site file has no %s", part)
			}
		}
	}
	if secret := regexp.MustCompile(`[A-Z2-7]{26}`).FindString(text); secret != "" {
		t.Errorf("the site file shows the secret %s", secret)
	}
	for _, want := range []string{"apiVersion: livecd-sync/v1", "hostKey: any", "fingerprint: \"sha256:", "ca: \"certs/ncn-s001.pem\""} {
		if !strings.Contains(text, want) {
			t.Errorf("the site file has no %q:\n%s", want, text)
		}
	}
	if port80 := !strings.Contains(strings.TrimPrefix(s.ImageURL("pit-1.7"), "http://"), ":"); port80 == strings.Contains(text, "profile:") {
		t.Errorf("images on port 80: %v, but the site file has\n%s", port80, text)
	}
}
