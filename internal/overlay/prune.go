package overlay

import (
	"context"
	"errors"
	"slices"
	"time"
)

// A Retention says which backups of a node to keep: the newest Keep, and all
// that are younger than Within.
type Retention struct {
	Keep   int
	Within time.Duration
	Now    time.Time
	// Needed are IDs that are kept whatever their age.
	Needed []string
}

// Prunable returns, oldest first, the backups that r does not keep. Whatever r
// says, it spares the newest backup that a restore may rely on, and those that a
// reboot which is not done with has made or is to restore. A backup that is
// damaged counts for nothing; one whose manifest cannot be read is left alone.
func Prunable(ctx context.Context, store Store, node string, r Retention) ([]Manifest, error) {
	i, err := TakeInventory(ctx, store, node)
	if err != nil {
		return nil, err
	}
	spared, err := i.spare(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, id := range r.Needed {
		spared[id] = true
	}
	var doomed []Manifest
	kept := 0
	for _, m := range i.Backups {
		over := kept >= r.Keep
		if i.Noted[m.ID].Damaged == "" {
			kept++
		}
		if over && !spared[m.ID] && (r.Within <= 0 || r.Now.Sub(m.CreatedAt) > r.Within) {
			doomed = append(doomed, m)
		}
	}
	slices.Reverse(doomed)
	return doomed, nil
}

// Prune deletes what Prunable returns and may allows, nil: all of it, and returns
// their IDs; on an error, those that were deleted until then. It holds the node's
// lock: what a restore reads is not deleted under it.
func Prune(ctx context.Context, store Store, node string, r Retention, may func(Manifest) bool) (gone []string, err error) {
	if doomed, err := Prunable(ctx, store, node, r); err != nil || len(doomed) == 0 {
		return nil, err
	}
	free, err := store.Lock(ctx, node, "removing backups of it")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, free()) }()
	doomed, err := Prunable(ctx, store, node, r)
	if err != nil {
		return nil, err
	}
	for _, m := range doomed {
		if may != nil && !may(m) {
			continue
		}
		if err := store.Delete(ctx, node, m.ID); err != nil {
			return gone, err
		}
		gone = append(gone, m.ID)
	}
	return gone, nil
}

// spare returns the IDs that may not be deleted.
func (i Inventory) spare(ctx context.Context, store Store) (map[string]bool, error) {
	spared := make(map[string]bool)
	latest, err := i.Latest()
	switch {
	case err == nil:
		spared[latest.ID] = true
	case !errors.Is(err, ErrNoBackup):
		return nil, err
	}
	note, ok, err := store.Reboot(ctx, i.Node)
	if err != nil {
		return nil, err
	}
	if ok {
		spared[note.Backup], spared[note.Restore] = true, true
	}
	return spared, nil
}
