// Package apply runs a plan: each node's steps in their order, many nodes at a
// time, and at the end looks again whether anything is left to do.
//
// For each node, on one connection to its BMC:
//
//  0. The run claims the node, so that it is its only writer. If another may have
//     changed the node since it was planned, it is looked at again.
//  1. Steps that harm nothing are run as they come.
//  2. Just before the first one that does, the node is observed again. If the
//     plan made from that is not the rest of this one, the node is left alone.
//  3. Still before it, the store gets a note (plan.Reboot) of what is about to
//     end and what is to be restored, for the run that may have to finish this.
//  4. Every write is read back until it shows, within a limit. A write whose
//     answer was lost is read back too, and never repeated.
//  5. A machine is started once. What cannot be seen is reported, not reset.
//  6. Observed again, the node counts as converged when a plan of it is empty.
//
// A run has two ways to end early: stop, after which no step is started and a
// running one comes to a safe point, and the context, which ends everything. A
// node whose claim is lost ends as with stop.
package apply
