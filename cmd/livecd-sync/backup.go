package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func (a *app) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup [NODES]",
		Short: "Back overlays up now",
		Long: `backup streams the overlay of each running node into its store. Nothing is
written on the node. What was stored is read back and compared before it counts
as a backup. Without NODES it takes every node of the site that has a store, and
skips those that have no overlay now, since they are off or run from their disks.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.backup(c.Context(), args) },
	}
	a.lockFlags(c)
	return c
}

// A nodeOutcome is what a command did to one node, for its JSON.
type nodeOutcome struct {
	Name   string        `json:"name"`
	Backup string        `json:"backup,omitempty"`
	Detail string        `json:"detail,omitempty"`
	Error  *report.Error `json:"error,omitempty"`
	// Skipped says why there was nothing to do for it.
	Skipped string `json:"skipped,omitempty"`

	Restart     []overlay.Holder `json:"restart,omitempty"`
	Notes       []string         `json:"notes,omitempty"`
	Reappear    []string         `json:"reappear,omitempty"`
	Differences []string         `json:"differences,omitempty"`
	Warnings    []string         `json:"warnings,omitempty"`
}

func (a *app) backup(ctx context.Context, args []string) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	if err := a.name(args); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	if err := t.alone("backup"); err != nil {
		return err
	}
	named := len(a.nodes) > 0
	backUp := t.locked(func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		out := nodeOutcome{Name: n.Name}
		tell := a.tell(n)
		tell("reading the overlay")
		m, err := t.nodes.backup(ctx, n, plan.Manual, tell)
		if err != nil && !named {
			if out.Skipped = t.nothingToBackUp(ctx, n, err); out.Skipped != "" {
				return out, true
			}
		}
		out.Backup, out.Error = m.ID, errorOf(err)
		if out.Backup != "" {
			out.Detail, out.Warnings = describeBackup(m), m.Warnings
		}
		return out, true
	})
	return a.each(ctx, t, false, func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		if !n.OverlayManaged() {
			return nodeOutcome{Name: n.Name, Error: unmanaged()}, named
		}
		return backUp(ctx, n)
	})
}

// nothingToBackUp says why a node, of which a backup failed, has no overlay now;
// "" when it may have one. That a node is off is its BMC's word: one that is
// merely silent may have much to lose.
func (t *target) nothingToBackUp(ctx context.Context, n site.Node, failed error) string {
	if errors.Is(failed, overlay.ErrNoOverlay) {
		return "its root is no overlay; it runs from its disk"
	}
	switch bmc.KindOf(failed) {
	case bmc.KindUnreachable, bmc.KindTimeout, bmc.KindSSH:
	default:
		return ""
	}
	state, err := t.observeBMC(ctx, n)
	if err != nil || state.Power != bmc.PowerOff {
		return ""
	}
	return "it is powered off"
}

// describeBackup tells in one line what a backup is.
func describeBackup(m overlay.Manifest) string {
	s := fmt.Sprintf("%d members, %s moved, %s stored", m.Counts.Entries, size(m.MovedBytes), size(m.StoredBytes))
	if m.Base != "" {
		s += fmt.Sprintf("; %d unchanged since %s", m.Copied, m.Base)
	}
	if n := len(m.Skipped); n > 0 {
		s += fmt.Sprintf("; %s no archive can hold, see its manifest", count(n, "file"))
	}
	if m.Partial {
		s += "; PARTIAL: a file shrank while it was read; no reset will rely on it"
	}
	return s
}

// name takes the nodes that a command names by itself.
func (a *app) name(args []string) error {
	if len(args) > 0 && len(a.nodes) > 0 {
		return fmt.Errorf("the nodes are named twice, by %s and by -w; leave one out", strings.Join(args, " "))
	}
	a.nodes = append(a.nodes, args...)
	return nil
}

// nameSome is name for commands that take no node unasked.
func (a *app) nameSome(args []string) error {
	if err := a.name(args); err != nil {
		return err
	}
	if len(a.nodes) == 0 {
		return fmt.Errorf("no node is named; write nodes, as x3000c0s[1-9]b0n0 or @group")
	}
	return nil
}

func unmanaged() *report.Error {
	return &report.Error{
		Kind: bmc.KindOverlay, Message: "its overlay is not managed: the site file gives it no ssh or no overlay.store",
		Hint: "write ssh.address and overlay.store for it",
	}
}

func notStarted() *report.Error {
	return &report.Error{Kind: bmc.KindCancelled, Message: "not started: the run was stopped before", Hint: "run the same command again"}
}

func errorOf(err error) *report.Error {
	if err == nil {
		return nil
	}
	return &report.Error{Kind: bmc.KindOf(err), Message: err.Error(), Hint: bmc.HintOf(err)}
}

// each runs f for every selected node, -j at a time, and shows what came of it, as
// it comes or in the order of the nodes. A node for which f returns false is left
// out.
func (a *app) each(ctx context.Context, t *target, inOrder bool, f eachFunc) error {
	var g errgroup.Group
	g.SetLimit(a.jobs)
	var mu sync.Mutex
	all := make([]nodeOutcome, len(t.site.Nodes))
	counted, ended := make([]bool, len(all)), make([]bool, len(all))
	next := 0
	show := func(i int) { // with what has waited for it, where the order counts
		if !inOrder {
			a.showOne(all[i], counted[i])
			return
		}
		for ; next < len(all) && ended[next]; next++ {
			a.showOne(all[next], counted[next])
		}
	}
	for i, n := range t.site.Nodes {
		g.Go(func() error {
			select {
			case <-a.stop:
				all[i], counted[i] = nodeOutcome{Name: n.Name, Error: notStarted()}, true
			default:
				all[i], counted[i] = f(ctx, n)
			}
			a.transfers().End(n.Name)
			mu.Lock()
			defer mu.Unlock()
			ended[i] = true
			show(i)
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failed node is an outcome
	return a.concludeEach(all, counted)
}

// tell returns what tells how far a node is.
func (a *app) tell(n site.Node) func(string) {
	return func(howFar string) { a.transfers().Tell(n.Name, howFar) }
}

func (a *app) showOne(o nodeOutcome, counted bool) {
	if counted && !a.json() {
		a.transfers().Around(func() {
			a.showOutcome(o)
			a.showDetails(o)
		})
	}
}

func (a *app) concludeEach(all []nodeOutcome, counted []bool) error {
	shown, failed := []nodeOutcome{}, false
	for i, o := range all {
		if counted[i] {
			shown = append(shown, o)
			failed = failed || o.Error != nil
		}
	}
	if a.json() {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"version": 1, "nodes": shown}); err != nil {
			return err
		}
	}
	switch {
	case len(shown) == 0:
		return fmt.Errorf("no node of the site has an overlay that is managed; write ssh.address and overlay.store for the nodes that shall be backed up")
	case failed:
		return status(exitNodesFailed)
	}
	return nil
}

func (a *app) showOutcome(o nodeOutcome) {
	if o.Skipped != "" {
		fmt.Fprintln(a.out, printable(fmt.Sprintf("%s  skipped: %s", o.Name, o.Skipped)))
		return
	}
	if o.Error == nil {
		fmt.Fprintln(a.out, printable(fmt.Sprintf("%s  %s  %s", o.Name, o.Backup, o.Detail)))
		return
	}
	fmt.Fprintln(a.out, printable(fmt.Sprintf("%s  failed (%s): %s", o.Name, o.Error.Kind, o.Error.Message)))
	if o.Error.Hint != "" {
		fmt.Fprintln(a.out, printable("  → "+o.Error.Hint))
	}
}

// maxShown is how many lines of each kind are shown to a person; the JSON has
// them all.
const maxShown = 10

// showDetails shows what there is to know of an outcome beyond its line.
func (a *app) showDetails(o nodeOutcome) {
	a.showLines("note", o.Notes)
	var restart []string
	for _, h := range o.Restart {
		restart = append(restart, h.String())
	}
	a.showLines("restart", restart)
	a.showLines("may show deleted files", o.Reappear)
	a.showLines("differs", o.Differences)
	a.showLines("warning", o.Warnings)
}

func (a *app) showLines(what string, lines []string) {
	for i, line := range lines {
		if i == maxShown {
			fmt.Fprintf(a.out, "  %s: and %d more; -o json has them\n", what, len(lines)-i)
			break
		}
		fmt.Fprintln(a.out, printable("  "+what+": "+line))
	}
}
