package overlay_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestRestart restores under processes that hold what is replaced and removed,
// and others that hold what the restore has nothing to do with.
func TestRestart(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run("cp /usr/bin/sleep /usr/bin/sleep.new && mv /usr/bin/sleep.new /usr/bin/sleep")
	manifest, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)

	n = m.boot(t, "")
	n.hold()
	n.run(`sleep 1000 </dev/null >/dev/null 2>&1 &
echo mine >/lab/own-temporary; (exec dd bs=1 if=/run/never-ends 3</lab/own-temporary) </dev/null >/dev/null 2>&1 &
mkfifo /run/never-ends; rm /lab/own-temporary`)
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	held := make(map[string][]string)
	for _, h := range report.Restart {
		t.Log(h)
		held[h.Command] = append(held[h.Command], h.Files...)
	}
	for _, want := range []string{"/lab/modified", "/lab/gone-file", "/lab/gone-dir", "/lab/opaque", "/lab/opaque/sub"} {
		if !slices.Contains(held["tail"], want) {
			t.Errorf("%s is held by tail, and not told: %q", want, held["tail"])
		}
	}
	if !slices.Contains(held["sleep"], "/usr/bin/sleep") {
		t.Errorf("sleep runs a program that was replaced: %q", held)
	}
	for _, files := range held {
		for _, name := range files {
			if strings.Contains(name, "own-temporary") || name == "/lab/held" || name == "/usr/bin" {
				t.Errorf("%s was told, and the restore has nothing to do with it", name)
			}
		}
	}
	n = m.boot(t, "")
	report, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	if len(report.Restart) > 0 || len(report.Notes) > 1 {
		t.Errorf("nothing holds anything: %+v %q", report.Restart, report.Notes)
	}
}
