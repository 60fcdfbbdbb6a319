package overlay_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// A machine is the image of a live system and the keys to it. It is booted any
// number of times: each boot has an overlay of its own.
type machine struct {
	dir    string
	config sshremote.Config
	boots  int
}

// newMachine makes a machine, or skips the test and says why. Under CI it is an
// error not to be able to.
func newMachine(t testing.TB) *machine {
	t.Helper()
	unable := func(why string) { testenv.Unable(t, why) }
	if os.Geteuid() != 0 {
		unable("a real overlay mount needs root")
	}
	for _, program := range []string{"/usr/sbin/sshd", "unshare", "setfattr", "setfacl", "setcap"} {
		if _, err := exec.LookPath(program); err != nil {
			unable(err.Error())
		}
	}
	if out, err := exec.Command("unshare", "-m", "-p", "-f", "true").CombinedOutput(); err != nil {
		unable(fmt.Sprintf("namespaces are refused: %s", out))
	}
	// The lower layer is read through the namespace's own "/".
	m := &machine{dir: t.TempDir()}
	must(t, os.Chmod(m.dir, 0o755))
	must(t, os.Mkdir(m.path("lower"), 0o755))
	run(t, "sh", "testdata/lower.sh", m.path("lower"))
	medium := make([]byte, 17*2048)
	copy(medium[16*2048:], "\x01CD001\x01")
	copy(medium[16*2048+40:], fmt.Sprintf("%-32s", "LAB"))
	must(t, os.WriteFile(m.path("medium"), medium, 0o644))
	must(t, os.WriteFile(m.path("cmdline"), []byte("root=live:CDLABEL=LAB quiet\n"), 0o644))
	_, host := m.newKey(t, "hostkey")
	_, user := m.newKey(t, "identity")
	must(t, os.WriteFile(m.path("authorized"), ssh.MarshalAuthorizedKey(user), 0o644))
	m.config = sshremote.Config{
		Address: "127.0.0.1", Identity: m.path("identity"),
		HostKey: site.HostKey{Fingerprint: ssh.FingerprintSHA256(host)},
		Timeout: 30 * time.Second,
	}
	return m
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) newKey(t testing.TB, name string) (ed25519.PrivateKey, ssh.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	must(t, os.WriteFile(m.path(name), pem.EncodeToMemory(block), 0o600))
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	return private, key
}

// A node is a booted machine.
type node struct {
	t    testing.TB
	conn *sshremote.Conn
	root string // its merged view, as this process sees it
	port int
}

// boot starts the machine with a new overlay. options are those of the overlay
// mount. The node is gone at the end of the test, with all it has mounted, since
// both are in namespaces that end with their first process.
func (m *machine) boot(t testing.TB, options string) *node {
	t.Helper()
	m.boots++
	bootID := fmt.Sprintf("00000000-0000-4000-8000-%012d", m.boots)
	must(t, os.WriteFile(m.path("bootid.new"), []byte(bootID+"\n"), 0o644))
	must(t, os.Rename(m.path("bootid.new"), m.path("bootid"))) // the last boot keeps its own
	port := testenv.FreePort(t)
	cmd := exec.Command("unshare", "-m", "-p", "-f", "--kill-child", "--propagation", "private",
		"sh", "testdata/boot.sh", m.dir, fmt.Sprint(port))
	cmd.Env = append(os.Environ(), "OPTIONS="+options)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	awaitSSHD(t, stderr)
	n := &node{t: t, root: fmt.Sprintf("/proc/%s/root", child(t, cmd.Process.Pid)), port: port}
	config := m.config
	config.Port = port
	n.conn, err = sshremote.Dial(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { n.conn.Close() })
	return n
}

func awaitSSHD(t testing.TB, stderr io.Reader) {
	t.Helper()
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		if strings.Contains(lines.Text(), "Server listening on") {
			go io.Copy(io.Discard, stderr) // ends with sshd
			return
		}
		said = append(said, lines.Text())
	}
	t.Fatalf("the node did not start: %s", strings.Join(said, "\n"))
}

func child(t testing.TB, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	must(t, err)
	return strings.TrimSpace(string(b))
}

// run runs a script on the node and returns what it wrote.
func (n *node) run(script string) string {
	n.t.Helper()
	var out, errs bytes.Buffer
	err := n.conn.Run(n.t.Context(), overlay.Command{Script: script, Stdout: &out, Stderr: &errs})
	if err != nil {
		n.t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String()
}

// change makes changes of every kind.
func (n *node) change() {
	n.t.Helper()
	script, err := os.ReadFile("testdata/change.sh")
	must(n.t, err)
	n.run(string(script))
}

// hold makes processes that have directories and files of the image open, as
// the daemons of any running system do.
func (n *node) hold() {
	n.t.Helper()
	n.run(`for d in /lab /lab/held /lab/kept/a /lab/opaque /lab/opaque/sub /lab/gone-dir /usr/bin /usr/lib; do
	(cd "$d" && exec tail -f /dev/null) </dev/null >/dev/null 2>&1 &
done
exec tail -f /lab/modified /lab/gone-file /lab/appended </dev/null >/dev/null 2>&1 &
find /lab /usr/lib -maxdepth 2 >/dev/null`)
}

// view describes all of /lab and some of the rest in the merged view, by name.
func (n *node) view() map[string]string {
	n.t.Helper()
	v := viewer{t: n.t, root: n.root, view: make(map[string]string), first: make(map[[2]uint64]string)}
	for _, top := range []string{"lab", "usr/bin/lab-new", "usr/lib/lab-dir", "etc/lab-new", "etc/passwd", "usr/bin/tar"} {
		v.walk(top)
	}
	return v.view
}

type viewer struct {
	t     testing.TB
	root  string
	view  map[string]string
	first map[[2]uint64]string
}

func (v *viewer) walk(name string) {
	v.t.Helper()
	full := v.root + "/" + name
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		v.view[name] = err.Error()
		return
	}
	v.view[name] = v.describe(name, full, &st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	entries, err := os.ReadDir(full)
	if err != nil {
		v.view[name] += " " + err.Error()
	}
	for _, e := range entries {
		v.walk(name + "/" + e.Name())
	}
}

func (v *viewer) describe(name, full string, st *unix.Stat_t) string {
	d := fmt.Sprintf("%06o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		d += fmt.Sprintf(" %d bytes in %d blocks %s", st.Size, st.Blocks, content(full))
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		d += fmt.Sprintf(" -> %q %v", target, err)
	case unix.S_IFCHR, unix.S_IFBLK:
		d += fmt.Sprintf(" device %#x", st.Rdev)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		inode := [2]uint64{st.Dev, st.Ino}
		if v.first[inode] == "" {
			v.first[inode] = name
		}
		d += " linked to " + v.first[inode]
	}
	return d + xattrs(full)
}

// content hashes the pages that are not zero, each with its place.
func content(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	h := sha256.New()
	page := make([]byte, 4096)
	for at := int64(0); ; {
		at, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err != nil { // ENXIO: nothing but a hole is left
			return fmt.Sprintf("%x", h.Sum(nil)[:8])
		}
		at -= at % int64(len(page))
		n, err := f.ReadAt(page, at)
		if bytes.Trim(page[:n], "\x00") != nil {
			fmt.Fprint(h, at, ":")
			h.Write(page[:n])
		}
		if err != nil && err != io.EOF {
			return err.Error()
		}
		at += int64(len(page))
	}
}

func xattrs(name string) string {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		return " " + err.Error()
	}
	names := strings.FieldsFunc(string(buf[:n]), func(c rune) bool { return c == 0 })
	sort.Strings(names)
	var list strings.Builder
	for _, key := range names {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, key, value)
		fmt.Fprintf(&list, " %s=%x", key, value[:max(n, 0)])
		if err != nil {
			list.WriteString(err.Error())
		}
	}
	return list.String()
}

// differences lists what two views do not have in common.
func differences(before, after map[string]string) []string {
	var list []string
	for name, was := range before {
		if is := after[name]; is != was {
			list = append(list, fmt.Sprintf("%q\n\twas %s\n\tis  %s", name, was, is))
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			list = append(list, fmt.Sprintf("%q\n\twas not there\n\tis  %s", name, is))
		}
	}
	sort.Strings(list)
	return list
}

func openStore(t testing.TB, dir string) overlay.Store {
	t.Helper()
	s, err := store.Open(site.Store{Name: "test", URL: "file://" + dir}, store.Config{})
	must(t, err)
	return s
}

// stored lists every file below a directory.
func stored(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(name, dir+"/"))
		}
		return err
	}))
	return names
}

func request(purpose overlay.Purpose) overlay.BackupRequest {
	return overlay.BackupRequest{Node: "n1", Site: "lab", Image: "lab-1", Purpose: purpose, ToolVersion: "test"}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}
