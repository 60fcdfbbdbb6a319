package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/overlay/store"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/secret"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// nodes reaches the running nodes over ssh, and their stores. It is safe for
// concurrent use.
type nodes struct {
	site    *site.Site
	secrets *secret.Keeper
	clock   bmc.Clock
	version string
	agent   string // the socket of the ssh agent, or ""
	state   string // where host keys are kept, or ""

	mu     sync.Mutex
	stores map[string]store.Store // those that were opened, by name

	readImages sync.Once
	names      map[site.Volume]string // of the site's images
}

// on runs f with a connection to the node.
func (c *nodes) on(ctx context.Context, n site.Node, f func(overlay.Remote) error) error {
	conn, err := c.dial(ctx, n, "")
	if err != nil {
		return err
	}
	err = f(conn)
	if closeErr := conn.Close(); err == nil && closeErr != nil && ctx.Err() == nil {
		err = closeErr
	}
	return err
}

// dial connects to the node. password is for a node whose site file gives ssh none.
func (c *nodes) dial(ctx context.Context, n site.Node, password bmc.Secret) (*sshremote.Conn, error) {
	own, err := c.secrets.Get(ctx, n.SSH.Password)
	if err != nil {
		return nil, err
	}
	hostKey, missing := c.hostKey(n)
	switch {
	case errors.Is(missing, errNoHostKey):
		// No key is taken then; but whether anybody shows one tells a node that is up
		// from one that is still starting.
		hostKey = site.HostKey{KnownHosts: os.DevNull}
	case missing != nil:
		return nil, missing
	}
	conn, err := sshremote.Dial(ctx, sshremote.Config{
		Address: n.SSH.Address, Port: n.SSH.Port, User: n.SSH.User, Identity: n.SSH.Identity,
		Password: cmp.Or(own, password), HostKey: hostKey, Agent: c.agent,
	})
	if missing != nil && sshremote.OtherHostKey(err) {
		err = missing
	}
	return conn, err
}

// Host asks the node what it runs.
func (c *nodes) Host(ctx context.Context, n site.Node) (plan.Host, error) {
	var r overlay.Running
	var unsaved *plan.Unsaved
	err := c.on(ctx, n, func(remote overlay.Remote) (err error) {
		if r, err = overlay.Probe(ctx, remote); err == nil {
			unsaved = c.unsaved(ctx, n, remote, r)
		}
		return err
	})
	if err != nil {
		return hostOf(n, err)
	}
	// An overlay over something that is no live medium is forgotten at a reset
	// all the same.
	if !r.Live && r.UpperDir == "" {
		return plan.HostDisk{BootID: r.BootID}, nil
	}
	return plan.HostLive{BootID: r.BootID, Volume: volumeOf(r), Upper: r.UpperDir, Restored: r.Restored.ID, Restoring: r.Restoring.ID, Unsaved: unsaved}, nil
}

// volumeOf is the live medium's identity; zero when it could not be read.
func volumeOf(r overlay.Running) site.Volume {
	v, err := media.ParseVolume(r.PVD)
	if err != nil {
		return site.Volume{}
	}
	return v
}

// store opens the node's store.
func (c *nodes) store(n site.Node) (overlay.Store, error) { return c.openStore(n.Overlay.Store) }

// openStore opens a store, once for all nodes that have it.
func (c *nodes) openStore(name string) (overlay.Store, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st, ok := c.stores[name]; ok {
		return st, nil
	}
	st, err := store.Open(c.site.Stores[name], store.Config{Site: c.site.Name, Secret: c.secrets.Get, Agent: c.agent})
	if err != nil {
		return nil, err
	}
	if c.stores == nil {
		c.stores = make(map[string]store.Store)
	}
	c.stores[name] = st
	return st, nil
}

// close ends the connections to the stores. Those that are used again connect
// again.
func (c *nodes) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, st := range c.stores {
		_ = st.Close() // whatever was written was known to be stored before
	}
}

// Overlay reads what the node's store holds for it.
func (c *nodes) Overlay(ctx context.Context, _ *site.Site, n site.Node) plan.OverlayFacts {
	st, err := c.store(n)
	if err != nil {
		return plan.OverlayFacts{Err: err}
	}
	age := c.site.Stores[n.Overlay.Store].Age
	f := plan.OverlayFacts{NoKey: age != nil && age.Identity.IsZero()}
	i, err := overlay.TakeInventory(ctx, st, n.Name)
	if err != nil {
		return plan.OverlayFacts{Err: err}
	}
	switch m, err := i.Latest(); {
	case err == nil:
		f.Latest = &plan.Backup{ID: m.ID, At: m.CreatedAt, BootID: m.BootID, Image: m.Image, Purpose: plan.Purpose(m.Purpose)}
	case !errors.Is(err, overlay.ErrNoBackup):
		return plan.OverlayFacts{Err: err}
	}
	for _, d := range i.Damaged() {
		f.Damaged = append(f.Damaged, plan.Damage{ID: d.ID, Why: d.Why})
	}
	r, found, err := st.Reboot(ctx, n.Name)
	if err != nil {
		return plan.OverlayFacts{Err: err}
	}
	if found {
		f.Reboot = &plan.Reboot{At: r.At, BootID: r.BootID, Image: r.Image, Backup: r.Backup, Restore: r.Restore, Started: r.Started}
	}
	return f
}

// Backup backs the node's overlay up and returns the backup's ID.
func (c *nodes) Backup(ctx context.Context, n site.Node, purpose plan.Purpose, progress func(string)) (string, error) {
	m, err := c.backup(ctx, n, purpose, progress)
	return m.ID, err
}

func (c *nodes) backup(ctx context.Context, n site.Node, purpose plan.Purpose, progress func(string)) (m overlay.Manifest, err error) {
	st, err := c.store(n)
	if err != nil {
		return m, err
	}
	err = c.on(ctx, n, func(remote overlay.Remote) error {
		running, err := overlay.Probe(ctx, remote)
		if err != nil {
			return err
		}
		v := volumeOf(running)
		m, err = overlay.Backup(ctx, remote, st, overlay.BackupRequest{
			Node: n.Name, Site: c.site.Name, Image: c.imageOf(ctx, v), Volume: v,
			Purpose: overlay.Purpose(purpose), Running: running, Path: n.Overlay.Path, Exclude: n.Overlay.Exclude,
			AllowPartial: purpose != plan.ForReset, ToolVersion: c.version, Now: c.clock.Now,
			Progress: transfer(progress, "read"),
		})
		return err
	})
	if err != nil {
		return m, err
	}
	gone, err := overlay.Prune(ctx, st, n.Name, c.retention(n), nil)
	if len(gone) > 0 {
		m.Warnings = append(m.Warnings, "removed, as overlay.keep says: "+strings.Join(gone, ", "))
	}
	if err != nil { // the backup is as good as it is
		m.Warnings = append(m.Warnings, "older backups could not be removed: "+err.Error())
	}
	return m, nil
}

// retention is what the site file says of a node's backups. The one that it
// wants restored is kept, whatever its age.
func (c *nodes) retention(n site.Node) overlay.Retention {
	return overlay.Retention{
		Keep: n.Overlay.Keep, Within: n.Overlay.KeepWithin, Now: c.clock.Now(), Needed: []string{n.Overlay.Restore},
	}
}

// imageOf is the name of the site's image with that volume, as far as the
// images can be read from here; they are read once.
func (c *nodes) imageOf(ctx context.Context, v site.Volume) string {
	c.readImages.Do(func() {
		client := media.NewClient()
		c.names = make(map[site.Volume]string, len(c.site.Images))
		for name, img := range c.site.Images {
			if id, err := media.Identify(ctx, client, img); err == nil {
				c.names[id.Volume] = name
			}
		}
	})
	return c.names[v]
}

// Restore puts a backup back onto the running node. It is a plan's step, and the
// plan says which image runs afterwards: the backup may be of another.
func (c *nodes) Restore(ctx context.Context, n site.Node, id string, progress func(string)) (string, error) {
	apart := len(n.Overlay.Repopulate) > 0 // a step of its own
	rep, err := c.restore(ctx, n, overlay.RestoreRequest{ID: id, OntoOtherImage: true}, apart, progress)
	return describeRestore(rep), err
}

// Repopulate fetches what a backup that the node holds left out.
func (c *nodes) Repopulate(ctx context.Context, n site.Node, id string, progress func(string)) (said string, err error) {
	st, err := c.store(n)
	if err != nil {
		return "", err
	}
	free, unlocked, err := lockFor(ctx, st, n, "fetching what a backup of it left out")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, free()) }()
	progress("looking what is there already")
	rep := overlay.RestoreReport{ID: id, Notes: unlocked}
	err = c.on(ctx, n, func(remote overlay.Remote) error { return c.repopulate(ctx, n, remote, &rep) })
	if err == nil && len(rep.Notes) == 0 {
		return "the backup left out nothing", nil
	}
	return strings.Join(rep.Notes, "; "), err
}

// lockFor keeps other runs from a node's backups until free is called. Where the
// store cannot be locked, since it may be mounted read-only or not be needed at
// all, notes say so.
func lockFor(ctx context.Context, st overlay.Store, n site.Node, doing string) (free func() error, notes []string, err error) {
	free, err = st.Lock(ctx, n.Name, doing)
	switch {
	case bmc.KindOf(err) == bmc.KindBusy, ctx.Err() != nil:
		return nil, nil, err
	case err != nil:
		none := func() error { return nil }
		return none, []string{"other runs were not kept away from the node meanwhile: " + err.Error()}, nil //nolint:nilerr // it is in the notes
	}
	return free, nil, nil
}

// restore restores; apart leaves to others what the backup left out.
func (c *nodes) restore(ctx context.Context, n site.Node, req overlay.RestoreRequest, apart bool, progress func(string)) (rep overlay.RestoreReport, err error) {
	st, err := c.store(n)
	if err != nil {
		return rep, err
	}
	free, unlocked, err := lockFor(ctx, st, n, "restoring it")
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, free()) }()
	defer func() { rep.Notes = append(unlocked, rep.Notes...) }()
	req.Node, req.VolumeOf, req.Progress = n.Name, volumeOf, transfer(progress, "sent")
	err = c.on(ctx, n, func(remote overlay.Remote) error {
		if rep, err = overlay.Restore(ctx, remote, st, req); err != nil || req.Archive != "" {
			return err
		}
		if req.Method == overlay.MethodOffline || req.Method == overlay.MethodNextRoot {
			return listLeftOut(ctx, st, n.Name, &rep)
		}
		if isClosed(req.Stop) {
			rep.Notes = append(rep.Notes, "stopped: what the backup left out was not put back; run the same command again")
			return nil
		}
		if err := c.readHostKeysAgain(ctx, n, remote); err != nil {
			rep.Notes = append(rep.Notes, "its host keys, which the restore may have changed, could not be read again: "+err.Error())
		}
		if !apart {
			err = c.repopulate(ctx, n, remote, &rep)
		}
		if n.Overlay.Restart {
			overlay.RestartServices(ctx, remote, &rep)
		}
		return err
	})
	return rep, err
}

// describeRestore tells in one line what a restore did.
func describeRestore(r overlay.RestoreReport) string {
	s := countRestored(r)
	switch n := len(r.Differences); {
	case n > 0 && n <= 3:
		s += "; differs from the backup: " + strings.Join(r.Differences, "; ")
	case n > 3:
		s += fmt.Sprintf("; %d differences from the backup, the first: %s", n, r.Differences[0])
	}
	for _, note := range r.Notes {
		s += "; " + note
	}
	return s
}

func countRestored(r overlay.RestoreReport) string {
	return fmt.Sprintf("backup %s: %d members restored, %d removed", r.ID, r.Restored, r.Removed)
}

// transfer tells how many bytes have gone by; to nobody, if progress is nil.
func transfer(progress func(string), verb string) func(int64) {
	if progress == nil {
		return nil
	}
	return func(bytes int64) { progress(size(bytes) + " " + verb) }
}

func size(n int64) string { return report.Size(n) }

// SetReboot leaves a note in the node's store.
func (c *nodes) SetReboot(ctx context.Context, n site.Node, r plan.Reboot) error {
	st, err := c.store(n)
	if err != nil {
		return err
	}
	return st.SetReboot(ctx, n.Name, overlay.Reboot{
		Version: overlay.RebootVersion, At: r.At, BootID: r.BootID, Image: r.Image, Backup: r.Backup, Restore: r.Restore, Started: r.Started,
	})
}

// ClearReboot removes the note.
func (c *nodes) ClearReboot(ctx context.Context, n site.Node) error {
	st, err := c.store(n)
	if err != nil {
		return err
	}
	return st.ClearReboot(ctx, n.Name)
}
