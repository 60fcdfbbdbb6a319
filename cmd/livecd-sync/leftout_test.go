package main

import (
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store/storetest"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// TestListLeftOut: a restore that puts nothing back of what the backup left out
// names it.
func TestListLeftOut(t *testing.T) {
	st, err := store.Open(site.Store{Name: "admin", URL: "file://" + t.TempDir()}, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for left, want := range map[int]int{0: 0, 1: 2, 3 * overlay.MaxDifferences: overlay.MaxDifferences + 2} {
		d, err := st.Create(t.Context(), "n1", storetest.At)
		if err == nil {
			err = storetest.Fill(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		m := storetest.Manifest(d, "lab", "n1", storetest.At)
		m.LeftOut = make([]overlay.LeftOut, left)
		for i := range m.LeftOut {
			m.LeftOut[i] = overlay.LeftOut{Path: "./root/big.squashfs", Bytes: 8}
		}
		if err := d.Publish(m); err != nil {
			t.Fatal(err)
		}
		rep := overlay.RestoreReport{ID: m.ID}
		if err := listLeftOut(t.Context(), st, "n1", &rep); err != nil {
			t.Fatal(err)
		}
		if len(rep.Notes) != want || left == 1 && (!strings.Contains(rep.Notes[0], "left out 1 file,") || rep.Notes[1] != "missing: ./root/big.squashfs, 8 B") {
			t.Errorf("of %d: %d notes: %.200q", left, len(rep.Notes), rep.Notes)
		}
	}
}
