package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// Every step that a plan may have can be named in watch.apply.
func TestEveryStepCanBeAllowed(t *testing.T) {
	var names []string
	for _, a := range []plan.Action{
		plan.BackupOverlay{},
		plan.PowerOff{},
		plan.EnableMedia{},
		plan.EjectMedia{},
		plan.InsertMedia{},
		plan.SetBootOnce{},
		plan.ClearBoot{},
		plan.PowerOn{},
		plan.Reset{},
		plan.AwaitBoot{},
		plan.Login{},
		plan.RestoreOverlay{},
		plan.Repopulate{},
	} {
		names = append(names, a.Name())
	}
	file := "apiVersion: livecd-sync/v1\nsite: s\nwatch: {apply: [%s], maxDown: 1}\nnodes: {n1: {bmc: {address: b1}}}\n"
	s, err := siteload.Parse("site.yaml", fmt.Appendf(nil, file, strings.Join(names, ", ")))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !s.Watch.MayRun(name) {
			t.Errorf("%s is not allowed", name)
		}
	}
	// The schema has no name that no step has: it lists them in what it says.
	_, err = siteload.Parse("site.yaml", fmt.Appendf(nil, file, "x"))
	if err == nil {
		t.Fatal("x is taken for a step")
	}
	_, list, _ := strings.Cut(err.Error(), "the name of a step: ")
	if got := strings.Count(list, ",") + strings.Count(list, " or ") + 1; got != len(names) {
		t.Errorf("%d steps are named, and there are %d: %s", got, len(names), list)
	}
}
