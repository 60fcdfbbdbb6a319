package siteload_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// TestProfiles wants every row to be usable: its patterns compile, its name is
// its own, and it says where it comes from.
func TestProfiles(t *testing.T) {
	rows, err := siteload.Profiles()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range rows {
		for _, pattern := range []string{
			p.Match.OemKey, p.Match.Vendor, p.Match.Product, p.Match.Firmware, p.Match.Model, p.Slots, p.Licence.Lacking, "[^/" + p.URL.Path + "]",
		} {
			if _, err := regexp.Compile(pattern); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
		if _, err := time.Parse(time.DateOnly, p.Verified); err != nil || len(p.Evidence) == 0 || p.Name == "" || p.Family == "" {
			t.Errorf("%s: verified %q, evidence %q", p.Name, p.Verified, p.Evidence)
		}
	}
}
