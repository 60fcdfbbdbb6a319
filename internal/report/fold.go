package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// A block is the nodes of which the same is told.
type block struct {
	key   string
	nodes []plan.NodePlan
}

func (b block) names() []string { return namesOf(b.nodes) }

func namesOf(nodes []plan.NodePlan) []string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Node
	}
	return names
}

// blocks puts nodes with the same key together, in the order in which the keys
// first come up.
func blocks(nodes []plan.NodePlan, key func(plan.NodePlan) string) []block {
	var bs []block
	at := make(map[string]int)
	for _, n := range nodes {
		k := key(n)
		i, ok := at[k]
		if !ok {
			i = len(bs)
			at[k] = i
			bs = append(bs, block{key: k})
		}
		bs[i].nodes = append(bs[i].nodes, n)
	}
	return bs
}

// planKey is equal for nodes that one block can be about: those that need the
// same steps for the same reasons, or have the same error.
func planKey(o Options) func(plan.NodePlan) string {
	return func(n plan.NodePlan) string {
		switch {
		case o.Verbose:
			return n.Node
		case n.State == plan.Failed:
			return string(n.State) + "\n" + fmt.Sprint(n.Drift) + errorKey(n.Err, ownOf(n))
		case n.Err != nil:
			return string(n.State) + "\n" + errorKey(n.Err, ownOf(n))
		}
		return string(n.State) + "\n" + driftKey(n) + stepsKey(n)
	}
}

func errorKey(err error, o own) string {
	return strings.Join([]string{
		string(bmc.KindOf(err)), shapeOf(clean(err.Error()), o).pattern, shapeOf(clean(bmc.HintOf(err)), o).pattern,
	}, "\n")
}

func driftKey(n plan.NodePlan) string {
	var b strings.Builder
	for _, d := range n.Drift {
		fmt.Fprintf(&b, "%s\n%s\n%s\n", d.Field, shapeOf(clean(d.Want), ownOf(n)).pattern, shapeOf(clean(d.Got), ownOf(n)).pattern)
	}
	return b.String()
}

func stepsKey(n plan.NodePlan) string {
	o := ownOf(n)
	var b strings.Builder
	for _, s := range n.Steps {
		fmt.Fprintf(&b, "%s\n%s\n%s\n", s.Action.Name(), shapeOf(clean(s.Action.String()), o).pattern, shapeOf(clean(s.Because), o).pattern)
	}
	return b.String()
}

// ownOf collects what is a node's own: longer identifiers first, for one may
// be the beginning of another.
func ownOf(n plan.NodePlan) own {
	ids := hostIDs(n.Facts.Host)
	if b := n.Facts.Overlay.Latest; b != nil {
		ids = append(ids, b.ID, b.BootID)
	}
	if r := n.Facts.Overlay.Reboot; r != nil {
		ids = append(ids, r.Backup, r.Restore, r.BootID)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return len(id) < len("latest") })
	slices.SortFunc(ids, func(a, b string) int { return len(b) - len(a) })
	return own{node: n.Node, ids: ids}
}

func hostIDs(h plan.Host) []string {
	switch h := h.(type) {
	case plan.HostDisk:
		return []string{h.BootID}
	case plan.HostLive:
		return []string{h.BootID, h.Restored, h.Restoring}
	case plan.HostSilent, plan.HostLocked, plan.HostUnknown:
	}
	return nil
}

// together writes one sentence for all nodes, given what is said of each; all
// of the sentences have one shape. names stands for the nodes' names.
func together(nodes []plan.NodePlan, names string, text func(plan.NodePlan) string) string {
	if alike(nodes, text) {
		return clean(text(nodes[0]))
	}
	shapes := make([]shape, len(nodes))
	for i, n := range nodes {
		shapes[i] = shapeOf(clean(text(n)), ownOf(n))
	}
	return unshape(shapes, names)
}

// alike reports whether the very same is said of all nodes.
func alike(nodes []plan.NodePlan, text func(plan.NodePlan) string) bool {
	first := text(nodes[0])
	for _, n := range nodes[1:] {
		if text(n) != first {
			return false
		}
	}
	return true
}

// A telling is one sentence about some of the nodes.
type telling struct {
	text  string
	nodes []plan.NodePlan
}

// tellings folds what is said of the nodes, any number of sentences each, into
// one sentence for each shape.
func tellings(nodes []plan.NodePlan, said func(plan.NodePlan) []string) []telling {
	type about struct {
		nodes  []plan.NodePlan
		shapes []shape
	}
	var order []string
	found := make(map[string]*about)
	for _, n := range nodes {
		for _, text := range said(n) {
			s := shapeOf(clean(text), ownOf(n))
			a := found[s.pattern]
			if a == nil {
				a = &about{}
				found[s.pattern] = a
				order = append(order, s.pattern)
			}
			a.nodes, a.shapes = append(a.nodes, n), append(a.shapes, s)
		}
	}
	out := make([]telling, 0, len(order))
	for _, k := range order {
		out = append(out, telling{text: unshape(found[k].shapes, ""), nodes: found[k].nodes})
	}
	return out
}
