package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/sim"
)

// bmcOnly starts machines of many kinds, with a site file that has no ssh: what a
// node says itself is not recorded.
func bmcOnly(t *testing.T) string {
	t.Helper()
	cfg := sim.Default(filepath.Join(t.TempDir(), "site"))
	cfg.Nodes = nil
	type machine struct {
		kind bmcsim.Kind
		b    bmcsim.Behaviour
	}
	machines := []machine{
		{bmcsim.ILO5, bmcsim.Behaviour{}},
		{bmcsim.ILO5, bmcsim.Behaviour{TrailingSlash: true}},
		{bmcsim.ILO4, bmcsim.Behaviour{}},
		{bmcsim.Gigabyte, bmcsim.Behaviour{}},
		{bmcsim.Gigabyte, bmcsim.Behaviour{RemoteMediaOff: true}},
		{bmcsim.Generic, bmcsim.Behaviour{}},
		{bmcsim.Generic, bmcsim.Behaviour{SecondSystem: true, ResetActionInfo: true, UsbCd: true}},
	}
	for _, k := range bmcsim.Kinds() {
		machines = append(machines, machine{k, bmcsim.Behaviour{}})
	}
	for _, k := range machines {
		for _, state := range []sim.InitialState{{}, {Off: true}} {
			cfg.Nodes = append(cfg.Nodes, sim.NodeSpec{
				Name: fmt.Sprintf("x3000c0s%db0n0", len(cfg.Nodes)+1), Kind: k.kind, Behaviour: k.b, Initial: state,
			})
		}
	}
	s, err := sim.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	text, err := os.ReadFile(s.SiteFile())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(s.SiteFile()), "bmcs.yaml")
	text = regexp.MustCompile(`(?m)^ +(ssh: \{.*|overlay: .*)\n|^  ssh:\n(    .*\n)*`).ReplaceAll(text, nil)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// planned is the plan of a site file's nodes, without what differs between two
// sites that are alike: where the file says what, and when.
func planned(t *testing.T, args ...string) (nodes []report.Node, stderr string) {
	t.Helper()
	_, out, stderr := livecdSync("", append([]string{"plan", "-o", "json"}, args...)...)
	var doc report.Document
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr)
	}
	for i, n := range doc.Nodes {
		for k := range n.Drift {
			doc.Nodes[i].Drift[k].At = ""
		}
	}
	return doc.Nodes, stderr
}

// replaying serves recordings, and gives the site file for them.
func replaying(t *testing.T, dir string) string {
	t.Helper()
	all, err := recording.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sim.StartReplay(t.Context(), filepath.Join(t.TempDir(), "replay"), all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r.SiteFile()
}

// A plan over a recording is the plan over the machines.
func TestPlanOverARecording(t *testing.T) {
	t.Parallel()
	file, dir := bmcOnly(t), filepath.Join(t.TempDir(), "rec")
	want, stderr := planned(t, "-f", file, "--record", dir)
	if !strings.Contains(stderr, "recorded ") || !strings.Contains(stderr, fmt.Sprintf("%d BMCs", len(want))) || !strings.Contains(stderr, "--redact") {
		t.Errorf("it says %q", stderr)
	}
	states := map[string]int{}
	for _, n := range want {
		states[string(n.State)]++
	}
	if len(want) < 18 || states["change"] < 10 || states["failed"]+states["blocked"] < 4 {
		t.Errorf("%d nodes: %v", len(want), states)
	}
	if got, _ := planned(t, "-f", replaying(t, dir)); cmp.Diff(want, got) != "" {
		t.Errorf("(-machines +recording):\n%s", cmp.Diff(want, got))
	}
	if status, _, stderr := livecdSync("", "plan", "-f", file, "--record", dir); status != exitNothingDone || !strings.Contains(stderr, "not empty") {
		t.Errorf("recording over a recording: %d, %q", status, stderr)
	}
}

// The same of one in which names and addresses are replaced, but for those.
func TestPlanOverARedactedRecording(t *testing.T) {
	t.Parallel()
	file, dir := bmcOnly(t), filepath.Join(t.TempDir(), "rec")
	want, stderr := planned(t, "-f", file, "--record", dir, "--redact")
	if !strings.Contains(stderr, "look through it before you send it") {
		t.Errorf("it says %q", stderr)
	}
	got, _ := planned(t, "-f", replaying(t, dir))
	if len(got) != len(want) {
		t.Fatalf("%d nodes, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Name != fmt.Sprintf("node-%d", i+1) {
			t.Errorf("a node is called %s", got[i].Name)
		}
		if a, b := kindOfPlan(want[i]), kindOfPlan(got[i]); a != b {
			t.Errorf("(-machine +recording):\n%s", cmp.Diff(a, b))
		}
	}
}

// kindOfPlan is a plan without its names and addresses.
func kindOfPlan(n report.Node) string {
	n.Name, n.Notes = "", nil
	for i := range n.Drift {
		n.Drift[i].Want, n.Drift[i].Got = "", ""
	}
	for i := range n.Steps {
		n.Steps[i].URL = ""
	}
	if n.Error != nil {
		n.Error.Message, n.Error.Hint = "", ""
	}
	text, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Trees of real BMCs are answered too, and a recording of those is as they are.
func TestPlanOverRealTrees(t *testing.T) {
	t.Parallel()
	const captures = "../../../shared/captures"
	if _, err := os.Stat(captures); err != nil {
		t.Skip("the captured trees are not here")
	}
	dir := filepath.Join(t.TempDir(), "rec")
	want, _ := planned(t, "-f", replaying(t, captures), "--record", dir)
	got, _ := planned(t, "-f", replaying(t, dir))
	if d := cmp.Diff(want, got); d != "" || len(want) < 4 {
		t.Errorf("%d trees (-tree +recording):\n%s", len(want), d)
	}
	for _, n := range want {
		mounts := len(n.Steps) > 0
		if strings.HasPrefix(n.Name, "hpe") != mounts && strings.HasPrefix(n.Name, "gigabyte") != mounts {
			t.Errorf("%s: %s, %d steps, %+v", n.Name, n.State, len(n.Steps), n.Error)
		}
	}
}

// A run that changes things is recorded with its writes, and can be run again
// over the recording.
func TestApplyOverARecording(t *testing.T) {
	t.Parallel()
	file, dir := bmcOnly(t), filepath.Join(t.TempDir(), "rec")
	args := []string{"apply", "-y", "-q", "-o", "json", "-w", "x3000c0s[1-6,11-14]b0n0"}
	status, out, stderr := livecdSync("", append(args, "-f", file, "--record", dir)...)
	if status != exitDone || !strings.Contains(out, `"converged": true`) {
		t.Fatalf("status %d\n%s\n%s", status, out, stderr)
	}
	site := replaying(t, dir)
	if again, replayed, stderr := livecdSync("", append(args, "-f", site)...); again != status || outcomes(t, replayed) != outcomes(t, out) {
		t.Errorf("status %d\n%s\nwant\n%s\n%s", again, outcomes(t, replayed), outcomes(t, out), stderr)
	}
}

// outcomes tells how each step of a run ended.
func outcomes(t *testing.T, out string) string {
	t.Helper()
	var doc report.Document
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var b strings.Builder
	for _, n := range doc.Nodes {
		fmt.Fprintf(&b, "%s %s %v", n.Name, n.State, *n.Converged)
		for _, s := range n.Steps {
			fmt.Fprintf(&b, " %s=%s", s.Action, s.Outcome)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// A recording may come from anybody: what it says ends up in a site file as
// values, and nowhere else.
func TestReplayOfAHostileRecording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rec", "b")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	evil := "x}\n    bmc: {password: {command: [touch, /tmp/pwned]}}\u0085# "
	info, err := json.Marshal(recording.Info{Version: recording.Version, BMC: evil, Nodes: []recording.Node{
		{Name: evil, System: evil, Profile: evil, Auth: evil, Reset: evil, Image: evil, URL: evil, Within: evil},
		{Name: "", Image: "none"},
		{Name: "", Image: "none"},
		{Name: "../../x", Image: "none"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "recording.json"), info, 0o600); err != nil {
		t.Fatal(err)
	}
	file := replaying(t, filepath.Dir(dir))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Nodes map[string]struct{ BMC map[string]any }
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(doc.Nodes) != 4 {
		t.Errorf("%d nodes:\n%s", len(doc.Nodes), text)
	}
	for name, n := range doc.Nodes {
		if n.BMC["password"] != nil || n.BMC["address"] == nil || strings.ContainsAny(name, "/ \n") {
			t.Errorf("%q: %v", name, n.BMC)
		}
	}
}
