package overlay_test

import (
	"os"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestRoundTrip changes a real overlay in every way, backs it up, boots anew,
// restores onto the running system while processes hold what is to change, and
// compares all that can be seen.
func TestRoundTrip(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if !running.Live || running.UpperDir != "/run/overlay/overlayfs/rw" || !running.Root || running.PVD == nil {
		t.Fatalf("probe: %+v", running)
	}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	t.Logf("%+v", manifest)
	if !manifest.Portable || manifest.Partial || len(manifest.Warnings) > 0 {
		t.Errorf("manifest: %+v", manifest)
	}
	before := n.view()

	n = m.boot(t, "")
	if list := differences(before, n.view()); len(list) < 50 {
		t.Fatalf("the fresh boot is too like the old one: %d differences", len(list))
	}
	n.hold()
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if len(report.Differences) > 0 || len(report.Warnings) > 0 {
		t.Errorf("report: %+v", report)
	}
	if list := differences(before, n.view()); len(list) > 0 {
		t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
	}
	running, err = overlay.Probe(t.Context(), n.conn)
	must(t, err)
	if running.Restored.ID != manifest.ID {
		t.Errorf("the node tells that it holds %q", running.Restored.ID)
	}
	// The system goes on with what it has now.
	n.run("cd /lab && echo more >>held/f && echo more >>appended && touch /usr/bin/lab-2 gone-file && mkdir -p gone-dir/deep && mv replaced again")
}

// TestPageProcedure puts the procedure that livecd-sync replaces through the
// same comparison, which must not pass.
func TestPageProcedure(t *testing.T) {
	m := newMachine(t)
	n := m.boot(t, "")
	n.change()
	n.run("cd /lab && rm huge") // would fill the memory on the way back
	n.run("cd /run/overlay/overlayfs && tar czf /run/overlay.tar.gz rw")
	before := n.view()
	archive, err := os.ReadFile(n.root + "/run/overlay.tar.gz")
	must(t, err)

	n = m.boot(t, "")
	n.hold()
	must(t, os.WriteFile(n.root+"/run/overlay.tar.gz", archive, 0o600))
	n.run("cd /run/overlay/overlayfs && tar xf /run/overlay.tar.gz; mount -o remount /")
	after := n.view()
	list := differences(before, after)
	t.Logf("%d of %d differ", len(list), len(before))
	for _, lost := range []string{"lab/capable", "lab/acl-file", "lab/acl-dir", "lab/xattrs", "lab/opaque/old", "lab/sparse"} {
		if before[lost] == after[lost] {
			t.Errorf("%s was restored, and cannot have been", lost)
		}
	}
}

// TestMountsAreSpared restores over a directory on which something is mounted
// meanwhile: neither the mount nor what is in it may suffer.
func TestMountsAreSpared(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)

	n = m.boot(t, "")
	n.run(`mount -t tmpfs tmpfs /lab/mounted/under && echo precious >/lab/mounted/under/data
mount -t tmpfs tmpfs /lab/kept && echo precious >/lab/kept/data
rm -rf /lab/acl-dir && mkdir /tmp/lab-outside && echo precious >/tmp/lab-outside/modified && ln -s /tmp/lab-outside /lab/acl-dir
rm -rf /lab/turned-dir /lab/sealed && ln -s /tmp/lab-outside /lab/turned-dir && ln -s ../tmp/lab-outside /lab/opaque-2
mkdir '/lab/odd names' && mount -t tmpfs tmpfs '/lab/odd names'
mkdir -p /run/lab-outside && echo precious >/run/lab-outside/f && ln -s /run/lab-outside /lab/sealed`)
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	t.Logf("%v %+v", err, report)
	got := n.run("cat /lab/mounted/under/data /lab/kept/data /tmp/lab-outside/modified /run/lab-outside/f; ls -A /tmp/lab-outside /run/lab-outside")
	if want := strings.Repeat("precious\n", 4) + "/run/lab-outside:\nf\n\n/tmp/lab-outside:\nmodified\n"; got != want {
		t.Errorf("what was mounted or linked to has changed: %q", got)
	}
	if got := n.run("cd /lab && ls -A 'odd names' && umount 'odd names' && ls 'odd names/a b'"); got != "odd names/a b\n" {
		t.Errorf("below a mount: %q", got)
	}
	if got := n.run("cat /lab/turned-dir/f /lab/sealed/f"); got != "in\ns\n" {
		t.Errorf("directories in place of links: %q", got)
	}
}

// TestPartsOfFiles backs up overlays that keep only part of what was changed:
// the rest is in the image. What is stored has all of it, and is right over an
// image that has changed, too.
func TestPartsOfFiles(t *testing.T) {
	for _, options := range []string{"metacopy=on,redirect_dir=on", "metacopy=on,redirect_dir=on,index=on"} {
		t.Run(options, func(t *testing.T) {
			m := newMachine(t)
			s := openStore(t, t.TempDir())
			n := m.boot(t, options)
			n.change()
			n.run(`cd /lab && mv moved moved-again && mkdir new-dir && mv kept new-dir/kept && echo more >new-dir/kept/a/b/more
chmod 640 linked-lower && mv held held-2 && rm held-2/f && echo z >held-2/new && mkdir held-2/sub && chmod 600 /usr/bin/env`)
			manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
			must(t, err)
			if !manifest.Portable || manifest.Flattened == 0 || manifest.Options.Metacopy != "on" || len(manifest.Warnings) > 0 {
				t.Errorf("manifest: %+v", manifest)
			}
			before := n.view()

			n = m.boot(t, "")
			report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
			must(t, err)
			if len(report.Differences) > 0 {
				t.Errorf("report: %+v", report)
			}
			if list := differences(before, n.view()); len(list) > 0 {
				t.Errorf("%d differences:\n%s", len(list), strings.Join(list, "\n"))
			}
		})
	}
}
