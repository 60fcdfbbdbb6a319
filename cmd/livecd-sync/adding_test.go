package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// addingPage is docs/adding-a-bmc.md from its example on.
func addingPage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/adding-a-bmc.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(text), "## From a recording to a row")
	if !found {
		t.Fatal("the page has no example")
	}
	return example
}

// fenced are the page's blocks of a language.
func fenced(page, language string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// wantLines wants each of the page's lines in what was printed.
func wantLines(t *testing.T, printed, page string) {
	t.Helper()
	for line := range strings.Lines(page) {
		if !strings.Contains(printed, strings.TrimSpace(line)) {
			t.Errorf("the page has the line %q, which is not in\n%s", strings.TrimSpace(line), printed)
		}
	}
}

// What docs/adding-a-bmc.md does with a recording comes out as the page says.
func TestAddingABMC(t *testing.T) {
	page := addingPage(t)
	const fixture = "internal/bmc/recording/testdata/anvil"
	said := fenced(page, "text")
	rows := fenced(page, "cue")
	if len(said) != 2 || len(rows) != 1 || !strings.Contains(page, fixture) {
		t.Fatalf("the page has %d outputs and %d rows", len(said), len(rows))
	}
	for _, m := range regexp.MustCompile("`(\\d{4}-GET-[^`]*)`").FindAllStringSubmatch(page, -1) {
		if found, _ := filepath.Glob(filepath.Join("../..", fixture, "*", m[1])); len(found) != 1 {
			t.Errorf("the page speaks of %s, which is not in the recording", m[1])
		}
	}
	file := replaying(t, filepath.Join("../..", fixture))
	status, out, stderr := livecdSync("", "doctor", "-f", file)
	if status != exitNodesFailed {
		t.Errorf("doctor without the row ends with %d: %s", status, stderr)
	}
	wantLines(t, out, said[0])

	plan := planWith(t, file, rows[0])
	wantLines(t, plan, said[1])
	if strings.Contains(plan, "failed") || strings.Contains(plan, "blocked") {
		t.Errorf("with the row:\n%s", plan)
	}
}

// planWith plans a site with more rows than the program ships.
func planWith(t *testing.T, file, rows string) string {
	t.Helper()
	all, err := siteload.ProfilesWith(rows)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{stdio: stdio{out: new(bytes.Buffer), err: new(bytes.Buffer), getenv: func(string) string { return "" }}, clock: bmc.SystemClock{}, jobs: 1, file: file}
	s, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	target, err := a.openSite(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	target.profiles, target.dialer.Profiles = all, all
	var text bytes.Buffer
	if err := report.PlanText(&text, target.plan(t.Context()), report.Options{}); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
