package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/localremote"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func (a *app) backupsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backups",
		Short: "The backups of overlays",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(&cobra.Command{
		Use:   "list [NODES]",
		Short: "List the backups in the stores, newest first; asks no node",
		Long:  "list shows the backups of each node, newest first.\n\n" + exitHelp,
		RunE:  func(c *cobra.Command, args []string) error { return a.listBackups(c.Context(), args) },
	}, a.verifyCommand(), a.pruneCommand())
	return c
}

// A listed is a backup, and when it was last found whole.
type listed struct {
	overlay.Manifest
	Verified *overlay.Verified `json:"verified,omitempty"`
}

// A listedDamage is a backup of which nothing is known but that it is there.
type listedDamage struct {
	Node   string `json:"node"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

func (a *app) listBackups(ctx context.Context, args []string) error {
	t, err := a.stores(args)
	if err != nil {
		return err
	}
	var all []overlay.Inventory
	failed, stores := false, 0
	for _, n := range t.site.Nodes {
		if !hasStore(n) {
			continue
		}
		stores++
		inventory, err := t.nodes.inventory(ctx, n)
		if err != nil {
			failed = true
			a.complain(fmt.Errorf("%s: %w", n.Name, err))
			continue
		}
		if inventory.NotesErr != nil {
			failed = true
			a.complain(fmt.Errorf("%s: %w", n.Name, inventory.NotesErr))
		}
		all = append(all, inventory)
	}
	if stores == 0 && !a.json() {
		fmt.Fprintln(a.out, "none of these nodes has a store; write overlay.store for those that shall be backed up")
		return nil
	}
	if failed && !anyBackup(all) && !a.json() {
		return status(exitNodesFailed) // that there are none is not known
	}
	if err := a.showBackups(all); err != nil {
		return err
	}
	if failed {
		return status(exitNodesFailed)
	}
	return nil
}

func (c *nodes) inventory(ctx context.Context, n site.Node) (overlay.Inventory, error) {
	st, err := c.store(n)
	if err != nil {
		return overlay.Inventory{}, err
	}
	return overlay.TakeInventory(ctx, st, n.Name)
}

func anyBackup(all []overlay.Inventory) bool {
	return slices.ContainsFunc(all, func(i overlay.Inventory) bool { return len(i.Backups)+len(i.Unreadable) > 0 })
}

func listedOf(i overlay.Inventory, m overlay.Manifest) listed {
	l := listed{Manifest: m}
	if v, ok := i.Noted[m.ID]; ok {
		l.Verified = &v
	}
	return l
}

func (a *app) showBackups(all []overlay.Inventory) error {
	if a.json() {
		return a.backupsJSON(all)
	}
	if !anyBackup(all) {
		fmt.Fprintln(a.out, "no backups yet")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tID\tAGE\tSIZE\tIMAGE\tWHY\tSTATE\tVERIFIED")
	for _, i := range all {
		for _, line := range backupLines(i, a.clock.Now()) {
			fmt.Fprintln(w, printable(line))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, i := range all {
		for _, d := range i.Damaged() {
			fmt.Fprintln(a.out, printable(fmt.Sprintf("%s/%s is damaged: %s", i.Node, d.ID, d.Why)))
		}
	}
	return nil
}

func (a *app) backupsJSON(all []overlay.Inventory) error {
	backups, unreadable := []listed{}, []listedDamage{}
	for _, i := range all {
		for _, m := range i.Backups {
			backups = append(backups, listedOf(i, m))
		}
		for _, u := range i.Unreadable {
			unreadable = append(unreadable, listedDamage{Node: i.Node, ID: u.ID, Reason: u.Err.Error()})
		}
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"version": 1, "backups": backups, "unreadable": unreadable})
}

// backupLines are a node's lines of a table, newest first.
func backupLines(i overlay.Inventory, now time.Time) []string {
	lines, ids := map[string]string{}, []string{}
	for _, m := range i.Backups {
		ids, lines[m.ID] = append(ids, m.ID), listedOf(i, m).line(now)
	}
	for _, u := range i.Unreadable {
		ids, lines[u.ID] = append(ids, u.ID), fmt.Sprintf("%s\t%s\t-\t-\t-\t-\tDAMAGED\t-", i.Node, u.ID)
	}
	slices.SortFunc(ids, func(a, b string) int { return overlay.CompareIDs(b, a) })
	out := make([]string, len(ids))
	for n, id := range ids {
		out[n] = lines[id]
	}
	return out
}

func (m listed) line(now time.Time) string {
	image := m.Image
	if image == "" {
		image = m.Volume.ID
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", m.Node, m.ID,
		age(now.Sub(m.CreatedAt)), size(m.StoredBytes), image, m.Purpose, m.state(), m.verifiedWhen(now))
}

func (m listed) state() string {
	switch {
	case m.Verified != nil && m.Verified.Damaged != "":
		return "DAMAGED"
	case m.Partial:
		return "partial"
	case m.Reliable() != nil:
		return "not portable"
	}
	return "good"
}

// verifiedWhen says how long ago. Every backup was read back when it was made.
func (m listed) verifiedWhen(now time.Time) string {
	switch v := m.Verified; {
	case v == nil:
		return "when made"
	case v.Deep:
		return age(now.Sub(v.At)) + " ago, deep"
	default:
		return age(now.Sub(v.At)) + " ago"
	}
}

// age writes how long ago something was, for people.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// stores is a target whose nodes are not asked, only their stores: no secret of
// a BMC or of a node is needed.
func (a *app) stores(args []string) (*target, error) {
	if err := a.name(args); err != nil {
		return nil, err
	}
	s, err := a.load()
	if err != nil {
		return nil, err
	}
	names, err := universe(s).Select(a.nodes, a.exclude)
	if err != nil {
		return nil, err
	}
	part := only(s, names)
	return &target{app: a, site: part, nodes: a.reach(part)}, nil
}

func hasStore(n site.Node) bool { return n.Overlay != nil && n.Overlay.Store != "" }

func (a *app) verifyCommand() *cobra.Command {
	var id string
	var deep bool
	c := &cobra.Command{
		Use:   "verify [NODES]",
		Short: "Read backups whole and compare them with what was written",
		Long: `verify reads every backup of the nodes from their stores: the digest of each
file, the archive to its two closing blocks, every member, and the lists of what
was deleted. It leaves a note of that in the store, and asks no node. With --deep, as root, each is
restored into a scratch overlay below $TMPDIR as well and compared there.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.verify(c.Context(), args, id, deep) },
	}
	c.Flags().StringVar(&id, "id", "", "only the backup of this ID, or the newest (latest)")
	c.Flags().BoolVar(&deep, "deep", false, "restore into a scratch overlay here, too, and compare")
	return c
}

func (a *app) verify(ctx context.Context, args []string, id string, deep bool) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	t, err := a.stores(args)
	if err != nil {
		return err
	}
	return a.each(ctx, t, true, func(ctx context.Context, n site.Node) (nodeOutcome, bool) {
		if !hasStore(n) {
			return nodeOutcome{}, false
		}
		return t.nodes.verify(ctx, n, id, deep, a.tell(n)), true
	})
}

// verify verifies the node's backups, or the one that id names. The outcome is of
// the last that something is wrong with.
func (c *nodes) verify(ctx context.Context, n site.Node, id string, deep bool, tell func(string)) nodeOutcome {
	out := nodeOutcome{Name: n.Name}
	st, err := c.store(n)
	if err != nil {
		out.Error = errorOf(err)
		return out
	}
	i, err := overlay.TakeInventory(ctx, st, n.Name)
	if err != nil {
		out.Error = errorOf(err)
		return out
	}
	v := verifying{nodes: c, node: n, note: stillThere(i), tell: tell}
	v.all(ctx, st, i, id, deep)
	if len(v.note) > 0 {
		v.unnoted = st.SetVerified(ctx, n.Name, v.note)
	}
	out.Notes = v.notes
	switch {
	case len(v.errs) > 0:
		out.Backup, out.Error = v.worst, errorOf(errors.Join(v.errs...))
	case v.whole == 0 && id != "" && id != site.RestoreLatest:
		_, err := st.Get(ctx, n.Name, id)
		out.Backup, out.Error = id, errorOf(err)
	case v.whole == 0:
		out.Detail = "no backups"
	default:
		out.Detail = v.String()
	}
	return out
}

// all verifies those backups of an inventory that id means.
func (v *verifying) all(ctx context.Context, st overlay.Store, i overlay.Inventory, id string, deep bool) {
	for at, m := range i.Backups {
		if id == "" || id == m.ID || id == site.RestoreLatest && at == 0 {
			v.one(ctx, st, m, deep)
		}
	}
	for _, u := range i.Unreadable {
		newest := len(i.Backups) == 0 || overlay.CompareIDs(u.ID, i.Backups[0].ID) > 0
		if id == "" || id == u.ID || id == site.RestoreLatest && newest {
			v.failed(u.ID, u.Err)
		}
	}
}

// verifying is what came of a node's backups so far.
type verifying struct {
	nodes       *nodes
	node        site.Node
	tell        func(string)
	note        map[string]overlay.Verified
	whole       int
	bytes       int64
	digestsOnly bool
	worst       string // the last backup with an error
	notes       []string
	errs        []error
	unnoted     error // why no note was left; a store may be read-only
}

func (v *verifying) one(ctx context.Context, st overlay.Store, m overlay.Manifest, deep bool) {
	v.tell("reading " + m.ID + ", " + size(m.StoredBytes))
	notes, err := verifyOne(ctx, st, v.node.Name, m.ID, deep, transfer(v.tell, "of "+m.ID+" restored here"))
	for _, note := range notes {
		v.notes = append(v.notes, m.ID+": "+note)
	}
	now := v.nodes.clock.Now().UTC()
	switch {
	case err != nil:
		v.failed(m.ID, err)
		if errors.Is(err, overlay.ErrDamaged) {
			v.note[m.ID] = overlay.Verified{At: now, Damaged: err.Error()}
		}
		return
	case v.nodes.canRead(v.node, m):
		v.note[m.ID] = overlay.Verified{At: now, Deep: deep}
	default:
		v.digestsOnly = true
	}
	v.whole++
	v.bytes += m.StoredBytes
}

func (v *verifying) failed(id string, err error) {
	v.errs, v.worst = append(v.errs, err), id
}

func (v *verifying) String() string {
	s := fmt.Sprintf("%s whole, %s read", count(v.whole, "backup"), size(v.bytes))
	if v.digestsOnly {
		s += "; of encrypted ones the digests alone, for stores." + v.node.Overlay.Store + ".age names no identity"
	}
	if v.unnoted != nil {
		s += "; no note of it could be left: " + v.unnoted.Error()
	}
	return s
}

// canRead reports whether a backup is not encrypted, or its store has a key.
func (c *nodes) canRead(n site.Node, m overlay.Manifest) bool {
	key := c.site.Stores[n.Overlay.Store].Age
	return m.Age == nil || key != nil && !key.Identity.IsZero()
}

// stillThere is the part of a note that speaks of backups that are there.
func stillThere(i overlay.Inventory) map[string]overlay.Verified {
	note := make(map[string]overlay.Verified, len(i.Backups))
	for _, m := range i.Backups {
		if v, ok := i.Noted[m.ID]; ok {
			note[m.ID] = v
		}
	}
	return note
}

// verifyOne verifies a backup. Its notes say what could not be compared.
func verifyOne(ctx context.Context, st overlay.Store, node, id string, deep bool, progress func(int64)) (notes []string, err error) {
	if !deep {
		_, err := overlay.Verify(ctx, st, node, id)
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, &bmc.Error{
			Op: "restore backup " + node + "/" + id + " here", Kind: bmc.KindUnsupported,
			Err: errors.New("only root can restore owners, devices and attributes"), Hint: "run it as root, or leave --deep out",
		}
	}
	dir, err := os.MkdirTemp("", "livecd-sync-")
	if err != nil {
		return nil, err
	}
	notes, err = overlay.VerifyDeep(ctx, localremote.Remote{}, st, node, id, dir, progress)
	return notes, errors.Join(err, os.RemoveAll(dir))
}

func (a *app) pruneCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "prune [NODES]",
		Short: "Remove the backups that overlay.keep and overlay.keepWithin do not want",
		Long: `prune shows which backups it would remove, asks, and removes them. It never
removes a node's last good backup, the one that overlay.restore names, or one
that a restore is still owed from. A damaged backup counts as none of those that
are to be kept; one whose manifest cannot be read is left alone.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.prune(c.Context(), args, yes) },
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) prune(ctx context.Context, args []string, yes bool) error {
	t, err := a.stores(args)
	if err != nil {
		return err
	}
	doomed, failed := a.doomed(ctx, t)
	switch {
	case failed && !anyBackup(doomed) && !a.json():
		return status(exitNodesFailed)
	case !anyBackup(doomed) && !a.json():
		fmt.Fprintln(a.out, "nothing to remove")
		return nil
	}
	if err := a.showBackups(doomed); err != nil {
		return err
	}
	n := 0
	for _, i := range doomed {
		n += len(i.Backups)
	}
	if !yes && n > 0 {
		if err := a.confirm(ctx, fmt.Sprintf("Remove %s?", count(n, "backup"))); err != nil {
			return err
		}
	}
	for _, n := range t.site.Nodes {
		if err := t.nodes.pruneShown(ctx, n, doomed); err != nil {
			failed = true
			a.complain(fmt.Errorf("%s: %w", n.Name, err))
		}
	}
	if failed {
		return status(exitNodesFailed)
	}
	return nil
}

// doomed are the backups that may go, by node, and whether those of some node are
// not known.
func (a *app) doomed(ctx context.Context, t *target) (doomed []overlay.Inventory, failed bool) {
	for _, n := range t.site.Nodes {
		if !hasStore(n) {
			continue
		}
		list, err := t.nodes.prunable(ctx, n)
		if err != nil {
			failed = true
			a.complain(fmt.Errorf("%s: %w", n.Name, err))
			continue
		}
		doomed = append(doomed, overlay.Inventory{Node: n.Name, Listing: overlay.Listing{Backups: list}})
	}
	return doomed, failed
}

func (c *nodes) prunable(ctx context.Context, n site.Node) ([]overlay.Manifest, error) {
	st, err := c.store(n)
	if err != nil {
		return nil, err
	}
	return overlay.Prunable(ctx, st, n.Name, c.retention(n))
}

// pruneShown removes what was shown of a node, as far as it may still go: meanwhile
// a restore may have come to need it.
func (c *nodes) pruneShown(ctx context.Context, n site.Node, doomed []overlay.Inventory) error {
	shown := make(map[string]bool)
	for _, i := range doomed {
		for _, m := range i.Backups {
			if i.Node == n.Name {
				shown[m.ID] = true
			}
		}
	}
	if len(shown) == 0 {
		return nil
	}
	st, err := c.store(n)
	if err != nil {
		return err
	}
	_, err = overlay.Prune(ctx, st, n.Name, c.retention(n), func(m overlay.Manifest) bool { return shown[m.ID] })
	return err
}

func (a *app) overlayCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "overlay",
		Short: "What running nodes have changed",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	var from string
	diff := &cobra.Command{
		Use:   "diff NODES",
		Short: "What a node's overlay has that its last backup has not",
		Long: `diff compares the overlay of each running node with a backup, by each name's
type, mode, owner, size and times, and lists what differs:

  A  added since
  U  updated since
  D  deleted since

Nothing is read but names and times, and nothing is changed.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.diff(c.Context(), args, from) },
	}
	diff.Flags().StringVar(&from, "from", site.RestoreLatest, "the ID of the backup to compare with")
	c.AddCommand(diff)
	return c
}

// A diffOutcome is what diff found on one node, for its JSON.
type diffOutcome struct {
	Name        string               `json:"name"`
	Backup      string               `json:"backup"`
	Differences []overlay.Difference `json:"differences"`
}

func (a *app) diff(ctx context.Context, args []string, from string) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	if err := a.nameSome(args); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	all, failed := []diffOutcome{}, false
	for _, n := range t.site.Nodes {
		out, err := t.nodes.diff(ctx, n, from)
		if err != nil {
			failed = true
			a.complain(fmt.Errorf("%s: %w", n.Name, err))
			continue
		}
		all = append(all, out)
		if !a.json() {
			a.showDiff(out)
		}
	}
	if a.json() {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(map[string]any{"version": 1, "nodes": all}); err != nil {
			return err
		}
	}
	if failed {
		return status(exitNodesFailed)
	}
	return nil
}

func (a *app) showDiff(d diffOutcome) {
	var bytes int64
	kinds := map[overlay.DiffKind]int{}
	for _, x := range d.Differences {
		fmt.Fprintln(a.out, printable(string(x.Kind)+" "+strings.TrimPrefix(x.Path, "./")))
		kinds[x.Kind]++
		bytes += x.Bytes
	}
	fmt.Fprintf(a.out, "%s: %d added, %d updated, %d deleted since backup %s; %s\n", d.Name,
		kinds[overlay.Added], kinds[overlay.Updated], kinds[overlay.Deleted], d.Backup, size(bytes))
}

func (c *nodes) diff(ctx context.Context, n site.Node, from string) (out diffOutcome, err error) {
	out = diffOutcome{Name: n.Name, Differences: []overlay.Difference{}}
	if !n.OverlayManaged() {
		e := unmanaged()
		return out, fmt.Errorf("%s; %s", e.Message, e.Hint)
	}
	st, err := c.store(n)
	if err != nil {
		return out, err
	}
	m, err := pick(ctx, st, n.Name, from)
	if err != nil {
		return out, err
	}
	out.Backup = m.ID
	err = c.on(ctx, n, func(remote overlay.Remote) error {
		running, err := overlay.Probe(ctx, remote)
		if err != nil {
			return err
		}
		found, err := overlay.Diff(ctx, remote, running, st, m)
		out.Differences = append(out.Differences, found...)
		return err
	})
	return out, err
}

// pick is the backup of that ID, or the latest.
func pick(ctx context.Context, st overlay.Store, node, id string) (overlay.Manifest, error) {
	if id == site.RestoreLatest {
		return overlay.Latest(ctx, st, node)
	}
	return st.Get(ctx, node, id)
}

// unsaved counts what the node holds and its last backup does not; nil where
// that cannot be told.
func (c *nodes) unsaved(ctx context.Context, n site.Node, remote overlay.Remote, r overlay.Running) *plan.Unsaved {
	if !n.OverlayManaged() || !r.Root || r.UpperDir == "" {
		return nil
	}
	st, err := c.store(n)
	if err != nil {
		return nil
	}
	last, err := overlay.Latest(ctx, st, n.Name)
	if err != nil && !errors.Is(err, overlay.ErrNoBackup) {
		return nil
	}
	u, err := overlay.FindUnsaved(ctx, remote, r, last, n.Overlay.Exclude)
	if err != nil {
		return nil
	}
	return &plan.Unsaved{Files: u.Files, Bytes: u.Bytes, Since: u.Since}
}
