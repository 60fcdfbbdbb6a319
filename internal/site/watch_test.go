package site

import (
	"testing"
	"time"
	_ "time/tzdata"
)

func TestWindow(t *testing.T) {
	zurich, err := time.LoadLocation("Europe/Zurich")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	night := Window{From: 2 * time.Hour, To: 5 * time.Hour, Zone: zurich}
	over := Window{From: 22 * time.Hour, To: 4 * time.Hour, Zone: time.UTC}
	lost := Window{From: 2 * time.Hour, To: 3 * time.Hour, Zone: zurich}
	for _, c := range []struct {
		w    Window
		at   string
		in   bool
		next string // "" : now
	}{
		{night, "2026-11-24T01:00:00Z", true, ""},
		{night, "2026-11-24T03:59:59Z", true, ""},
		{night, "2026-11-24T04:00:00Z", false, "2026-11-25T01:00:00Z"},
		{night, "2026-11-24T00:59:59Z", false, "2026-11-24T01:00:00Z"},
		{night, "2026-07-01T00:00:00Z", true, ""}, // summer time
		{over, "2026-11-24T22:00:00Z", true, ""},
		{over, "2026-11-24T03:59:00Z", true, ""},
		{over, "2026-11-24T04:00:00Z", false, "2026-11-24T22:00:00Z"},
		{lost, "2026-03-29T00:30:00Z", false, "2026-03-29T01:00:00Z"}, // 01:30; 02:00 becomes 03:00
		{lost, "2026-03-29T01:00:00Z", false, "2026-03-30T00:00:00Z"},
		{lost, "2026-10-25T00:30:00Z", true, ""}, // 02:30, which comes twice
		{lost, "2026-10-25T01:30:00Z", true, ""},
	} {
		now := at(c.at)
		want := now
		if c.next != "" {
			want = at(c.next)
		}
		if got := c.w.Contains(now); got != c.in {
			t.Errorf("%s in %s: %v", c.at, c.w, got)
		}
		if got := c.w.Next(now); !got.Equal(want) {
			t.Errorf("after %s %s opens at %s, want %s", c.at, c.w, got.UTC(), want)
		}
	}
}
