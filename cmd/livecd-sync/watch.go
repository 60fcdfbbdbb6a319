package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/watch"
)

func (a *app) watchCommand() *cobra.Command {
	w := watcher{app: a, spent: map[string]string{}}
	var every time.Duration
	c := &cobra.Command{
		Use:   "watch",
		Short: "Plan again whenever the site file changes, and every so often",
		Long: `watch plans when it starts, whenever the site file's content changes, and every
--every, and shows the plan when it is another than before. While the file is
invalid, its errors are shown and the last valid one stays in force.

With --apply it also runs what harms nothing, backups that are due for example.
Whatever ends what a node runs, starts a machine or ejects its media is left to
` + "`livecd-sync apply`" + ` unless --allow-reset is given too. A node that was reset and did
not converge is not reset again until the file wants something else of it.

Ctrl-C ends it, at a safe point as with apply.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if w.allowReset && !w.apply {
				return fmt.Errorf("--allow-reset means nothing without --apply; give both, or neither")
			}
			return w.run(c.Context(), every)
		},
	}
	c.Flags().DurationVar(&every, "every", 5*time.Minute, "how often to look without a change of the file")
	c.Flags().BoolVar(&w.apply, "apply", false, "run what harms nothing")
	c.Flags().BoolVar(&w.allowReset, "allow-reset", false, "with --apply: run all of it, resets included")
	return c
}

// A watcher is one run of watch.
type watcher struct {
	app               *app
	apply, allowReset bool

	last  *site.Site // the last valid site file
	shown string     // the last plan that was shown
	// spent is, by node, the wish for which it was reset without converging.
	spent map[string]string
}

func (w *watcher) run(ctx context.Context, every time.Duration) error {
	untilStop, done := w.app.untilStop(ctx)
	defer done()
	return watch.Run(untilStop, watch.Config{
		Path: w.app.siteFile(), Every: every,
		// A stop ends the reading at once; what is being applied ends by itself, at
		// a safe point, or with ctx.
		Run:     func(reading context.Context, why watch.Reason) { w.once(reading, ctx, why) },
		OnError: func(err error) { w.app.complain(err) },
	})
}

// once plans, and applies what may be applied. What goes wrong is shown, and the
// watch goes on.
func (w *watcher) once(ctx, applying context.Context, why watch.Reason) {
	s, err := w.app.load()
	if err != nil {
		w.app.complain(err)
		if w.last == nil {
			return
		}
		s = w.last
		w.app.complain(fmt.Errorf("the last valid site file stays in force"))
	}
	w.last = s
	t, err := w.app.openSite(ctx, s, nil)
	if err == nil {
		defer t.nodes.close()
		err = t.alone("watch")
	}
	if err != nil {
		w.app.complain(err)
		return
	}
	p := t.plan(ctx)
	if ctx.Err() != nil {
		return
	}
	w.show(p, why)
	if w.apply {
		w.applySome(applying, t, p)
	}
}

// show prints the plan if it says something else than the last one.
func (w *watcher) show(p plan.Plan, why watch.Reason) {
	var b strings.Builder
	if err := report.PlanText(&b, p, w.app.textOptions()); err != nil {
		w.app.complain(err)
		return
	}
	if b.String() == w.shown {
		return
	}
	w.shown = b.String()
	if w.app.json() {
		if err := report.PlanJSON(w.app.out, p); err != nil {
			w.app.complain(err)
		}
		return
	}
	fmt.Fprintf(w.app.out, "%s  %s\n%s", w.app.clock.Now().UTC().Format(time.RFC3339), why, w.shown)
}

func (w *watcher) applySome(ctx context.Context, t *target, p plan.Plan) {
	some := p
	some.Nodes = nil
	for _, n := range p.Nodes {
		if n.State == plan.Change && w.may(t, n) {
			some.Nodes = append(some.Nodes, n)
		}
	}
	if len(some.Nodes) == 0 {
		return
	}
	res := t.runner(some).Run(ctx, w.app.stop, t.site, some)
	w.remember(t, res)
	w.shown = "" // what was done is worth showing what is left
	if err := w.app.showResult(res, true); err != nil {
		if _, failed := err.(status); !failed { //nolint:errorlint // status is never wrapped
			w.app.complain(err)
		}
	}
}

// may reports whether the node's plan may be run by a watch.
func (w *watcher) may(t *target, n plan.NodePlan) bool {
	harms := false
	for _, s := range n.Steps {
		harms = harms || s.Action.Effect() != plan.Safe
	}
	switch {
	case !harms:
		return true
	case !w.allowReset:
		return false
	case w.spent[n.Node] == wish(t, n.Node):
		w.app.complain(fmt.Errorf("%s: it was reset for this already and did not converge; it is left to `livecd-sync apply`", n.Node))
		return false
	}
	return true
}

// remember notes which nodes were reset in vain.
func (w *watcher) remember(t *target, res apply.Result) {
	for i, n := range res.Nodes {
		for j, s := range n.Steps {
			if s.Outcome == apply.OutcomeSkipped || res.Plan.Nodes[i].Steps[j].Action.Effect() != plan.Destroys {
				continue
			}
			w.spent[n.Node] = wish(t, n.Node)
		}
		if n.Converged {
			delete(w.spent, n.Node)
		}
	}
}

// wish is what the site file wants of a node's boot.
func wish(t *target, node string) string {
	for _, n := range t.site.Nodes {
		if n.Name == node {
			return fmt.Sprintf("%s %q", n.Image, t.site.Images[n.Image].URL)
		}
	}
	return ""
}
