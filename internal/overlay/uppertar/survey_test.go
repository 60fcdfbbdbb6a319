package uppertar

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSurvey writes what find writes.
func TestSurvey(t *testing.T) {
	needRoot(t, "find")
	dir := upper(t)
	cmd := exec.CommandContext(t.Context(), "find", ".", "-xdev", "-printf", `%y %m %U %G %s %T@ %C@ %p\0`)
	cmd.Dir = dir
	theirs, err := cmd.Output()
	must(t, err)
	var ours bytes.Buffer
	outcome, err := Survey(&ours, open(t, dir), nil)
	must(t, err)
	want, got := strings.Split(string(theirs), "\x00"), strings.Split(ours.String(), "\x00")
	slices.Sort(want)
	slices.Sort(got)
	for i := range want { // find writes a tenth digit
		fields := strings.SplitN(want[i], " ", 8)
		for _, at := range []int{5, 6} {
			if len(fields) == 8 {
				fields[at] = fields[at][:len(fields[at])-1]
			}
		}
		want[i] = strings.Join(fields, " ")
	}
	slices.Sort(want)
	if !slices.Equal(got, want) || outcome.Failed > 0 {
		t.Errorf("%+v got\n%s\nfind:\n%s", outcome, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var all, none bytes.Buffer
	must(t, Changed(&all, open(t, dir), unix.Timespec{}))
	must(t, Changed(&none, open(t, dir), unix.Timespec{Sec: 1 << 40}))
	theirs, err = exec.CommandContext(t.Context(), "find", dir, "-xdev", "!", "-type", "d", "-printf", `%s ./%P\0`).Output()
	must(t, err)
	if !sameLines(strings.ReplaceAll(all.String(), "\x00", "\n"), strings.ReplaceAll(string(theirs), "\x00", "\n")) || none.Len() > 0 {
		t.Errorf("sizes: %s; %s", all.String(), none.String())
	}
}
