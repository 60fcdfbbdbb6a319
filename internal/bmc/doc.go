// Package bmc is the vocabulary in which the rest of livecd-sync speaks of a
// baseboard management controller: what it says of its machine (State), what
// it can be told to do (Actuator), how a family of them behaves (Profile), and
// what went wrong (Error).
//
// It holds no I/O and imports the standard library only, so that the planner,
// which may not reach a network, can use it. redfish speaks it over HTTPS,
// bmcsim answers in its place; the two never know each other.
package bmc
