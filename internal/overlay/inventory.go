package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// An Inventory is all that is known of a node's backups.
type Inventory struct {
	Listing
	Node  string
	Noted map[string]Verified // what was found when they were last verified, by ID
	// NotesErr says why that could not be read: which are damaged is then not known.
	NotesErr error
}

// TakeInventory reads what a store has of a node. A backup that is damaged is
// part of it, and no error.
func TakeInventory(ctx context.Context, store Store, node string) (Inventory, error) {
	list, err := store.List(ctx, node)
	if err != nil {
		return Inventory{}, err
	}
	i := Inventory{Listing: list, Node: node}
	if i.Noted, i.NotesErr = store.Verified(ctx, node); ctx.Err() != nil {
		return Inventory{}, i.NotesErr
	}
	return i, nil
}

// Good reports whether a restore may rely on a backup of the inventory.
func (i Inventory) Good(m Manifest) bool { return m.Reliable() == nil && i.Noted[m.ID].Damaged == "" }

// A Damage is a backup that is not what was written, and what was found.
type Damage struct {
	ID  string
	Why string
}

// Damaged returns, newest first, the backups whose manifests cannot be read and
// those that were found damaged when they were verified.
func (i Inventory) Damaged() []Damage {
	var list []Damage
	for _, u := range i.Unreadable {
		list = append(list, Damage{ID: u.ID, Why: u.Err.Error()})
	}
	for _, m := range i.Backups {
		if why := i.Noted[m.ID].Damaged; why != "" {
			list = append(list, Damage{ID: m.ID, Why: why})
		}
	}
	slices.SortFunc(list, func(a, b Damage) int { return CompareIDs(b.ID, a.ID) })
	return list
}

// NewerDamaged returns the damaged backups that are newer than one of that ID;
// all of them for "".
func (i Inventory) NewerDamaged(id string) []Damage {
	return slices.DeleteFunc(i.Damaged(), func(d Damage) bool { return id != "" && CompareIDs(d.ID, id) < 0 })
}

// Latest returns the newest backup that a restore may rely on. Its error wraps
// ErrNoBackup when there is none, and names one that is damaged.
func (i Inventory) Latest() (Manifest, error) {
	if i.NotesErr != nil {
		return Manifest{}, i.NotesErr
	}
	for _, m := range i.Backups {
		if i.Good(m) {
			return m, nil
		}
	}
	e := &bmc.Error{
		Op: "find a backup of " + i.Node, Kind: bmc.KindOverlay, Err: ErrNoBackup,
		Hint: "make one: livecd-sync backup " + i.Node,
	}
	if damaged := i.Damaged(); len(damaged) > 0 {
		e.Err = fmt.Errorf("%w: the newest of %d that are damaged is %s: %w", ErrNoBackup, len(damaged), damaged[0].ID, errors.New(damaged[0].Why))
		e.Hint = "make another one while the node runs (livecd-sync backup " + i.Node + "), or see what can be saved by hand, with zstd and tar: RESTORE.txt lies beside each backup"
	}
	return Manifest{}, e
}

// Latest takes the node's inventory and returns its Latest.
func Latest(ctx context.Context, store Store, node string) (Manifest, error) {
	i, err := TakeInventory(ctx, store, node)
	if err != nil {
		return Manifest{}, err
	}
	return i.Latest()
}
