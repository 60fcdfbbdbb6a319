package writers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Holder is who holds a node's lock.
type Holder struct {
	Host    string    `json:"host"`
	User    string    `json:"user"`
	PID     int       `json:"pid"`
	Command string    `json:"command"` // "apply", "watch", …, without arguments
	Since   time.Time `json:"since"`
}

// Me is this process, about to run the command.
func Me(command string) Holder {
	host, _ := os.Hostname() // for people only
	h := Holder{Host: host, User: strconv.Itoa(os.Getuid()), PID: os.Getpid(), Command: command}
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	}
	return h
}

// String names the holder in words that follow "is held by".
func (h Holder) String() string {
	if h == (Holder{}) {
		return "another livecd-sync, which has not said yet who it is"
	}
	return fmt.Sprintf("livecd-sync %s of %s on %s (process %d), since %s", h.Command, h.User, cmp.Or(h.Host, "a host without a name"),
		h.PID, h.Since.UTC().Format(time.RFC3339))
}

// A Seen is what was seen of a node's lock without taking it.
type Seen struct {
	Holder *Holder // nil: it was free
	Mark   string  // of its last holder, "" if there was none
}

// Locks are the locks of a site's nodes. They are safe for concurrent use.
type Locks interface {
	// Look sees who holds the nodes' locks. It takes none. Every node is in the
	// result.
	Look(ctx context.Context, nodes []string) (map[string]Seen, error)
	// Lock takes the node's lock. Its error is a *bmc.Error: of KindBusy while
	// another holds it, and then a *Taken is in its chain.
	Lock(ctx context.Context, node string) (Lock, error)
}

// A Lock is held until Unlock. Its methods are safe for concurrent use.
type Lock interface {
	// Lost is closed when the lock is about to go to somebody else, or may have.
	Lost() <-chan struct{}
	// Check asks whether it is still held. Its error is a *bmc.Error.
	Check(ctx context.Context) error
	// Fresh reports whether nobody else has held the lock between seen and this
	// holder.
	Fresh(seen Seen) bool
	Unlock() error
}

// Taken says that another holds the lock.
type Taken struct{ Holder Holder }

func (t *Taken) Error() string { return "it is held by " + t.Holder.String() }

// Busy is the error of who finds the node's lock taken.
func Busy(node string, h Holder) error {
	return &bmc.Error{
		Op: "lock " + node, Kind: bmc.KindBusy, Err: &Taken{Holder: h},
		Hint: "wait until it is done, for example with --lock-wait 30m, or end it there; nothing was done to this node",
	}
}

// HolderOf is who holds the lock that err, an error of Locks.Lock, is about.
func HolderOf(err error) (Holder, bool) {
	t, ok := errors.AsType[*Taken](err)
	if !ok {
		return Holder{}, false
	}
	return t.Holder, true
}
