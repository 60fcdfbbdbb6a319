package overlay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// topLevel are the directories that the root of a system has and few others do
// (FHS 3.0). An overlay on which anything was done has one of them.
var topLevel = []string{"bin", "etc", "lib", "lib32", "lib64", "root", "sbin", "usr", "var"}

// rootsAt are those by which a directory inside an archive is taken for a root.
var rootsAt = []string{"etc", "usr", "var"}

// maxShape bounds what is kept of an archive's names.
const maxShape = 100

// A shape is what an archive's names tell of where in it a root lies.
type shape struct {
	tops  map[string]bool // the first parts of its names
	roots map[string]bool // the directories inside that look like a root
}

func (s shape) add(name string) {
	parts := strings.Split(name, "/")
	if len(s.tops) < maxShape {
		s.tops[parts[0]] = true
	}
	if parts[0] == "usr" { // which has directories of these names itself
		return
	}
	for i, part := range parts[1:] {
		if slices.Contains(rootsAt, part) && len(s.roots) < maxShape {
			s.roots[strings.Join(parts[:i+1], "/")] = true
			return
		}
	}
}

// isRoot reports whether the archive's own names are those of a root: several of
// its directories are, or one is and no other place looks like one. /run is never
// in an upper dir, since it is a file system of its own.
func (s shape) isRoot() bool {
	n := 0
	for _, name := range topLevel {
		if s.tops[name] {
			n++
		}
	}
	return !s.tops["run"] && (n > 1 || n == 1 && len(s.roots) == 0)
}

// String says for people what was found.
func (s shape) String() string {
	text := "it begins with " + some(s.tops)
	if len(s.roots) > 0 {
		text += ", and what looks like a root lies below " + some(s.roots)
	}
	return text
}

// some names a few.
func some(names map[string]bool) string {
	const shown = 5
	var list []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		list = append(list, fmt.Sprintf("%q", Printable(name)))
	}
	if more := len(list) - shown; more > 0 {
		list = append(list[:shown], fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}
