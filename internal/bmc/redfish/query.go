package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// The query options of DSP0266 ("Query parameters") that save requests in a walk.
const (
	queryOnly   = "?only"      // a collection's only member in the collection's place
	queryExpand = "?$expand=." // with what it refers to outside of Links
	queryTwice  = "?$expand=.($levels=2)"
)

// queries are the options that a BMC offers, less those that did not work on
// this connection.
type queries struct {
	only   bool
	levels int // how deep it expands; 0 is not at all
}

// featuresDoc is the part of ProtocolFeaturesSupported that is read.
type featuresDoc struct {
	Only   maybe[bool] `json:"OnlyMemberQuery"`
	Expand maybe[struct {
		NoLinks maybe[bool] `json:"NoLinks"`
		Levels  maybe[bool] `json:"Levels"`
		Max     maybe[int]  `json:"MaxLevels"`
	}] `json:"ExpandQuery"`
}

// offered reads from the service root which options there are. One level is what
// $expand means without $levels.
func (d featuresDoc) offered() queries {
	q := queries{only: d.Only.v}
	if e := d.Expand.v; e.NoLinks.v {
		q.levels = 1
		if e.Levels.v && e.Max.v > 1 {
			q.levels = e.Max.v
		}
	}
	return q
}

// spoiled has no option be asked for again by this process: one did not do what
// the service root says.
func (c *Client) spoiled() {
	c.queries = queries{}
	c.topology.spoil()
}

// expands reports whether as many levels may be asked for, from all that is known
// of the BMC so far.
func (c *Client) expands(levels int, root rootDoc, sys found[systemDoc]) bool {
	if c.queries.levels < levels {
		return false
	}
	row, err := c.chooseProfile(root, sys, nil, identity(root, sys, nil))
	return err != nil || !row.NoExpand
}

// ahead reads the resource at uri with a query, and keeps what came for the reads
// to come: the document, and what is expanded in it. What does not come as the
// service root promises is left to be read plainly. The error is one with which no
// read would fare better.
func (c *Client) ahead(ctx context.Context, uri, query string) error {
	op := "read " + short(uri)
	a, err := c.getWith(ctx, op, uri, query)
	var body json.RawMessage
	if err == nil {
		err = decode(op, uri, a, &body)
	}
	if err != nil {
		c.spoiled()
		return beyondQuery(op, err)
	}
	if query == queryOnly {
		c.keepOnly(uri, body)
		return nil
	}
	c.keep(uri, body)
	c.keepInside(uri, body)
	return nil
}

// beyondQuery is the error of a read with a query, nil if the same read without
// one may fare better.
func beyondQuery(op string, err error) error {
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Op != op { // it was the login
		return err
	}
	switch e.Kind {
	case bmc.KindAuth, bmc.KindTLS, bmc.KindCancelled, bmc.KindBusy:
		return err
	default:
		return nil
	}
}

// keepOnly keeps a collection's only member, and that it is the only one; or the
// collection, where that is what came.
func (c *Client) keepOnly(uri string, body json.RawMessage) {
	d := wholeOf(body)
	switch {
	case d.Members.set || d.Members.bad:
		if c.keep(uri, body); len(d.Members.v) == 1 { // the option was not looked at
			c.spoiled()
		}
	case d.whole() && c.isHere(d.URI.v):
		c.keep(d.URI.v, body)
		c.keep(uri, fmt.Appendf(nil, `{"Members":[{"@odata.id":%s}]}`, mustJSON(d.URI.v)))
	default:
		c.spoiled()
	}
}

func mustJSON(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always can be
	}
	return b
}

// wholeDoc tells a resource from a reference to one, and a collection whose
// members are all there from one that was cut.
type wholeDoc struct {
	URI     maybe[string]            `json:"@odata.id"`
	ID      maybe[string]            `json:"Id"`
	Members maybe[[]json.RawMessage] `json:"Members"`
	Count   maybe[int]               `json:"Members@odata.count"`
	Next    maybe[string]            `json:"Members@odata.nextLink"`
	says    bool                     // it has more than names
}

func wholeOf(body json.RawMessage) wholeDoc {
	var d maybe[wholeDoc]
	var fields maybe[rawFields]
	_, _ = d.UnmarshalJSON(body), fields.UnmarshalJSON(body) // never an error
	for name := range fields.v {
		switch {
		case strings.HasPrefix(name, "@"), name == "Id", name == "Name", name == "Description":
		default:
			d.v.says = true
		}
	}
	return d.v
}

// whole: every resource has an Id, and no reference has; one that has nothing but
// names may be a reference with a little more to it.
func (d wholeDoc) whole() bool { return d.URI.v != "" && d.ID.v != "" && d.says }

// cut: members are missing, and no further page has them.
func (d wholeDoc) cut() bool { return d.Next.v == "" && d.Count.v > len(d.Members.v) }

// keepInside keeps what is expanded inside a resource: the members of a collection,
// and the virtual media of a manager with their members.
func (c *Client) keepInside(uri string, body json.RawMessage) {
	d := wholeOf(body)
	if d.Members.set {
		c.keepMembers(uri, d)
		return
	}
	var m maybe[struct {
		Media maybe[json.RawMessage] `json:"VirtualMedia"`
	}]
	_ = m.UnmarshalJSON(body)
	media := wholeOf(m.v.Media.v)
	switch {
	case !m.v.Media.set: // there are none
	case media.URI.v == "" || !media.Members.set:
		c.spoiled()
	default:
		c.keep(media.URI.v, m.v.Media.v)
		c.keepMembers(media.URI.v, media)
	}
}

// keepMembers keeps the members that are there. A collection that was cut, or has
// members that are none, is read again.
func (c *Client) keepMembers(uri string, d wholeDoc) {
	again := d.cut()
	for _, raw := range d.Members.v {
		m := wholeOf(raw)
		if again = again || !c.isHere(m.URI.v); m.whole() {
			c.keep(m.URI.v, raw)
		} else {
			c.spoiled()
		}
	}
	if again {
		c.spoiled()
		delete(c.kept, bare(uri))
	}
}

// isHere reports whether a reference leads to a resource of this BMC.
func (c *Client) isHere(ref string) bool {
	_, err := c.endpoint.local(ref)
	return err == nil
}

// keepPage keeps the members of a further page that are there: those behind an
// expanded page are expanded.
func (c *Client) keepPage(further bool, body json.RawMessage) {
	if !further || c.queries.levels == 0 {
		return
	}
	for _, raw := range wholeOf(body).Members.v {
		if m := wholeOf(raw); m.whole() {
			c.keep(m.URI.v, raw)
		}
	}
}

func (c *Client) keep(ref string, body json.RawMessage) {
	uri, err := c.endpoint.local(ref)
	if err != nil {
		return
	}
	if c.kept == nil {
		c.kept = map[string]json.RawMessage{}
	}
	c.kept[bare(uri)] = body
}

// take gives what was read ahead of a resource, once.
func (c *Client) take(uri string) (answer, bool) {
	body, ok := c.kept[bare(uri)]
	delete(c.kept, bare(uri))
	return answer{status: http.StatusOK, body: body, uri: uri}, ok
}

// dropAhead ends a walk: what was read ahead and not needed is not what is there
// later.
func (c *Client) dropAhead() { c.kept = nil }

// bare is a resource's address, however it ends.
func bare(uri string) string { return strings.TrimRight(uri, "/") }

// aheadSystems reads the systems ahead, with as few requests as the BMC offers.
func (c *Client) aheadSystems(ctx context.Context, root rootDoc, uri string) error {
	if c.queries.only {
		if err := c.ahead(ctx, uri, queryOnly); err != nil {
			return err
		}
		d := wholeOf(c.kept[bare(uri)])
		if len(d.Members.v) == 1 || c.lists(d) {
			return nil
		}
	}
	if !c.expands(1, root, found[systemDoc]{}) {
		return nil
	}
	return c.ahead(ctx, uri, queryExpand)
}

// lists reports whether a collection has the system that the site file names.
func (c *Client) lists(d wholeDoc) bool {
	var all []string
	for _, raw := range d.Members.v {
		if uri, err := c.endpoint.local(wholeOf(raw).URI.v); err == nil {
			all = append(all, uri)
		}
	}
	return named(all, c.system) != ""
}

// aheadManager reads a system's only manager ahead, with the virtual media, where
// a service expands that deep.
func (c *Client) aheadManager(ctx context.Context, root rootDoc, sys found[systemDoc], refs []string) error {
	if len(refs) != 1 || sys.doc.VirtualMedia.v.URI != "" || !c.expands(2, root, sys) {
		return nil
	}
	uri, err := c.endpoint.local(refs[0])
	if err != nil {
		return nil //nolint:nilerr // the plain read says so
	}
	return c.ahead(ctx, uri, queryTwice)
}

// aheadMedia reads the slots of a collection ahead.
func (c *Client) aheadMedia(ctx context.Context, row bmc.Profile, uri string) error {
	if _, have := c.kept[bare(uri)]; have || row.NoExpand || c.queries.levels < 1 {
		return nil
	}
	return c.ahead(ctx, uri, queryExpand)
}
