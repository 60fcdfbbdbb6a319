package overlay_test

import (
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestRestoreThatLacks: what is removed once while a restore runs comes back;
// what goes on being removed makes the restore fail, by name.
func TestRestoreThatLacks(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("cd /lab && echo 1 >removed && rm gone-file")
	made, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)

	restore := func(remover string) (overlay.RestoreReport, error) {
		n := m.boot(t, "")
		n.run(remover)
		return overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: made.ID})
	}
	report, err := restore(`(while [ ! -e /lab/removed ]; do :; done; rm /lab/removed) </dev/null >/dev/null 2>&1 &`)
	if err != nil || len(report.Differences) > 0 {
		t.Errorf("removed once: %v, %q", err, report.Differences)
	}
	report, err = restore(`(while :; do rm -f /lab/removed; echo >/lab/gone-file; done) </dev/null >/dev/null 2>&1 &`)
	if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" || !strings.Contains(strings.Join(report.Differences, " "), "removed: is missing") {
		t.Errorf("removed again and again: %v, %q", err, report.Differences)
	}
}
