package noderange

import (
	"errors"
	"fmt"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/site/spelling"
)

// A Universe is the nodes that can be selected, and their groups; of a site s,
// Universe{s.NodeNames(), s.Groups}.
type Universe struct {
	Names  []string
	Groups map[string][]string
}

// ErrNoneLeft is the error of Select when everything was excluded.
var ErrNoneLeft = errors.New("no node is left to work on; exclude fewer nodes, or name more")

// Select returns the nodes that the include expressions name and the exclude
// expressions do not, in the order of u.Names. Without include it starts from
// all nodes. A node or group that the site does not have is an error, in
// exclude too: it is a misspelling, and would leave a node in. The errors are
// of type *Error, or ErrNoneLeft.
func (u Universe) Select(include, exclude []string) ([]string, error) {
	known := make(map[string]bool, len(u.Names))
	for _, n := range u.Names {
		known[n] = true
	}
	in, err := u.named(known, include)
	if err != nil {
		return nil, err
	}
	out, err := u.named(known, exclude)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range u.Names {
		if (len(include) == 0 || in[n]) && !out[n] {
			names = append(names, n)
		}
	}
	if len(names) == 0 && len(u.Names) > 0 {
		return nil, ErrNoneLeft
	}
	return names, nil
}

// named is the set of nodes that the expressions name.
func (u Universe) named(known map[string]bool, exprs []string) (map[string]bool, error) {
	set := map[string]bool{}
	for _, expr := range exprs {
		names, err := ExpandGroups(expr, u.group)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if !known[n] {
				return nil, u.unknown(expr, n)
			}
			set[n] = true
		}
	}
	return set, nil
}

func (u Universe) group(name string) ([]string, error) {
	if names, ok := u.Groups[name]; ok {
		return names, nil
	}
	candidates := make([]string, 0, len(u.Groups))
	for g := range u.Groups {
		candidates = append(candidates, g)
	}
	Sort(candidates)
	hint := "the site has no groups"
	if near := spelling.Nearest(name, candidates); near != "" {
		hint = "did you mean @" + near + "?"
	} else if len(candidates) > 0 {
		hint = "the groups are @" + strings.Join(candidates, ", @")
	}
	return nil, fmt.Errorf("the site has no group %q; %s", name, hint)
}

// unknown makes the error for a name that is not in the universe, at the item
// of the expression that stands for it.
func (u Universe) unknown(expr, name string) *Error {
	hint := "the site's nodes are " + abbreviate(Fold(u.Names))
	if len(u.Names) == 0 {
		hint = "the site has no nodes"
	} else if near := spelling.Nearest(name, u.Names); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	return &Error{expr, u.columnOf(expr, name), fmt.Sprintf("the site has no node %q", name), hint}
}

func (u Universe) columnOf(expr, name string) int {
	for _, it := range items(expr) {
		names, _ := it.expand(expr, u.group)
		for _, n := range names {
			if n == name {
				return it.at + 1
			}
		}
	}
	return 1
}

// abbreviate keeps a list of folded names short enough for an error.
func abbreviate(folded string) string {
	if len(folded) <= 200 {
		return folded
	}
	return folded[:strings.LastIndexByte(folded[:200], ',')+1] + "…"
}
