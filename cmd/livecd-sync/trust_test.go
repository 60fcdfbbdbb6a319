package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// simulated starts a site of so many BMCs, whose addresses are consecutive, and
// gives what they have in common.
func simulated(t *testing.T, count int) (s *sim.Site, network string) {
	t.Helper()
	cfg := sim.Default(filepath.Join(t.TempDir(), "site"))
	cfg.Nodes = nil
	for i := range count {
		cfg.Nodes = append(cfg.Nodes, sim.NodeSpec{Name: fmt.Sprintf("n%d", i+1), Kind: bmcsim.ILO5, Initial: sim.InitialState{Off: true}})
	}
	s, err := sim.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, strings.TrimSuffix(s.Nodes()[0].BMCAddress(), "1:8443")
}

// livecdSync runs the program with something on its stdin that answers. It keeps
// its state beside the site file.
func livecdSync(stdin string, args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	getenv := func(name string) string {
		if i := slices.Index(args, "-f"); name == "XDG_STATE_HOME" && i >= 0 {
			return filepath.Dir(args[i+1])
		}
		return ""
	}
	std := stdio{in: io.MultiReader(strings.NewReader(stdin)), out: &out, err: &err, getenv: getenv}
	status = run(context.Background(), args, std)
	return status, out.String(), err.String()
}

// An entry that stands for several BMCs cannot hold a fingerprint of each.
func TestTrustRanges(t *testing.T) {
	s, network := simulated(t, 5)
	file := filepath.Join(filepath.Dir(s.SiteFile()), "mine.yaml")
	before := `apiVersion: livecd-sync/v1
site: redbird
defaults:
  bmc: {username: root, password: {file: secrets/bmc-password}}

nodes:
  # a rack
  "r[1-3]":  # three of them

    bmc: {address: "` + network + `[1-3]:8443", tls: {insecure: true}}
  alone:
    bmc:
      address: "` + network + `4:8443"  # the fourth
  gone: {bmc: {address: "` + network + `99:8443"}}
  half[1-2]: {bmc: {address: "` + network + `[5,98]:8443"}}
`
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := livecdSync("", "trust", "-y", "-f", file, "-w", "r2"); status != exitNodesFailed ||
		!strings.Contains(out, "also for r[1,3]") || !strings.Contains(out, "name all nodes") {
		t.Errorf("part of an entry: status %d\n%s", status, out)
	}
	status, out, stderr := livecdSync("yes\n", "trust", "-f", file)
	if status != exitNodesFailed || !strings.Contains(stderr, "Write 5 fingerprints into "+filepath.Join(filepath.Dir(file), "certs/bmc.pins")+" and "+file+"?") {
		t.Errorf("status %d\n%s\n%s", status, out, stderr)
	}
	if !strings.Contains(out, "half2") || !strings.Contains(out, "refused until trust has seen its certificate") {
		t.Errorf("nothing is said of what is refused from now on:\n%s", out)
	}
	after, err := siteload.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(filepath.Dir(file), "certs/bmc.pins")
	for _, n := range after.Nodes {
		want := map[bool]string{true: pins}[strings.HasPrefix(n.Name, "r") || strings.HasPrefix(n.Name, "half")]
		if n.BMC.TLS.Pins != want || n.BMC.TLS.Insecure || (n.BMC.TLS.Fingerprint != "") != (n.Name == "alone") {
			t.Errorf("%s: %+v", n.Name, n.BMC.TLS)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	undone := string(text)
	for _, n := range after.Nodes {
		if n.Name == "alone" {
			undone = strings.Replace(undone, "      tls: {fingerprint: \""+n.BMC.TLS.Fingerprint+"\"}\n", "", 1)
		}
	}
	undone = strings.Replace(undone, "tls: {pins: certs/bmc.pins}", "tls: {insecure: true}", 1)
	undone = strings.Replace(undone, ", tls: {pins: certs/bmc.pins}", "", 1)
	if undone != before {
		t.Errorf("more was changed than should be:\n%s", text)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if status, out, _ := livecdSync("", "status", "-f", file, "-w", "r[1-3],alone,half1"); status != exitDone {
		t.Errorf("status of what is trusted: %d\n%s", status, out)
	}
}

// The site file is not what it was when it was shown.
func TestTrustFileChangedMeanwhile(t *testing.T) {
	s, network := simulated(t, 1)
	file := filepath.Join(filepath.Dir(s.SiteFile()), "mine.yaml")
	text := "apiVersion: livecd-sync/v1\nsite: redbird\nnodes:\n  n1: {bmc: {address: \"" + network + "1:8443\"}}\n"
	write := func(more string) {
		if err := os.WriteFile(file, []byte(text+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	var out, errs bytes.Buffer
	// The answer comes after somebody else has saved the file.
	in := readerFunc(func(p []byte) (int, error) { write("# somebody else\n"); return copy(p, "yes\n"), io.EOF })
	status := run(context.Background(), []string{"trust", "-f", file}, stdio{in: in, out: &out, err: &errs, getenv: func(string) string { return "" }})
	if status != exitNothingDone || !strings.Contains(errs.String(), "changed meanwhile") {
		t.Errorf("status %d\n%s\n%s", status, &out, &errs)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != text+"# somebody else\n" {
		t.Errorf("%v\n%s", err, got)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
