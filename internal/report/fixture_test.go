package report_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file under testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (run the test with -update to write it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// foldNames stands in for the real folding of names: it writes how many there
// are between the first and the last, so that a test sees which were handed in.
func foldNames(names []string) string {
	if len(names) < 3 {
		return fmt.Sprint(names)
	}
	return fmt.Sprintf("%s…%s", names[0], names[len(names)-1])
}

var observedAt = time.Date(2026, 11, 23, 5, 0, 0, 123, time.FixedZone("CET", 3600))

const (
	pit16 = "http://10.1.1.1/iso/pit16.iso"
	pit17 = "http://10.1.1.1/iso/pit17.iso"
)

func iLO() bmc.State {
	return bmc.State{
		ID:    bmc.Identity{Vendor: "HPE", Product: "iLO 5", Model: "ProLiant DL325 Gen10 Plus", Firmware: "2.46", Profile: "ilo5"},
		Power: bmc.PowerOn,
		Media: bmc.Media{Slot: "2", Image: pit16, Inserted: true},
		Boot:  bmc.BootOverride{Target: "None", Enabled: "Disabled"},
	}
}

func live(id, boot string) plan.HostLive {
	return plan.HostLive{BootID: boot, Volume: site.Volume{ID: id, Created: "2026-11-01T12:00:00.00+00:00"}, Upper: "/run/overlayfs/rw"}
}

// changing needs everything that a node can need.
func changing(name, boot string) plan.NodePlan {
	state := iLO()
	return plan.NodePlan{
		Node:  name,
		State: plan.Change,
		Facts: plan.Facts{BMC: state, Host: live("PIT-1.6", boot)},
		Drift: []plan.Drift{
			{Field: "image", Want: pit17, Got: pit16, At: "site.yaml:24:10"},
			{Field: "running", Want: "pit-1.7", Got: "PIT-1.6", At: "site.yaml:24:10"},
		},
		Steps: []plan.Step{
			{Action: plan.BackupOverlay{Purpose: plan.ForReset, Store: "admin"}, Because: "it runs PIT-1.6, and its overlay ends with it"},
			{Action: plan.PowerOff{}, Because: "its media must change"},
			{Action: plan.EjectMedia{Slot: "2", Image: pit16}, Because: "another image is mounted"},
			{Action: plan.InsertMedia{Image: "pit-1.7", URL: pit17}, Because: "pit-1.7 is not mounted"},
			{Action: plan.SetBootOnce{}, Because: "it has to boot the virtual CD"},
			{Action: plan.PowerOn{}, Because: name + " has to boot pit-1.7"},
			{Action: plan.AwaitBoot{Image: "pit-1.7", Within: 30 * time.Minute}, Because: "a boot may take until 2026-11-23 05:31:07Z"},
			{Action: plan.RestoreOverlay{}, Because: "a live image forgets its overlay at a reset"},
		},
	}
}

func inSync(name string, proof plan.Proof) plan.NodePlan {
	n := plan.NodePlan{Node: name, State: plan.InSync, Proof: proof, Facts: plan.Facts{BMC: iLO(), Host: plan.HostUnknown{}}}
	if proof == plan.ProofNode {
		n.Facts.Host = live("PIT-1.7", "b-"+name)
	}
	return n
}

func unreachable(name, addr string) plan.NodePlan {
	err := &bmc.Error{
		Op: "read the service root", Kind: bmc.KindUnreachable,
		Hint: "see that " + name + "'s BMC has power: ping " + name + "-mgmt",
		Err:  fmt.Errorf("dial tcp %s:443: connect: no route to host", addr),
	}
	return plan.NodePlan{
		Node: name, State: plan.Failed, Err: err,
		Facts: plan.Facts{Err: err, Host: plan.HostUnknown{}},
	}
}

func dataLoss(name string) plan.NodePlan {
	return plan.NodePlan{
		Node: name, State: plan.Blocked,
		Facts: plan.Facts{BMC: iLO(), Host: live("PIT-1.6", "b-"+name)},
		Drift: []plan.Drift{{Field: "image", Want: pit17, Got: pit16, At: "site.yaml:30:10"}},
		Err: &bmc.Error{
			Kind: bmc.KindDataLoss, Err: fmt.Errorf("it runs PIT-1.6, and its overlay has no store to be backed up to"),
			Hint: "write overlay.store for it, or give the overlay up with --accept-data-loss=" + name,
		},
	}
}

// smallPlan has one node of every state, and two that fold.
func smallPlan() plan.Plan {
	noted := changing("x3000c0s4b0n0", "b-4")
	noted.Notes = []string{"the image could not be read from here: connection refused"}
	return plan.Plan{
		Site: "redbird", Digest: "sha256:3c0b", At: observedAt,
		Nodes: []plan.NodePlan{
			inSync("ncn-m001", plan.ProofNode),
			changing("x3000c0s3b0n0", "b-3"), noted,
			dataLoss("x3000c0s11b0n0"),
			unreachable("x3000c0s12b0n0", "10.1.0.12"),
			inSync("x3000c0s13b0n0", plan.ProofBMC),
		},
	}
}

// largePlan has 200 nodes, as a machine room would.
func largePlan() plan.Plan {
	p := plan.Plan{Site: "redbird", Digest: "sha256:3c0b", At: observedAt}
	name := func(i int) string { return fmt.Sprintf("x%dc0s%db0n0", 3000+i/100, i%100+1) }
	for i := range 200 {
		switch n := name(i); {
		case i < 6:
			p.Nodes = append(p.Nodes, inSync(n, []plan.Proof{plan.ProofNode, plan.ProofBMC}[i%2]))
		case i == 50 || i == 150:
			p.Nodes = append(p.Nodes, dataLoss(n))
		case i == 60 || i == 160:
			p.Nodes = append(p.Nodes, unreachable(n, fmt.Sprintf("10.1.%d.%d", i/100, i%100)))
		default:
			p.Nodes = append(p.Nodes, changing(n, fmt.Sprintf("boot-%d", i)))
		}
	}
	return p
}

func render(t *testing.T, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
