package report

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Trust is what `livecd-sync trust -o json` prints: which certificates the
// BMCs of a site show, and which of them were written down.
type Trust struct {
	Version int          `json:"version"`
	Site    string       `json:"site"`
	SeenAt  time.Time    `json:"seenAt"` // in UTC
	Summary TrustSummary `json:"summary"`
	Files   []string     `json:"files"` // those that were written
	Nodes   []TrustNode  `json:"nodes"` // in the order of the site file's nodes
}

// A TrustSummary counts nodes by state.
type TrustSummary struct {
	Nodes    int `json:"nodes"`
	Accepted int `json:"accepted"`
	New      int `json:"new"`
	Changed  int `json:"changed"`
	Failed   int `json:"failed"`
	Written  int `json:"written"`
}

// A TrustNode is the certificate of one node's BMC.
type TrustNode struct {
	Name  string     `json:"name"`
	BMC   string     `json:"bmc"` // host, or host:port
	State TrustState `json:"state"`
	// Certificate is absent when none was seen.
	Certificate *Certificate `json:"certificate,omitempty"`
	// Accepted is the fingerprint of the certificate that was accepted before; absent
	// when none was named.
	Accepted string `json:"accepted,omitempty"`
	// Written tells whether the certificate's fingerprint was written down.
	Written bool   `json:"written"`
	Note    string `json:"note,omitempty"`
	Error   *Error `json:"error,omitempty"`
}

// TrustState is how a certificate stands to what the site file accepts.
type TrustState string

// The values of TrustState. They are stable within a version.
const (
	TrustAccepted TrustState = "accepted" // the site file says so already
	TrustNew      TrustState = "new"      // nothing speaks for it yet
	TrustChanged  TrustState = "changed"  // another one was accepted before
	TrustFailed   TrustState = "failed"   // none was seen, or it could not be written
)

// A Certificate is what a BMC shows of itself.
type Certificate struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	SelfSigned  bool      `json:"selfSigned"`
	Names       []string  `json:"names"`
	Key         string    `json:"key"`
	NotBefore   time.Time `json:"notBefore"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"`
}

// NewCertificate is a certificate for a document.
func NewCertificate(c bmc.Certificate) *Certificate {
	names := c.Names
	if names == nil {
		names = []string{}
	}
	return &Certificate{
		Subject: c.Subject, Issuer: c.Issuer, SelfSigned: c.SelfSigned, Names: names, Key: c.Key,
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Fingerprint: c.Fingerprint,
	}
}

// Sum counts the nodes.
func (t *Trust) Sum() {
	t.Summary = TrustSummary{Nodes: len(t.Nodes)}
	for _, n := range t.Nodes {
		switch n.State {
		case TrustAccepted:
			t.Summary.Accepted++
		case TrustNew:
			t.Summary.New++
		case TrustChanged:
			t.Summary.Changed++
		case TrustFailed:
			t.Summary.Failed++
		}
		if n.Written {
			t.Summary.Written++
		}
	}
}

// TrustJSON writes the document.
func TrustJSON(w io.Writer, t Trust) error {
	scrub(reflect.ValueOf(&t).Elem())
	return writeJSON(w, t)
}

// TrustText writes the certificates for people who compare them: those that have
// changed come first, and those that are accepted are only named.
func TrustText(w io.Writer, t Trust, o Options) error {
	p := &page{Options: o}
	s := t.Summary
	p.line(4, o.paint(bold, clean(t.Site))+": "+plural(s.Nodes, "BMC")+listed(counts(
		number{s.Changed, "changed"}, number{s.New, "new"}, number{s.Failed, "failed"}, number{s.Accepted, "accepted already"})))
	for _, state := range []TrustState{TrustChanged, TrustNew, TrustFailed} {
		for _, n := range t.Nodes {
			if n.State == state {
				p.trustNode(n, t.SeenAt)
			}
		}
	}
	var accepted []string
	for _, n := range t.Nodes {
		if n.State == TrustAccepted {
			accepted = append(accepted, n.Name)
		}
	}
	if len(accepted) > 0 {
		p.blank()
		p.line(4, o.paint(green, "=")+" accepted already: "+o.fold(accepted))
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

func listed(counts string) string {
	if counts == "" {
		return ""
	}
	return ": " + counts
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func (p *page) trustNode(n TrustNode, now time.Time) {
	p.blank()
	head := func(c color, mark string) {
		p.line(4, p.paint(c, mark)+" "+p.paint(bold, clean(n.Name))+"  "+p.paint(c, string(n.State))+p.paint(dim, "  "+clean(n.BMC)))
	}
	switch n.State {
	case TrustChanged:
		head(alarm, "!")
	case TrustFailed:
		head(red, "✗")
	case TrustNew, TrustAccepted:
		head(yellow, "+")
	}
	if n.Certificate != nil {
		p.certificate(*n.Certificate, n.Accepted, now)
	}
	if n.Note != "" {
		p.line(10, "    note: "+clean(n.Note))
	}
	if n.Error != nil {
		p.line(4, "    "+clean(n.Error.Message))
		if n.Error.Hint != "" {
			p.line(6, "    → "+clean(n.Error.Hint))
		}
	}
}

// certificate shows a certificate; was is the fingerprint that was accepted
// before it, if any.
func (p *page) certificate(c Certificate, was string, now time.Time) {
	field := func(name, text string) { p.line(13, "    "+pad(name, 9)+text) }
	by := "by itself"
	if !c.SelfSigned {
		by = clean(c.Issuer)
	}
	field("subject", orDash(clean(c.Subject)))
	field("issued", by)
	if len(c.Names) > 0 {
		field("names", clean(strings.Join(c.Names, ", ")))
	}
	field("valid", p.validity(c, now)+p.paint(dim, "  "+clean(c.Key)))
	if was != "" && was != c.Fingerprint {
		p.line(0, "    was "+p.paint(dim, clean(was)))
		p.line(0, "    now "+p.paint(bold, clean(c.Fingerprint)))
		return
	}
	p.line(0, "    "+p.paint(bold, clean(c.Fingerprint)))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

const day = 24 * time.Hour

// validity tells from when until when a certificate is valid, and whether that
// is so now.
func (p *page) validity(c Certificate, now time.Time) string {
	text := c.NotBefore.Format(time.DateOnly) + " to " + c.NotAfter.Format(time.DateOnly)
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		return text + ", " + p.paint(red, "expired "+days(-left)+" ago")
	case now.Before(c.NotBefore):
		return text + ", " + p.paint(red, "not valid yet")
	case left < bmc.ExpirySoon:
		return text + ", " + p.paint(yellow, days(left)+" left")
	}
	return text
}

func days(d time.Duration) string {
	if d < 2*day {
		return plural(int(d/time.Hour), "hour")
	}
	return plural(int(d/day), "day")
}
