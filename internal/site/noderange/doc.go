// Package noderange reads and writes lists of nodes the way ClusterShell and
// pdsh do:
//
//	x3000c0s[1-9]b0n0        nine nodes
//	ncn-m00[1-3],ncn-w001    four
//	nid[000001-000009/2]     every second one, zeros kept
//	x[1000-1003]c[0-7]       every pair, the last range running fastest
//	@compute                 the nodes of a group
//
// Expand turns such text into names and Fold turns names into such text; Select
// picks nodes of a site.
package noderange
