package overlay_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// viewAt describes what view does, of another merged view.
func viewAt(t testing.TB, root string) map[string]string {
	t.Helper()
	v := viewer{t: t, root: root, view: make(map[string]string), first: make(map[[2]uint64]string)}
	for _, top := range []string{"lab", "usr/bin/lab-new", "usr/lib/lab-dir", "etc/lab-new", "etc/passwd", "usr/bin/tar"} {
		v.walk(top)
	}
	return v.view
}

// needsExt4 skips the test where no ext4 can be mounted from a file.
func needsExt4(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		testenv.Unable(t, err.Error())
	}
	out, err := exec.Command("losetup", "-f").CombinedOutput()
	if err != nil {
		testenv.Unable(t, fmt.Sprintf("no loop device: %v %s", err, out))
	}
	if _, err := os.Stat(strings.TrimSpace(string(out))); err != nil {
		testenv.Unable(t, err.Error())
	}
}

// ext4 mounts an ext4 file system on the node at /run/ext4.
const ext4 = `mknod /dev/loop-control c 10 237; for i in 0 1 2 3 4 5 6 7; do mknod /dev/loop$i b 7 $i; done
truncate -s 512M /run/ext4.img && mkfs.ext4 -q /run/ext4.img && mkdir /run/ext4 && mount -o loop /run/ext4.img /run/ext4`

// mounted mounts an overlay over the image's layers on the node, and returns its
// merged view.
func (n *node) mounted(upper string) map[string]string {
	n.t.Helper()
	n.run("mkdir -p '" + upper + ".work' /run/merged && mount -t overlay overlay -o lowerdir=/run/lower:/run/base,upperdir='" +
		upper + "',workdir='" + upper + ".work' /run/merged")
	return viewAt(n.t, n.root+"/run/merged")
}

// TestOffline restores into upper dirs without an overlay, on both kinds of file
// system that live systems have theirs on, and mounts them afterwards.
func TestOffline(t *testing.T) {
	for _, fs := range []string{"tmpfs", "ext4"} {
		t.Run(fs, func(t *testing.T) {
			m := newMachine(t)
			base := "/run/offline"
			if fs == "ext4" {
				needsExt4(t)
				t.Setenv("UPPER_FS", "ext4")
				base = "/run/ext4"
			}
			s := openStore(t, t.TempDir())
			n := m.boot(t, "")
			n.change()
			n.run("rm /lab/huge") // contents are compared here
			manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
			must(t, err)
			before := n.view()

			n = m.boot(t, "")
			if fs == "ext4" {
				n.run(ext4)
			} else {
				n.run("mkdir " + base)
			}
			fresh := n.view()
			req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodOffline, Dir: base + "/rw", Verify: true}
			for _, cut := range []cutting{
				{script: "# unpack", after: 512}, {script: "# unpack", after: 60_000}, {script: "# list", after: 30},
			} {
				cut.Conn = n.redial(m)
				if _, err := overlay.Restore(t.Context(), &cut, s, req); err == nil {
					t.Errorf("%s cut after %d bytes passed for a restore", cut.script, cut.after)
				}
				if got := n.run("ls -d " + base + "/rw* 2>&1"); got != base+"/rw.livecd-sync\n" {
					t.Errorf("after a cut there are %q", got)
				}
			}
			n.run("mkdir " + base + "/empty")
			for _, dir := range []string{base + "/rw", base + "/empty"} {
				req.Dir = dir
				report, err := overlay.Restore(t.Context(), n.conn, s, req)
				must(t, err)
				if len(report.Differences) > 0 || len(report.Warnings) > 0 {
					t.Errorf("report: %+v", report)
				}
				if list := differences(before, n.mounted(dir)); len(list) > 0 {
					t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
				}
				if got := n.run("ls -A " + dir + "; umount /run/merged"); strings.Contains(got, ".livecd-sync") {
					t.Errorf("left behind: %s", got)
				}
			}
			if list := differences(fresh, n.view()); len(list) > 0 {
				t.Errorf("the running system was changed:\n%s", strings.Join(list, "\n"))
			}
			running, err := overlay.Probe(t.Context(), n.conn)
			must(t, err)
			if running.Restored.ID != "" || running.Whole() != nil {
				t.Errorf("the running overlay says that it holds %q: %v", running.Restored.ID, running.Whole())
			}
		})
	}
}

// TestOfflineContinues finishes in an existing directory what was cut off there.
func TestOfflineContinues(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()
	n = m.boot(t, "")
	n.run("mkdir /run/d")
	req := overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: overlay.MethodOffline, Dir: "/run/d"}
	if _, err := overlay.Restore(t.Context(), &cutting{n.redial(m), "# unpack", 90_000}, s, req); err == nil {
		t.Error("a restore that was cut passed for one")
	}
	n.run("[ -e /run/d/.livecd-sync-restoring ] && mkdir -p /run/d/lab && echo stale >/run/d/lab/stale")
	report, err := overlay.Restore(t.Context(), n.conn, s, req)
	must(t, err)
	if len(report.Differences) > 0 || !strings.Contains(fmt.Sprint(report.Notes), "had been cut off") {
		t.Errorf("report: %+v", report)
	}
	if list := differences(before, n.mounted("/run/d")); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
}

// TestOfflineRefuses names directories that must not be written to.
func TestOfflineRefuses(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("head -c 100000 /dev/urandom >/lab/new")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n.run(`mkdir /run/full && echo precious >/run/full/f && ln -s /run/full /run/link && echo f >/run/file
ln -s /run/overlay/overlayfs /run/way && mkdir /run/overlay/overlayfs/rw/sub /run/part.livecd-sync && echo precious >/run/part.livecd-sync/f
mkdir /run/bound && mount --bind /run/overlay/overlayfs/rw /run/bound
mkdir -p /run/o/l /run/o/u /run/o/w /run/o/m && mount -t overlay overlay -o lowerdir=/run/o/l,upperdir=/run/o/u,workdir=/run/o/w /run/o/m
mkdir /run/small && mount -t tmpfs -o size=16k tmpfs /run/small`)
	before := n.run("find /run/full /run/overlay /run/lower /run/o /run/part* /run/small /run/bound | sort")
	for dir, want := range map[string]string{
		"relative":                     "absolute",
		"/":                            "absolute",
		"/run/x/../y":                  "absolute",
		"/run/overlay/overlayfs/rw":    "upper dir /run/overlay/overlayfs/rw of the overlay on /,",
		"/run/overlay/overlayfs/rw/up": "upper dir /run/overlay/overlayfs/rw",
		"/run/way/rw/sub":              "upper dir /run/overlay/overlayfs/rw",
		"/run/bound/sub":               "upper dir /run/overlay/overlayfs/rw",
		"/run/overlay/overlayfs/work":  "work dir",
		"/run/lower/lab/emptied/x":     "lower layer /run/lower",
		"/run/o/u":                     "upper dir /run/o/u of the overlay on /run/o/m",
		"/run/o/m/x":                   "itself on an overlay",
		"/lab/x":                       "itself on an overlay",
		"/run/full":                    "not empty",
		"/run/link":                    "not a directory",
		"/run/file":                    "not a directory",
		"/run/part":                    "part.livecd-sync",
		"/run/nowhere/x":               "not there",
		"/run/small/x":                 "MiB left",
	} {
		_, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{
			Node: "n1", ID: manifest.ID, Method: overlay.MethodOffline, Dir: dir,
		})
		if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if after := n.run("find /run/full /run/overlay /run/lower /run/o /run/part* /run/small /run/bound | sort"); after != before {
		t.Error("something was changed")
	}
}
