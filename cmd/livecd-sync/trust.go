package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
	"github.com/livecd-sync/livecd-sync/internal/site/pinfile"
	"github.com/livecd-sync/livecd-sync/internal/site/siteedit"
)

type trustFlags struct {
	yes     bool
	replace []string
}

func (a *app) trustCommand() *cobra.Command {
	var fl trustFlags
	c := &cobra.Command{
		Use:   "trust [NODES]",
		Short: "Show the certificates of BMCs, and write down which are accepted",
		Long: `trust shows the certificate of each BMC and, after a yes, writes the
fingerprints of those that nothing speaks for yet into the site file. Compare
them with what the BMCs' web pages show, or look from a network that nobody else
is on: whoever is in between now is trusted later. Nothing is sent to a BMC but
a TLS handshake, and no password is needed.

A node with an entry of its own gets tls: {fingerprint: …} there. Where the site
file has tls: {pins: FILE}, for one node or in the defaults, that file gets a
line for each BMC instead, and the site file stays as it is: write that for
large sites. An entry that stands for several nodes gets tls: {pins: FILE}, for
a fingerprint is of one BMC. Everything else in the files stays as it is; what
changes is shown first.

A BMC that shows another certificate than the accepted one is left as it is,
unless --replace names it. With -o json nobody is asked, and without -y nothing
is written.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.trust(c.Context(), args, fl) },
	}
	c.Flags().BoolVarP(&fl.yes, "yes", "y", false, "do not ask")
	c.Flags().Var(&rangeList{&fl.replace}, "replace", "nodes whose BMC was given another certificate, which is accepted (ranges and @groups)")
	return c
}

func (a *app) trust(ctx context.Context, args []string, fl trustFlags) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	if err := a.name(args); err != nil {
		return err
	}
	s, err := a.load()
	if err != nil {
		return err
	}
	u := universe(s)
	names, err := u.Select(a.nodes, a.exclude)
	if err != nil {
		return err
	}
	replace, err := u.Select(fl.replace, nil)
	if err != nil {
		return fmt.Errorf("--replace: %w", err)
	}
	if len(fl.replace) == 0 { // no ranges at all select every node
		replace = nil
	}
	x, err := newAcceptance(s)
	if err != nil {
		return err
	}
	x.replace = replace
	x.look(ctx, a, only(s, names).Nodes)
	if ctx.Err() != nil {
		return errInterrupted
	}
	x.draftAll()
	return a.concludeTrust(ctx, x, fl)
}

// concludeTrust shows what was seen and what would be written, asks, writes.
func (a *app) concludeTrust(ctx context.Context, x *acceptance, fl trustFlags) error {
	changes, err := x.changes()
	if err != nil {
		return err
	}
	doc := x.document(a)
	if !a.json() {
		if err := report.TrustText(a.out, doc, a.textOptions()); err != nil {
			return err
		}
		a.showChanges(changes)
	}
	if len(changes) > 0 && !fl.yes && !a.json() {
		if err := a.confirm(ctx, x.question(changes)); err != nil {
			return err
		}
	}
	if len(changes) > 0 && (fl.yes || !a.json()) {
		if err := write(changes); err != nil {
			return err
		}
		doc = x.written(a, changes)
	}
	if a.json() {
		err = report.TrustJSON(a.out, doc)
	} else if doc.Summary.Written > 0 {
		_, err = fmt.Fprintf(a.out, "\nwritten: %s in %s\n", count(doc.Summary.Written, "fingerprint"), strings.Join(doc.Files, " and "))
	}
	if err == nil && slices.ContainsFunc(doc.Nodes, unsettled) {
		err = status(exitNodesFailed)
	}
	return err
}

// unsettled is a node that cannot be reached as things stand, and not for want
// of a yes.
func unsettled(n report.TrustNode) bool {
	return n.State == report.TrustFailed || n.State == report.TrustChanged && !n.Written
}

// An acceptance is a site's certificates as they are, and the site file as it
// would be with those accepted that are new.
type acceptance struct {
	site    *site.Site
	text    []byte // of the site file
	draft   *siteedit.Draft
	entries map[site.Pos][]site.Node // the nodes of each entry
	files   certificates
	pins    map[string]*pinDraft // by path
	nodes   []site.Node          // those selected
	replace []string             // those whose changed certificate is accepted
	seen    map[string]*report.TrustNode
}

// A pinDraft is a file of fingerprints that is being changed.
type pinDraft struct {
	*pinfile.File
	text    []byte // as it is; nil if there is none
	changed bool
}

// A change is of one file.
type change struct {
	path     string
	old, now []byte
}

func newAcceptance(s *site.Site) (*acceptance, error) {
	x := &acceptance{site: s, entries: map[site.Pos][]site.Node{}, pins: map[string]*pinDraft{}, seen: map[string]*report.TrustNode{}}
	for _, n := range s.Nodes {
		x.entries[n.Pos[""]] = append(x.entries[n.Pos[""]], n)
	}
	var err error
	if x.text, err = os.ReadFile(s.File); err != nil {
		return nil, err
	}
	if x.draft, err = siteedit.New(s.File, x.text); err != nil {
		return nil, err
	}
	return x, nil
}

// look shakes hands with every BMC once, -j at a time.
func (x *acceptance) look(ctx context.Context, a *app, nodes []site.Node) {
	x.nodes = nodes
	var g errgroup.Group
	g.SetLimit(a.jobs)
	var mu sync.Mutex
	for _, n := range nodes {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, a.timeout)
			defer cancel()
			t := x.lookAt(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			x.seen[n.Name] = &t
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failed node is an outcome
	x.noteTwins()
}

// noteTwins tells of BMCs that show one certificate, as those do that still have
// the one from the factory.
func (x *acceptance) noteTwins() {
	shownBy := map[string][]string{}
	for _, n := range x.nodes {
		t := x.seen[n.Name]
		if t.Certificate != nil && !slices.Contains(shownBy[t.Certificate.Fingerprint], t.BMC) {
			shownBy[t.Certificate.Fingerprint] = append(shownBy[t.Certificate.Fingerprint], t.BMC)
		}
	}
	for _, t := range x.seen {
		if t.Certificate == nil || len(shownBy[t.Certificate.Fingerprint]) < 2 {
			continue
		}
		note(t, count(len(shownBy[t.Certificate.Fingerprint]), "BMC")+
			" show this same certificate, and whoever has the key of one can stand in for the others: give each its own")
	}
}

// note adds a sentence to what there is to know of a node.
func note(t *report.TrustNode, text string) {
	t.Note = strings.TrimPrefix(t.Note+"; "+text, "; ")
}

func (x *acceptance) lookAt(ctx context.Context, n site.Node) report.TrustNode {
	out := report.TrustNode{Name: n.Name, BMC: pinfile.Name(n.BMC.URL), State: report.TrustFailed}
	conf := redfish.Config{Node: n.Name, URL: n.BMC.URL}
	var pin string
	var err error
	if n.BMC.TLS.Pins != "" {
		// What the file says is compared here: it may have nothing to say yet.
		conf.TLS.Insecure, conf.TLS.OldCiphers = true, n.BMC.OldCiphers
		pin, err = x.files.pin(n.BMC)
	} else {
		conf.TLS, err = x.files.of(n.BMC)
	}
	if err != nil {
		out.Error = errorOf(err)
		return out
	}
	shown, err := redfish.ShownBy(ctx, conf)
	if err != nil {
		out.Error = errorOf(err)
		return out
	}
	out.Certificate = report.NewCertificate(shown.Certificate)
	compare(&out, n.BMC.TLS, pin, shown)
	return out
}

// compare tells how what was shown stands to what the site file accepts.
func compare(out *report.TrustNode, accepted site.TLS, pin string, shown redfish.Shown) {
	change, changed := errors.AsType[*bmc.CertificateChange](shown.Refused)
	switch {
	case changed:
		out.State, out.Accepted = report.TrustChanged, change.Accepted
	case accepted.Pins != "" && pin != "" && pin != shown.Certificate.Fingerprint:
		out.State, out.Accepted = report.TrustChanged, pin
	case accepted.Pins != "" && pin == "":
		out.State = report.TrustNew
	case accepted.Insecure:
		out.State = report.TrustNew
		note(out, "any certificate is accepted of it so far")
	case shown.Refused != nil:
		out.State = report.TrustNew
		if accepted.CA != "" {
			note(out, "bmc.tls names an authority, and it does not vouch for this one: "+shown.Refused.Error())
		}
	default:
		out.State = report.TrustAccepted
	}
}

// draftAll accepts what is new, and of what has changed that which --replace
// names. What cannot be written down fails its node alone.
func (x *acceptance) draftAll() {
	done := map[site.Pos]bool{}
	for _, n := range x.nodes {
		t, entry := x.seen[n.Name], x.entries[n.Pos[""]]
		switch {
		case t.State == report.TrustChanged && !x.takes(t):
			note(t, "left as it is; if the BMC was given another certificate: livecd-sync trust -w "+n.Name+" --replace "+n.Name)
		case !x.takes(t):
		case n.BMC.TLS.Pins != "":
			x.drafted(n, x.pin(n.BMC.TLS.Pins, n))
		case len(entry) == 1:
			x.drafted(n, x.draft.Fingerprint(n, t.Certificate.Fingerprint))
		case !done[n.Pos[""]]:
			done[n.Pos[""]] = true
			x.draftEntry(entry)
		}
	}
}

// takes tells whether what a node's BMC shows is to be accepted from now on.
func (x *acceptance) takes(t *report.TrustNode) bool {
	return t.State == report.TrustNew || t.State == report.TrustChanged && slices.Contains(x.replace, t.Name)
}

func (x *acceptance) drafted(n site.Node, err error) {
	t := x.seen[n.Name]
	if err != nil {
		hint := bmc.HintOf(err)
		if hint == "" {
			hint = fmt.Sprintf("write it there by hand: tls: {fingerprint: %q}", t.Certificate.Fingerprint)
		}
		t.State, t.Error = report.TrustFailed, &report.Error{
			Kind: bmc.KindTLS, Message: fmt.Sprintf("%s: its bmc.tls was not changed: %v", n.Pos[""], err), Hint: hint,
		}
		return
	}
	t.Written = true // to be
}

// draftEntry has an entry that stands for several nodes take fingerprints from a
// file, which is for all of them: also for those that an authority vouched for.
func (x *acceptance) draftEntry(entry []site.Node) {
	var missed []string
	for _, n := range entry {
		if x.seen[n.Name] == nil {
			missed = append(missed, n.Name)
		}
	}
	var err error
	path, absolute := x.pinPath()
	if len(missed) > 0 {
		err = &bmc.Error{
			Kind: bmc.KindTLS, Err: fmt.Errorf("its entry is also for %s, and a fingerprint is of one BMC", noderange.Fold(missed)),
			Hint: "name all nodes of the entry, or give this one an entry of its own",
		}
	} else {
		err = x.draft.Pins(entry, path, absolute)
	}
	for _, n := range entry {
		switch t := x.seen[n.Name]; {
		case t == nil:
		case err != nil && x.takes(t):
			x.drafted(n, err)
		case err != nil:
		case t.Certificate == nil:
			note(t, "it is refused until trust has seen its certificate, for its entry now names "+path)
		case x.takes(t), t.State == report.TrustAccepted:
			x.drafted(n, x.pin(absolute, n))
		}
	}
}

// pinPath is the file for entries that name none: the one that another node has,
// or a new one beside the site file.
func (x *acceptance) pinPath() (path, absolute string) {
	for _, n := range x.site.Nodes {
		if p := n.BMC.TLS.Pins; p != "" {
			return relativeTo(x.site.File, p), p
		}
	}
	return newPinFile, besides(x.site.File, newPinFile)
}

// pin gives the node's BMC a line in a file of fingerprints.
func (x *acceptance) pin(path string, n site.Node) error {
	d := x.pins[path]
	if d == nil {
		f, text, err := readPins(path)
		if err != nil {
			return err
		}
		d = &pinDraft{File: f, text: text}
		x.pins[path] = d
	}
	d.Set(pinfile.Name(n.BMC.URL), x.seen[n.Name].Certificate.Fingerprint)
	d.changed = true
	return nil
}
