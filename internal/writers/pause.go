package writers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// A Pause says that a node is left alone, by a person's wish.
type Pause struct {
	By     string    `json:"by"`   // the user
	Host   string    `json:"host"` // where
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"` // zero: until it is resumed
	Reason string    `json:"reason,omitempty"`
}

// String says it in words that follow the node's name.
func (p Pause) String() string {
	s := fmt.Sprintf("paused by %s on %s since %s", p.By, p.Host, p.Since.UTC().Format(time.RFC3339))
	if !p.Until.IsZero() {
		s += ", until " + p.Until.UTC().Format(time.RFC3339)
	}
	if p.Reason != "" {
		s += ": " + p.Reason
	}
	return s
}

// Pauses are the pauses that hold at now, by node. A note that cannot be read
// holds: somebody wanted the node to be left alone.
func Pauses(ctx context.Context, b Book, now time.Time) (map[string]Pause, error) {
	notes, err := b.All(ctx, Paused)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Pause, len(notes))
	for node, note := range notes {
		var p Pause
		if json.Unmarshal(note, &p) != nil {
			p = Pause{By: "somebody", Host: "a host", Reason: "the note about it cannot be read; livecd-sync resume removes it"}
		}
		if p.Until.IsZero() || now.Before(p.Until) {
			all[node] = p
		}
	}
	return all, nil
}

// SetPause pauses the node.
func SetPause(ctx context.Context, b Book, node string, p Pause) error {
	note, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return b.Put(ctx, Paused, node, note)
}
