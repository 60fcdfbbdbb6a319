package doctor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/doctor"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

var now = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)

const image = "http://10.1.1.1/iso/pit17.iso"

// healthy is a BMC that lacks nothing.
func healthy() doctor.Patient {
	return doctor.Patient{
		Node: site.Node{Name: "n1", Image: "pit-1.7", BMC: site.BMC{URL: "https://n1-mgmt"}}, Image: image, Now: now,
		Card: bmc.Card{
			ID:     bmc.Identity{Profile: "hpe-ilo5", System: "/redfish/v1/Systems/1"},
			Row:    bmc.Profile{Name: "hpe-ilo5", Match: bmc.Match{OemKey: "^Hpe$"}},
			Resets: []bmc.ResetKind{bmc.ForceOff, bmc.PowerUp}, ResetTypes: []string{"On", "ForceOff"},
			Certificate: &bmc.Certificate{Fingerprint: "sha256:aa", Key: "RSA 2048", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)},
			Clock:       &bmc.ClockCard{Ahead: -4 * time.Minute, From: "Date"},
		},
	}
}

func TestJudge(t *testing.T) {
	failed := &bmc.Error{Op: "read", Kind: bmc.KindAuth, Err: errors.New("401"), Hint: "check the password"}
	refusal := bmc.Refusal{Kind: bmc.KindLicence, Why: "its licence is iLO Standard", Hint: "install iLO Advanced"}
	for name, c := range map[string]struct {
		change func(*doctor.Patient)
		want   string // severities and kinds
		words  string
	}{
		"healthy":  {func(*doctor.Patient) {}, "", ""},
		"not read": {func(p *doctor.Patient) { p.Card = bmc.Card{Err: failed} }, "stops auth", "401 → check the password"},
		"a part not read": {func(p *doctor.Patient) {
			p.Card.Unread = []bmc.Unread{{What: "the virtual media", Needed: true, Err: failed}}
		}, "stops auth", "the virtual media could not be read: read: 401"},
		"no licence to read":   {func(p *doctor.Patient) { p.Card.Unread = []bmc.Unread{{What: "the licence", Err: failed}} }, "warns auth", "the licence could not"},
		"cannot mount":         {func(p *doctor.Patient) { p.Card.CannotMount = refusal }, "stops licence", "iLO Standard → install"},
		"cannot arm":           {func(p *doctor.Patient) { p.Card.CannotArm = refusal }, "stops licence", "iLO Standard"},
		"cannot, and need not": {func(p *doctor.Patient) { p.Card.CannotMount, p.Node.Image, p.Image = refusal, "", "" }, "notes licence", "iLO Standard"},
		"nothing is mounted":   {func(p *doctor.Patient) { p.Card.CannotMount, p.Node.Image, p.Image = refusal, site.NoImage, "" }, "notes licence", "iLO Standard"},
		"media switched off":   {func(p *doctor.Patient) { p.Card.Media = &bmc.MediaCard{Access: bmc.AccessDisabled} }, "notes ", "switched off → apply"},
		"no resets":            {func(p *doctor.Patient) { p.Card.Resets, p.Card.ResetTypes = nil, nil }, "stops unsupported", "it takes no reset → write reset: never"},
		"on only":              {func(p *doctor.Patient) { p.Card.Resets = []bmc.ResetKind{bmc.PowerUp} }, "stops unsupported", "takes On, ForceOff"},
		"restart only":         {func(p *doctor.Patient) { p.Card.Resets = []bmc.ResetKind{bmc.Restart} }, "", ""},
		"never reset":          {func(p *doctor.Patient) { p.Card.Resets, p.Node.Reset = nil, site.ResetNever }, "", ""},
		"https only":           {func(p *doctor.Patient) { p.Card.Row.URL.Schemes = []string{"https"} }, "stops url", "https → serve the image by https"},
		"https by its word":    {func(p *doctor.Patient) { p.Card.Media = &bmc.MediaCard{Schemes: []string{"https"}} }, "stops url", "says that it mounts by https"},
		"insecure":             {func(p *doctor.Patient) { p.Node.BMC.TLS.Insecure = true }, "warns tls", "any certificate is accepted → x livecd-sync trust -w n1"},
		"expired":              {func(p *doctor.Patient) { p.Card.Certificate.NotAfter = now.Add(-time.Hour) }, "warns tls", "has expired, on 2026-11-23"},
		"expires soon":         {func(p *doctor.Patient) { p.Card.Certificate.NotAfter = now.AddDate(0, 0, 20) }, "warns tls", "expires on 2026-12-13"},
		"not valid yet":        {func(p *doctor.Patient) { p.Card.Certificate.NotBefore = now.Add(time.Hour) }, "warns tls", "valid from 2026-11-23"},
		"weak key":             {func(p *doctor.Patient) { p.Card.Certificate.Key = "RSA 1024" }, "warns tls", "weak: RSA 1024"},
		"another kind of key":  {func(p *doctor.Patient) { p.Card.Certificate.Key = "ECDSA P-256" }, "", ""},
		"no certificate":       {func(p *doctor.Patient) { p.Card.Certificate = nil }, "", ""},
		"clock ahead":          {func(p *doctor.Patient) { p.Card.Clock.Ahead = 3*time.Hour + 12*time.Minute }, "warns ", "3 h 12 min ahead of ours → give the BMC a time server"},
		"clock behind":         {func(p *doctor.Patient) { p.Card.Clock.Ahead = -20 * 365 * 24 * time.Hour }, "warns ", "7300 days behind ours"},
		"no clock":             {func(p *doctor.Patient) { p.Card.Clock = nil }, "", ""},
		"no row":               {func(p *doctor.Patient) { p.Card.Row.Match = bmc.Match{} }, "notes ", "no row of profiles.cue → x --record DIR --redact"},
	} {
		t.Run(name, func(t *testing.T) {
			p := healthy()
			c.change(&p)
			var got, text []string
			for _, f := range doctor.Judge(p) {
				got = append(got, string(f.Severity)+" "+string(f.Kind))
				text = append(text, f.What+" → "+f.Hint)
			}
			if strings.Join(got, ",") != c.want {
				t.Errorf("found %q (%q), want %q", got, text, c.want)
			}
			what, hint, _ := strings.Cut(c.words, " → ")
			if all := strings.Join(text, "\n"); !strings.Contains(all, what) || !strings.Contains(all, strings.TrimPrefix(hint, "x ")) {
				t.Errorf("it says %q, want %q", all, c.words)
			}
		})
	}
}

func TestWorstComesFirst(t *testing.T) {
	p := healthy()
	p.Card.Row.Match, p.Card.Clock.Ahead = bmc.Match{}, time.Hour
	p.Card.CannotArm = bmc.Refusal{Kind: bmc.KindUnsupported, Why: "no override"}
	found := doctor.Judge(p)
	if len(found) != 3 || found[0].Severity != doctor.Stops || found[1].Severity != doctor.Warns || found[2].Severity != doctor.Notes || doctor.Worst(found) != doctor.Stops {
		t.Errorf("%+v", found)
	}
	if doctor.Worst(found[1:]) != doctor.Warns || doctor.Worst(found[2:]) != doctor.Notes || doctor.Worst(nil) != "" {
		t.Error("the worst is not found")
	}
}

func TestTwins(t *testing.T) {
	a, b, c, d := healthy(), healthy(), healthy(), healthy()
	b.Node.BMC.URL = "https://n2-mgmt"
	c.Card.Certificate = nil
	d.Card.Certificate = &bmc.Certificate{Fingerprint: "sha256:bb"}
	all := []doctor.Patient{a, b, a, c, d}
	found := make([][]doctor.Finding, len(all))
	doctor.Twins(all, found)
	for i, want := range []int{1, 1, 1, 0, 0} {
		if len(found[i]) != want || want == 1 && !strings.HasPrefix(found[i][0].What, "2 BMCs show this same certificate") {
			t.Errorf("%d: %+v", i, found[i])
		}
	}
	// Two nodes behind one BMC are no twins.
	found = make([][]doctor.Finding, 2)
	if doctor.Twins([]doctor.Patient{a, a}, found); len(found[0]) != 0 {
		t.Errorf("%+v", found)
	}
}
