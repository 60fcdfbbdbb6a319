package overlay_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/nodeside"
	"github.com/livecd-sync/livecd-sync/internal/testenv"
)

// TestShells restores by each method on nodes whose sh is another.
func TestShells(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	before := n.view()
	for _, shell := range []string{"dash", "bash"} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				testenv.Unable(t, err.Error())
			}
			n := m.boot(t, "")
			n.systemd("254", "0")
			n.run("cp " + path + " /usr/local/bin/sh")
			for _, req := range []overlay.RestoreRequest{
				{Method: overlay.MethodOffline, Dir: "/run/next"}, {Method: overlay.MethodNextRoot}, {},
			} {
				req.Node, req.ID = "n1", manifest.ID
				report, err := overlay.Restore(t.Context(), n.conn, s, req)
				must(t, err)
				if len(report.Differences) > 0 || len(report.Warnings) > 0 {
					t.Errorf("%s: %+v", req.Method, report)
				}
			}
			for root, view := range map[string]map[string]string{"/": n.view(), "/run/nextroot": viewAt(t, n.root+"/run/nextroot"), "/run/next": n.mounted("/run/next")} {
				if list := differences(before, view); len(list) > 0 {
					t.Errorf("%s: %d differences:\n%s", root, len(list), strings.Join(list, "\n"))
				}
			}
		})
	}
}

// TestBusyboxShell has a shell that takes its own tar for tar, as some builds of
// busybox do: what GNU's tools are needed for is done by the program of package
// nodeside, and a soft reboot is refused before anything is touched.
func TestBusyboxShell(t *testing.T) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	if out, err := exec.Command(path, "sh", "-c", "tar --version").CombinedOutput(); err == nil && strings.Contains(string(out), "GNU tar") {
		testenv.Unable(t, "this build of busybox looks for programs before it looks for its own")
	}
	if _, err := nodeside.Program("x86_64"); err != nil {
		testenv.Unable(t, err.Error()+": "+bmc.HintOf(err))
	}
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	n.run("cp " + path + " /usr/local/bin/sh")
	restore := func(method overlay.Method) (overlay.RestoreReport, error) {
		return overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID, Method: method, Dir: "/run/next"})
	}
	if _, err := restore(overlay.MethodNextRoot); bmc.KindOf(err) != bmc.KindUnsupported || !strings.Contains(err.Error(), "GNU tar") {
		t.Errorf("nextroot: %v", err)
	}
	if got := n.run("ls -d /run/next /run/nextroot /run/livecd-sync 2>/dev/null; true"); got != "" {
		t.Errorf("something was changed: %s", got)
	}
	for _, method := range []overlay.Method{overlay.MethodOffline, overlay.MethodMerged} {
		if report, err := restore(method); err != nil || len(report.Differences) > 0 || len(report.Warnings) > 0 {
			t.Errorf("%s: %v %+v", method, err, report)
		}
	}
}
