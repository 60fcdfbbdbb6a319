package store_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store/storetest"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// A server is a real sshd on a loopback port with its real sftp-server.
type server struct {
	dir     string // its keys
	store   string // the directory of the store, which there is not yet
	fill    func(*testing.T)
	user    string
	port    int
	hostKey string // fingerprint
}

func startServer(t *testing.T, megabytes int) *server {
	t.Helper()
	s := &server{dir: t.TempDir()}
	must(t, os.Chmod(s.dir, 0o755))
	var disk string
	disk, s.fill = small(t, megabytes)
	s.store = filepath.Join(disk, "made", "by the store")
	host := s.newKey(t, "host")
	s.hostKey = ssh.FingerprintSHA256(host)
	must(t, os.WriteFile(s.path("authorized"), ssh.MarshalAuthorizedKey(s.newKey(t, "identity")), 0o644))
	me, err := user.Current()
	must(t, err)
	s.user = me.Username
	s.port = testenv.FreePort(t)
	script := fmt.Sprintf("#!/bin/sh\nexec %s $(cat %s)\n", sftpServer(t), s.path("options"))
	must(t, os.WriteFile(s.path("sftp"), []byte(script), 0o755))
	must(t, os.WriteFile(s.path("options"), nil, 0o644))
	must(t, os.WriteFile(s.path("config"), fmt.Appendf(nil, `ListenAddress 127.0.0.1
Port %d
HostKey %s
AuthorizedKeysFile %s
StrictModes no
UsePAM no
PermitRootLogin yes
PidFile none
MaxStartups 100
Subsystem sftp %s
`, s.port, s.path("host"), s.path("authorized"), s.path("sftp")), 0o644))
	s.run(t)
	return s
}

func sftpServer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	testenv.Unable(t, "there is no sftp-server")
	return ""
}

func (s *server) run(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		testenv.Unable(t, err.Error())
	}
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", s.path("config"))
	if os.Geteuid() == 0 { // sshd then wants its directory below /run
		cmd = exec.Command("unshare", "-m", "sh", "-c",
			`mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f "$1"`, "sh", s.path("config"))
	}
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	drained := make(chan struct{})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server listening on") {
			go func() {
				defer close(drained)
				_, _ = io.Copy(io.Discard, stderr)
			}()
			return
		}
		said = append(said, lines.Text())
	}
	close(drained)
	testenv.Unable(t, "sshd did not start: "+strings.Join(said, "\n"))
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) newKey(t *testing.T, name string) ssh.PublicKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	must(t, os.WriteFile(s.path(name), pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return key
}

// site is the store as a site file has it, reached through a port.
func (s *server) site(port int) site.Store {
	return sftpSite(s.user, port, s.store, s.path("identity"), s.hostKey)
}

func sftpSite(user string, port int, dir, identity, hostKey string) site.Store {
	return site.Store{
		Name: "far", URL: fmt.Sprintf("sftp://%s@127.0.0.1:%d%s", user, port, strings.ReplaceAll(dir, " ", "%20")),
		SSH: &site.SSH{
			Address: "127.0.0.1", Port: port, User: user, Identity: identity,
			HostKey: site.HostKey{Fingerprint: hostKey},
		},
	}
}

func TestSFTP(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place {
		s := startServer(t, 4)
		p := directoryPlace(s.store)
		p.Open = func(t *testing.T, name string) overlay.Store {
			t.Helper()
			return opened(t, s.site(s.port), store.Config{Site: name})
		}
		p.Half, p.Fill = "20260101T000000Z", s.fill
		p.Stale = func(t *testing.T, node string) {
			t.Helper()
			p.Put(t, node+"/.lock", `{"holder": "one that died"}`)
			long := time.Now().Add(-time.Hour)
			must(t, os.Chtimes(filepath.Join(s.store, node, ".lock"), long, long))
		}
		p.Refuse = func(t *testing.T) {
			t.Helper()
			must(t, os.WriteFile(s.path("options"), []byte("-R"), 0o644))
		}
		return p
	})
}

// TestSFTPLayout wants what is written over sftp to be a file store, closed to
// others.
func TestSFTPLayout(t *testing.T) {
	s := startServer(t, 256)
	far := opened(t, s.site(s.port), store.Config{Site: "lab"})
	id, err := storetest.Publish(t.Context(), far, "lab", "n1", storetest.At)
	must(t, err)
	near := opened(t, site.Store{URL: "file://" + strings.ReplaceAll(s.store, " ", "%20")}, store.Config{Site: "lab"})
	storetest.Whole(t, near, "n1")
	for name, want := range map[string]os.FileMode{".": 0o700, "n1": 0o700, "n1/" + id: 0o700, "n1/" + id + "/manifest.json": 0o600} {
		info, err := os.Stat(filepath.Join(s.store, name))
		must(t, err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has the mode %o", name, info.Mode().Perm())
		}
	}
}

func TestSFTPRefusals(t *testing.T) {
	s := startServer(t, 256)
	list := func(change func(*site.Store)) error {
		place := s.site(s.port)
		change(&place)
		_, err := opened(t, place, store.Config{}).List(t.Context(), "n1")
		return err
	}
	for name, tc := range map[string]struct {
		change func(*site.Store)
		kind   bmc.Kind
		hint   string
	}{
		"another host key": {func(p *site.Store) { p.SSH.HostKey.Fingerprint = "SHA256:" + strings.Repeat("A", 43) }, bmc.KindSSH, "stores.far.ssh.hostKey"},
		"no host key":      {func(p *site.Store) { p.SSH.HostKey = site.HostKey{} }, bmc.KindSSH, "stores.far.ssh.hostKey"},
		"no key":           {func(p *site.Store) { p.SSH.Identity = "" }, bmc.KindAuth, "stores.far.ssh.identity"},
		"nobody there":     {func(p *site.Store) { p.SSH.Port = testenv.FreePort(t) }, bmc.KindUnreachable, "stores.far.url"},
		"none at all":      {func(p *site.Store) { p.SSH = nil }, bmc.KindSSH, "stores.far.ssh.hostKey"},
	} {
		if err := list(tc.change); bmc.KindOf(err) != tc.kind || !strings.Contains(bmc.HintOf(err), tc.hint) {
			t.Errorf("%s: %v (%s)", name, err, bmc.HintOf(err))
		}
	}
	// Opening asks nobody, and fetches no secret.
	asked := false
	place := s.site(1)
	place.SSH.Password = site.SecretRef{Env: "X"}
	c, err := store.Open(place, store.Config{Secret: func(context.Context, site.SecretRef) (bmc.Secret, error) { asked = true; return "x", nil }})
	must(t, err)
	must(t, c.Close())
	if asked {
		t.Error("a secret was fetched to open a store")
	}
}

// A relay passes connections on to a server, and calls hit once when so many
// bytes have gone there.
type relay struct {
	port int
	left atomic.Int64
	hit  func(cut func())
	once sync.Once
}

func startRelay(t *testing.T, to int, after int64, hit func(cut func())) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	r := &relay{port: l.Addr().(*net.TCPAddr).Port, hit: hit}
	r.left.Store(after)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.pass(c, to) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return r
}

func (r *relay) pass(client net.Conn, to int) {
	defer client.Close()
	far, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
	if err != nil {
		return
	}
	defer far.Close()
	var back sync.WaitGroup
	back.Go(func() { _, _ = io.Copy(client, far); client.Close() })
	defer back.Wait()
	defer far.Close()
	buf := make([]byte, 512)
	for {
		n, err := client.Read(buf)
		left := r.left.Add(-int64(n))
		if left < 0 {
			// What was allowed still arrives.
			_, _ = far.Write(buf[:max(0, n+int(left))])
			r.once.Do(func() { r.hit(func() { client.Close(); far.Close() }) })
			return
		}
		if _, werr := far.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// recovers wants the node's store to be whole, and to take the next backup and
// leave nothing else.
func recovers(t *testing.T, s overlay.Store, files func(*testing.T) []string, node, what string) {
	t.Helper()
	storetest.Whole(t, s, node)
	before := storetest.IDs(t, s, node)
	if _, err := storetest.Publish(t.Context(), s, "lab", node, storetest.At); err != nil {
		t.Errorf("%s: %v (%s)", what, err, bmc.HintOf(err))
	}
	if got := storetest.IDs(t, s, node); len(got) != len(before)+1 {
		t.Errorf("%s: listed %q", what, got)
	}
	storetest.Whole(t, s, node)
	left := slices.DeleteFunc(files(t), func(name string) bool { return !strings.HasPrefix(name, node+"/") })
	if len(left) != (len(before)+1)*(len(storetest.Names)+1) {
		t.Errorf("%s: there is %q", what, left)
	}
}

// cuts are after how many bytes a connection is cut: in the handshake, around
// each small request, and within the files. A backup is some 190 kB.
func cuts() []int64 {
	list := []int64{0, 1000}
	for n := int64(3000); n < 8000; n += 250 {
		list = append(list, n)
	}
	for n := int64(8000); n < 900_000; n += 60_000 {
		list = append(list, n)
	}
	if !testing.Short() {
		return list
	}
	var some []int64
	for i := 0; i < len(list); i += 4 {
		some = append(some, list[i])
	}
	return some
}

const briefly = 1500 * time.Millisecond // how long the lock of the dead lasts here

// TestSFTPCut cuts the connection in the middle: the run fails, or it connects
// again and does not; the next backup works either way.
func TestSFTPCut(t *testing.T) {
	s := startServer(t, 256)
	failed := 0
	for i, after := range cuts() {
		node := fmt.Sprintf("n%d", i)
		r := startRelay(t, s.port, after, func(cut func()) { cut() })
		far := opened(t, s.site(r.port), store.Config{Site: "lab", LockExpiry: briefly})
		_, err := storetest.Publish(t.Context(), far, "lab", node, storetest.At)
		if err != nil {
			failed++
			if bmc.HintOf(err) == "" {
				t.Errorf("cut after %d bytes: %v", after, err)
			}
		}
		if near := opened(t, s.site(s.port), store.Config{}); (len(storetest.IDs(t, near, node)) == 1) != (err == nil) {
			t.Errorf("cut after %d bytes: %v, and listed %q", after, err, storetest.IDs(t, near, node))
		}
	}
	if failed < len(cuts())/4 {
		t.Errorf("only %d cuts were felt", failed)
	}
	time.Sleep(briefly + briefly/5)
	next := opened(t, s.site(s.port), store.Config{Site: "lab", LockExpiry: briefly})
	for i, after := range cuts() {
		recovers(t, next, directoryPlace(s.store).Files, fmt.Sprintf("n%d", i), fmt.Sprintf("cut after %d bytes", after))
	}
}

func writeOverSFTP() {
	port, _ := strconv.Atoi(os.Getenv("PORT"))
	place := sftpSite(os.Getenv("SSH_USER"), port, os.Getenv("DIR"), os.Getenv("IDENTITY"), os.Getenv("HOST_KEY"))
	s, err := store.Open(place, store.Config{Site: "lab", LockExpiry: briefly})
	if err == nil {
		_, err = storetest.Publish(context.Background(), s, "lab", os.Getenv("NODE"), storetest.At)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestSFTPKilled kills a writer after so many bytes that it has sent.
func TestSFTPKilled(t *testing.T) {
	s := startServer(t, 256)
	for i, after := range cuts() {
		var mu sync.Mutex
		var cmd *exec.Cmd
		r := startRelay(t, s.port, after, func(cut func()) {
			mu.Lock()
			defer mu.Unlock()
			_ = cmd.Process.Kill()
			cut()
		})
		mu.Lock()
		cmd = again(t, "sftp", "SSH_USER="+s.user, fmt.Sprint("PORT=", r.port), "DIR="+s.store, "IDENTITY="+s.path("identity"),
			"HOST_KEY="+s.hostKey, fmt.Sprintf("NODE=n%d", i))
		must(t, cmd.Start())
		mu.Unlock()
		err := cmd.Wait()
		if near := opened(t, s.site(s.port), store.Config{}); err == nil && len(storetest.IDs(t, near, fmt.Sprintf("n%d", i))) != 1 {
			t.Errorf("killed after %d bytes, it ended well and is not listed", after)
		}
	}
	time.Sleep(briefly + briefly/5)
	next := opened(t, s.site(s.port), store.Config{Site: "lab", LockExpiry: briefly})
	for i, after := range cuts() {
		recovers(t, next, directoryPlace(s.store).Files, fmt.Sprintf("n%d", i), fmt.Sprintf("killed after %d bytes", after))
	}
}
