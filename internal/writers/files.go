package writers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Files are locks on this machine. Whoever shares the directory shares them.
type Files struct {
	// Dir is the directory of the site's locks; it is made when it is needed.
	Dir string
	// Me is who takes them.
	Me    Holder
	Clock bmc.Clock
	// Wait is how long Lock waits for a lock that another holds; 0: it does not.
	Wait time.Duration
}

// A record is what a lock's file says. One that says nothing is free.
type record struct {
	Mark   string  `json:"mark"`
	Holder *Holder `json:"holder,omitempty"` // nil: it was given back
}

const (
	// glance is how long a lock is tried for even without waiting: somebody may
	// merely be looking at it.
	glance = 60 * time.Millisecond
	pause  = 20 * time.Millisecond
)

func (f *Files) path(node string) string { return filepath.Join(f.Dir, node+".lock") }

// Lock takes the node's lock.
func (f *Files) Lock(ctx context.Context, node string) (Lock, error) {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, f.cannot(node, err)
	}
	file := flock.New(f.path(node), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	deadline := f.Clock.Now().Add(max(f.Wait, glance))
	for {
		taken, err := file.TryLock()
		if err != nil {
			return nil, f.cannot(node, errors.Join(err, file.Close()))
		}
		if taken {
			return f.hold(node, file)
		}
		if !f.Clock.Now().Before(deadline) {
			r, _ := read(f.path(node)) // it may be being written this moment
			return nil, errors.Join(Busy(node, orNobody(r.Holder)), file.Close())
		}
		if err := f.Clock.Sleep(ctx, pause); err != nil {
			return nil, &bmc.Error{
				Op: "lock " + node, Kind: bmc.KindCancelled, Err: errors.Join(err, file.Close()), Hint: "run the same command again",
			}
		}
	}
}

func orNobody(h *Holder) Holder {
	if h == nil {
		return Holder{}
	}
	return *h
}

// hold writes into the file who has it now.
func (f *Files) hold(node string, file *flock.Flock) (Lock, error) {
	before, err := read(f.path(node))
	if err != nil && !errors.Is(err, errNoRecord) {
		return nil, f.cannot(node, errors.Join(err, file.Close()))
	}
	me := f.Me
	me.Since = f.Clock.Now().UTC()
	l := &held{file: file, path: f.path(node), before: before.Mark, mine: record{Mark: rand.Text(), Holder: &me}}
	if err := write(l.path, l.mine); err != nil {
		return nil, f.cannot(node, errors.Join(err, file.Close()))
	}
	return l, nil
}

func (f *Files) cannot(node string, err error) error {
	return &bmc.Error{
		Op: "lock " + node, Kind: bmc.KindBusy, Err: err,
		Hint: "see that " + f.Dir + " can be written and has room; without its lock nothing is done to a node",
	}
}

// Look sees who holds the nodes' locks.
func (f *Files) Look(_ context.Context, nodes []string) (map[string]Seen, error) {
	all := make(map[string]Seen, len(nodes))
	for _, node := range nodes {
		r, err := read(f.path(node))
		if err != nil && !errors.Is(err, errNoRecord) {
			return nil, f.cannot(node, err)
		}
		s := Seen{Mark: r.Mark}
		if r.Holder != nil && taken(f.path(node)) {
			s.Holder = r.Holder
		}
		all[node] = s
	}
	return all, nil
}

// taken reports whether somebody has the lock, and not just had it when he died.
func taken(path string) bool {
	file := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := file.TryRLock()
	return errors.Join(err, file.Close()) == nil && !free
}

// A held is a lock of this process.
type held struct {
	file   *flock.Flock
	path   string
	before string // the mark of the holder before
	mine   record
}

// Lost is never closed: only this process can give the lock back.
func (*held) Lost() <-chan struct{} { return nil }

func (*held) Check(context.Context) error { return nil }

func (l *held) Fresh(seen Seen) bool { return seen.Holder == nil && seen.Mark == l.before }

func (l *held) Unlock() error {
	err := write(l.path, record{Mark: l.mine.Mark})
	return errors.Join(err, l.file.Close())
}

var errNoRecord = errors.New("it says nothing")

// read reads what a lock's file says; errNoRecord where that is nothing, as it is
// while a holder writes.
func read(path string) (record, error) {
	var r record
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, errNoRecord
	case err != nil:
		return r, err
	}
	if json.Unmarshal(b, &r) != nil {
		return record{}, errNoRecord
	}
	return r, nil
}

// write writes in place: the file that is locked must stay the same one.
func write(path string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write who holds it: %w", err)
	}
	return nil
}
