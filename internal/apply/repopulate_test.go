package apply

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// What a backup left out is fetched by a step of its own: when that fails, the
// restore is done, and the next run does what is left.
func TestRepopulate(t *testing.T) {
	w := newWorld(t, bmcsim.Config{InitialPower: bmc.PowerOff})
	w.Node.Overlay.Repopulate = map[string]site.Source{"*.squashfs": {URL: "http://10.1.1.1/big/"}}
	w.Backups["kept"] = map[string]string{"etc/motd": "mine"}
	w.Taken = []string{"kept"}
	w.FailRepopulate = &bmc.Error{Kind: bmc.KindOverlay, Err: errors.New("the connection was cut"), Hint: "again"}
	r := w.apply()
	if r.Converged || r.Err == nil || !strings.Contains(r.Err.Error(), "connection was cut") {
		t.Fatalf("converged %v: %v", r.Converged, r.Err)
	}
	if w.Read("etc/motd") != "mine" || w.Note == nil || len(w.Repopulated) > 0 {
		t.Errorf("after the failure: %q, note %+v, %v", w.Read("etc/motd"), w.Note, w.Repopulated)
	}
	if got := names(r.After); !slices.Equal(got, []string{"repopulate"}) {
		t.Errorf("left to do: %v", got)
	}
	w.FailRepopulate = nil
	w.mustConverge()
	if w.Note != nil || !slices.Equal(w.Repopulated, []string{"kept"}) || w.Machine.Stats().Boots != 1 {
		t.Errorf("in the end: note %+v, %v, %+v", w.Note, w.Repopulated, w.Machine.Stats())
	}
}
