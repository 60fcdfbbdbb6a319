package overlay_test

import (
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestLinkInThePlaceOfADirectory restores a directory that was read twice, for it
// changed meanwhile, over a link to another: what the link leads to is not the
// backup's.
func TestLinkInThePlaceOfADirectory(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && mkdir dir && echo 1 >dir/x && head -c 30000000 /dev/urandom >dir/y
(while :; do : >dir/new; rm dir/new; done) </dev/null >/dev/null 2>&1 &`)
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	t.Logf("changed: %q", got.Changed)
	n = m.boot(t, "")
	n.run("cd /lab && mkdir -p other/x/precious && echo mine >other/x/precious/f && echo mine >other/y && ln -s other dir")
	report, err := overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: got.ID})
	must(t, err)
	if left := n.run("cat /lab/other/x/precious/f /lab/other/y; [ -L /lab/dir ] && echo link; cat /lab/dir/x"); left != "mine\nmine\n1\n" {
		t.Errorf("%q; report %+v", left, report)
	}
}

// TestHalfIsNotSaved: a node on which a restore was cut off is not backed up, for
// whatever purpose.
func TestHalfIsNotSaved(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	got, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	n = m.boot(t, "")
	if _, err := overlay.Restore(t.Context(), &cutting{n.redial(m), "# extract", 512}, s, overlay.RestoreRequest{Node: "n1", ID: got.ID}); err == nil {
		t.Fatal("it was not cut off")
	}
	for _, purpose := range []overlay.Purpose{overlay.PurposeManual, overlay.PurposeDue, overlay.PurposeReset} {
		if _, err := overlay.Backup(t.Context(), n.conn, s, request(purpose)); err == nil {
			t.Errorf("it was backed up, for purpose %s", purpose)
		}
	}
}
