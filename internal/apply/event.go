package apply

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// An Event is one thing that happened during a run, for whoever shows progress.
// Events of one node come in order; those of different nodes are interleaved.
type Event struct {
	At   time.Time
	Node string
	// Step counts from 1; 0 when the event is about the node as a whole.
	Step, Of int
	Action   plan.Action // nil when the event is about the node as a whole
	Phase    Phase
	Detail   string // in words, for a person; may be empty
	Err      error
}

// Phase is where a step or a node stands.
type Phase string

// The phases.
const (
	Started  Phase = "started"
	Progress Phase = "progress"
	Done     Phase = "done"
	Failed   Phase = "failed"
	Skipped  Phase = "skipped"
)

// Outcome is how a step ended. The values are stable within a version.
type Outcome string

// The outcomes of a step.
const (
	OutcomeDone    Outcome = "done"
	OutcomeFailed  Outcome = "failed"
	OutcomeSkipped Outcome = "skipped"
)

// A Result is how a run ended, one entry for each node of the plan.
type Result struct {
	Plan  plan.Plan // as it was run
	Nodes []NodeResult
}

// A NodeResult is how a node ended.
type NodeResult struct {
	Node string
	// Steps has one entry for each step of the node's plan.
	Steps []StepResult
	// After is the node's plan as computed from the last observation; its
	// state is in-sync when the node converged.
	After plan.NodePlan
	// Converged: observed again at the end, and nothing is left to do.
	Converged bool
	// Err is why the node did not converge: a *bmc.Error.
	Err error
}

// A StepResult is how a step ended.
type StepResult struct {
	Outcome Outcome
	Took    time.Duration
	Err     error
}
