package overlay_test

import (
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/localremote"
)

// TestNamesTooLong has names that GNU tar packs and does not extract, for no system
// call takes them: they are restored, and where they cannot be compared it is said.
func TestNamesTooLong(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	part := strings.Repeat("d", 250)
	down := "cd /lab && for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17; do mkdir -p " + part + "; cd -P ./" + part + "; done"
	n.run(down + " && echo deep >file")
	made, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)

	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: made.ID})
	must(t, err)
	if got := n.run(down + " && cat file"); got != "deep\n" {
		t.Errorf("restored: %q", got)
	}
	if len(report.Differences)+len(report.Warnings)+len(report.Notes) > 1 { // that the image is not known
		t.Errorf("report: %+v", report)
	}
	// What is compared through a mount of its own is asked for in whole names.
	notes, err := overlay.VerifyDeep(t.Context(), localremote.Remote{}, s, "n1", made.ID, scratchDir(t), nil)
	must(t, err)
	if text := strings.Join(notes, "\n"); strings.Count(text, "longer than 4095 bytes and were not compared") != 1 {
		t.Errorf("it is not said, once, that names were not compared: %q", notes)
	}
}
