package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func (a *app) restoreCommand() *cobra.Command {
	var req overlay.RestoreRequest
	var yes bool
	c := &cobra.Command{
		Use:   "restore NODES",
		Short: "Put a backup back onto running nodes",
		Long: `restore puts a backup back onto each running node, through the merged view: what
was deleted is removed, what was made is written, and the result is compared
with the backup. The backup is checked before the node is touched. Services that
hold replaced files open need a restart.

A backup of another image than the one that runs is refused, unless
--onto-other-image says otherwise or a plan that was cut off still owes it.
A restore that was cut off is finished by running it again.

` + exitHelp,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.restore(c.Context(), args, req, yes) },
	}
	c.Flags().StringVar(&req.ID, "from", site.RestoreLatest, "the backup's ID")
	c.Flags().BoolVar(&req.OntoOtherImage, "onto-other-image", false,
		"restore also when the backup is of another image than the one that runs")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// A restoreOutcome is what a restore did to one node, for its JSON.
type restoreOutcome struct {
	nodeOutcome
	Notes       []string `json:"notes,omitempty"`
	Differences []string `json:"differences,omitempty"`
	Warnings    []string `json:"warnings,omitempty"`
}

func (a *app) restore(ctx context.Context, args []string, req overlay.RestoreRequest, yes bool) error {
	if err := a.name(args); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	if !yes {
		if err := a.confirm(ctx, fmt.Sprintf("Restore backup %s onto %s, over what is there now?", req.ID, count(len(t.site.Nodes), "node"))); err != nil {
			return err
		}
	}
	over := a.sayWhenStopped()
	defer over()
	return a.restoreEach(ctx, t, req)
}

// restoreEach restores onto every selected node, -j at a time, and shows what
// came of it.
func (a *app) restoreEach(ctx context.Context, t *target, req overlay.RestoreRequest) error {
	var g errgroup.Group
	g.SetLimit(a.jobs)
	var mu sync.Mutex
	all := make([]restoreOutcome, len(t.site.Nodes))
	for i, n := range t.site.Nodes {
		g.Go(func() error {
			select {
			case <-a.stop:
				all[i].nodeOutcome = nodeOutcome{Name: n.Name, Error: notStarted()}
			default:
				all[i] = t.nodes.restoreOne(ctx, n, req)
			}
			if !a.json() {
				mu.Lock()
				defer mu.Unlock()
				a.showRestore(all[i])
			}
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failed node is an outcome
	if a.json() {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"version": 1, "nodes": all}); err != nil {
			return err
		}
	}
	for _, o := range all {
		if o.Error != nil {
			return status(exitNodesFailed)
		}
	}
	return nil
}

func (c *nodes) restoreOne(ctx context.Context, n site.Node, req overlay.RestoreRequest) restoreOutcome {
	out := restoreOutcome{nodeOutcome: nodeOutcome{Name: n.Name}}
	if !n.OverlayManaged() {
		out.Error = unmanaged()
		return out
	}
	rep, err := c.restoreFrom(ctx, n, req)
	out.Backup, out.Error = rep.ID, errorOf(err)
	if err == nil {
		out.Detail = countRestored(rep)
	}
	out.Notes, out.Differences, out.Warnings = rep.Notes, rep.Differences, rep.Warnings
	return out
}

// maxShown is how many lines of each kind are shown to a person; the JSON has
// them all.
const maxShown = 10

func (a *app) showRestore(o restoreOutcome) {
	a.showOutcome(o.nodeOutcome)
	a.showLines("note", o.Notes)
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

// restoreFrom restores a backup by ID, or the latest, and then removes the note
// of a run that still had that to do.
func (c *nodes) restoreFrom(ctx context.Context, n site.Node, req overlay.RestoreRequest) (rep overlay.RestoreReport, err error) {
	st, err := c.store(n)
	if err != nil {
		return rep, err
	}
	if req.ID == site.RestoreLatest {
		m, err := overlay.Latest(ctx, st, n.Name)
		if err != nil {
			return rep, err
		}
		req.ID = m.ID
	}
	note, owed, err := st.Reboot(ctx, n.Name)
	if err != nil {
		return rep, err
	}
	// The run that was cut off had planned to restore it onto the image that it
	// was about to boot.
	req.OntoOtherImage = req.OntoOtherImage || (owed && note.Restore == req.ID)
	if rep, err = c.restore(ctx, n, req, nil); err != nil {
		rep.ID = req.ID
		return rep, err
	}
	if owed && note.BootID != rep.BootID {
		return rep, st.ClearReboot(ctx, n.Name)
	}
	return rep, nil
}
