package report

import (
	"fmt"
	"io"
	"path"
	"reflect"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/doctor"
)

// A Doctor is what `doctor -o json` prints: a card for each node's BMC.
type Doctor struct {
	Version   int           `json:"version"`
	Site      string        `json:"site"`
	CheckedAt time.Time     `json:"checkedAt"` // in UTC
	Summary   DoctorSummary `json:"summary"`
	Nodes     []Card        `json:"nodes"` // in the order of the site file's nodes
}

// A DoctorSummary counts nodes by state.
type DoctorSummary struct {
	Nodes   int `json:"nodes"`
	Ready   int `json:"ready"`
	Lacking int `json:"lacking"`
	Failed  int `json:"failed"`
}

// CardState is how a node's BMC stands.
type CardState string

// The values of CardState. They are stable within a version.
const (
	CardReady   CardState = "ready"
	CardLacking CardState = "lacking" // it can be used, and something is wrong
	CardFailed  CardState = "failed"  // it cannot be used for what the site file wants, or not be read
)

// A Card is one BMC. What it did not say, or could not be read, is absent.
type Card struct {
	Name        string       `json:"name"`
	BMC         string       `json:"bmc"` // host, or host:port
	State       CardState    `json:"state"`
	Vendor      string       `json:"vendor,omitempty"`
	Product     string       `json:"product,omitempty"`
	Model       string       `json:"model,omitempty"`
	Firmware    string       `json:"firmware,omitempty"`
	Power       bmc.Power    `json:"power,omitempty"`
	Row         *CardRow     `json:"row,omitempty"`
	Licence     string       `json:"licence,omitempty"`
	Media       *CardMedia   `json:"media,omitempty"`
	Images      []string     `json:"images,omitempty"` // the rules for URLs, in words
	Boot        *CardBoot    `json:"boot,omitempty"`
	Resets      []string     `json:"resets,omitempty"`
	Consoles    []Console    `json:"consoles,omitempty"`
	Clock       *Clock       `json:"clock,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Findings    []Finding    `json:"findings"`
}

// A CardRow is the row of profiles.cue that was chosen.
type CardRow struct {
	Name     string `json:"name"`
	Family   string `json:"family"`
	Verified string `json:"verified"`
	// Console is how `livecd-sync console` gets to the serial console; "": as the BMC
	// says.
	Console bmc.ConsoleWay `json:"console,omitempty"`
}

// CardMedia are the virtual media.
type CardMedia struct {
	Access string     `json:"access"` // "ready", "disabled" or "none"
	Slots  []CardSlot `json:"slots"`
}

// A CardSlot is one slot.
type CardSlot struct {
	ID       string   `json:"id"`
	URI      string   `json:"uri"`
	Types    []string `json:"types"`
	Used     bool     `json:"used"`
	Why      string   `json:"why,omitempty"` // it cannot be used
	Image    string   `json:"image"`
	Inserted bool     `json:"inserted"`
}

// CardBoot is how the virtual CD is booted.
type CardBoot struct {
	Method  string   `json:"method"` // "" if there is none
	Target  string   `json:"target,omitempty"`
	Targets []string `json:"targets"`
	Now     Boot     `json:"now"`
}

// A Console is one kind of console.
type Console struct {
	Kind     bmc.ConsoleKind `json:"kind"`
	Enabled  bool            `json:"enabled"`
	Types    []string        `json:"types"`
	Sessions int             `json:"sessions,omitempty"`
}

// Clock compares a BMC's clock with ours.
type Clock struct {
	AheadSeconds int64  `json:"aheadSeconds"` // negative: it is behind
	From         string `json:"from"`
}

// A Finding is what a person should know or do.
type Finding struct {
	Severity doctor.Severity `json:"severity"`
	Kind     bmc.Kind        `json:"kind,omitempty"`
	Message  string          `json:"message"`
	Hint     string          `json:"hint,omitempty"`
}

// FromDoctor makes the document. findings are in the order of patients.
func FromDoctor(siteName string, at time.Time, patients []doctor.Patient, findings [][]doctor.Finding) Doctor {
	d := Doctor{Version: Version, Site: siteName, CheckedAt: at.UTC().Truncate(time.Second), Nodes: []Card{}}
	for i, p := range patients {
		c := newCard(p, findings[i])
		switch c.State {
		case CardReady:
			d.Summary.Ready++
		case CardLacking:
			d.Summary.Lacking++
		case CardFailed:
			d.Summary.Failed++
		}
		d.Nodes = append(d.Nodes, c)
	}
	d.Summary.Nodes = len(patients)
	scrub(reflect.ValueOf(&d).Elem())
	return d
}

func newCard(p doctor.Patient, findings []doctor.Finding) Card {
	b := p.Card
	c := Card{
		Name: p.Node.Name, BMC: strings.TrimPrefix(p.Node.BMC.URL, "https://"), State: CardReady,
		Vendor: b.ID.Vendor, Product: b.ID.Product, Model: b.ID.Model, Firmware: b.ID.Firmware,
		Power: b.Power, Licence: b.Licence, Resets: b.ResetTypes, Findings: []Finding{},
	}
	if b.Row.Name != "" {
		c.Row = &CardRow{b.Row.Name, b.Row.Family, b.Row.Verified, b.Row.Console}
		c.Images = b.Row.URL.Words(nil)
	}
	if b.Media != nil {
		c.Media = cardMedia(*b.Media)
		c.Images = b.Row.URL.Words(b.Media.Schemes)
	}
	if b.Boot != nil {
		c.Boot = &CardBoot{
			Method: b.Boot.Method, Target: b.Boot.Target, Targets: orEmpty(b.Boot.Targets),
			Now: Boot{Target: b.Boot.Now.Target, Enabled: b.Boot.Now.Enabled},
		}
	}
	for _, k := range b.Consoles {
		c.Consoles = append(c.Consoles, Console{k.Kind, k.Enabled, orEmpty(k.Types), k.Sessions})
	}
	if b.Clock != nil {
		c.Clock = &Clock{int64(b.Clock.Ahead / time.Second), b.Clock.From}
	}
	if b.Certificate != nil {
		c.Certificate = NewCertificate(*b.Certificate)
	}
	for _, f := range findings {
		c.Findings = append(c.Findings, Finding{f.Severity, f.Kind, f.What, f.Hint})
	}
	switch doctor.Worst(findings) {
	case doctor.Stops:
		c.State = CardFailed
	case doctor.Warns:
		c.State = CardLacking
	case doctor.Notes:
	}
	return c
}

func cardMedia(b bmc.MediaCard) *CardMedia {
	m := &CardMedia{Access: map[bmc.Access]string{
		bmc.AccessReady: "ready", bmc.AccessDisabled: "disabled", bmc.AccessNone: "none",
	}[b.Access], Slots: []CardSlot{}}
	for _, s := range b.Slots {
		m.Slots = append(m.Slots, CardSlot{s.ID, s.URI, orEmpty(s.Types), s.Used, s.Why, s.Image, s.Inserted})
	}
	return m
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// DoctorJSON writes the document.
func DoctorJSON(w io.Writer, d Doctor) error { return writeJSON(w, d) }

// DoctorText writes a card for each BMC, those that cannot be used first.
func DoctorText(w io.Writer, d Doctor, o Options) error {
	p := &page{Options: o}
	s := d.Summary
	p.line(4, o.paint(bold, clean(d.Site))+": "+plural(s.Nodes, "BMC")+listed(counts(
		number{s.Failed, "cannot be used"}, number{s.Lacking, "with something lacking"}, number{s.Ready, "ready"})))
	for _, state := range []CardState{CardFailed, CardLacking, CardReady} {
		for _, c := range d.Nodes {
			if c.State == state {
				p.card(c, d.CheckedAt)
			}
		}
	}
	_, err := io.WriteString(w, p.b.String())
	return err
}

// field is a line of a card; what does not fit goes on below its beginning.
func (p *page) field(name, text string) {
	p.line(14, "    "+p.paint(dim, pad(name, 10))+text)
}

// told is field for what a BMC may not say.
func (p *page) told(name, text string) {
	if text == "" {
		text = p.paint(dim, "not told")
	}
	p.field(name, text)
}

func (p *page) card(c Card, now time.Time) {
	p.blank()
	look := map[CardState]struct {
		c    color
		mark string
	}{CardFailed: {red, "✗"}, CardLacking: {yellow, "!"}, CardReady: {green, "="}}[c.State]
	p.line(4, p.paint(look.c, look.mark)+" "+p.paint(bold, clean(c.Name))+"  "+p.paint(look.c, string(c.State))+p.paint(dim, "  "+clean(c.BMC)))
	p.findings(c.Findings)
	if c.Row != nil || c.Model != "" || c.Product != "" {
		p.known(c)
	}
	if c.Clock != nil {
		p.field("clock", doctor.Skew(time.Duration(c.Clock.AheadSeconds)*time.Second))
	}
	if c.Certificate != nil {
		p.cardCertificate(*c.Certificate, now)
	}
}

func (p *page) findings(all []Finding) {
	for _, f := range all {
		mark := map[doctor.Severity]string{
			doctor.Stops: p.paint(red, "✗"), doctor.Warns: p.paint(yellow, "!"), doctor.Notes: p.paint(dim, "·"),
		}[f.Severity]
		kind := ""
		if f.Kind != "" {
			kind = clean(string(f.Kind)) + ": "
		}
		p.line(6, "    "+mark+" "+kind+clean(f.Message))
		if f.Hint != "" {
			p.line(8, "      → "+clean(f.Hint))
		}
	}
}

// known are the lines about what was read of the BMC.
func (p *page) known(c Card) {
	machine := clean(strings.TrimSpace(withVendor(c.Vendor, c.Model)))
	if c.Power != "" {
		machine += ", " + strings.ToLower(clean(string(c.Power)))
	}
	p.told("machine", strings.TrimPrefix(machine, ", "))
	p.told("bmc", clean(strings.TrimSpace(c.Product+" "+c.Firmware)))
	if c.Row == nil {
		return
	}
	p.field("row", clean(c.Row.Name)+p.paint(dim, "  "+clean(c.Row.Family)+", evidence up to "+clean(c.Row.Verified)))
	p.told("licence", clean(c.Licence))
	p.cardMedia(c.Media)
	p.field("images", clean(strings.Join(c.Images, ", ")))
	p.cardBoot(c.Boot)
	p.told("resets", clean(strings.Join(c.Resets, ", ")))
	p.told("consoles", consoles(c.Consoles, c.Row.Console))
}

// withVendor is a machine's name; many models begin with their vendor's.
func withVendor(vendor, model string) string {
	if strings.HasPrefix(strings.ToLower(model), strings.ToLower(vendor)) {
		return model
	}
	return vendor + " " + model
}

func (p *page) cardMedia(m *CardMedia) {
	if m == nil {
		p.field("media", p.paint(dim, "not read"))
		return
	}
	var others []string
	used := ""
	for _, s := range m.Slots {
		switch {
		case s.Used:
			used = "slot " + clean(s.ID) + types(s.Types) + ", " + inSlot(s)
		case s.Why != "":
			others = append(others, clean(s.ID)+" ("+clean(s.Why)+")")
		default:
			others = append(others, clean(s.ID))
		}
	}
	text := "none"
	switch {
	case used != "":
		text = used
	case m.Access == "disabled":
		text = "remote media are switched off"
	}
	if len(others) > 0 {
		text += "; not used: " + strings.Join(others, ", ")
	}
	p.field("media", text)
}

func types(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return " (" + clean(strings.Join(all, ", ")) + ")"
}

func inSlot(s CardSlot) string {
	switch {
	case s.Inserted && !bmc.EmptyName(s.Image):
		return path.Base(clean(s.Image)) + " in it"
	case s.Inserted:
		return "something in it"
	case !bmc.EmptyName(s.Image):
		return "empty, still naming " + path.Base(clean(s.Image))
	}
	return "empty"
}

func (p *page) cardBoot(b *CardBoot) {
	if b == nil {
		p.field("boots", p.paint(dim, "not read"))
		return
	}
	var text string
	switch {
	case b.Method == "":
		text = "no way to choose the virtual CD"
	case b.Target != "":
		text = clean(b.Target) + " once, by the boot override"
	default:
		text = "once, by " + clean(b.Method)
	}
	if len(b.Targets) > 0 {
		text += "; it offers " + clean(strings.Join(b.Targets, ", "))
	}
	p.field("boots", text)
}

// consoles lists what the BMC offers, and which way of it livecd-sync goes.
func consoles(all []Console, way bmc.ConsoleWay) string {
	var parts []string
	names := map[bmc.ConsoleKind]string{bmc.ConsoleSerial: "serial", bmc.ConsoleShell: "command line", bmc.ConsoleGraphic: "graphic"}
	for _, c := range all {
		text := names[c.Kind]
		switch {
		case !c.Enabled:
			text += " switched off"
		case len(c.Types) > 0:
			text += " by " + clean(strings.Join(c.Types, ", "))
		}
		if c.Enabled && c.Sessions > 0 {
			text += fmt.Sprintf(" (%d at once)", c.Sessions)
		}
		parts = append(parts, text)
	}
	if way != "" {
		parts = append(parts, "livecd-sync console goes by "+clean(string(way)))
	}
	return strings.Join(parts, "; ")
}

func (p *page) cardCertificate(c Certificate, now time.Time) {
	by := "by itself"
	if !c.SelfSigned {
		by = "by " + clean(c.Issuer)
	}
	p.field("tls", clean(c.Subject)+", issued "+by+", until "+c.NotAfter.Format(time.DateOnly)+expiry(p, c, now))
	p.line(0, "    "+pad("", 4)+p.paint(dim, clean(c.Fingerprint)))
}

func expiry(p *page, c Certificate, now time.Time) string {
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		return ", " + p.paint(red, "expired")
	case left < bmc.ExpirySoon:
		return ", " + p.paint(yellow, days(left)+" left")
	}
	return ""
}
