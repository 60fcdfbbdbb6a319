package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// A lock is a file of the store that its holder made where there was none, and
// writes again well before it expires. Who finds a lock that nobody has written
// for that long takes it over. Its age is told by the server's clock alone, so
// that clocks which differ do no harm.
//
// It guarantees that of any number of writers which begin at one time one goes
// on, and that the lock of one that died passes on. It does not guarantee that
// a writer which was held up for longer than the expiry (a stopped process, a
// network that came back) knows at once that it has lost the lock: it may still
// write files, but into a directory of its own, which its successor removes. It
// looks again just before it publishes, and publishes nothing without the lock.
// Only a put of the manifest that itself is under way for longer than half the
// expiry, and then arrives all the same, could be listed half; Check finds it.
// An S3 server that ignores conditional requests makes two writers that begin
// within the same moments possible.
type lock struct {
	store *objects
	name  string
	mine  []byte

	mu      sync.Mutex
	renewed time.Time // before the write that renewed it last

	stop func()
	done sync.WaitGroup
}

// backingUp is what the holder of a draft's lock does.
const backingUp = "writing a backup of it"

// A holder is what a lock says, for people and to tell one from the next.
type holder struct {
	Holder string `json:"holder"`
	Doing  string `json:"doing"`
	Token  string `json:"token"`
}

// hold is what this process writes into a lock.
func hold(doing string) ([]byte, error) {
	host, _ := os.Hostname() // for people only
	return marshal(holder{Holder: fmt.Sprintf("process %d on %s", os.Getpid(), host), Doing: doing, Token: rand.Text()})
}

// busy is the error of who finds a lock, which theirs is what was found in.
func busy(node string, theirs []byte, hint string) error {
	var h holder
	who, doing := "another livecd-sync", "busy with its backups"
	if json.Unmarshal(theirs, &h) == nil {
		if h.Holder != "" {
			who += " (" + overlay.Printable(h.Holder) + ")"
		}
		if h.Doing != "" {
			doing = overlay.Printable(h.Doing)
		}
	}
	return &bmc.Error{Op: "lock " + node + " in the store", Kind: bmc.KindBusy, Err: fmt.Errorf("%s is %s", who, doing), Hint: hint}
}

// Lock takes the node's lock.
func (o *objects) Lock(ctx context.Context, node, doing string) (func() error, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	l, err := o.acquire(ctx, node, doing)
	if err != nil {
		return nil, o.explain(err)
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.expiry/2)
		defer cancel()
		return o.explain(l.release(ctx))
	}, nil
}

// acquire takes the node's lock. Its error has KindBusy while another holds it.
func (o *objects) acquire(ctx context.Context, node, doing string) (*lock, error) {
	mine, err := hold(doing)
	if err != nil {
		return nil, err
	}
	l := &lock{store: o, name: path.Join(node, lockFile), mine: mine}
	if err := l.take(ctx, node); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = cancel
	l.done.Go(func() { l.keep(ctx) })
	return l, nil
}

// take tries a few times: a lock may be freed, or taken over, between two looks.
func (l *lock) take(ctx context.Context, node string) error {
	const tries = 4
	var last error
	for range tries {
		l.renewed = bmc.SystemClock{}.Now()
		err := l.store.claim(ctx, l.name, l.mine)
		if errors.Is(err, fs.ErrExist) {
			err = l.takeOver(ctx, node)
		}
		if err == nil {
			return l.verify(ctx, node)
		}
		// A missing known_hosts file does not exist either, and is no lock.
		_, told := errors.AsType[*bmc.Error](err)
		if told || !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		last = err
	}
	if errors.Is(last, fs.ErrNotExist) {
		return last
	}
	return l.busy(node, nil, l.store.expiry)
}

// takeOver takes a lock that has expired. Its error wraps that of io/fs when the
// lock was freed or went to another meanwhile.
func (l *lock) takeOver(ctx context.Context, node string) error {
	theirs, err := l.store.read(ctx, l.name)
	if err != nil {
		return err
	}
	if bytes.Equal(theirs, l.mine) {
		return nil // the answer to the claim was lost, and it was sent again
	}
	age, err := l.store.age(ctx, l.name)
	if err != nil {
		return err
	}
	if age <= l.store.expiry {
		return l.busy(node, theirs, l.store.expiry-age)
	}
	return l.store.replace(ctx, l.name, theirs, l.mine)
}

// verify looks whether the lock is ours, for servers that do not mind conditions.
func (l *lock) verify(ctx context.Context, node string) error {
	now, err := l.store.read(ctx, l.name)
	if err == nil && !bytes.Equal(now, l.mine) {
		return l.busy(node, now, l.store.expiry)
	}
	return err
}

func (l *lock) busy(node string, theirs []byte, left time.Duration) error {
	return busy(node, theirs, fmt.Sprintf("wait for it to end; if it was killed, its lock expires in %s", max(left, time.Second).Round(time.Second)))
}

// keep renews the lock until it is released. That it could not is found when the
// backup is published.
func (l *lock) keep(ctx context.Context) {
	ticker := time.NewTicker(l.store.expiry / 5)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			_ = l.renew(ctx)
		}
	}
}

var errLockLost = errors.New("its lock went to another writer")

// renew writes the lock again if it is still ours.
func (l *lock) renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := bmc.SystemClock{}.Now()
	lost := &bmc.Error{
		Op: "hold the lock " + l.name, Kind: bmc.KindBusy, Err: errLockLost,
		Hint: "run the command again, and see whether this machine or the network stood still",
	}
	if now.Sub(l.renewed) >= l.store.expiry {
		return lost // whoever looked may have taken it, or be about to
	}
	ctx, cancel := context.WithTimeout(ctx, l.store.expiry/2)
	defer cancel()
	err := l.store.replace(ctx, l.name, l.mine, l.mine)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return lost
	}
	if err == nil {
		l.renewed = now
	}
	return err
}

// release ends the renewing and removes the lock, if it is ours.
func (l *lock) release(ctx context.Context) error {
	l.stop()
	l.done.Wait()
	now, err := l.store.read(ctx, l.name)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && !bytes.Equal(now, l.mine)) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.store.remove(ctx, l.name)
}
