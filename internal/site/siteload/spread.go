package siteload

import (
	"fmt"
	"slices"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
)

// A spread is a key whose value, or each item of it, may hold ranges, which
// expand along with the node's name.
type spread struct {
	way []string // the keys that lead to it
	put func(r *resolver, n *site.Node, v *value, text string)
}

// spreads are those keys: what tells one node from the next, and files.
var spreads = []spread{
	{[]string{"bmc", "address"}, func(r *resolver, n *site.Node, v *value, text string) { n.BMC.URL = r.bmcURL(v, text) }},
	{[]string{"bmc", "system"}, func(_ *resolver, n *site.Node, _ *value, text string) { n.BMC.System = text }},
	{[]string{"bmc", "password", "file"}, func(r *resolver, n *site.Node, v *value, text string) { n.BMC.Password.File = r.path(v, text) }},
	{[]string{"bmc", "tls", "ca"}, func(r *resolver, n *site.Node, v *value, text string) { n.BMC.TLS.CA = r.path(v, text) }},
	{[]string{"bmc", "tls", "pins"}, func(r *resolver, n *site.Node, v *value, text string) { n.BMC.TLS.Pins = r.path(v, text) }},
	{[]string{"ssh", "address"}, func(r *resolver, n *site.Node, v *value, text string) { n.SSH.Address = r.host(v, text) }},
	{[]string{"ssh", "identity"}, func(r *resolver, n *site.Node, v *value, text string) { n.SSH.Identity = r.path(v, text) }},
	{[]string{"ssh", "password", "file"}, func(r *resolver, n *site.Node, v *value, text string) { n.SSH.Password.File = r.path(v, text) }},
	{[]string{"ssh", "hostKey", "knownHosts"}, func(r *resolver, n *site.Node, v *value, text string) { n.SSH.HostKey.KnownHosts = r.path(v, text) }},
	{[]string{"login", "password", "file"}, func(r *resolver, n *site.Node, v *value, text string) { n.Login.Password.File = r.path(v, text) }},
	{[]string{"login", "initial", "file"}, func(r *resolver, n *site.Node, v *value, text string) { n.Login.Initial.File = r.path(v, text) }},
	{[]string{"login", "authorizedKey"}, func(r *resolver, n *site.Node, v *value, text string) { n.Login.AuthorizedKey = r.path(v, text) }},
	{[]string{"console", "command"}, func(_ *resolver, n *site.Node, v *value, text string) { n.Console.Command[v.index()] = text }},
	{[]string{"console", "socket"}, func(r *resolver, n *site.Node, v *value, text string) { n.Console.Socket = r.path(v, text) }},
	{[]string{"console", "hostKey", "knownHosts"}, func(r *resolver, n *site.Node, v *value, text string) { n.Console.HostKey.KnownHosts = r.path(v, text) }},
}

// find is the key's value in a node or the defaults, or nil.
func (s spread) find(v *value) *value {
	for _, key := range s.way {
		v = v.get(key)
	}
	return v
}

// held is the value that holds for the key: a choice such as tls is inherited
// as a whole or not at all.
func (s spread) held(e entry) *value {
	v := e.get(s.way[0], s.way[1])
	for _, key := range s.way[2:] {
		v = v.get(key)
	}
	return v
}

// applies tells whether the key says anything of the entry's nodes.
func (s spread) applies(e entry) bool {
	switch {
	case s.way[0] == "ssh", s.way[0] == "login":
		return e.get("ssh", "address") != nil
	case slices.Contains(consoleChoices, s.way[1]):
		return s.way[1] == consoleChoice(e)
	}
	return true
}

// parts are the items of a list, or else the value itself.
func parts(v *value) []*value {
	switch {
	case v == nil:
		return nil
	case v.kind == list:
		return v.items()
	}
	return []*value{v}
}

// expanded is a key's value with its ranges expanded: one text for all nodes of
// an entry, or one for each.
type expanded struct {
	spread
	value *value
	texts []string
}

// spread expands the values of an entry.
func (r *resolver) spread(e entry, names []string) []expanded {
	out := make([]expanded, 0, len(spreads))
	for _, s := range spreads {
		if !s.applies(e) {
			continue
		}
		held := s.held(e)
		inherited := s.find(e.own) != held
		for _, v := range parts(held) {
			if v.str() == "" || inherited && noderange.HasRange(v.text) {
				continue // a range in the defaults is one that inherited has reported
			}
			if texts := r.expand(e, v, len(names)); texts != nil {
				out = append(out, expanded{s, v, texts})
			}
		}
	}
	return out
}

// expand expands one value of an entry of count nodes. It returns nil when it
// cannot, which it has reported then.
func (r *resolver) expand(e entry, v *value, count int) []string {
	if !noderange.HasRange(v.text) {
		return []string{v.text}
	}
	texts, err := noderange.ExpandValue(v.text)
	if err != nil {
		r.failRange(v.line, v.column, v, err)
		return nil
	}
	if len(texts) != count {
		r.fail(v, fmt.Sprintf("%s expands to %s, but %s to %s", quote(v.text), counted(len(texts), "value"), quote(e.own.key), counted(count, "node")),
			fmt.Sprintf("write a range of %d, or a value without a range", count))
		return nil
	}
	return texts
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
