package report_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

func pinOf(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }

func certificate(until time.Time) *report.Certificate {
	return report.NewCertificate(bmc.Certificate{
		Subject: "CN=ILOMXQ12345.example.org,OU=ISS,O=Hewlett Packard Enterprise,L=Houston,ST=TX,C=US", Issuer: "CN=Default Issuer (Do not trust)",
		Names: []string{"ILOMXQ12345", "ILOMXQ12345.example.org", "10.254.1.7", "fe80::9618:82ff:fe71:1a2b"}, Key: "RSA 2048",
		NotBefore: until.AddDate(-10, 0, 0), NotAfter: until, Fingerprint: pinOf("a"),
	})
}

func smallTrust() report.Trust {
	seen := observedAt.UTC().Truncate(time.Second)
	own := certificate(seen.AddDate(0, 0, 12))
	own.SelfSigned, own.Names = true, []string{}
	t := report.Trust{Version: report.Version, Site: "redbird", SeenAt: seen, Files: []string{"site.yaml"}, Nodes: []report.TrustNode{
		{Name: "n1", BMC: "n1-mgmt", State: report.TrustAccepted, Certificate: certificate(seen.AddDate(5, 0, 0))},
		{Name: "n2", BMC: "n2-mgmt", State: report.TrustNew, Certificate: certificate(seen.AddDate(5, 0, 0)), Written: true},
		{Name: "n3", BMC: "n3-mgmt:8443", State: report.TrustNew, Certificate: own, Note: "any certificate is accepted of it so far"},
		{Name: "n4", BMC: "n4-mgmt", State: report.TrustChanged, Certificate: certificate(seen.Add(-30 * time.Hour)), Accepted: pinOf("b")},
		{Name: "n5", BMC: "n5-mgmt", State: report.TrustFailed, Error: &report.Error{Kind: bmc.KindUnreachable, Message: "nothing answers at n5-mgmt", Hint: "check bmc.address"}},
		{Name: "n6", BMC: "n6-mgmt", State: report.TrustAccepted, Certificate: certificate(seen.AddDate(5, 0, 0))},
	}}
	t.Sum()
	return t
}

func TestTrustText(t *testing.T) {
	for name, o := range map[string]report.Options{"trust.txt": {Width: 80, FoldNames: foldNames}, "trust-color.txt": {Width: 80, Color: true}} {
		golden(t, name, render(t, func(b *bytes.Buffer) error { return report.TrustText(b, smallTrust(), o) }))
	}
}

func TestTrustJSON(t *testing.T) {
	golden(t, "trust.json", render(t, func(b *bytes.Buffer) error { return report.TrustJSON(b, smallTrust()) }))
}

// What a certificate says of itself is written by whoever made it.
func TestTrustOfAHostileCertificate(t *testing.T) {
	doc := smallTrust()
	c := doc.Nodes[1].Certificate
	c.Subject, c.Issuer, c.Names, c.Key = "CN=\x1b[2J\x07", "\x1b]0;x\x07", []string{"a\x1b[1A", "b\u202e"}, "\x9bm"
	for _, out := range [][]byte{
		render(t, func(b *bytes.Buffer) error { return report.TrustText(b, doc, report.Options{Width: 80}) }),
		render(t, func(b *bytes.Buffer) error { return report.TrustJSON(b, doc) }),
	} {
		if bytes.ContainsAny(out, "\x1b\x07\u202e") || bytes.Contains(out, []byte("\x9b")) {
			t.Errorf("it is shown as it came: %q", out)
		}
	}
}
