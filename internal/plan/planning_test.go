package plan

import (
	"bufio"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const (
	wantedURL = "http://10.1.1.1/iso/pit17.iso"
	otherURL  = "http://10.1.1.1/iso/pit16.iso"
)

var (
	noon      = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	wantedVol = site.Volume{ID: "PIT17", Created: "2026-11-01T00:00:00.00+00:00"}
	otherVol  = site.Volume{ID: "PIT16", Created: "2026-06-01T00:00:00.00+00:00"}
	testRow   = bmc.Profile{Name: "test", BootTargets: []string{"Cd"}}
)

// A row is a line of docs/planning.md.
type row struct{ wants, reset, power, drive, armed, phase, host, store, plan string }

func rows(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("../../docs/planning.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []row
	for sc := bufio.NewScanner(f); sc.Scan(); {
		c := strings.Split(strings.Trim(sc.Text(), "|"), "|")
		if len(c) != 9 {
			continue
		}
		for i := range c {
			c[i] = strings.TrimSpace(c[i])
		}
		if c[0] == "wants" || strings.HasPrefix(c[0], "---") {
			continue
		}
		out = append(out, row{c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]})
	}
	return out
}

func (r row) scene() (*site.Site, Observed) {
	n := site.Node{
		Name: "n1", Image: "pit-1.7", Reset: site.Reset(r.reset), Boot: site.Boot{Within: 30 * time.Minute},
		Pos: map[string]site.Pos{"": "site.yaml:1:1"},
	}
	switch r.wants {
	case "none":
		n.Image = site.NoImage
	case "-":
		n.Image = ""
	}
	if r.host != "-" {
		n.SSH = &site.SSH{Address: "10.0.0.1"}
		if r.host == "locked" || strings.HasSuffix(r.host, ", login") {
			n.Login = &site.Login{Within: 10 * time.Minute}
		}
		if r.store != "-" {
			n.Overlay = &site.Overlay{Store: "admin", Restore: site.RestoreLatest}
		}
		if strings.HasSuffix(r.store, ", repopulate") {
			n.Overlay.Repopulate = map[string]site.Source{"*.squashfs": {URL: "http://10.1.1.1/big/"}}
		}
	}
	s := &site.Site{Name: "test", Images: map[string]site.Image{"pit-1.7": {Name: "pit-1.7", URL: wantedURL}}, Nodes: []site.Node{n}}
	f := Facts{
		Profile: testRow, Host: r.hostFact(), Overlay: r.overlay(),
		BMC: bmc.State{
			Power: bmc.Power(r.power), Phase: map[string]bmc.Phase{"post": bmc.PhasePost, "os": bmc.PhaseOS}[r.phase],
			Media: r.media(), Boot: bmc.BootOverride{Enabled: "Disabled", Target: "Cd"},
			Resets: []bmc.ResetKind{bmc.GracefulShutdown, bmc.ForceOff, bmc.PowerUp, bmc.Restart},
		},
	}
	switch r.armed {
	case "yes":
		f.BMC.Boot.Enabled = "Once"
	case "always":
		f.BMC.Boot.Enabled = "Continuous"
	case "stuck":
		f.BMC.Boot.Enabled, f.Profile.OverrideStays = "Once", true
	case "cannot":
		f.BMC.Boot = bmc.BootOverride{}
		f.BMC.CannotArm = bmc.Refusal{Kind: bmc.KindUnsupported, Why: "it has no boot override", Hint: "boot it by hand"}
	}
	switch r.drive {
	case "absent":
		f.BMC.CannotMount = bmc.Refusal{Kind: bmc.KindUnsupported, Why: "it has no virtual media", Hint: "boot it another way"}
	case "unlicensed":
		f.BMC.CannotMount = bmc.Refusal{Kind: bmc.KindLicence, Why: "its licence mounts no image", Hint: "install another"}
	}
	return s, Observed{
		At: noon, Nodes: map[string]Facts{"n1": f},
		Images: map[string]ImageFacts{"pit-1.7": {Volume: wantedVol}},
	}
}

func (r row) media() bmc.Media {
	m := bmc.Media{Slot: "2"}
	switch r.drive {
	case "wanted":
		m.Image, m.Inserted = wantedURL, true
	case "other":
		m.Image, m.Inserted = otherURL, true
	case "stale":
		m.Image = wantedURL
	case "unnamed":
		m.Inserted = true
	case "disabled":
		m = bmc.Media{Access: bmc.AccessDisabled}
	case "absent":
		m = bmc.Media{Access: bmc.AccessNone}
	}
	return m
}

func (r row) hostFact() Host {
	live := HostLive{BootID: "boot-now", Volume: otherVol, Upper: "/run/overlay/overlayfs/rw"}
	if r.store == "restored, repopulate" {
		live.Restored = "old"
	}
	switch strings.TrimSuffix(r.host, ", login") {
	case "locked":
		return HostLocked{Err: errors.New("it let root in with none of: the key")}
	case "silent":
		return HostSilent{Err: errors.New("connection refused")}
	case "disk":
		return HostDisk{BootID: "boot-now"}
	case "live wanted":
		live.Volume = wantedVol
		return live
	case "live other":
		return live
	case "live ?":
		live.Volume = site.Volume{}
		return live
	}
	return HostUnknown{}
}

func (r row) overlay() OverlayFacts {
	kept := &Backup{ID: "old", At: noon.Add(-48 * time.Hour), BootID: "boot-before", Purpose: ForReset}
	switch strings.TrimSuffix(r.store, ", repopulate") {
	case "kept":
		return OverlayFacts{Latest: kept}
	case "sealed":
		return OverlayFacts{Latest: kept, NoKey: true}
	case "damaged":
		return OverlayFacts{Damaged: []Damage{{ID: "bad", Why: "a bit"}}}
	case "worn":
		return OverlayFacts{Latest: kept, Damaged: []Damage{{ID: "bad", Why: "a bit"}}}
	case "broken":
		return OverlayFacts{Err: errors.New("permission denied")}
	case "saved", "owed", "restored":
		return OverlayFacts{Latest: kept, Reboot: &Reboot{
			At: noon.Add(-time.Minute), BootID: "boot-before", Image: "pit-1.7", Backup: "old", Restore: "old",
		}}
	}
	return OverlayFacts{}
}

func outcome(np NodePlan) string {
	if np.Err != nil {
		return string(np.State) + " " + string(np.Err.Kind)
	}
	if len(np.Steps) == 0 {
		return string(np.State)
	}
	names := make([]string, 0, len(np.Steps))
	for _, s := range np.Steps {
		names = append(names, s.Action.Name())
	}
	return strings.Join(names, " ")
}

func TestPlanningPage(t *testing.T) {
	all := rows(t)
	if len(all) < 50 {
		t.Fatalf("the page's tables were not read: %d rows", len(all))
	}
	for _, r := range all {
		s, o := r.scene()
		np := Compute(s, o, nil).Nodes[0]
		if got := outcome(np); got != r.plan {
			t.Errorf("%+v\n got: %s\nerror: %v", r, got, np.Err)
		}
	}
}

// Whatever is planned leads somewhere: once done, nothing is left to do.
func TestPredictionLeavesNothing(t *testing.T) {
	for _, r := range rows(t) {
		for _, accept := range []map[string]bool{nil, {"n1": true}} {
			s, o := r.scene()
			p := Compute(s, o, accept)
			after := Compute(s, Predict(s, o, p), accept).Nodes[0]
			if p.Nodes[0].Err != nil {
				continue
			}
			if after.State != InSync {
				t.Errorf("%+v: after %s there is left: %s", r, outcome(p.Nodes[0]), outcome(after))
			}
		}
	}
}
