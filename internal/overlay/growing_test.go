package overlay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestFileThatGrows backs up a file that is written to all the time.
func TestFileThatGrows(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && head -c 30000000 /dev/urandom >log && ln log log-2
(while echo line >>log; do :; done) </dev/null >/dev/null 2>&1 & `)
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeReset))
	must(t, err)
	if fmt.Sprint(got.Changed) != "[./lab/log ./lab/log-2]" || got.Partial {
		t.Errorf("manifest: %+v", got)
	}
	n = m.boot(t, "")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
	must(t, err)
	if len(report.Differences) > 0 {
		t.Errorf("differences: %q", report.Differences)
	}
	if links := strings.TrimSpace(n.run("stat -c %h /lab/log")); links != "2" {
		t.Errorf("%s links, want 2", links)
	}
}
