// Package policy says what a watch may do to a node by itself. It does nothing,
// and reads no clock: it is handed facts.
//
//  1. The site file says which kinds of steps a watch may run. A plan with another
//     kind is left to a person as a whole; a backup that is due is made all the same.
//  2. What does harm begins only within the site file's window. What has begun is
//     brought to its end.
//  3. What a watch does for a wish, which is what the site file wants a node to run,
//     is written down before it is done (an Attempt), and outlives the watch.
//  4. For one wish a machine is ended once and started once. What was cut off is
//     continued, where it is certain that it did not happen: the same boot still
//     runs, or the machine is still off.
//  5. A node that failed is tried again after a pause that doubles. A node that
//     converges, or is wanted to run something else, begins anew.
//  6. Nodes that were reset in vain count among those that may be down at once.
package policy
