// Package archtest holds the rules of docs/architecture.md as tests: who may
// import whom, what the planner may call, that BMCs are never told apart by
// their vendor's name, and that the pages which list things list what is there.
//
// A rule is a func from a picture of the module to sentences, one for each place
// that breaks it. Every rule is also shown a picture that breaks it, for a rule
// that cannot fail says nothing.
package archtest
