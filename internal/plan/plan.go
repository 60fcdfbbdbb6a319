package plan

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Plan is what Compute found: data, to be printed, saved, compared and run.
type Plan struct {
	Site   string
	Digest string // of the site file
	At     time.Time
	Nodes  []NodePlan // every node of the selection, in the site's order
}

// A NodePlan is what one node needs. Its steps are a list, not a graph: their
// order is physics.
type NodePlan struct {
	Node  string
	State State
	Facts Facts
	Drift []Drift
	Steps []Step
	// Err says why the node is failed or blocked; nil otherwise.
	Err *bmc.Error
	// Partial: the steps are only some of those that the node needs.
	Partial bool
	// Proof says by what the node is known to run what it should.
	Proof Proof
	// Notes are what a person should know and no step tells.
	Notes []string
}

// State is how a node stands.
type State string

// The states of a node. The values are stable within a version.
const (
	InSync  State = "in-sync"
	Change  State = "change"
	Blocked State = "blocked"
	Failed  State = "failed"
)

// Proof is how well it is known what a node runs.
type Proof string

// The proofs, strongest first (vendors.md 4).
const (
	ProofNode Proof = "node" // its live medium's volume, read on the node
	ProofBMC  Proof = "bmc"  // mounted, powered on, nothing armed: by the BMC's word only
	ProofNone Proof = ""
)

// A Drift is one difference between what is wanted and what is.
type Drift struct {
	Field string // "image", "media", "boot", "power", "overlay", "bmc.tls"
	Want  string
	Got   string
	At    site.Pos
}

// A Step is an action and its reason.
type Step struct {
	Action  Action
	Because string
}

// Summary counts nodes by state.
type Summary struct{ Nodes, InSync, Change, Blocked, Failed int }

// Summary counts the plan's nodes.
func (p Plan) Summary() Summary {
	s := Summary{Nodes: len(p.Nodes)}
	for _, n := range p.Nodes {
		switch n.State {
		case InSync:
			s.InSync++
		case Change:
			s.Change++
		case Blocked:
			s.Blocked++
		case Failed:
			s.Failed++
		}
	}
	return s
}

// Node returns the plan of the node of that name.
func (p Plan) Node(name string) (NodePlan, bool) {
	for _, n := range p.Nodes {
		if n.Node == name {
			return n, true
		}
	}
	return NodePlan{}, false
}

// Actions returns the steps' actions.
func (n NodePlan) Actions() []Action {
	as := make([]Action, len(n.Steps))
	for i, s := range n.Steps {
		as[i] = s.Action
	}
	return as
}

// EndsRunning reports whether a step ends whatever runs on the node.
func (n NodePlan) EndsRunning() bool {
	for _, s := range n.Steps {
		switch s.Action.(type) {
		case PowerOff, Reset:
			return true
		case BackupOverlay, RestoreOverlay, Repopulate, EjectMedia, InsertMedia, EnableMedia, SetBootOnce, ClearBoot, PowerOn, AwaitBoot, Login:
		}
	}
	return false
}
