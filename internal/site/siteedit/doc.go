// Package siteedit changes a site file's text where it says which certificate a
// BMC must show, and leaves every other byte as a person wrote it.
//
// The places are found in the tree of YAML nodes, and the change is made in the
// text: a tree that is written out again loses blank lines and quotes. What
// came out is read as a site file again, and is refused unless it says the same
// as before but for what was to change.
package siteedit
