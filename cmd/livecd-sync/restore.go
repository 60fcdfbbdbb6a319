package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func (a *app) restoreCommand() *cobra.Command {
	var from string
	var yes bool
	c := &cobra.Command{
		Use:   "restore NODES",
		Short: "Put a backup back onto running nodes",
		Long: `restore puts a backup back onto each running node, through the merged view: what
was deleted is removed, what was made is written, and the result is compared
with the backup. The backup is checked before the node is touched. Services that
hold replaced files open need a restart.

` + exitHelp,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.restore(c.Context(), args, from, yes) },
	}
	c.Flags().StringVar(&from, "from", site.RestoreLatest, "the backup's ID")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) restore(ctx context.Context, args []string, from string, yes bool) error {
	if err := a.name(args); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	if !yes {
		if err := a.confirm(ctx, fmt.Sprintf("Restore backup %s onto %s, over what is there now?", from, count(len(t.site.Nodes), "node"))); err != nil {
			return err
		}
	}
	over := a.sayWhenStopped()
	defer over()
	return a.each(ctx, t, func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		out := nodeOutcome{Name: n.Name}
		if !n.OverlayManaged() {
			out.Error = unmanaged()
			return out, true
		}
		var err error
		out.Backup, out.Detail, err = t.nodes.restoreFrom(ctx, n, from)
		out.Error = errorOf(err)
		return out, true
	})
}

// restoreFrom restores a backup by ID, or the latest, and then removes the note
// of a run that still had that to do.
func (c *nodes) restoreFrom(ctx context.Context, n site.Node, from string) (id, detail string, err error) {
	st, err := c.store(n)
	if err != nil {
		return "", "", err
	}
	if from == site.RestoreLatest {
		m, err := overlay.Latest(ctx, st, n.Name)
		if err != nil {
			return "", "", err
		}
		from = m.ID
	}
	rep, err := c.restore(ctx, n, from, nil)
	if err != nil {
		return from, "", err
	}
	if r, found, err := st.Reboot(ctx, n.Name); err != nil || (found && r.BootID != rep.BootID) {
		if err == nil {
			err = st.ClearReboot(ctx, n.Name)
		}
		return from, describeRestore(rep), err
	}
	return from, describeRestore(rep), nil
}
