package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

const acceptUsage = "nodes whose overlay may be lost (ranges and @groups; there is no \"all\")"

func (a *app) planCommand() *cobra.Command {
	var detailed bool
	var accept []string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change; reads only",
		Long: `plan reads the BMCs and nodes, and shows the steps that would make them as the
site file says. It changes nothing. With -o json it prints a document that
` + "`livecd-sync apply PLANFILE`" + ` takes.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.plan(c.Context(), detailed, accept) },
	}
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "end with 2 when changes are pending and no node failed")
	c.Flags().Var(&rangeList{&accept}, "accept-data-loss", acceptUsage)
	a.recordFlags(c)
	return c
}

func (a *app) plan(ctx context.Context, detailed bool, accept []string) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	t, err := a.open(ctx, accept)
	if err != nil {
		return err
	}
	p := t.plan(ctx)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err := a.showPlan(p); err != nil {
		return err
	}
	sum := p.Summary()
	switch {
	case sum.Failed+sum.Blocked > 0:
		return status(exitNodesFailed)
	case detailed && sum.Change > 0:
		return status(exitChanges)
	}
	return nil
}

func (a *app) showPlan(p plan.Plan) error {
	if a.json() {
		return report.PlanJSON(a.out, p)
	}
	return report.PlanText(a.out, p, a.textOptions())
}

func (a *app) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "One line a node: what the BMC and the node say now",
		Long:  "status reads the BMCs and nodes and shows one line for each. It changes nothing.\n\n" + exitHelp,
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.status(c.Context()) },
	}
	a.recordFlags(c)
	return c
}

func (a *app) status(ctx context.Context) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	p := t.plan(ctx)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if a.json() {
		err = report.StatusJSON(a.out, p)
	} else {
		err = report.StatusText(a.out, p, a.textOptions())
	}
	if err == nil && p.Summary().Failed > 0 {
		err = status(exitNodesFailed)
	}
	return err
}
