package overlay_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// TestOtherImage restores a backup onto nodes that run this image and that one.
func TestOtherImage(t *testing.T) {
	s := openStore(t, t.TempDir())
	of := site.Volume{ID: "PIT", Created: "2026-11-23T05:00:00.00+00:00"}
	req := request(overlay.PurposeReset)
	req.Image, req.Volume = "pit-1.6", of
	known, err := overlay.Backup(t.Context(), sends(pack(t, 10), "", nil), s, req)
	must(t, err)
	unknown, err := overlay.Backup(t.Context(), sends(pack(t, 10), "", nil), s, request(overlay.PurposeReset))
	must(t, err)
	for name, test := range map[string]struct {
		id    string
		runs  site.Volume
		force bool
		note  string // "" and "-": none, and refused
	}{
		"the same":           {known.ID, of, false, ""},
		"another date":       {known.ID, site.Volume{ID: "PIT", Created: "2026-12-01T00:00:00.00+00:00"}, false, "-"},
		"another label":      {known.ID, site.Volume{ID: "PIT-2", Created: of.Created}, false, "-"},
		"no date":            {known.ID, site.Volume{ID: "PIT"}, false, ""},
		"forced":             {known.ID, site.Volume{ID: "PIT-2"}, true, `"PIT-2"`},
		"the node's unknown": {known.ID, site.Volume{}, false, "does not tell"},
		"backup's unknown":   {unknown.ID, of, false, "not known which image"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			remote := scripted(func(overlay.Command) error {
				asked = true
				return &overlay.ExitError{Status: 70} // this far, and no further
			})
			report, err := overlay.Restore(t.Context(), remote, s, overlay.RestoreRequest{
				Node: "n1", ID: test.id, OntoOtherImage: test.force,
				VolumeOf: func(overlay.Running) site.Volume { return test.runs },
			})
			if test.note == "-" {
				if asked || bmc.KindOf(err) != bmc.KindOverlay || !strings.Contains(bmc.HintOf(err), "--onto-other-image") ||
					!strings.Contains(err.Error(), "pit-1.6") || !strings.Contains(err.Error(), test.runs.ID) {
					t.Errorf("asked %v: %v", asked, err)
				}
				return
			}
			if notes := fmt.Sprint(report.Notes); !asked || !strings.Contains(notes, test.note) || (test.note == "") != (notes == "[]") {
				t.Errorf("asked %v, %v: %s", asked, err, notes)
			}
		})
	}
}

// TestOtherAfterCut restores another backup than the one whose restore was cut
// off: that is told, and the node is whole again.
func TestOtherAfterCut(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("echo 1 >/lab/one && echo 1 >/lab/both")
	one, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n.run("rm /lab/one && echo 2 >/lab/two && echo 2 >/lab/both")
	two, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)

	n = m.boot(t, "")
	_, err = overlay.Restore(t.Context(), &cutting{n.redial(m), "# list", 2}, s, overlay.RestoreRequest{Node: "n1", ID: one.ID})
	if err == nil {
		t.Fatal("a restore that was cut passed for one")
	}
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: two.ID})
	must(t, err)
	if notes := fmt.Sprint(report.Notes); !strings.Contains(notes, one.ID) || len(report.Differences) > 0 {
		t.Errorf("notes %s, differences %q", notes, report.Differences)
	}
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.Restored.ID != two.ID || running.Whole() != nil {
		t.Errorf("holds %q: %v", running.Restored.ID, running.Whole())
	}
}

// TestComparison tampers with what a restore has written, before it is compared:
// every difference is told, contents when they are asked for.
func TestComparison(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run("rm /lab/huge") // contents are compared
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n = m.boot(t, "")
	conn := n.redial(m)
	tampering := &before{Conn: n.conn, script: "# list", do: func() {
		err := conn.Run(t.Context(), overlay.Command{Script: `cd /lab
touch -r opaque/new ref && echo NEW >opaque/new && touch -r ref opaque/new && rm ref
rm dangling && ln -s elsewhere dangling
rm link-1 && echo one >link-1
setfattr -n user.note -v other xattrs && setfattr -x trusted.note xattrs && setcap -r capable && setfacl -x u:1234 acl-file
chmod 640 device && chmod 600 modified && chown 1:1 sealed && rm fifo && echo back >gone-file && truncate -s 63M sparse`})
		must(t, err)
	}}
	report, err := overlay.Restore(t.Context(), tampering, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Verify: true})
	if bmc.KindOf(err) != bmc.KindOverlay || !strings.Contains(err.Error(), "all but ") {
		t.Errorf("what was removed twice passed for restored: %v", err)
	}
	told := strings.Join(report.Differences, "\n")
	for _, want := range []string{
		"./lab/opaque/new: its content is another", "./lab/dangling: leads to elsewhere, not to gone",
		": is not the same file as ./lab/", "./lab/xattrs: its extended attribute user.note is another",
		"./lab/xattrs: its extended attribute trusted.note is missing", "./lab/capable: its extended attribute security.capability is missing",
		"./lab/acl-file: its extended attribute system.posix_acl_access is another", "./lab/modified: has mode 0600",
		"./lab/sealed: is owned by 1:1", "./lab/fifo: is missing", "./lab/gone-file: is there, and was deleted", "./lab/sparse: has 66060288 bytes",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("not told: %s", want)
		}
	}
	t.Log(told)
}

// before does something before a script runs.
type before struct {
	*sshremote.Conn
	script string
	do     func()
}

// Run runs the command.
func (b *before) Run(ctx context.Context, c overlay.Command) error {
	if len(c.Args) > 0 && strings.HasPrefix(c.Args[len(c.Args)-1], b.script) {
		b.do()
	}
	return b.Conn.Run(ctx, c)
}

// TestStopped stops a restore at each of its passes: the node says that it has part
// of a backup, no file of it is half, and the next restore finishes it.
func TestStopped(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run("for i in 1 2 3 4 5 6 7 8; do head -c 2000000 /dev/urandom >/lab/random-$i; done")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	view := withoutBlocks(n.view())
	n = m.boot(t, "")
	early := make(chan struct{})
	close(early)
	_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Stop: early})
	if bmc.KindOf(err) != bmc.KindCancelled || !strings.Contains(err.Error(), "before anything was changed") {
		t.Errorf("stopped before it began: %v", err)
	}
	stop := func(remote overlay.Remote, req overlay.RestoreRequest) {
		t.Helper()
		_, err := overlay.Restore(t.Context(), remote, s, req)
		if bmc.KindOf(err) != bmc.KindCancelled || !strings.Contains(fmt.Sprint(err), "part of backup "+manifest.ID) {
			t.Errorf("stopped: %v", err)
		}
		running, err := overlay.Probe(t.Context(), n.conn)
		must(t, err)
		if running.Restoring.ID != manifest.ID || running.Whole() == nil {
			t.Errorf("the node does not say that it holds part of a backup: %+v", running)
		}
	}
	middle := make(chan struct{})
	req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Stop: middle}
	req.Progress = func(sent int64) {
		if sent > 5_000_000 && sent < 8_000_000 {
			close(middle)
		}
	}
	stop(n.conn, req)
	if sizes := n.run("stat -c %s /lab/random-*"); strings.Trim(sizes, "20\n") != "" || sizes == "" {
		t.Errorf("a file is half: %s", sizes)
	}
	for _, script := range []string{"# clear", "# list", "# xattrs"} {
		here := make(chan struct{})
		stop(&before{Conn: n.conn, script: script, do: func() { close(here) }}, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Stop: here})
	}
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Stop: make(chan struct{})})
	must(t, err)
	if list := differences(view, withoutBlocks(n.view())); len(list) > 0 || !strings.Contains(fmt.Sprint(report.Notes), "had been cut off") {
		t.Errorf("%q, %d differences:\n%s", report.Notes, len(list), strings.Join(list, "\n"))
	}
}

// TestOthersStopped stops the restores that leave the running overlay as it is, at
// each of their passes: the error says what is left where, and the next finishes.
func TestOthersStopped(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	n = m.boot(t, "")
	n.systemd("254", "0")
	n.run("mkdir /run/offline")
	fresh := n.view()
	for _, method := range []struct {
		req        overlay.RestoreRequest
		said, left string
	}{
		{overlay.RestoreRequest{Method: overlay.MethodOffline, Dir: "/run/offline/rw"}, "/run/offline/rw was not made; what is there of it is marked as cut off", "/run/offline/rw.livecd-sync\n"},
		{overlay.RestoreRequest{Method: overlay.MethodNextRoot}, "stopped before anything was changed", ""},
	} {
		req := method.req
		req.Node, req.ID = "n1", manifest.ID
		for _, script := range []string{"# unpack", "# list", "# xattrs"} {
			here := make(chan struct{})
			req.Stop = here
			_, err := overlay.Restore(t.Context(), &before{Conn: n.conn, script: script, do: func() { close(here) }}, s, req)
			if bmc.KindOf(err) != bmc.KindCancelled || !strings.Contains(fmt.Sprint(err), method.said) {
				t.Errorf("%s stopped at %s: %v", req.Method, script, err)
			}
			left := n.run("ls -d /run/offline/* /run/nextroot /run/overlay/overlayfs/livecd-sync-* /run/livecd-sync/restored /run/asked 2>/dev/null || :")
			if left != method.left {
				t.Errorf("%s stopped at %s left %q", req.Method, script, left)
			}
		}
		req.Stop = make(chan struct{})
		report, err := overlay.Restore(t.Context(), n.conn, s, req)
		must(t, err)
		if len(report.Differences) > 0 {
			t.Errorf("%s: %q", req.Method, report.Differences)
		}
		n.run("rm -rf /run/offline/*")
	}
	if list := differences(fresh, n.view()); len(list) > 0 {
		t.Errorf("the running system was changed:\n%s", strings.Join(list, "\n"))
	}
}

// TestKilledInRestore kills what works on the node, on both kinds of upper dir,
// in the middle of a restore: it is an error, the node says that it is half of a
// backup, and restoring again leaves no difference.
func TestKilledInRestore(t *testing.T) {
	for _, fs := range []string{"tmpfs", "ext4"} {
		t.Run(fs, func(t *testing.T) {
			if fs == "ext4" {
				needsExt4(t)
				t.Setenv("UPPER_FS", fs)
			}
			m := newMachine(t)
			s := openStore(t, t.TempDir())
			n := m.boot(t, "")
			n.change()
			n.run("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do head -c 2000000 /dev/urandom >/lab/random-$i; done")
			manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
			must(t, err)
			view := withoutBlocks(n.view())

			n = m.boot(t, "")
			n.hold()
			killer := n.redial(m)
			for _, victim := range []string{"tar", "sshd"} {
				killed := false
				req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID}
				req.Progress = func(sent int64) {
					if killed || sent < 10_000_000 {
						return
					}
					killed = true
					if victim == "sshd" { // of the session, and no other's
						must(t, killer.Run(t.Context(), overlay.Command{Script: killParent}))
						return
					}
					must(t, killer.Run(t.Context(), overlay.Command{Script: killTar}))
				}
				if _, err := overlay.Restore(t.Context(), n.redial(m), s, req); err == nil || !killed {
					t.Errorf("%s was killed: %v %v", victim, killed, err)
				}
				running, err := overlay.Probe(t.Context(), n.conn)
				must(t, err)
				if running.Whole() == nil || running.Restored.ID != "" {
					t.Errorf("after %s was killed the node holds %q: %v", victim, running.Restored.ID, running.Whole())
				}
			}
			report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
			must(t, err)
			if list := differences(view, withoutBlocks(n.view())); len(list) > 0 || len(report.Differences) > 0 {
				t.Errorf("%d differences:\n%s\n%q", len(list), strings.Join(list, "\n"), report.Differences)
			}
		})
	}
}

// withoutBlocks leaves out what ext4 needs for extended attributes in some
// orders of writing them, and not in others.
func withoutBlocks(view map[string]string) map[string]string {
	for name, is := range view {
		view[name] = regexp.MustCompile(` in \d+ blocks`).ReplaceAllString(is, "")
	}
	return view
}

const (
	killTar = `for p in /proc/[0-9]*; do
	if read -r name <"$p/comm" && [ "$name" = tar ]; then kill -KILL "${p#/proc/}"; fi
done 2>/dev/null; true`
	// killParent kills the daemon that tar's standard input comes from.
	killParent = `for p in /proc/[0-9]*; do
	read -r name <"$p/comm" && [ "$name" = tar ] || continue
	read -r skip skip skip parent skip <"$p/stat" && kill -KILL "$parent"
done 2>/dev/null; true`
)
