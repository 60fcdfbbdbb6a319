// Package doctor judges what a BMC's card says: what livecd-sync can do with the
// BMC, what it cannot, and what a person can do about it. It reads nothing
// itself.
package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A Patient is a node's BMC: what it said, and what it is to be used for.
type Patient struct {
	Node  site.Node
	Card  bmc.Card
	Image string    // the URL of the wanted image; "" if none is wanted
	Now   time.Time // when the card was written
}

// Severity is how bad a finding is.
type Severity string

// The severities. They are stable within a version of the JSON documents.
const (
	Stops Severity = "stops" // the node cannot be brought to what the site file wants
	Warns Severity = "warns" // it can, and something is or soon will be wrong
	Notes Severity = "notes" // to know
)

// A Finding is one thing that a person should know or do.
type Finding struct {
	Severity Severity
	Kind     bmc.Kind // of what it would be as an error; "" if it would be none
	What     string
	Hint     string // what to do; "" if there is nothing
}

const (
	// tolerance is how far a BMC's clock may be off: TLS to an image's server
	// and the times in logs bear that much.
	tolerance = 5 * time.Minute
	// weakRSA is how many bits an RSA key has at least.
	weakRSA = 2048
)

// Judge says what there is to say of a BMC, worst first.
func Judge(p Patient) []Finding {
	j := judgement{Patient: p}
	for _, check := range []func(){
		j.reading, j.mounting, j.arming, j.starting, j.url, j.certificate, j.clock, j.row,
	} {
		check()
	}
	var out []Finding
	for _, s := range []Severity{Stops, Warns, Notes} {
		for _, f := range j.found {
			if f.Severity == s {
				out = append(out, f)
			}
		}
	}
	return out
}

type judgement struct {
	Patient
	found []Finding
}

func (j *judgement) add(s Severity, kind bmc.Kind, what, hint string) {
	j.found = append(j.found, Finding{s, kind, what, hint})
}

// needed is how bad it is that images cannot be booted: not at all, for a node
// whose media the site file does not manage.
func (j *judgement) needed() Severity {
	if j.Node.Image == "" || j.Node.Image == site.NoImage {
		return Notes
	}
	return Stops
}

func (j *judgement) refusal(s Severity, r bmc.Refusal) {
	if !r.None() {
		j.add(s, r.Kind, r.Why, r.Hint)
	}
}

func (j *judgement) reading() {
	if err := j.Card.Err; err != nil {
		j.add(Stops, bmc.KindOf(err), err.Error(), bmc.HintOf(err))
	}
	for _, u := range j.Card.Unread {
		severity := Warns
		if u.Needed {
			severity = Stops
		}
		j.add(severity, bmc.KindOf(u.Err), u.What+" could not be read: "+u.Err.Error(), bmc.HintOf(u.Err))
	}
}

// read reports whether the BMC was read to its end, so that what is not on the
// card is not there.
func (j *judgement) read() bool { return j.Card.Err == nil && len(j.Card.Unread) == 0 }

func (j *judgement) mounting() {
	j.refusal(j.needed(), j.Card.CannotMount)
	if m := j.Card.Media; m != nil && m.Access == bmc.AccessDisabled {
		j.add(Notes, "", "remote media are switched off", "apply switches them on when it needs them")
	}
}

func (j *judgement) arming() { j.refusal(j.needed(), j.Card.CannotArm) }

// starting: a node that is on has to be switched off and on, or restarted.
func (j *judgement) starting() {
	can := func(k bmc.ResetKind) bool { return bmc.State{Resets: j.Card.Resets}.Can(k) }
	off := can(bmc.ForceOff) || can(bmc.GracefulShutdown)
	if !j.read() || j.Node.Reset == site.ResetNever || can(bmc.PowerUp) && off || can(bmc.Restart) {
		return
	}
	j.add(j.needed(), bmc.KindUnsupported, "the BMC cannot restart the node; it takes "+orNone(j.Card.ResetTypes),
		"write reset: never for it, and reset it by hand")
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no reset"
	}
	return strings.Join(list, ", ")
}

func (j *judgement) url() {
	if j.Image == "" || j.Card.Row.Name == "" || !j.Card.CannotMount.None() {
		return
	}
	var said []string
	if j.Card.Media != nil {
		said = j.Card.Media.Schemes
	}
	if err := j.Card.Row.CheckURL(j.Image, said); err != nil {
		j.add(Stops, bmc.KindURL, err.Error(), bmc.HintOf(err))
	}
}

func (j *judgement) certificate() {
	c := j.Card.Certificate
	if c == nil {
		return
	}
	if j.Node.BMC.TLS.Insecure {
		j.add(Warns, bmc.KindTLS, "any certificate is accepted: whoever is on the wire can read the password",
			"livecd-sync trust -w "+j.Node.Name+" has only this one accepted")
	}
	switch left := c.NotAfter.Sub(j.Now); {
	case j.Now.Before(c.NotBefore):
		j.add(Warns, bmc.KindTLS, "its certificate is valid from "+c.NotBefore.Format(time.DateOnly)+" only", "look at the BMC's clock, and ours")
	case left < 0:
		j.add(Warns, bmc.KindTLS, "its certificate has expired, on "+c.NotAfter.Format(time.DateOnly), "give the BMC a new one, and then run livecd-sync trust")
	case left < bmc.ExpirySoon:
		j.add(Warns, bmc.KindTLS, "its certificate expires on "+c.NotAfter.Format(time.DateOnly), "give the BMC a new one before that, and then run livecd-sync trust")
	}
	var bits int
	if n, err := fmt.Sscanf(c.Key, "RSA %d", &bits); n == 1 && err == nil && bits < weakRSA {
		j.add(Warns, bmc.KindTLS, fmt.Sprintf("its certificate's key is weak: %s", c.Key), "give the BMC a certificate with a key of 2048 bits or more")
	}
}

func (j *judgement) clock() {
	c := j.Card.Clock
	if c == nil || c.Ahead.Abs() <= tolerance {
		return
	}
	j.add(Warns, "", "its clock is "+Skew(c.Ahead), "give the BMC a time server: certificates and the times in its logs depend on it")
}

// Skew says how far a clock that is ahead by d is from ours.
func Skew(d time.Duration) string {
	const measured = 3 * time.Second // as well as that can be told
	switch {
	case d.Abs() <= measured:
		return "as ours, to some seconds"
	case d > 0:
		return span(d) + " ahead of ours"
	}
	return span(-d) + " behind ours"
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

func (j *judgement) row() {
	if r := j.Card.Row; r.Name != "" && r.Match == (bmc.Match{}) {
		j.add(Notes, "", "no row of profiles.cue is for this family; it is treated as the Redfish standard has it",
			"if anything is odd, record it: livecd-sync doctor -w "+j.Node.Name+" --record DIR --redact (docs/adding-a-bmc.md)")
	}
}

// Twins finds the BMCs that show one certificate, as those do that still have
// the one from the factory, and notes it at each.
func Twins(all []Patient, findings [][]Finding) {
	shownBy := map[string]map[string]bool{}
	for _, p := range all {
		if c := p.Card.Certificate; c != nil {
			if shownBy[c.Fingerprint] == nil {
				shownBy[c.Fingerprint] = map[string]bool{}
			}
			shownBy[c.Fingerprint][p.Node.BMC.URL] = true
		}
	}
	for i, p := range all {
		if c := p.Card.Certificate; c != nil && len(shownBy[c.Fingerprint]) > 1 {
			findings[i] = append(findings[i], Finding{
				Warns, bmc.KindTLS, fmt.Sprintf("%d BMCs show this same certificate, and whoever has the key of one can stand in for the others", len(shownBy[c.Fingerprint])),
				"give each BMC a certificate of its own",
			})
		}
	}
}

// Worst is the worst severity of the findings, "" if there is none.
func Worst(findings []Finding) Severity {
	worst := Severity("")
	for _, f := range findings {
		switch {
		case f.Severity == Stops:
			return Stops
		case f.Severity == Warns, worst == "":
			worst = f.Severity
		}
	}
	return worst
}
