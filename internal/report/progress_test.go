package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

// events is a short run of two nodes.
func events() []apply.Event {
	at := func(s float64) time.Time { return observedAt.Add(time.Duration(s * float64(time.Second))) }
	insert := plan.InsertMedia{Image: "pit-1.7", URL: pit17}
	await := plan.AwaitBoot{Image: "pit-1.7", Within: 30 * time.Minute}
	return []apply.Event{
		{At: at(0), Node: "ncn-m001", Step: 3, Of: 8, Action: insert, Phase: apply.Started},
		{At: at(0.3), Node: "n2", Step: 3, Of: 8, Action: insert, Phase: apply.Started},
		{At: at(1.2), Node: "ncn-m001", Step: 3, Of: 8, Action: insert, Phase: apply.Done},
		{At: at(1.3), Node: "n2", Step: 3, Of: 8, Action: insert, Phase: apply.Failed, Err: noMedia("10.0.0.2")},
		{At: at(1.3), Node: "n2", Phase: apply.Failed, Err: noMedia("10.0.0.2")},
		{At: at(2), Node: "ncn-m001", Step: 7, Of: 8, Action: await, Phase: apply.Started},
		{At: at(12), Node: "ncn-m001", Step: 7, Of: 8, Action: await, Phase: apply.Progress, Detail: "in POST"},
		{At: at(33), Node: "ncn-m001", Step: 7, Of: 8, Action: await, Phase: apply.Progress, Detail: "312 MiB of the image read"},
		{At: at(43), Node: "ncn-m001", Step: 7, Of: 8, Action: await, Phase: apply.Progress, Detail: "320 MiB of the image read"},
		{At: at(305), Node: "ncn-m001", Step: 7, Of: 8, Action: await, Phase: apply.Done, Detail: "it runs pit-1.7"},
		{At: at(306), Node: "ncn-m001", Phase: apply.Done},
		{At: at(307), Node: "n3", Phase: apply.Skipped, Err: noMedia("10.0.0.3")},
	}
}

func progress(o report.ProgressOptions, es []apply.Event) []byte {
	var b bytes.Buffer
	p := report.NewProgress(&b, o)
	for _, e := range es {
		p.Event(e)
	}
	return b.Bytes()
}

func TestProgress(t *testing.T) {
	nodes := []string{"ncn-m001", "n2"}
	golden(t, "progress.txt", progress(report.ProgressOptions{Nodes: nodes}, events()))
	golden(t, "progress-verbose.txt", progress(report.ProgressOptions{Nodes: nodes, Verbose: true}, events()))
	golden(t, "progress-color.txt", progress(report.ProgressOptions{Color: true}, events()))
	golden(t, "progress.jsonl", progress(report.ProgressOptions{JSON: true}, events()))
}

func TestProgressOfALongStep(t *testing.T) {
	start := apply.Event{At: observedAt, Node: "n1", Step: 1, Of: 1, Action: plan.Reset{}, Phase: apply.Started}
	for want, after := range map[string]time.Duration{"59.9 s": 59900 * time.Millisecond, "1m00s": time.Minute, "2h05m": 125 * time.Minute} {
		end := start
		end.At, end.Phase = start.At.Add(after), apply.Done
		if got := string(progress(report.ProgressOptions{}, []apply.Event{start, end})); !strings.Contains(got, "  "+want+"\n") {
			t.Errorf("after %s: %q, want it to say %s", after, got, want)
		}
	}
}

// Lines of concurrent events stay whole.
func TestProgressIsSafeForConcurrentUse(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var b bytes.Buffer
		p := report.NewProgress(&b, report.ProgressOptions{JSON: asJSON})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for _, e := range events() {
					e.Node = fmt.Sprint("n", i)
					p.Event(e)
				}
			})
		}
		wg.Wait()
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		for _, line := range lines {
			if !strings.HasPrefix(line, "n") && !json.Valid([]byte(line)) {
				t.Fatalf("a broken line: %q", line)
			}
		}
	}
}
