package report

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is what a terminal of one line shows of what was written: it knows
// carriage returns and that a line is wiped.
func screen(written string) (lines []string, last string) {
	for _, part := range strings.SplitAfter(written, "\r\x1b[K") {
		shown, wiped := strings.CutSuffix(part, "\r\x1b[K")
		if all := strings.Split(shown, "\n"); len(all) > 1 {
			lines = append(lines, last+all[0])
			lines = append(lines, all[1:len(all)-1]...)
			last = all[len(all)-1]
		} else {
			last += shown
		}
		if wiped {
			last = ""
		}
	}
	return lines, last
}

func TestTransfersLive(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	tr := NewTransfers(&out, TransfersOptions{Live: true, Width: 40, Now: func() time.Time { return now }})
	last := func() string { _, last := screen(out.String()); return last }
	tr.Tell("n1", "1.0 MiB read")
	if last() != "n1 1.0 MiB read" {
		t.Errorf("at once: %q", last())
	}
	tr.Tell("n1", "2.0 MiB read")
	if last() != "n1 1.0 MiB read" {
		t.Errorf("within a tenth of a second: %q", last())
	}
	now = now.Add(redrawn)
	tr.Tell("n1", "3.0 MiB\x1b[2J read")
	if strings.Contains(last(), "\x1b") || !strings.HasPrefix(last(), "n1 3.0 MiB") {
		t.Errorf("later: %q", last())
	}
	tr.Tell("n1", "3.0 MiB read")
	for i := range 3 {
		tr.Tell(fmt.Sprintf("n%d", i+2), "10 B sent")
	}
	if last() != "n1 3.0 MiB read; n2 10 B sent; 2 more" {
		t.Errorf("of four: %q", last())
	}
	tr.Around(func() { out.WriteString("n2  done\n") })
	tr.End("n2")
	lines, _ := screen(out.String())
	if len(lines) != 1 || lines[0] != "n2  done" || last() != "n1 3.0 MiB read; n3 10 B sent; 1 more" {
		t.Errorf("after an end: %q, %q", lines, last())
	}
	tr.Tell("a node with a name that is longer than the terminal is wide", "1 B")
	if len(last()) > 39 {
		t.Errorf("too wide: %q", last())
	}
	for _, n := range []string{"n1", "n3", "n4", "a node with a name that is longer than the terminal is wide"} {
		tr.End(n)
	}
	if last() != "" {
		t.Errorf("in the end: %q", last())
	}
}

func TestTransfersInLines(t *testing.T) {
	now := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		opts TransfersOptions
		want string
	}{
		{TransfersOptions{}, "n1  30 s\nn1  60 s\n"},
		{TransfersOptions{Live: true}, "n1  30 s\nn1  60 s\n"}, // of no known width
		{TransfersOptions{JSON: true, Live: true, Width: 80}, `{"level":"info","time":"2026-11-23T05:00:30Z","node":"n1","message":"30 s"}` + "\n" +
			`{"level":"info","time":"2026-11-23T05:01:00Z","node":"n1","message":"60 s"}` + "\n"},
		{TransfersOptions{Verbose: true, Live: true, Width: 80}, "n1  0 s\nn1  10 s\nn1  20 s\nn1  30 s\nn1  40 s\nn1  50 s\nn1  60 s\n"},
	} {
		var out bytes.Buffer
		at := now
		c.opts.Now = func() time.Time { return at }
		tr := NewTransfers(&out, c.opts)
		for i := range 7 {
			at = now.Add(time.Duration(i) * 10 * time.Second)
			tr.Tell("n1", fmt.Sprintf("%d s", i*10))
		}
		tr.End("n1")
		if out.String() != c.want {
			t.Errorf("%+v:\n%s", c.opts, out.String())
		}
	}
}

// TestTransfersAtOnce: nothing is torn, and a nil one tells nothing.
func TestTransfersAtOnce(t *testing.T) {
	var out bytes.Buffer
	tr := NewTransfers(&out, TransfersOptions{Live: true, Width: 80, Now: time.Now})
	var none *Transfers
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				tr.Tell(fmt.Sprint("n", i), "x")
				tr.Around(func() { out.WriteString("line\n") })
				none.Tell("n", "x")
			}
			tr.End(fmt.Sprint("n", i))
			none.End("n")
		})
	}
	wg.Wait()
	lines, last := screen(out.String())
	for _, line := range lines {
		if line != "line" {
			t.Fatalf("torn: %q", line)
		}
	}
	ran := false
	none.Around(func() { ran = true })
	if len(lines) != 800 || last != "" || !ran {
		t.Errorf("%d lines, then %q", len(lines), last)
	}
}
