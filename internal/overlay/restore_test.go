package overlay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
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
