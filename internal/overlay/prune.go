package overlay

import (
	"context"
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
// reboot which is not done with has made or is to restore.
func Prunable(ctx context.Context, store Store, node string, r Retention) ([]Manifest, error) {
	list, err := store.List(ctx, node)
	if err != nil {
		return nil, err
	}
	spared, err := spare(ctx, store, node, list)
	if err != nil {
		return nil, err
	}
	for _, id := range r.Needed {
		spared[id] = true
	}
	var doomed []Manifest
	for i := len(list) - 1; i >= max(r.Keep, 0); i-- {
		m := list[i]
		if !spared[m.ID] && (r.Within <= 0 || r.Now.Sub(m.CreatedAt) > r.Within) {
			doomed = append(doomed, m)
		}
	}
	return doomed, nil
}

// Prune deletes what Prunable returns, and returns the IDs of those it deleted.
func Prune(ctx context.Context, store Store, node string, r Retention) ([]string, error) {
	doomed, err := Prunable(ctx, store, node, r)
	if err != nil {
		return nil, err
	}
	var deleted []string
	for _, m := range doomed {
		if err := store.Delete(ctx, node, m.ID); err != nil {
			return deleted, err
		}
		deleted = append(deleted, m.ID)
	}
	return deleted, nil
}

// spare returns the IDs that may not be deleted.
func spare(ctx context.Context, store Store, node string, list []Manifest) (map[string]bool, error) {
	spared := make(map[string]bool)
	noted, err := store.Verified(ctx, node)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if m.Reliable() == nil && noted[m.ID].Damaged == "" {
			spared[m.ID] = true
			break
		}
	}
	note, ok, err := store.Reboot(ctx, node)
	if err != nil {
		return nil, err
	}
	if ok {
		spared[note.Backup], spared[note.Restore] = true, true
	}
	return spared, nil
}
