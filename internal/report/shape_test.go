package report

import (
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/plan"
)

func TestTogether(t *testing.T) {
	tests := map[string]struct {
		nodes []string
		texts []string
		want  string // "" when they are not to be told together
	}{
		"the same":            {[]string{"n1", "n2"}, []string{"it runs pit-1.6", "it runs pit-1.6"}, "it runs pit-1.6"},
		"another image":       {[]string{"n1", "n2"}, []string{"it runs pit-1.6", "it runs pit-1.7"}, ""},
		"another number":      {[]string{"n1", "n2"}, []string{"answered 503", "answered 500"}, ""},
		"names":               {[]string{"n1", "n2"}, []string{"n1 is off", "n2 is off"}, "NODES is off"},
		"a name in a list":    {[]string{"n1", "n2"}, []string{"see n1, n9", "see n2, n9"}, "see NODES, n9"},
		"names with dots":     {[]string{"a.b", "c.d"}, []string{"at a.b.", "at c.d."}, "at NODES."},
		"n10 is not n1's":     {[]string{"n1", "n2"}, []string{"beside n10", "beside n20"}, ""},
		"a BMC's xname":       {[]string{"x3000c0s3b0n0", "x3000c0s4b0n0"}, []string{"lookup x3000c0s3b0: no host", "lookup x3000c0s4b0: no host"}, "lookup <host>: no host"},
		"a BMC's name":        {[]string{"ncn-m001", "ncn-m002"}, []string{"lookup ncn-m001-mgmt.x.org:443", "lookup ncn-m002-mgmt.x.org:443"}, "lookup <host>"},
		"a prefixed name":     {[]string{"ncn-m001", "ncn-m002"}, []string{"at bmc-ncn-m001", "at bmc-ncn-m002"}, "at <host>"},
		"addresses":           {[]string{"n1", "n2"}, []string{"dial tcp 10.0.0.1:443: refused", "dial tcp 10.0.0.2:443: refused"}, "dial tcp <address>: refused"},
		"the same address":    {[]string{"n1", "n2"}, []string{"n1 at 10.0.0.1", "n2 at 10.0.0.1"}, "NODES at 10.0.0.1"},
		"IPv6":                {[]string{"n1", "n2"}, []string{"dial tcp [fe80::1%eth0]:443", "dial tcp [fe80::2%eth0]:443"}, "dial tcp <address>"},
		"URLs":                {[]string{"n1", "n2"}, []string{"get https://bmc7/redfish/v1: eof", "get https://10.0.0.2/redfish/v1: eof"}, "get https://<host>/redfish/v1: eof"},
		"another path":        {[]string{"n1", "n2"}, []string{"http://w/pit16.iso", "http://w/pit15.iso"}, ""},
		"durations":           {[]string{"n1", "n2"}, []string{"after 1m30.5s", "after 950ms"}, "after <time>"},
		"times":               {[]string{"n1", "n2"}, []string{"at 2026-11-23 05:31:07Z", "at 2026-11-22 17:00:00Z"}, "at <time>"},
		"RFC 3339":            {[]string{"n1", "n2"}, []string{"at 2026-11-23T05:31:07.5+01:00,", "at 2026-11-22T17:00:00Z,"}, "at <time>,"},
		"a stamp and a UUID":  {[]string{"n1", "n2"}, []string{"20261123T053107Z-ab12 0b0c5e2e-7f0a-4c4e-9d2e-3d8c3a1a5b77", "20261122T170000Z-cd34 1b0c5e2e-7f0a-4c4e-9d2e-3d8c3a1a5b77"}, "<id> <id>"},
		"the node's own boot": {[]string{"n1", "n2"}, []string{"it ran boot-of-n1 before", "it ran boot-of-n2 before"}, "it ran <id> before"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var nodes []plan.NodePlan
			text := make(map[string]string)
			for i, n := range tt.nodes {
				nodes = append(nodes, plan.NodePlan{Node: n, Facts: plan.Facts{Host: plan.HostDisk{BootID: "boot-of-" + n}}})
				text[n] = tt.texts[i]
			}
			said := func(n plan.NodePlan) string { return text[n.Node] }
			alike := shapeOf(said(nodes[0]), ownOf(nodes[0])).pattern == shapeOf(said(nodes[1]), ownOf(nodes[1])).pattern
			if alike != (tt.want != "") {
				t.Fatalf("alike is %v", alike)
			}
			if !alike {
				return
			}
			if got := together(nodes, "NODES", said); got != tt.want {
				t.Errorf("together: %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzShape: a sentence about one node is told as it is.
func FuzzShape(f *testing.F) {
	f.Add("dial tcp 10.0.0.1:443: n1 at 5m", "n1", "b-1")
	f.Add("[fe80::1]:443 https://a@b/c?d", "x3000c0s1b0n0", "x3")
	f.Fuzz(func(t *testing.T, text, node, id string) {
		n := plan.NodePlan{Node: node, Facts: plan.Facts{Host: plan.HostDisk{BootID: id}}}
		got := unshape([]shape{shapeOf(clean(text), ownOf(n))}, "")
		if want := clean(text); got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}
