package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/livecd-sync/livecd-sync/internal/apply"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
)

type applyFlags struct {
	yes     bool
	accept  []string
	batch   string
	maxFail int
	paused  bool // pauses are passed over
}

func (a *app) applyCommand() *cobra.Command {
	var fl applyFlags
	c := &cobra.Command{
		Use:   "apply [PLANFILE]",
		Short: "Show what would change, ask, do it",
		Long: `apply shows the plan, asks, and runs it: overlays are backed up before anything
ends them, each machine is started at most once, and a node counts as converged
only when it was looked at again and nothing was left to do. A run that was cut
off is continued by the next one.

With PLANFILE, made by ` + "`livecd-sync plan -o json`" + `, only that plan is run, and only
if it is still what the nodes need.

Ctrl-C starts no further step and lets running ones come to a safe point; a
second one ends at once.

` + exitHelp,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.apply(c.Context(), args, fl) },
	}
	c.Flags().BoolVarP(&fl.yes, "yes", "y", false, "do not ask")
	c.Flags().Var(&rangeList{&fl.accept}, "accept-data-loss", acceptUsage)
	a.recordFlags(c)
	a.lockFlags(c)
	c.Flags().BoolVar(&fl.paused, "even-paused", false, "change nodes too that are paused")
	c.Flags().StringVar(&fl.batch, "batch", "", "how many nodes may be down at once: N or N%")
	c.Flags().IntVar(&fl.maxFail, "max-fail", 0, "start no further node once so many have failed (0: never)")
	return c
}

func (a *app) apply(ctx context.Context, args []string, fl applyFlags) error {
	if fl.maxFail < 0 {
		return fmt.Errorf("--max-fail %d is no number of nodes; write 0 for never, or more", fl.maxFail)
	}
	if _, err := batchSize(fl.batch, 1); err != nil {
		return err
	}
	t, p, err := a.plannedApply(ctx, args, fl)
	if err != nil {
		return err
	}
	maxDown, err := batchSize(fl.batch, len(p.Nodes))
	if err != nil {
		return err
	}
	changes := p.Summary().Change > 0
	if !a.json() {
		if err := report.PlanText(a.out, p, a.textOptions()); err != nil {
			return err
		}
	}
	if changes && !fl.yes {
		if err := a.ask(ctx, p); err != nil {
			return err
		}
	}
	runner := t.runner(p)
	runner.MaxDown, runner.MaxFail = maxDown, fl.maxFail
	over := a.sayWhenStopped()
	defer over()
	res := runner.Run(ctx, a.stop, t.site, p)
	return a.showResult(res, changes)
}

// plannedApply plans, within the bounds of a plan file if one is given.
func (a *app) plannedApply(ctx context.Context, args []string, fl applyFlags) (*target, plan.Plan, error) {
	var doc *report.Document
	if len(args) == 1 {
		d, err := readPlanFile(args[0])
		if err != nil {
			return nil, plan.Plan{}, err
		}
		if len(a.nodes)+len(a.exclude) > 0 {
			return nil, plan.Plan{}, fmt.Errorf("a plan file says by itself which nodes it is for; leave out -w and -x, or make another plan")
		}
		if a.nodes = d.Names(); len(a.nodes) == 0 {
			return nil, plan.Plan{}, fmt.Errorf("%s is a plan for no node; nothing was done: plan again", args[0])
		}
		doc = &d
	}
	t, err := a.open(ctx, fl.accept)
	if err != nil {
		return nil, plan.Plan{}, err
	}
	if err := t.alone("apply"); err != nil {
		return nil, plan.Plan{}, err
	}
	reading, done := a.untilStop(ctx)
	defer done()
	p := t.plan(reading)
	if reading.Err() != nil {
		return nil, plan.Plan{}, errInterrupted
	}
	if doc != nil {
		if why := doc.Stale(p); len(why) > 0 {
			return nil, plan.Plan{}, fmt.Errorf("%s is stale, nothing was done:\n  %s\n  → plan again, or give the --accept-data-loss that it was made with", args[0], strings.Join(why, "\n  "))
		}
	}
	if !fl.paused {
		t.blockPaused(&p)
	}
	return t, p, nil
}

func readPlanFile(name string) (report.Document, error) {
	f, err := os.Open(name)
	if err != nil {
		return report.Document{}, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	d, err := report.ReadPlan(f)
	if err != nil {
		return report.Document{}, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// batchSize reads --batch: N or N%, of n nodes; 0 means no limit.
func batchSize(s string, n int) (int, error) {
	if s == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	v, err := strconv.Atoi(number)
	if err != nil || v < 1 || (percent && v > 100) {
		return 0, fmt.Errorf("--batch %s is no number of nodes; write for example 5 or 10%%", s)
	}
	if percent {
		v = max(1, n*v/100)
	}
	return v, nil
}

// ask shows what is at stake and waits for a yes.
func (a *app) ask(ctx context.Context, p plan.Plan) error {
	ends := 0
	for _, n := range p.Nodes {
		if n.EndsRunning() {
			ends++
		}
	}
	question := fmt.Sprintf("Apply this to %s?", count(p.Summary().Change, "node"))
	if ends > 0 {
		question = fmt.Sprintf("Apply this to %s, ending what runs on %d of them?", count(p.Summary().Change, "node"), ends)
	}
	return a.confirm(ctx, question)
}

// confirm asks a question that only "yes" answers with a yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if f, isFile := a.in.(*os.File); isFile && !term.IsTerminal(int(f.Fd())) {
		return fmt.Errorf("nobody can be asked, for stdin is no terminal; nothing was done: look at it, then give -y")
	}
	fmt.Fprint(a.err, question+" Only yes does it: ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(a.in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-a.stop:
		fmt.Fprintln(a.err)
		return errInterrupted
	case <-ctx.Done():
		return errInterrupted
	case s := <-answer:
		if s == "yes" {
			return nil
		}
	}
	return fmt.Errorf("the answer was not yes; nothing was done")
}

func (a *app) showResult(res apply.Result, changes bool) error {
	var err error
	switch {
	case a.json():
		err = report.ResultJSON(a.out, res)
	case changes:
		err = report.ResultText(a.out, res, a.textOptions())
	}
	if err != nil {
		return err
	}
	for _, n := range res.Nodes {
		if n.Err != nil {
			return status(exitNodesFailed)
		}
	}
	return nil
}
