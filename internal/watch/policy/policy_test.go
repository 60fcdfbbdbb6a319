package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

var (
	now  = time.Date(2026, 11, 24, 3, 0, 0, 0, time.UTC)
	node = site.Node{Name: "n1", Image: "pit-1.7", SSH: &site.SSH{}, Overlay: &site.Overlay{Store: "admin", Every: 24 * time.Hour}}
	wish = Wish{Image: "pit-1.7", Source: "http://10.1.1.1/pit17.iso"}
)

func steps(actions ...plan.Action) []plan.Step {
	var s []plan.Step
	for _, a := range actions {
		s = append(s, plan.Step{Action: a})
	}
	return s
}

func reset() plan.NodePlan {
	return plan.NodePlan{
		Node: "n1", State: plan.Change,
		Steps: steps(plan.BackupOverlay{Purpose: plan.ForReset, Store: "admin"}, plan.PowerOff{}, plan.InsertMedia{}, plan.SetBootOnce{}, plan.PowerOn{}, plan.AwaitBoot{}),
		Facts: facts(bmc.PowerOn, "boot-1", now.Add(-time.Hour)),
	}
}

func facts(p bmc.Power, boot string, latest time.Time) plan.Facts {
	f := plan.Facts{BMC: bmc.State{Power: p}, Host: plan.HostLive{BootID: boot}}
	if boot == "" {
		f.Host = plan.HostUnknown{}
	}
	if !latest.IsZero() {
		f.Overlay.Latest = &plan.Backup{At: latest}
	}
	return f
}

func names(np *plan.NodePlan) string {
	if np == nil {
		return ""
	}
	var all []string
	for _, s := range np.Steps {
		all = append(all, s.Action.Name())
	}
	return strings.Join(all, " ")
}

func TestJudge(t *testing.T) {
	all := []string{"backup-overlay", "power-off", "insert-media", "set-boot-once", "power-on", "await-boot"}
	whole := "backup-overlay power-off insert-media set-boot-once power-on await-boot"
	night := &site.Window{From: 2 * time.Hour, To: 5 * time.Hour, Zone: time.UTC, Text: "02:00-05:00 UTC"}
	old := reset()
	old.Facts = facts(bmc.PowerOn, "boot-1", now.Add(-25*time.Hour))
	safe := plan.NodePlan{Node: "n1", State: plan.Change, Steps: steps(plan.InsertMedia{}, plan.SetBootOnce{})}
	due := plan.NodePlan{Node: "n1", State: plan.Change, Steps: steps(plan.BackupOverlay{Purpose: plan.Due, Store: "admin"}, plan.InsertMedia{})}
	for name, c := range map[string]struct {
		policy Policy
		plan   plan.NodePlan
		try    Attempt
		at     time.Time
		run    string
		why    string
	}{
		"by default no reset":               {Policy{Watch: site.Watch{Apply: site.DefaultWatchApply}}, reset(), Attempt{}, now, "", "may not power-off, insert-media"},
		"by default a backup that is due":   {Policy{Watch: site.Watch{Apply: site.DefaultWatchApply}}, due, Attempt{}, now, "backup-overlay", "may not insert-media"},
		"a due one that a reset would make": {Policy{Watch: site.Watch{Apply: site.DefaultWatchApply}}, old, Attempt{}, now, "backup-overlay", "may not power-off"},
		"nothing at all":                    {Policy{Watch: site.Watch{Apply: []string{}}}, due, Attempt{}, now, "", "may not backup-overlay"},
		"all that is needed":                {Policy{Watch: site.Watch{Apply: all}}, reset(), Attempt{}, now, whole, ""},
		"one kind is missing":               {Policy{Watch: site.Watch{Apply: all[:5]}}, reset(), Attempt{}, now, "", "may not await-boot here"},
		"what harms nothing":                {Policy{Safe: true}, safe, Attempt{}, now, "insert-media set-boot-once", ""},
		"what harms nothing, and a reset":   {Policy{Safe: true}, reset(), Attempt{}, now, "", "may not power-off, power-on"},
		"everything":                        {Policy{All: true}, reset(), Attempt{}, now, whole, ""},
		"within the window":                 {Policy{All: true, Watch: site.Watch{Within: night}}, reset(), Attempt{}, now, whole, ""},
		"outside of the window":             {Policy{All: true, Watch: site.Watch{Within: night}}, reset(), Attempt{}, now.Add(3 * time.Hour), "", "waits for 02:00-05:00 UTC"},
		"outside of the window, a due one":  {Policy{All: true, Watch: site.Watch{Within: night}}, old, Attempt{}, now.Add(3 * time.Hour), "backup-overlay", "waits for"},
		"outside of the window, harmless":   {Policy{All: true, Watch: site.Watch{Within: night}}, safe, Attempt{}, now.Add(3 * time.Hour), "insert-media set-boot-once", ""},
		"too soon":                          {Policy{All: true}, reset(), Attempt{Wish: wish, Failures: 1, Next: now.Add(time.Minute)}, now, "", "tried again at 2026-11-24T03:01:00Z"},
		"soon enough":                       {Policy{All: true}, reset(), Attempt{Wish: wish, Failures: 1, Next: now}, now, whole, ""},
		"reset in vain":                     {Policy{All: true}, reset(), Attempt{Wish: wish, Done: []Harm{{Action: "power-off", BootID: "boot-0"}, {Action: "power-on"}}}, now, "", "did not help"},
		"blocked":                           {Policy{All: true}, plan.NodePlan{State: plan.Blocked}, Attempt{}, now, "", ""},
	} {
		v := c.policy.Judge(node, c.plan, c.try, c.at)
		if names(v.Run) != c.run || !strings.Contains(v.Why, c.why) || (c.why == "") != (v.Why == "") {
			t.Errorf("%s: run %q, why %q", name, names(v.Run), v.Why)
		}
		if v.Run != nil && v.Run.Partial != (c.run == "backup-overlay") {
			t.Errorf("%s: partial %v", name, v.Run.Partial)
		}
	}
}

// For one wish a machine is ended once and started once, whatever comes between.
func TestForbids(t *testing.T) {
	off := Harm{Action: "power-off", BootID: "boot-1"}
	on := Harm{Action: "power-on"}
	for name, c := range map[string]struct {
		done []Harm
		open bool
		act  plan.Action
		now  plan.Facts
		may  bool
	}{
		"never done":                             {nil, false, plan.PowerOff{}, facts(bmc.PowerOn, "boot-1", now), true},
		"the same boot still runs":               {[]Harm{off}, false, plan.PowerOff{}, facts(bmc.PowerOn, "boot-1", now), true},
		"another boot runs":                      {[]Harm{off}, true, plan.PowerOff{}, facts(bmc.PowerOn, "boot-2", now), false},
		"what runs cannot be told":               {[]Harm{{Action: "power-off"}}, true, plan.PowerOff{}, facts(bmc.PowerOn, "", now), false},
		"it was started":                         {[]Harm{off, on}, true, plan.PowerOff{}, facts(bmc.PowerOn, "boot-1", now), false},
		"started after it was ended":             {[]Harm{off}, true, plan.PowerOn{}, facts(bmc.PowerOff, "", now), true},
		"cut off at its start, and still off":    {[]Harm{off, on}, true, plan.PowerOn{}, facts(bmc.PowerOff, "", now), true},
		"started, and off again":                 {[]Harm{off, on}, false, plan.PowerOn{}, facts(bmc.PowerOff, "", now), false},
		"cut off at its start, and on":           {[]Harm{off, on}, true, plan.PowerOn{}, facts(bmc.PowerOn, "", now), false},
		"reset in place, and the same boot runs": {[]Harm{{Action: "reset", BootID: "boot-1"}}, true, plan.Reset{}, facts(bmc.PowerOn, "boot-1", now), true},
		"reset in place, and another boot runs":  {[]Harm{{Action: "reset", BootID: "boot-1"}}, true, plan.Reset{}, facts(bmc.PowerOn, "boot-2", now), false},
		"what harms nothing may always be done":  {[]Harm{off, on}, false, plan.AwaitBoot{}, facts(bmc.PowerOn, "boot-2", now), true},
	} {
		err := Attempt{Wish: wish, Done: c.done, Open: c.open}.Forbids(c.act, c.now)
		if (err == nil) != c.may {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && bmc.HintOf(err) == "" {
			t.Errorf("%s: no hint", name)
		}
	}
}

func TestAttempt(t *testing.T) {
	p := reset()
	a := Attempt{Wish: wish}.Begin(plan.EjectMedia{}, p.Facts, now)
	if a.Open || a.Down() {
		t.Error("an ejected image ends no machine")
	}
	a = a.Begin(plan.PowerOff{}, p.Facts, now)
	if !a.Open || !a.Down() || a.Done[0].BootID != "boot-1" {
		t.Errorf("%+v", a)
	}
	failed := apply.NodeResult{Err: &bmc.Error{Kind: bmc.KindMedia, Err: errors.New("no"), Hint: "look"}}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute} {
		var over bool
		if a, over = a.End(p, failed, now); over || a.Open || a.Failures != i+1 || a.Wait(now) != want || a.Wait(now.Add(want)) != 0 {
			t.Errorf("failure %d: %+v, wait %s", i+1, a, a.Wait(now))
		}
	}
	if w := a.Wait(now.Add(-1000 * time.Hour)); w != 8*time.Minute {
		t.Errorf("with the clock put back: %s", w)
	}
	if Patience(1000) != 6*time.Hour {
		t.Errorf("%s", Patience(1000))
	}
	stopped, over := a.End(p, apply.NodeResult{Err: &bmc.Error{Kind: bmc.KindCancelled, Err: errors.New("stopped")}}, now)
	if over || stopped.Failures != 4 || !stopped.Down() {
		t.Errorf("a stop counted as a failure, or was forgotten: %+v", stopped)
	}
	if _, over := a.End(p, apply.NodeResult{Converged: true}, now); !over {
		t.Error("it converged, and is not over")
	}
	if b := a.For(Wish{Image: "pit-1.8"}); b.Down() || b.Failures != 0 {
		t.Errorf("another wish: %+v", b)
	}
	if b := a.For(Wish{Image: wish.Image, Source: wish.Source, Volume: site.Volume{ID: "PIT"}}); !b.Down() {
		t.Error("an image that can be read again is no other one")
	}
	known := a.For(Wish{Image: wish.Image, Source: wish.Source, Volume: site.Volume{ID: "PIT"}})
	if b := known.For(Wish{Image: wish.Image, Source: wish.Source, Volume: site.Volume{ID: "PIT2"}}); b.Down() {
		t.Error("another image at the same place is another one")
	}
}

// A power-on that failed, of a machine that stayed off, was no start.
func TestAPowerOnThatFailed(t *testing.T) {
	p := plan.NodePlan{Node: "n1", Steps: steps(plan.SetBootOnce{}, plan.PowerOn{}), Facts: facts(bmc.PowerOff, "", now)}
	a := Attempt{Wish: wish}.Begin(plan.PowerOn{}, p.Facts, now)
	res := apply.NodeResult{
		Steps: []apply.StepResult{{Outcome: apply.OutcomeDone}, {Outcome: apply.OutcomeFailed}},
		After: plan.NodePlan{Facts: facts(bmc.PowerOff, "", now)}, Err: &bmc.Error{Kind: bmc.KindBusy, Err: errors.New("busy")},
	}
	if b, _ := a.End(p, res, now); b.Forbids(plan.PowerOn{}, p.Facts) != nil || b.Failures != 1 {
		t.Errorf("%+v", b)
	}
	res.After.Facts.BMC.Power = bmc.PowerOn
	if b, _ := a.End(p, res, now); b.Forbids(plan.PowerOn{}, p.Facts) == nil {
		t.Errorf("it was seen to be on: %+v", b)
	}
}
