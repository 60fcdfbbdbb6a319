package overlay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// systemd makes the node look as if systemd of a version ran there. What its
// systemctl is asked for is kept in /run/asked; a soft reboot itself needs a
// machine that systemd runs on.
func (n *node) systemd(version, status string) {
	n.t.Helper()
	n.run(`mkdir -p /run/systemd/system /usr/local/bin && cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
case $* in
--version) echo 'systemd ` + version + ` (` + version + `.5-1)'; exit 0 ;;
esac
echo "$*: $(findmnt -no FSTYPE /run/nextroot)" >>/run/asked
exit ` + status + `
END
chmod 755 /usr/local/bin/systemctl`)
}

// TestNextRoot restores into a second overlay, and sees it as the next root.
func TestNextRoot(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	n.systemd("254", "0")
	n.hold()
	fresh := n.view()
	req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodNextRoot}
	for _, cut := range []cutting{{script: "# unpack", after: 512}, {script: "# unpack", after: 60_000}, {script: "# list", after: 30}} {
		cut.Conn = n.redial(m)
		if _, err := overlay.Restore(t.Context(), &cut, s, req); err == nil {
			t.Errorf("%s cut after %d bytes passed for a restore", cut.script, cut.after)
		}
	}
	n.run("[ ! -e /run/asked ]")
	for range 2 {
		report, err := overlay.Restore(t.Context(), n.conn, s, req)
		must(t, err)
		if len(report.Differences) > 0 || len(report.Warnings) > 0 || !strings.Contains(fmt.Sprint(report.Notes), "livecd-sync-nextroot-a/rw") {
			t.Errorf("report: %+v", report)
		}
		if got := n.run("cat /run/asked; rm /run/asked"); got != "--no-block soft-reboot: overlay\n" {
			t.Errorf("systemctl was asked %q", got)
		}
		if list := differences(before, viewAt(t, n.root+"/run/nextroot")); len(list) > 0 {
			t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
		}
	}
	if list := differences(fresh, n.view()); len(list) > 0 {
		t.Errorf("the running system was changed:\n%s", strings.Join(list, "\n"))
	}
	if got, want := n.run("cat /run/livecd-sync/restored"), manifest.ID+" "; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " /run/overlay/overlayfs/livecd-sync-nextroot-a/rw\n") {
		t.Errorf("the note is %q", got)
	}
	// What ran still runs, for nothing was rebooted.
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.Restored.ID != "" || running.Whole() != nil {
		t.Errorf("the running overlay says that it holds %q: %v", running.Restored.ID, running.Whole())
	}
	// A next root can be written to.
	n.run("cd /run/nextroot/lab && echo more >>held/f && touch ../usr/bin/lab-2 gone-file && mv replaced again")
}

// TestNextRootRefuses asks for a soft reboot of nodes that cannot do one.
func TestNextRootRefuses(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("head -c 100000 /dev/urandom >/lab/new")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	for name, test := range map[string]struct {
		version, status, before, want string
		kind                          bmc.Kind
		touched                       bool
	}{
		"no systemd":           {"254", "0", "rmdir /run/systemd/system", "does not run systemd", bmc.KindUnsupported, false},
		"not systemctl":        {"x", "0", "", "does not run systemd", bmc.KindUnsupported, false},
		"too old":              {"253", "0", "", "systemd 253", bmc.KindUnsupported, false},
		"somebody else's root": {"257", "0", "mkdir /run/nextroot && mount -t tmpfs tmpfs /run/nextroot", "did not put there", bmc.KindOverlay, false},
		"somebody's files":     {"257", "0", "mkdir -p /run/nextroot/etc", "did not put there", bmc.KindOverlay, false},
		"somebody's link":      {"257", "0", "ln -s / /run/nextroot", "did not put there", bmc.KindOverlay, false},
		"no room":              {"257", "0", "mount -o remount,size=$(($(df -Pk /run | awk 'END{print $3}') + 64))k /run", "MiB left", bmc.KindOverlay, false},
		"systemd refuses":      {"257", "1", "", "did not begin a soft reboot", bmc.KindOverlay, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := m.boot(t, "")
			n.systemd(test.version, test.status)
			if test.before != "" {
				n.run(test.before)
			}
			before := n.run("ls -A /run /run/overlay/overlayfs")
			_, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodNextRoot})
			if bmc.KindOf(err) != test.kind || bmc.HintOf(err) == "" || !strings.Contains(fmt.Sprint(err), test.want) {
				t.Errorf("got %v", err)
			}
			if after := n.run("ls -A /run /run/overlay/overlayfs"); !test.touched && after != before {
				t.Errorf("something was changed: %s", after)
			}
			if n.run("ls /run/livecd-sync/restored 2>/dev/null; true") != "" {
				t.Error("the node says that it holds a backup")
			}
		})
	}
}

// TestNextRootDiffers keeps a node from rebooting into a root that is not what
// the backup says.
func TestNextRootDiffers(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("echo new >/lab/new")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n = m.boot(t, "")
	n.systemd("256", "0")
	conn := n.redial(m)
	tampering := &before{Conn: n.conn, script: "# list", do: func() {
		must(t, conn.Run(t.Context(), overlay.Command{Script: "rm /run/nextroot/lab/new"}))
	}}
	report, err := overlay.Restore(t.Context(), tampering, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodNextRoot})
	if err == nil || !strings.Contains(err.Error(), "the next root differs") || !strings.Contains(fmt.Sprint(report.Differences), "./lab/new: is missing") {
		t.Errorf("%v: %+v", err, report)
	}
	if got := n.run("ls -A /run/overlay/overlayfs /run/asked /run/nextroot 2>/dev/null; true"); got != "/run/overlay/overlayfs:\nrw\nwork\n" {
		t.Errorf("left behind: %q", got)
	}
}
