package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

const restoreHelp = `restore puts a backup back onto each running node, through the merged view: what
was deleted is removed, what was made is written, and the result is compared
with the backup. The backup is checked before the node is touched. What still
works with files that were replaced or removed is listed, and needs a restart.

--from also takes the file of an archive that was packed by hand, as
"tar czf overlay.tar.gz /run/overlayfs/rw" does: plain, or compressed with gzip,
zstd, bzip2 or xz. It is read whole before the node is touched, and what such an
archive has lost is said. Where in it the upper dir lies is told by the layouts of
live systems; if it has none of these, --prefix names the directory.

--offline DIR makes an upper dir instead, for an overlay that is to be mounted
later, on a persistent partition for example: DIR is a path on the node that is
empty or not there. Nothing that runs is changed.

--method nextroot makes a second overlay over the same image, restores into it
before it is mounted, compares it through the mount, and then has systemd reboot
into it: all services start anew, on a root that was proven, and the kernel stays.
The node needs systemd 254 or newer and room for both; that is looked at first.

A backup of another image than the one that runs is refused, unless
--onto-other-image says otherwise or a plan that was cut off still owes it.
A restore that was cut off is finished by running it again. The first Ctrl-C
stops between two files, and what was not begun is not begun; the node is marked
as holding part of a backup. The second ends at once.

`

func (a *app) restoreCommand() *cobra.Command {
	var req overlay.RestoreRequest
	var yes bool
	var method string
	c := &cobra.Command{
		Use:   "restore NODES",
		Short: "Put a backup back onto running nodes",
		Long:  restoreHelp + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("offline") && req.Dir == "" {
				return errors.New("--offline names no directory; write the one that is to be an upper dir")
			}
			return a.restore(c.Context(), args, method, req, yes)
		},
	}
	c.Flags().StringVar(&req.ID, "from", site.RestoreLatest, "the backup's ID, or the file of an archive")
	c.Flags().StringVar(&req.Prefix, "prefix", "",
		"the directory of an archive that is the upper dir, or . for its own names")
	c.Flags().BoolVar(&req.OntoOtherImage, "onto-other-image", false,
		"restore also when the backup is of another image than the one that runs")
	c.Flags().StringVar(&method, "method", string(overlay.MethodMerged),
		"merged: through the merged view, under what runs; nextroot: into a second root, and soft-reboot into that")
	c.Flags().StringVar(&req.Dir, "offline", "",
		"restore into this directory of the node, which is to be an upper dir later, and not onto what runs")
	c.Flags().BoolVar(&req.Verify, "verify", false,
		"compare the contents of all files with the backup, too: reads them all, on the node and in the store")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	a.lockFlags(c)
	return c
}

func (a *app) restore(ctx context.Context, args []string, method string, req overlay.RestoreRequest, yes bool) error {
	if err := a.nameSome(args); err != nil {
		return err
	}
	if err := archiveOrBackup(&req); err != nil {
		return err
	}
	if req.Prefix != "" && req.Archive == "" {
		return errors.New("--prefix is about an archive, and --from names none; leave it out")
	}
	if err := chooseMethod(&req, method); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	if err := t.alone("restore"); err != nil {
		return err
	}
	if n := len(t.site.Nodes); req.Archive != "" && n > 1 {
		return fmt.Errorf("%s is the archive of one node, and %d are named; name the one that it is to go onto", req.Archive, n)
	}
	shown := map[string]string{}
	if !yes {
		if shown, err = a.showChosen(ctx, t, req); err != nil {
			return err
		}
		if err := a.confirm(ctx, question(req, len(t.site.Nodes))); err != nil {
			return err
		}
	}
	req.Stop = a.stop
	over := a.sayWhenStopped()
	defer over()
	return a.each(ctx, t, false, t.locked(func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		req := req
		req.ID = cmp.Or(shown[n.Name], req.ID)
		return t.nodes.restoreOne(ctx, n, req, a.tell(n)), true
	}))
}

// archiveOrBackup tells a backup's ID from the name of a file.
func archiveOrBackup(req *overlay.RestoreRequest) error {
	if req.ID == site.RestoreLatest || overlay.ValidID(req.ID) {
		return nil
	}
	st, err := os.Stat(req.ID)
	if err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("--from %s is neither a backup's ID nor a file; livecd-sync backups list shows the IDs", req.ID)
	}
	req.Archive, req.ID = req.ID, ""
	return nil
}

// chooseMethod takes --method and --offline. What the directory is on the node is
// found out there.
func chooseMethod(req *overlay.RestoreRequest, method string) error {
	req.Method = overlay.Method(method)
	switch {
	case req.Method != overlay.MethodMerged && req.Method != overlay.MethodNextRoot:
		return fmt.Errorf("--method %s is not known; write merged or nextroot, or --offline DIR", method)
	case req.Dir == "":
		return nil
	case req.Method == overlay.MethodNextRoot:
		return errors.New("--offline and --method nextroot are two ways to restore; leave one out")
	case !path.IsAbs(req.Dir) || path.Clean(req.Dir) != req.Dir || req.Dir == "/":
		return fmt.Errorf("--offline %s is no directory's absolute path; write one without . and .., and with no slash at its end", req.Dir)
	}
	req.Method = overlay.MethodOffline
	return nil
}

// showChosen shows, node by node, what is about to be restored, and returns the
// IDs: what somebody has agreed to is what is restored, whatever comes meanwhile.
// It is on stderr, where the question is.
func (a *app) showChosen(ctx context.Context, t *target, req overlay.RestoreRequest) (map[string]string, error) {
	if req.Archive != "" {
		st, err := os.Stat(req.Archive)
		if err != nil {
			return nil, err
		}
		for _, n := range t.site.Nodes {
			fmt.Fprintln(a.err, printable(fmt.Sprintf("%s  %s, %s, changed %s ago", n.Name, req.Archive, size(st.Size()), age(a.clock.Now().Sub(st.ModTime())))))
		}
		return nil, nil
	}
	ids := make(map[string]string)
	for _, n := range t.site.Nodes {
		if !n.OverlayManaged() {
			continue
		}
		m, notes, err := t.nodes.chosen(ctx, n, req.ID)
		if ctx.Err() != nil {
			return nil, err
		}
		if err != nil { // the others may be of use; it fails again, and is counted then
			fmt.Fprintln(a.err, printable(n.Name+"  nothing to restore: "+err.Error()))
			continue
		}
		ids[n.Name] = m.ID
		image := cmp.Or(m.Image, m.Volume.ID, "an image that is not known")
		fmt.Fprintln(a.err, printable(fmt.Sprintf("%s  backup %s, %s ago, of %s, %s (%s unpacked)",
			n.Name, m.ID, age(a.clock.Now().Sub(m.CreatedAt)), image, size(m.StoredBytes), size(m.RawBytes))))
		for _, note := range notes {
			fmt.Fprintln(a.err, printable("  note: "+note))
		}
	}
	return ids, nil
}

// chosen is the backup of that ID, or the latest, as latestIfAsked has it.
func (c *nodes) chosen(ctx context.Context, n site.Node, id string) (m overlay.Manifest, notes []string, err error) {
	st, err := c.store(n)
	if err != nil {
		return m, nil, err
	}
	if id, notes, err = latestIfAsked(ctx, st, n.Name, id); err != nil {
		return m, nil, err
	}
	m, err = st.Get(ctx, n.Name, id)
	return m, notes, err
}

func question(req overlay.RestoreRequest, nodes int) string {
	what := "these backups"
	if nodes == 1 {
		what = "this backup"
	}
	if req.Archive != "" {
		what = req.Archive
	}
	if req.Method == overlay.MethodOffline {
		return fmt.Sprintf("Restore %s into %s on %s?", what, req.Dir, count(nodes, "node"))
	}
	if req.Method == overlay.MethodNextRoot {
		return fmt.Sprintf("Restore %s for %s, and end all that runs there with a soft reboot into it?", what, count(nodes, "node"))
	}
	return fmt.Sprintf("Restore %s onto %s, over what is there now?", what, count(nodes, "node"))
}

func (c *nodes) restoreOne(ctx context.Context, n site.Node, req overlay.RestoreRequest, tell func(string)) nodeOutcome {
	tell("checking what is to be restored")
	out := nodeOutcome{Name: n.Name}
	if !n.OverlayManaged() {
		out.Error = unmanaged()
		return out
	}
	rep, err := c.restoreFrom(ctx, n, req, tell)
	out.Backup, out.Error = rep.ID, errorOf(err)
	if err == nil {
		out.Detail = countRestored(rep)
	}
	out.Restart = rep.Restart
	out.Notes, out.Reappear = rep.Notes, rep.Reappear
	out.Differences, out.Warnings = rep.Differences, rep.Warnings
	return out
}

// restoreFrom restores a backup by ID, or the latest, and then removes the note
// of a run that still had that to do.
func (c *nodes) restoreFrom(ctx context.Context, n site.Node, req overlay.RestoreRequest, tell func(string)) (rep overlay.RestoreReport, err error) {
	st, err := c.store(n)
	if err != nil {
		return rep, err
	}
	if req.Archive != "" {
		return c.restore(ctx, n, req, false, tell)
	}
	var notes []string
	if req.ID, notes, err = latestIfAsked(ctx, st, n.Name, req.ID); err != nil {
		return rep, err
	}
	defer func() { rep.Notes = append(notes, rep.Notes...) }()
	note, owed, err := st.Reboot(ctx, n.Name)
	if err != nil {
		return rep, err
	}
	// The run that was cut off had planned to restore it onto the image that it
	// was about to boot.
	req.OntoOtherImage = req.OntoOtherImage || (owed && note.Restore == req.ID)
	if rep, err = c.restore(ctx, n, req, false, tell); err != nil {
		rep.ID = req.ID
		return rep, err
	}
	// What an unmounted directory holds, this boot does not.
	if owed && req.Method != overlay.MethodOffline && note.BootID != rep.BootID {
		return rep, st.ClearReboot(ctx, n.Name)
	}
	return rep, nil
}

// latestIfAsked makes an ID of "latest", and says which newer backups that passes
// over.
func latestIfAsked(ctx context.Context, st overlay.Store, node, id string) (string, []string, error) {
	if id != site.RestoreLatest {
		return id, nil, nil
	}
	i, err := overlay.TakeInventory(ctx, st, node)
	if err != nil {
		return "", nil, err
	}
	m, err := i.Latest()
	var notes []string
	for _, d := range i.NewerDamaged(m.ID) {
		notes = append(notes, fmt.Sprintf("backup %s is newer, and damaged: %s", d.ID, d.Why))
	}
	return m.ID, notes, err
}
