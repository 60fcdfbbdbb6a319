package bmcsim

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
)

// features are the query options that a service root offers (DSP0266, "Query
// parameters").
type features struct {
	only      bool
	maxLevels int  // how deep $expand goes; 0 is not at all
	links     bool // $expand takes ~ and * too
}

// features tells what the root offers; said is false where it says nothing of it.
func (v view) features() (f features, said bool) {
	f = v.k.queries
	if v.q.MaxLevels > 0 {
		f = features{only: true, maxLevels: v.q.MaxLevels}
	}
	return f, v.q.Queries != QueriesAbsent && f != features{}
}

func (f features) doc() doc {
	expand := doc{"NoLinks": f.maxLevels > 0, "Links": f.links, "ExpandAll": f.links, "Levels": f.maxLevels > 0}
	if f.maxLevels > 0 {
		expand["MaxLevels"] = f.maxLevels
	}
	return doc{"ExpandQuery": expand, "OnlyMemberQuery": f.only, "SelectQuery": false, "FilterQuery": false}
}

// expandValue is a value of $expand: what is expanded, and how deep.
var expandValue = regexp.MustCompile(`^([.~*])(?:\(\$levels=([0-9]+)\))?$`)

// queried answers a GET with a query.
func (m *Machine) queried(res resource, c *call) answer {
	q, err := url.ParseQuery(c.query)
	if err != nil {
		return m.refused(m.kind.refuse("QueryParameterValueFormatError", c.query, "query"))
	}
	_, only := q["only"]
	expand := q.Get("$expand")
	m.mu.Lock()
	offered, said := m.view().features()
	how := m.behaviour.Queries
	m.mu.Unlock()
	if !said {
		offered = features{}
	}
	switch {
	case !only && expand == "":
		return m.get(res)
	case said && how != QueriesKept:
		return m.mistreated(res, c, how, only, expand)
	case expand != "" && offered.maxLevels == 0:
		return m.refused(m.kind.refuse("QueryNotSupported"))
	case only && !offered.only:
		return m.get(res)
	case only && expand != "":
		return m.refused(m.kind.refuse("QueryNotSupportedOnResource"))
	case only:
		return m.onlyMember(res)
	}
	return m.expanded(res, expand, offered, len(m.tree))
}

// mistreated is what becomes of a query that is offered, and does not work.
func (m *Machine) mistreated(res resource, c *call, how Queries, only bool, expand string) answer {
	switch how {
	case QueriesRefused:
		return m.refused(m.kind.refuse("QueryNotSupportedOnResource"))
	case QueriesUnbuilt:
		return m.refused(m.kind.refuse("QueryNotSupported"))
	case QueriesSilent:
		select {
		case <-c.ctx.Done():
		case <-m.ctx.Done():
		}
		return answer{}
	case QueriesClose:
		return answer{}
	case QueriesTooBig, QueriesPartly, QueriesCut, QueriesShallow:
		if only {
			return m.onlyMember(res)
		}
		return m.poorly(res, how, expand)
	case QueriesKept, QueriesAbsent, QueriesIgnored:
	}
	return m.get(res)
}

// poorly expands less than it was asked for.
func (m *Machine) poorly(res resource, how Queries, expand string) answer {
	m.mu.Lock()
	offered, _ := m.view().features()
	m.mu.Unlock()
	if how == QueriesTooBig {
		return m.refused(m.kind.refuse("InsufficientStorageForResponse"))
	}
	if how == QueriesPartly {
		return m.expanded(res, expand, offered, 1)
	}
	if how == QueriesShallow {
		return m.expanded(res, ".", offered, len(m.tree))
	}
	a := m.expanded(res, expand, offered, len(m.tree))
	cut(a.body)
	return a
}

// cut drops the last member of every collection in a document.
func cut(d doc) {
	if all, ok := d["Members"].([]any); ok && len(all) > 0 {
		d["Members"] = all[:len(all)-1]
	}
	for _, v := range d {
		if inner, ok := v.(doc); ok {
			cut(inner)
		}
	}
}

// onlyMember is a collection's only member; the collection, if it has none or
// several.
func (m *Machine) onlyMember(res resource) answer {
	a := m.get(res)
	members, ok := a.body["Members"].([]any)
	if !ok {
		return m.refused(m.kind.refuse("QueryNotSupportedOnResource"))
	}
	if len(members) != 1 {
		return a
	}
	d, _ := members[0].(doc)
	if one, ok := m.referred(d); ok {
		return one
	}
	return a
}

// referred is the resource that a reference is to, false if d is none or it cannot
// be had.
func (m *Machine) referred(d doc) (answer, bool) {
	path, ok := d["@odata.id"].(string)
	if !ok || len(d) != 1 {
		return answer{}, false
	}
	res, ok := m.tree[path]
	if !ok || res.get == nil || !m.present(res) {
		return answer{}, false
	}
	a := m.get(res)
	return a, a.status == http.StatusOK
}

// expanded is a resource with its references expanded, of which no more than most
// are.
func (m *Machine) expanded(res resource, value string, offered features, most int) answer {
	how := expandValue.FindStringSubmatch(value)
	if how == nil || how[1] != "." && !offered.links {
		return m.refused(m.kind.refuse("QueryParameterValueFormatError", value, "$expand"))
	}
	levels := 1
	if how[2] != "" {
		levels, _ = strconv.Atoi(how[2]) // digits; what is too large is out of range below
	}
	if levels < 1 || levels > offered.maxLevels {
		return m.refused(m.kind.refuse("QueryParameterOutOfRange", value, "$expand", "1-"+strconv.Itoa(offered.maxLevels)))
	}
	a := m.get(res)
	e := expansion{m: m, links: how[1] != ".", subordinate: how[1] != "~", left: most}
	a.body = e.inside(a.body, levels, false)
	return a
}

// An expansion replaces references by what they are to.
type expansion struct {
	m                  *Machine
	links, subordinate bool // those in Links, and the others
	left               int  // how many more
}

// of is v with its references expanded; it is inside Links or not.
func (e *expansion) of(v any, levels int, inLinks bool) any {
	switch v := v.(type) {
	case []any:
		all := make([]any, 0, len(v))
		for _, inner := range v {
			all = append(all, e.of(inner, levels, inLinks))
		}
		return all
	case doc:
		if a, ok := e.reference(v, inLinks); ok {
			if e.left--; levels > 1 {
				return e.inside(a.body, levels-1, false)
			}
			return a.body
		}
		return e.inside(v, levels, inLinks)
	}
	return v
}

// inside is d with the references in it expanded.
func (e *expansion) inside(d doc, levels int, inLinks bool) doc {
	whole := maps.Clone(d)
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if key != "Actions" {
			whole[key] = e.of(d[key], levels, inLinks || key == "Links")
		}
	}
	return whole
}

func (e *expansion) reference(d doc, inLinks bool) (answer, bool) {
	if e.left == 0 || inLinks && !e.links || !inLinks && !e.subordinate {
		return answer{}, false
	}
	return e.m.referred(d)
}
