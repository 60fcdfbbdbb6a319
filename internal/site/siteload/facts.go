package siteload

import (
	"fmt"
	"sync"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/livecd-sync/livecd-sync/schema"
)

// facts is what the schema says before any site file is read.
type facts struct {
	tests   *tests
	site    *place
	builtin builtin
}

// A place is where a value may be: what keys the schema knows there.
type place struct {
	kind cue.Kind
	keys []string // in the schema's order
	at   map[string]*place
	each *place // of a mapping by name: what each of its values is
}

// builtin is #Builtin: what holds where a site file says nothing.
type builtin struct {
	BMC struct {
		Auth string `json:"auth"`
	} `json:"bmc"`
	SSH struct {
		Port    int    `json:"port"`
		User    string `json:"user"`
		HostKey struct {
			KnownHosts string `json:"knownHosts"`
		} `json:"hostKey"`
	} `json:"ssh"`
	Reset string `json:"reset"`
	Boot  struct {
		Within string `json:"within"`
	} `json:"boot"`
	Login struct {
		Within string `json:"within"`
	} `json:"login"`
	Overlay struct {
		Keep    int    `json:"keep"`
		Restore string `json:"restore"`
	} `json:"overlay"`
}

// schemaFacts reads the embedded schema, once. It can fail only when the schema
// itself is wrong, which is for the tests of this package to find.
var schemaFacts = sync.OnceValue(func() *facts {
	f, err := newFacts(schema.Site)
	if err != nil {
		panic("siteload: schema/site.cue: " + err.Error())
	}
	return f
})

func newFacts(source string) (*facts, error) {
	t, err := newTests(source)
	if err != nil {
		return nil, err
	}
	v := cuecontext.New().CompileString(source, cue.Filename("site.cue"))
	if err := v.Err(); err != nil {
		return nil, err
	}
	f := &facts{tests: t, site: newPlace(v.LookupPath(cue.ParsePath("#Site")))}
	if err := v.LookupPath(cue.ParsePath("#Builtin")).Decode(&f.builtin); err != nil {
		return nil, fmt.Errorf("#Builtin: %w", err)
	}
	return f, nil
}

// newPlace walks what a definition allows. It stops at choices between structs,
// such as a secret's: what is wrong with those is told as a whole.
func newPlace(v cue.Value) *place {
	p := &place{kind: v.IncompleteKind(), at: map[string]*place{}}
	if each := v.LookupPath(cue.MakePath(cue.AnyString)); each.Exists() {
		p.kind, p.each = cue.StructKind, newPlace(each)
		return p
	}
	fields, err := v.Fields(cue.Optional(true))
	if err != nil {
		return p
	}
	for fields.Next() {
		if fields.Value().IncompleteKind() == cue.BottomKind {
			continue // refused here, with a reason: an address in defaults
		}
		name := fields.Selector().Unquoted()
		p.kind = cue.StructKind
		p.keys = append(p.keys, name)
		p.at[name] = newPlace(fields.Value())
	}
	return p
}

// child is the place of a key, or nil where the schema has none. It works on nil.
func (p *place) child(key string) *place {
	switch {
	case p == nil:
		return nil
	case p.each != nil:
		return p.each
	}
	return p.at[key]
}

// names are the keys that the schema knows there. It works on nil.
func (p *place) names() []string {
	if p == nil {
		return nil
	}
	return p.keys
}

// placeOf is the place of a value of the tree, or nil.
func (f *facts) placeOf(v *value) *place {
	if v.parent == nil {
		return f.site
	}
	return f.placeOf(v.parent).child(v.key)
}
