package report_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

// BenchmarkPlanText10000 is a large site, folded.
func BenchmarkPlanText10000(b *testing.B) {
	p := plan.Plan{Site: "redbird", At: observedAt}
	for i := range 10000 {
		p.Nodes = append(p.Nodes, changing(fmt.Sprintf("x%04dc0s%db0n0", 1000+i/64, i%64), fmt.Sprint("boot-", i)))
	}
	for b.Loop() {
		if err := report.PlanText(io.Discard, p, report.Options{FoldNames: foldNames, Width: 120}); err != nil {
			b.Fatal(err)
		}
	}
}
