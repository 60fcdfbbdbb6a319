// Package report turns plans, results and events into text for people and JSON
// for programs.
//
// The two are twins. Text is written to be read at night by somebody who has to
// decide: what is destroyed comes first, nodes that need the same are one block,
// an error is followed by what to do next. JSON is one document with a version
// (Document), shared by the code that writes it and the code that reads a plan
// file back, and described in docs/json.md.
//
// Much of what is shown was said by a BMC or a node, and neither is to be
// trusted with the reader's terminal: every such string goes through clean
// (text) or safeJSON (JSON), and what looks like a credential in a URL is
// hidden in both.
//
// The package does no I/O beyond the writer or reader it is handed, and has no
// clock; it never imports what talks to BMCs or nodes.
package report
