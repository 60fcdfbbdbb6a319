// Package faultwalk is a test: whole flows, planned and applied over real
// connections, with each misfortune at each request that they make.
//
// However a flow ends, it has converged or says why not; the machine was started
// once at most; nothing that may have acted was sent again unseen; no session is
// left; and a further apply converges, with the overlay as it was.
package faultwalk
