package siteload

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Pos is a place in a file. Line and Column count from 1, columns in
// characters; they are 0 when the file as a whole is meant.
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String gives "site.yaml:31:12".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// An Error is one thing that is wrong with a site file.
type Error struct {
	Pos     Pos    `json:"pos"`
	Path    string `json:"path,omitempty"` // nodes."ncn-m001".image; "" for the file
	Message string `json:"message"`        // what is wrong
	Hint    string `json:"hint"`           // what to write instead

	cause error
}

// Error gives position, path, message and hint on one line.
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Pos.String())
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path)
		b.WriteString(": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Unwrap gives the error of the file system, if that is what happened.
func (e Error) Unwrap() error { return e.cause }

// Errors is everything that is wrong with a site file, in the order of the
// file. It is what Load and Parse return when they do not return a Site.
type Errors []Error

// Error gives one error a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives the errors one by one.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// sorted returns the errors in the order of the file, each once: what the
// defaults have wrong is found again for each node that inherits it.
func (es Errors) sorted() Errors {
	es = slices.Clone(es)
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Message, b.Message))
	})
	return slices.CompactFunc(es, func(a, b Error) bool {
		return a.Pos == b.Pos && a.Path == b.Path && a.Message == b.Message
	})
}
