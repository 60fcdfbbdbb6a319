package siteload

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
)

// MaxNodes is how many nodes a site may have.
const MaxNodes = 65536

// A resolver turns a checked tree into a site.
type resolver struct {
	*file
	root     *value
	defaults *value // nil if the file has none
	builtin  *builtin
	dir      string // relative paths start here
	site     *site.Site

	defaultPos map[string]site.Pos // where the defaults have what nodes inherit
	nodeAt     map[string]site.Pos // the keys of the nodes so far
	machines   map[string]taken    // the addresses of the nodes so far
	told       map[*value]bool     // values that have been reported for one of their nodes
}

// taken is who uses an address.
type taken struct {
	node string
	at   site.Pos
}

// resolve makes the site of what is not bad, and reports what the schema cannot
// see.
func (f *file) resolve(root *value) *site.Site {
	r := &resolver{
		file:     f,
		root:     root,
		defaults: root.get("defaults"),
		builtin:  &schemaFacts().builtin,
		site: &site.Site{
			Name:   root.get("site").str(),
			File:   f.name,
			Images: map[string]site.Image{},
			Stores: map[string]site.Store{},
			Groups: map[string][]string{},
		},
		nodeAt:   map[string]site.Pos{},
		machines: map[string]taken{},
		told:     map[*value]bool{},
	}
	r.dir = r.directory()
	r.images()
	r.serve()
	r.stores()
	r.watch()
	r.lock()
	r.inherited()
	r.nodes()
	r.order()
	return r.site
}

// directory is where relative paths start. Without a working directory they
// stay relative.
func (r *resolver) directory() string {
	dir, err := filepath.Abs(filepath.Dir(r.name))
	if err != nil {
		return filepath.Dir(r.name)
	}
	return dir
}

// pos is where a value stands.
func (r *resolver) pos(v *value) site.Pos { return r.at(v.line, v.column) }

// keyPos is where a value's key stands.
func (r *resolver) keyPos(v *value) site.Pos { return r.at(v.keyPlace()) }

// path resolves a path on this machine. The text is a value's, with its ranges
// expanded; the value says where.
func (r *resolver) path(v *value, text string) string {
	if text == "" {
		return ""
	}
	rest, ok := strings.CutPrefix(text, "~/")
	if !ok {
		if filepath.IsAbs(text) {
			return filepath.Clean(text)
		}
		return filepath.Join(r.dir, text)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		r.fail(v, "there is no home directory for ~/ to stand for", "write the whole path, or set HOME")
		return ""
	}
	return filepath.Join(home, rest)
}

func (r *resolver) images() {
	var served *value // the first image that needs our server
	for _, v := range r.root.get("images").items() {
		file, release := v.get("file"), v.get("release")
		r.site.Images[v.key] = site.Image{
			Name:    v.key,
			URL:     r.webURL(v.get("url")),
			File:    r.path(file, file.str()),
			Release: r.path(release, release.str()),
			SHA256:  strings.ToLower(v.get("sha256").str()),
			Pos:     r.keyPos(v),
		}
		if own := cmp.Or(file, release); served == nil && !v.bad {
			served = own
		}
	}
	if served != nil && r.root.get("serve") == nil {
		r.fail(served, "no BMC can reach a file that livecd-sync does not serve, and serve is missing",
			`write serve: {listen: ":80", url: "http://ADDRESS"} with the address of this machine that BMCs reach`)
	}
}

func (r *resolver) serve() {
	v := r.root.get("serve")
	if v == nil || v.bad {
		return
	}
	listen := v.get("listen")
	if text := listen.str(); text != "" && !isPort(text[strings.LastIndexByte(text, ':')+1:]) {
		r.fail(listen, quote(text)+" has no port from 1 to 65535", `write for example ":80"`)
	}
	r.site.Serve = &site.Serve{
		Listen: listen.str(),
		URL:    strings.TrimSuffix(r.webURL(v.get("url")), "/"),
	}
}

// inherited checks the defaults, once for all the nodes that inherit them.
func (r *resolver) inherited() {
	r.checkNames(r.defaults)
	r.defaultPos = map[string]site.Pos{}
	r.addPos(r.defaultPos, r.defaults)
	for _, s := range spreads {
		for _, v := range parts(s.find(r.defaults)) {
			if noderange.HasRange(v.str()) {
				r.fail(v, "a range in a value goes along with the range in a node's name, and defaults have no name", "write it at the nodes, or without a range")
			}
		}
	}
}

func (r *resolver) nodes() {
	total := 0
	for _, v := range r.root.get("nodes").items() {
		names, err := nodeNames(v.key)
		if err != nil {
			r.failRange(v.keyLine, v.keyColumn, v, err)
			continue
		}
		if total += len(names); total > MaxNodes {
			r.failKey(v, fmt.Sprintf("the nodes up to here are more than %d", MaxNodes), "write smaller ranges, or several site files")
			return
		}
		r.checkNames(v)
		r.entry(v, names)
	}
}

// nodeNames expands the name of an entry. A name that the schema has refused
// stands for itself.
func nodeNames(name string) ([]string, error) {
	if !noderange.HasRange(name) {
		return []string{name}, nil
	}
	return noderange.ExpandName(name)
}

// failRange reports an error of package noderange.
func (r *resolver) failRange(line, column int32, v *value, err error) {
	e, ok := errors.AsType[*noderange.Error](err)
	if !ok {
		e = &noderange.Error{Expr: v.key, Message: err.Error()}
	}
	r.failAt(line, column, v.path(), fmt.Sprintf("%s, at character %d of %s", e.Message, e.Column, quote(e.Expr)), e.Hint)
}

// order sorts the nodes and fills in the groups.
func (r *resolver) order() {
	slices.SortFunc(r.site.Nodes, func(a, b site.Node) int { return noderange.Compare(a.Name, b.Name) })
	for _, n := range r.site.Nodes {
		for _, g := range n.Groups {
			r.site.Groups[g] = append(r.site.Groups[g], n.Name)
		}
	}
}
