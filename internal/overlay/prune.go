package overlay

import (
	"context"
)

// Prune deletes the oldest of a node's backups beyond the newest keep, and
// returns the IDs of those it deleted. Whatever keep is, it spares the newest
// backup that a restore may rely on, the one that a reboot which is not done with is
// to restore, and those that needed names. All listed backups were verified when they were made.
func Prune(ctx context.Context, store Store, node string, keep int, needed ...string) ([]string, error) {
	list, err := store.List(ctx, node)
	if err != nil {
		return nil, err
	}
	spared, err := spare(ctx, store, node, list)
	if err != nil {
		return nil, err
	}
	for _, id := range needed {
		spared[id] = true
	}
	var deleted []string
	for i := len(list) - 1; i >= max(keep, 0); i-- {
		id := list[i].ID
		if spared[id] {
			continue
		}
		if err := store.Delete(ctx, node, id); err != nil {
			return deleted, err
		}
		deleted = append(deleted, id)
	}
	return deleted, nil
}

// spare returns the IDs that may not be deleted.
func spare(ctx context.Context, store Store, node string, list []Manifest) (map[string]bool, error) {
	spared := make(map[string]bool)
	for _, m := range list {
		if m.Reliable() == nil {
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
