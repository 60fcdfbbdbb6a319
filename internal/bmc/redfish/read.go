package redfish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	rootURI    = "/redfish/v1/" // the one path that Redfish fixes (DSP0266)
	maxMembers = 1000           // of one collection
)

// resolve makes a path of a reference that the resource at uri holds in field.
func (c *Client) resolve(op, uri, field string, ref maybe[link]) (string, error) {
	if ref.bad || ref.set && ref.v.URI == "" {
		return "", wrongType(op, uri, field)
	}
	if !ref.set {
		return "", nil
	}
	path, err := c.endpoint.local(ref.v.URI)
	if err != nil {
		return "", malformed(op, uri, "holds a "+field+" that cannot be used: "+c.clean(err.Error()))
	}
	return path, nil
}

// read gets the resource at uri into doc, a struct of maybes. The error is a
// *bmc.Error.
func (c *Client) read(ctx context.Context, uri string, doc any) (answer, error) {
	op := "read " + short(uri)
	a, had := c.take(uri)
	if !had {
		var err error
		if a, err = c.get(ctx, op, uri); err != nil {
			return a, err
		}
	}
	if err := decode(op, uri, a, doc); err != nil {
		return a, err
	}
	var tagged struct {
		ETag maybe[string] `json:"@odata.etag"`
	}
	tag := a.header.Get("ETag")
	if tag == "" && json.Unmarshal(a.body, &tagged) == nil {
		tag = tagged.ETag.v
	}
	c.etags[uri] = tag
	return a, nil
}

// get asks for uri. A BMC that redirects a path to itself with a slash behind
// is asked with the slash from then on: each redirect costs it a request
// (perf.md 2, "Trailing slash").
func (c *Client) get(ctx context.Context, op, uri string) (answer, error) {
	return c.getWith(ctx, op, uri, "")
}

// getWith is get with a query behind the address.
func (c *Client) getWith(ctx context.Context, op, uri, query string) (answer, error) {
	r := request{method: http.MethodGet, uri: uri, open: strings.TrimRight(uri, "/")+"/" == rootURI}
	slashed := c.slash && !strings.HasSuffix(uri, "/") && !strings.ContainsAny(uri, "?#")
	if slashed {
		r.uri += "/"
	}
	r.uri += query
	a, err := c.ask(ctx, op, r)
	switch {
	case slashed && gone(err):
		c.slash = false
		return c.getWith(ctx, op, uri, query)
	case err == nil && a.uri == uri+"/"+query:
		c.slash = true
	case err != nil && r.open && a.status == http.StatusUnauthorized:
		// The root is to be readable by anybody; some ask who we are. Where
		// sessions are opened is only known after it.
		r.open, r.basic = false, true
		return c.ask(ctx, op, r)
	}
	return a, err
}

// decode wants a JSON object and says what came instead.
func decode(op, uri string, a answer, doc any) error {
	body := bytes.TrimSpace(bytes.TrimPrefix(a.body, []byte("\xef\xbb\xbf")))
	switch {
	case len(body) == 0:
		return malformed(op, uri, "sent an empty answer")
	case body[0] != '{':
		what := "something else"
		if body[0] == '<' {
			what = "HTML or XML"
		}
		return malformed(op, uri, "sent "+what+" where a JSON object belongs")
	}
	err := json.Unmarshal(body, doc)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return malformed(op, uri, fmt.Sprintf("sent JSON that breaks at byte %d of %d", syntax.Offset, len(body)))
	}
	if err != nil {
		return malformed(op, uri, "sent JSON of an unknown form")
	}
	return nil
}

// members lists a collection, following its pages. It is bounded: by the
// number of members, and by never reading a page twice.
func (c *Client) members(ctx context.Context, uri string) ([]string, error) {
	op := "read " + short(uri)
	var out []string
	seen := map[string]bool{}
	for page := uri; page != ""; {
		if seen[page] || len(seen) > maxMembers {
			return nil, malformed(op, uri, "has pages that lead in circles")
		}
		seen[page] = true
		var doc collectionDoc
		a, err := c.read(ctx, page, &doc)
		if err != nil {
			return nil, err
		}
		c.keepPage(page != uri, a.body)
		if doc.Members.bad {
			return nil, wrongType(op, page, "Members")
		}
		for _, ref := range uris(doc.Members) {
			member, err := c.endpoint.local(ref)
			if err != nil {
				return nil, malformed(op, page, "lists a member that cannot be used: "+c.clean(err.Error()))
			}
			if !listed(out, member) {
				out = append(out, member)
			}
		}
		if len(out) > maxMembers {
			return nil, malformed(op, uri, fmt.Sprintf("has more than %d members", maxMembers))
		}
		next, err := c.nextPage(op, page, doc.NextLink.v)
		if err != nil {
			return nil, err
		}
		page = next
	}
	return out, nil
}

// listed reports whether a resource is among those, however its address ends.
func listed(all []string, uri string) bool {
	return slices.ContainsFunc(all, func(known string) bool { return strings.TrimRight(known, "/") == strings.TrimRight(uri, "/") })
}

func (c *Client) nextPage(op, page, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	next, err := c.endpoint.local(ref)
	if err != nil {
		return "", malformed(op, page, "has a next page that cannot be used: "+c.clean(err.Error()))
	}
	return next, nil
}

// readRoot gets the service root and remembers where sessions are made.
func (c *Client) readRoot(ctx context.Context) (rootDoc, error) {
	var root rootDoc
	_, err := c.read(ctx, rootURI, &root)
	if gone(err) { // some know it without the slash only
		_, err = c.read(ctx, strings.TrimRight(rootURI, "/"), &root)
	}
	if err != nil {
		return root, err
	}
	uri, err := c.resolve("read the service root", rootURI, "Links.Sessions", root.Links.v.Sessions)
	if err != nil {
		uri = "" // only a login needs it
	}
	c.sessions = &uri
	if c.queries = (queries{}); !c.topology.plainly() {
		c.queries = root.Features.v.offered()
	}
	return root, nil
}

// sessionsURI is where a session is opened: from what is known, else from the
// root.
func (c *Client) sessionsURI(ctx context.Context) (string, error) {
	if c.tree != nil {
		return c.tree.Sessions, nil
	}
	if c.sessions == nil {
		if _, err := c.readRoot(ctx); err != nil {
			return "", err
		}
	}
	return *c.sessions, nil
}

// unsupported is a BMC that cannot do what livecd-sync is for.
func unsupported(op, why, hint string) *bmc.Error {
	return &bmc.Error{Op: op, Kind: bmc.KindUnsupported, Err: errors.New(why), Hint: hint}
}
