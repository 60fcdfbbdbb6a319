package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// What the README shows as a site file is one.
func TestReadmeSiteFile(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the README shows no site file")
	}
	s, err := siteload.Parse("README.md", m[1])
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Nodes) != 9 {
		t.Errorf("%d nodes, want 9", len(s.Nodes))
	}
}

// The README, the program's help and the code agree on the exit statuses.
func TestReadmeExitStatus(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(exitHelp) {
		m := regexp.MustCompile(`^ +(\d+) +(.*)\n?$`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		text := strings.NewReplacer("`", "").Replace(string(b))
		if !strings.Contains(text, "| "+m[1]+" | "+m[2]+" |") {
			t.Errorf("the README does not say of %s: %s", m[1], m[2])
		}
	}
}
