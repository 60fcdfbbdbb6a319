// Package siteload reads a site file.
//
// It goes in three steps, and every step reports all the errors it finds, so
// that a person mends a file once:
//
//  1. read: YAML to a tree of values that know where they stand.
//  2. check: the tree against #Site of schema/site.cue. A cue.Context only ever
//     grows, and ten thousand nodes in one value take seconds; but to the schema
//     two nodes with the same keys whose strings match the same patterns are the
//     same node. So CUE sees one node of each such shape (shape.go), and what it
//     says of that one is said of all.
//  3. resolve: names, ranges, defaults and paths, to a site.Site.
//
// Values in which a step finds an error stand for "anything" in the steps after
// it, so that one mistake is not reported twice.
//
// It is the only package that knows CUE; what it hands out is plain Go.
package siteload
