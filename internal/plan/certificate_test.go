package plan

import (
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Another certificate than the accepted one is a difference that stops the node.
func TestCertificateChangeIsADrift(t *testing.T) {
	change := &bmc.Error{Op: "read", Kind: bmc.KindTLS, Hint: "judge it", Err: &bmc.CertificateChange{Accepted: "sha256:aa", Shown: "sha256:bb"}}
	s := &site.Site{
		Images: map[string]site.Image{"pit": {Name: "pit", URL: "http://10.1.1.1/iso/pit.iso"}},
		Nodes:  []site.Node{{Name: "n1", Image: "pit", Pos: map[string]site.Pos{"bmc.tls": "site.yaml:7:3"}}},
	}
	n := Compute(s, Observed{Nodes: map[string]Facts{"n1": {Err: change, Host: HostUnknown{}}}}, nil).Nodes[0]
	if n.State != Failed || n.Err == nil || n.Err.Kind != bmc.KindTLS || len(n.Steps) != 0 {
		t.Errorf("%+v", n)
	}
	want := Drift{Field: "bmc.tls", Want: "sha256:aa", Got: "sha256:bb", At: "site.yaml:7:3"}
	if len(n.Drift) != 1 || n.Drift[0] != want {
		t.Errorf("drift %+v, want %+v", n.Drift, want)
	}
}
