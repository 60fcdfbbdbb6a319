package etcdwriters

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

// A server is a real etcd.
type server struct {
	t    *testing.T
	url  string
	args []string
	cmd  *exec.Cmd
}

func etcd(t *testing.T) *server {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		testenv.Unable(t, "there is no etcd: apt-get install etcd-server")
	}
	url := func() string { return fmt.Sprintf("http://127.0.0.1:%d", testenv.FreePort(t)) }
	client, peer := url(), url()
	s := &server{t: t, url: client, args: []string{
		"--data-dir", t.TempDir(), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer, "--unsafe-no-fsync",
	}}
	if out, err := exec.Command("etcd", "--help").CombinedOutput(); err == nil && !strings.Contains(string(out), "unsafe-no-fsync") {
		s.args = s.args[:len(s.args)-1]
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.cmd = exec.Command("etcd", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) open(host string) *Site {
	s.t.Helper()
	site, err := New(Config{
		Endpoints: []string{s.url}, Lease: 5 * time.Second, Site: "redbird", Clock: bmc.SystemClock{},
		Me: writers.Holder{Host: host, Command: "watch"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = site.Close() })
	return site
}

// eventually waits until f succeeds.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (s *server) up(site *Site) {
	s.t.Helper()
	eventually(s.t, "etcd is up", func() error { _, err := site.Look(s.t.Context(), nil); return err })
}

func TestLocks(t *testing.T) {
	srv := etcd(t)
	a, b := srv.open("a"), srv.open("b")
	srv.up(a)
	srv.up(b)
	ctx := t.Context()
	look := func() writers.Seen {
		seen, err := b.Look(ctx, []string{"n1"})
		if err != nil {
			t.Fatal(err)
		}
		return seen["n1"]
	}
	before := look()
	l, err := a.Lock(ctx, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if !l.Fresh(before) || l.Check(ctx) != nil {
		t.Error("nobody had it before")
	}
	if s := look(); s.Holder == nil || s.Holder.Host != "a" {
		t.Errorf("%+v", s)
	}
	for _, again := range []*Site{a, b} { // the same process is another one's equal
		_, err = again.Lock(ctx, "n1")
		if h, ok := writers.HolderOf(err); !ok || h.Host != "a" || bmc.KindOf(err) != bmc.KindBusy {
			t.Errorf("%v", err)
		}
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	l2, err := b.Lock(ctx, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if l2.Fresh(before) {
		t.Error("somebody has had it since")
	}
	// What is given back twice, by one who has lost it, stays the other's.
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if l.Check(ctx) == nil || l2.Check(ctx) != nil {
		t.Error("the lock is not the second one's")
	}
}

func TestNotes(t *testing.T) {
	srv := etcd(t)
	a, b := srv.open("a"), srv.open("b")
	srv.up(a)
	srv.up(b)
	ctx := t.Context()
	if n, err := b.Get(ctx, writers.Paused, "n1"); n != nil || err != nil {
		t.Fatalf("%q, %v", n, err)
	}
	for _, node := range []string{"n1", "n2"} {
		if err := a.Put(ctx, writers.Paused, node, []byte("note "+node)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Remove(ctx, writers.Paused, "n2"); err != nil {
		t.Fatal(err)
	}
	all, err := b.All(ctx, writers.Paused)
	if err != nil || len(all) != 1 || string(all["n1"]) != "note n1" {
		t.Errorf("%q, %v", all, err)
	}
	if all, err := b.All(ctx, writers.Attempts); len(all) != 0 || err != nil {
		t.Errorf("%q, %v", all, err)
	}
}

// While etcd is down nothing is locked, and what was is lost before it could be
// another's.
func TestEtcdGoesDown(t *testing.T) {
	srv := etcd(t)
	a := srv.open("a")
	srv.up(a)
	l, err := a.Lock(t.Context(), "n1")
	if err != nil {
		t.Fatal(err)
	}
	srv.stop()
	if _, err := a.Lock(t.Context(), "n2"); bmc.KindOf(err) != bmc.KindUnreachable || bmc.HintOf(err) == "" {
		t.Errorf("with etcd down: %v", err)
	}
	if l.Check(t.Context()) == nil {
		t.Error("nobody can say that it is still held")
	}
	select {
	case <-l.Lost():
	case <-time.After(30 * time.Second):
		t.Fatal("the lock was not lost with the lease")
	}
	srv.start()
	srv.up(a)
	eventually(t, "another lock", func() error {
		l, err := a.Lock(t.Context(), "n1")
		if err == nil {
			err = l.Unlock()
		}
		return err
	})
}

// The nodes of a watcher that is gone are the others', when its lease is over.
func TestWatchers(t *testing.T) {
	srv := etcd(t)
	a, b := srv.open("a"), srv.open("b")
	srv.up(a)
	srv.up(b)
	changes := make(chan struct{}, 100)
	go b.Changes(func() { changes <- struct{}{} })
	first, _, err := a.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	me, all, err := b.Join(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%q, %v", all, err)
	}
	share := map[string]int{}
	for i := range 200 {
		share[Owner(fmt.Sprint("n", i), all)]++
	}
	if share[me] < 60 || share[first] < 60 {
		t.Errorf("they share: %v", share)
	}
	<-changes // a or b has come
	_ = a.Close()
	eventually(t, "a is gone", func() error {
		<-changes
		_, all, err := b.Join(t.Context())
		if err == nil && len(all) != 1 {
			err = fmt.Errorf("%q", all)
		}
		return err
	})
	if Owner("n1", nil) != "" || Owner("n1", []string{me}) != me {
		t.Error("who is alone has all")
	}
}

func TestPlaces(t *testing.T) {
	srv := etcd(t)
	a, b := srv.open("a"), srv.open("b")
	srv.up(a)
	srv.up(b)
	place := func(s *Site) writers.Lock {
		l, err := s.Place(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	one, two := place(a), place(b)
	if one == nil || two == nil || place(a) != nil || place(b) != nil {
		t.Fatal("two places are not two")
	}
	if err := one.Unlock(); err != nil {
		t.Fatal(err)
	}
	if place(b) == nil {
		t.Error("what was given back is not free")
	}
}

func TestNoCertificates(t *testing.T) {
	for _, c := range []Config{{CA: "/does/not/exist"}, {CA: os.Args[0]}, {Cert: "/does/not/exist"}} {
		c.Lease = time.Second
		if _, err := New(c); bmc.KindOf(err) != bmc.KindTLS || bmc.HintOf(err) == "" {
			t.Errorf("%v", err)
		}
	}
}
