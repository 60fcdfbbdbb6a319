package plan

import (
	"maps"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Predict returns what would be observed if every step of p succeeded, without
// touching o. Compute of a prediction finds nothing left to do: the property
// that keeps plans from going round in circles.
func Predict(s *site.Site, o Observed, p Plan) Observed {
	after := Observed{At: o.At, Nodes: maps.Clone(o.Nodes), Images: o.Images}
	for _, n := range s.Nodes {
		np, ok := p.Node(n.Name)
		if !ok {
			continue
		}
		f := after.Nodes[n.Name]
		w := world{node: n, facts: &f, observed: o}
		for _, step := range np.Steps {
			w.do(step.Action)
		}
		after.Nodes[n.Name] = f
	}
	return after
}

// A world is one node, and what becomes of it.
type world struct {
	node     site.Node
	facts    *Facts
	observed Observed
}

// newBackup is the ID that Predict gives to a backup that a plan makes.
const newBackup = "predicted"

func (w world) do(a Action) {
	m := &w.facts.BMC
	switch a := a.(type) {
	case BackupOverlay:
		w.backup(a.Purpose)
	case PowerOff:
		m.Power, m.Phase = bmc.PowerOff, bmc.PhaseOff
		w.hostGone()
	case EnableMedia:
		m.Media = bmc.Media{Access: bmc.AccessReady, Slot: m.Media.Slot}
	case EjectMedia:
		m.Media.Image, m.Media.ImageName, m.Media.Inserted = "", "", false
	case InsertMedia:
		m.Media.Image, m.Media.ImageName, m.Media.Inserted = a.URL, "", true
	case SetBootOnce:
		m.Boot.Enabled, m.Boot.Target = "Once", firstTarget(w.facts.Profile)
	case ClearBoot:
		m.Boot.Enabled, m.Boot.Target = "Disabled", "None"
	case PowerOn, Reset:
		m.Power, m.Phase = bmc.PowerOn, bmc.PhasePost
		w.hostGone()
	case AwaitBoot:
		w.booted()
	case Login:
		w.loggedIn(a)
	case RestoreOverlay:
		w.restored(a)
	case Repopulate:
		w.facts.Overlay.Reboot = nil
	}
}

func firstTarget(p bmc.Profile) string {
	if len(p.BootTargets) == 0 {
		return ""
	}
	return p.BootTargets[0]
}

func (w world) hostGone() {
	if _, unknown := w.facts.Host.(HostUnknown); !unknown {
		w.facts.Host = HostSilent{}
	}
}

func (w world) backup(purpose Purpose) {
	b := Backup{ID: newBackup, At: w.observed.At, Image: w.node.Image, Purpose: purpose}
	if h, live := w.facts.Host.(HostLive); live {
		b.BootID = h.BootID
	}
	w.facts.Overlay.Latest = &b
}

func (w world) booted() {
	w.facts.BMC.Power, w.facts.BMC.Phase = bmc.PowerOn, bmc.PhaseOS
	if w.facts.BMC.Boot.Enabled == "Once" {
		w.facts.BMC.Boot.Enabled, w.facts.BMC.Boot.Target = "Disabled", "None"
	}
	if _, unknown := w.facts.Host.(HostUnknown); !unknown {
		w.facts.Host = HostLive{BootID: "predicted", Volume: w.observed.Images[w.node.Image].Volume}
	}
}

// loggedIn: what the node runs can be asked now.
func (w world) loggedIn(a Login) {
	if _, live := w.facts.Host.(HostLive); live {
		return
	}
	h := HostLive{BootID: "predicted"}
	if a.Image != "" {
		h.Volume = w.observed.Images[a.Image].Volume
	}
	w.facts.Host = h
}

func (w world) restored(a RestoreOverlay) {
	w.facts.Overlay.Reboot = nil
	if h, live := w.facts.Host.(HostLive); live {
		h.Restored, h.Restoring = a.From, ""
		w.facts.Host = h
	}
}
