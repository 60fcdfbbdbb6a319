package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// DefaultLockExpiry is how long the lock of a writer that is gone keeps others
// from backing the node up, where a server keeps the store.
const DefaultLockExpiry = 2 * time.Minute

// A Config is what a store needs besides its place in the site file.
type Config struct {
	// Site is the site's name: backups and notes of others do not exist. "": all
	// backups do.
	Site string
	// Secret fetches a secret, when it is first needed; nil: there is none.
	Secret func(context.Context, site.SecretRef) (bmc.Secret, error)
	// Agent is the path of an ssh agent's socket, or "".
	Agent string
	// LockExpiry is for tests; 0: DefaultLockExpiry.
	LockExpiry time.Duration
}

// A Store is an overlay.Store whose connections can be ended. It may be used
// again after Close, which then has to be called again.
type Store interface {
	overlay.Store
	io.Closer
}

// Open opens a store. It asks no server and touches no directory; the first
// backup makes it. Its errors are of type *bmc.Error.
func Open(s site.Store, c Config) (Store, error) {
	c.LockExpiry = cmp.Or(c.LockExpiry, DefaultLockExpiry)
	if c.Secret == nil {
		c.Secret = func(context.Context, site.SecretRef) (bmc.Secret, error) { return "", nil }
	}
	inner, err := openKind(s, c)
	if err != nil {
		return nil, err
	}
	outer, err := seal(&ours{Store: inner, site: c.Site}, s, c)
	if err != nil {
		return nil, err
	}
	return outer, nil
}

func openKind(s site.Store, c Config) (Store, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		u = &url.URL{} // which is of no kind
	}
	switch {
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && path.IsAbs(u.Path):
		return &directory{path: path.Clean(u.Path), site: c.Site}, nil
	case u.Scheme == "sftp" && u.Hostname() != "" && path.IsAbs(u.Path):
		return &objects{medium: newSFTP(s, u, c), site: c.Site, expiry: c.LockExpiry}, nil
	case u.Scheme == "s3" && u.Host != "":
		m, err := newS3(s, u, c)
		if err != nil {
			return nil, err
		}
		return &objects{medium: m, site: c.Site, expiry: c.LockExpiry}, nil
	}
	return nil, &bmc.Error{
		Op: "open store " + s.Name, Kind: bmc.KindUnsupported,
		Err:  fmt.Errorf("%q is no place for a store", u.Redacted()),
		Hint: "write it as file:///absolute/path, sftp://user@host/absolute/path or s3://bucket/prefix",
	}
}

// ours is a store in which another site's backups do not exist.
type ours struct {
	Store
	site string
}

// List leaves out what is not ours.
func (o *ours) List(ctx context.Context, node string) (overlay.Listing, error) {
	list, err := o.Store.List(ctx, node)
	if o.site == "" || err != nil {
		return list, err
	}
	list.Backups = slices.DeleteFunc(list.Backups, func(m overlay.Manifest) bool { return m.Site != o.site })
	list.Unreadable = slices.DeleteFunc(list.Unreadable, func(u overlay.Unreadable) bool { return u.Site != "" && u.Site != o.site })
	return list, nil
}

// Get finds what is ours.
func (o *ours) Get(ctx context.Context, node, id string) (overlay.Manifest, error) {
	m, err := o.Store.Get(ctx, node, id)
	if o.site != "" && m.Site != o.site && (err == nil || m.Site != "") {
		return overlay.Manifest{}, noBackup(node, id)
	}
	return m, err
}

// Open opens what is ours.
func (o *ours) Open(ctx context.Context, node, id, name string) (io.ReadCloser, error) {
	if _, err := o.Get(ctx, node, id); err != nil {
		return nil, err
	}
	return o.Store.Open(ctx, node, id, name)
}

// Delete removes what is ours.
func (o *ours) Delete(ctx context.Context, node, id string) error {
	// What cannot be read can be of nobody else's, and may be removed.
	if _, err := o.Get(ctx, node, id); errors.Is(err, overlay.ErrNoBackup) {
		return err
	}
	return o.Store.Delete(ctx, node, id)
}

func noBackup(node, id string) error {
	return &bmc.Error{
		Op: fmt.Sprintf("find backup %q of %s", id, node), Kind: bmc.KindOverlay, Err: overlay.ErrNoBackup,
		Hint: "see: livecd-sync backups list -w " + node,
	}
}

func checkNode(name string) error {
	if overlay.ValidNode(name) {
		return nil
	}
	return &bmc.Error{
		Op: "open the store", Kind: bmc.KindOverlay,
		Err:  fmt.Errorf("%q cannot be a node's name", name),
		Hint: "use letters, digits, dots and dashes",
	}
}
