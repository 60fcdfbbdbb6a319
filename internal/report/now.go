package report

import (
	"errors"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// errUntold stands in for the error of a node that is blocked or failed and does
// not say why, which no planner of ours makes.
var errUntold = errors.New("the reason is not told")

// now says in one line how a node stands.
func now(n plan.NodePlan) string {
	if n.Facts.Err != nil && n.Facts.BMC.ID == (bmc.Identity{}) {
		return "its BMC gave no answer; " + runs(n)
	}
	id := n.Facts.BMC.ID
	parts := []string{
		strings.Join(strings.Fields(clean(id.Vendor+" "+id.Product+" "+id.Firmware)), " "),
		"power " + power(n.Facts.BMC.Power),
		mounted(n.Facts.BMC.Media) + " mounted",
		runs(n),
	}
	if parts[0] == "" {
		parts = parts[1:]
	}
	return strings.Join(parts, "; ")
}

func power(p bmc.Power) string {
	if p == bmc.PowerUnknown {
		return "unknown"
	}
	return clean(string(p))
}

// mounted names what is in the drive, in one word or two.
func mounted(m bmc.Media) string {
	image := clean(mountedImage(m))
	switch {
	case m.Access == bmc.AccessDisabled:
		return "(media disabled) nothing"
	case m.Access == bmc.AccessNone:
		return "(no virtual media) nothing"
	case !m.Inserted && bmc.EmptyName(image):
		return "nothing"
	case bmc.EmptyName(image):
		return "an unnamed image"
	case !m.Inserted:
		return image + " named but not"
	}
	return image
}

// runs says what runs on the node, as far as it says so itself.
func runs(n plan.NodePlan) string {
	switch h := n.Facts.Host.(type) {
	case plan.HostSilent:
		return "no answer by ssh"
	case plan.HostLocked:
		return "waits for its first login"
	case plan.HostDisk:
		return "runs from disk"
	case plan.HostLive:
		if h.Volume.ID == "" {
			return "runs a live image"
		}
		return "runs " + clean(h.Volume.ID)
	case plan.HostUnknown:
	}
	return "not asked what it runs"
}
