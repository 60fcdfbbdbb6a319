package spelling_test

import (
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site/spelling"
)

func TestNearest(t *testing.T) {
	for _, tc := range []struct {
		word       string
		candidates string
		want       string
	}{
		{"pit-17", "pit-1.6 pit-1.7", "pit-1.7"},
		{"adrss", "address port user", "address"},
		{"admni", "admin", "admin"},
		{"stroe", "store restore", "store"},
		{"a", "b c", "b"},
		{"hostkey", "hostKey", "hostKey"},
		{"nodes", "images serve", ""},
		{"", "admin", ""},
		{"x3000c0s5b0n0", "x3000c0s3b0n0 x3000c0s5b0n1", "x3000c0s3b0n0"},
		{"münchen", "munchen", "munchen"},
		{strings.Repeat("a", 5000), strings.Repeat("a", 5001), ""},
	} {
		if got := spelling.Nearest(tc.word, strings.Fields(tc.candidates)); got != tc.want {
			t.Errorf("Nearest(%.20q, %.40q) = %q, want %q", tc.word, tc.candidates, got, tc.want)
		}
	}
}
