package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// chunk is how much goes to or comes from a server at a time. pkg/sftp splits it
// into requests of 32 KiB, many of which are then under way.
const chunk = 1 << 20

// sftpMedium keeps a store in a directory of an sftp server. Its calls, which
// take no context in pkg/sftp, are left to themselves when a context ends; they
// end with the connection, which ssh's keepalives bound.
//
// Of the server it wants version 3 of the protocol, whose rename does not
// overwrite. It uses three of OpenSSH's extensions where they are offered:
// posix-rename, fsync and statvfs, by which a full disk is told from another
// failure (draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4).
type sftpMedium struct {
	name, root string
	config     sshremote.Config
	password   func(context.Context) (bmc.Secret, error)

	mu   sync.Mutex // held while connecting
	link *sftpLink  // nil before the first use
}

// An sftpLink is one connection.
type sftpLink struct {
	conn   *sshremote.Conn
	client *sftp.Client
	lost   chan struct{} // closed when it is
}

func newSFTP(s site.Store, u *url.URL, c Config) *sftpMedium {
	m := &sftpMedium{name: s.Name, root: path.Clean(u.Path)}
	if s.SSH == nil {
		s.SSH = &site.SSH{Address: u.Hostname(), User: u.User.Username()} // without a host key, which is then refused
	}
	m.config = sshremote.Config{
		Address: s.SSH.Address, Port: s.SSH.Port, User: s.SSH.User,
		Identity: s.SSH.Identity, HostKey: s.SSH.HostKey, Agent: c.Agent, Peer: "store's server",
	}
	m.password = func(ctx context.Context) (bmc.Secret, error) { return c.Secret(ctx, s.SSH.Password) }
	return m
}

// Close ends the connection, if there is one.
func (m *sftpMedium) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link == nil {
		return nil
	}
	err := m.link.close()
	m.link = nil
	return m.explain(err)
}

func (l *sftpLink) close() error {
	select {
	case <-l.lost: // there is nobody to say goodbye to
	default:
		_ = l.client.Close() // likewise, if it is lost just now
	}
	err := l.conn.Close()
	<-l.lost
	return err
}

// connect returns the connection, which it makes if there is none or it is lost.
func (m *sftpMedium) connect(ctx context.Context) (*sftp.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.link != nil {
		select {
		case <-m.link.lost:
			_ = m.link.close() // it is lost anyhow
			m.link = nil
		default:
			return m.link.client, nil
		}
	}
	link, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	m.link = link
	return link.client, nil
}

func (m *sftpMedium) dial(ctx context.Context) (*sftpLink, error) {
	config := m.config
	var err error
	if config.Password, err = m.password(ctx); err != nil {
		return nil, err
	}
	conn, err := sshremote.Dial(ctx, config)
	if err != nil {
		return nil, m.hinted(err)
	}
	out, in, err := conn.Subsystem(ctx, "sftp")
	if err != nil {
		_ = conn.Close() // err says more
		return nil, m.hinted(err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // for a server that says nothing
	defer stop()
	// Writes that arrive in any order do no harm: what is half is never seen.
	client, err := sftp.NewClientPipe(out, in, sftp.UseConcurrentWrites(true))
	if err != nil {
		_ = conn.Close() // likewise
		return nil, err
	}
	link := &sftpLink{conn: conn, client: client, lost: make(chan struct{})}
	go func() {
		defer close(link.lost)
		_ = client.Wait() // requests under way get the error
	}()
	return link, nil
}

// hinted has sshremote's error say what to do about a store.
func (m *sftpMedium) hinted(err error) error {
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Kind == bmc.KindCancelled {
		return err
	}
	own := *e
	own.Op = "store " + m.name + ": " + e.Op
	section := "stores." + m.name + ".ssh"
	switch e.Kind { //nolint:exhaustive // the rest keeps its hint
	case bmc.KindAuth:
		own.Hint = "see " + section + ".identity and " + section + ".password, and the user in stores." + m.name + ".url"
	case bmc.KindSSH:
		own.Hint = "compare the key on the server (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), and see " + section + ".hostKey; its sshd_config must have the subsystem sftp"
	case bmc.KindUnreachable, bmc.KindTimeout:
		own.Hint = "see whether the store's server is up, and stores." + m.name + ".url in the site file"
	}
	return &own
}

// answer is what a call came to.
type answer[T any] struct {
	value T
	err   error
}

// onServer calls f with a connection, and leaves it to itself when ctx ends.
func onServer[T any](ctx context.Context, m *sftpMedium, f func(*sftp.Client) (T, error)) (T, error) {
	client, err := m.connect(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return within(ctx, func() (T, error) {
		v, err := f(client)
		return v, m.why(client, err)
	})
}

func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	done := make(chan answer[T], 1)
	go func() {
		v, err := f()
		done <- answer[T]{v, err}
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, cancelled(ctx)
	}
}

// nothing is what calls return that have only an error.
type nothing struct{}

func (m *sftpMedium) run(ctx context.Context, f func(*sftp.Client) error) error {
	_, err := onServer(ctx, m, func(c *sftp.Client) (nothing, error) { return nothing{}, f(c) })
	return err
}

// errFull is a failure of a server that has no room left.
var errFull = errors.New("the store is full")

// sftpFailure is SSH_FX_FAILURE, OpenSSH's answer to most errors, a full disk
// among them.
const sftpFailure = 4

// why makes the error of a full disk of a mere failure.
func (m *sftpMedium) why(c *sftp.Client, err error) error {
	status, ok := errors.AsType[*sftp.StatusError](err)
	if !ok || status.Code != sftpFailure {
		return err
	}
	const little = 64 << 10
	if vfs, statErr := c.StatVFS(m.root); statErr == nil && (vfs.Bavail*vfs.Frsize < little || (vfs.Files > 0 && vfs.Favail == 0)) {
		return errFull
	}
	return err
}

// explain makes an error of the server or the connection one for people.
func (m *sftpMedium) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*bmc.Error](err); ok {
		return err
	}
	e := &bmc.Error{Op: "store " + m.name, Kind: bmc.KindOverlay, Err: err}
	status, said := errors.AsType[*sftp.StatusError](err)
	switch {
	case errors.Is(err, errFull):
		e.Hint = "make room on the store's server; backups that are no longer needed may be removed, a directory each"
	case errors.Is(err, fs.ErrPermission):
		e.Err = errors.New("the server refuses it: permission denied")
		e.Hint = "let the user of stores." + m.name + ".url write to " + m.root + " on the server"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "see stores." + m.name + ".url in the site file, and: livecd-sync backups list"
	case errors.Is(err, fs.ErrExist):
		e.Hint = "run the command again; another livecd-sync wrote at the same time"
	case said:
		e.Err = fmt.Errorf("the server answers with status %d", status.Code)
		e.Hint = "see the server's log and disk, and whether its user has used up a quota"
	default: // io.EOF, sftp.ErrSSHFxConnectionLost and what else a pipe may say
		e.Kind, e.Err = bmc.KindUnreachable, fmt.Errorf("the connection was lost: %w", err)
		e.Hint = "see whether the store's server is up, and run the command again; the next backup cleans up"
	}
	return e
}

func (m *sftpMedium) path(name string) string { return path.Join(m.root, name) }

func (m *sftpMedium) list(ctx context.Context, dir string) ([]string, error) {
	return onServer(ctx, m, func(c *sftp.Client) ([]string, error) {
		entries, err := c.ReadDir(m.path(dir))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names, err
	})
}

func (m *sftpMedium) open(ctx context.Context, name string) (io.ReadCloser, error) {
	return onServer(ctx, m, func(c *sftp.Client) (io.ReadCloser, error) {
		f, err := c.Open(m.path(name))
		if err != nil {
			return nil, err
		}
		return &sftpReading{Reader: bufio.NewReaderSize(f, chunk), f: f}, nil
	})
}

// sftpReading is a file that is read.
type sftpReading struct {
	*bufio.Reader
	f *sftp.File
}

// Close closes the file.
func (r *sftpReading) Close() error { return r.f.Close() }

// create makes a file that its owner alone may read, and the directories it is in.
func (m *sftpMedium) create(c *sftp.Client, name string, flags int) (*sftp.File, error) {
	full := m.path(name)
	f, err := c.OpenFile(full, os.O_WRONLY|os.O_CREATE|flags)
	if errors.Is(err, fs.ErrNotExist) {
		if err = m.mkdirs(c, path.Dir(full)); err == nil {
			f, err = c.OpenFile(full, os.O_WRONLY|os.O_CREATE|flags)
		}
	}
	if err != nil {
		return nil, err
	}
	// Before anything is in it: the protocol's open leaves the mode to the server.
	if err := f.Chmod(0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// mkdirs makes what there is not of a directory's path, for its owner alone.
func (m *sftpMedium) mkdirs(c *sftp.Client, dir string) error {
	if _, err := c.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := m.mkdirs(c, path.Dir(dir)); err != nil {
		return err
	}
	if err := c.Mkdir(dir); err != nil {
		if _, statErr := c.Stat(dir); statErr == nil {
			return nil // another was faster
		}
		return err
	}
	return c.Chmod(dir, 0o700)
}

func (m *sftpMedium) write(ctx context.Context, name string) (io.WriteCloser, error) {
	return onServer(ctx, m, func(c *sftp.Client) (io.WriteCloser, error) {
		f, err := m.create(c, name, os.O_TRUNC)
		if err != nil {
			return nil, err
		}
		to := &sftpWriting{ctx: ctx, medium: m, client: c, f: f}
		to.buffer = bufio.NewWriterSize((*sftpSender)(to), chunk)
		return to, nil
	})
}

// sftpWriting is a file that is written.
type sftpWriting struct {
	ctx    context.Context //nolint:containedctx // of the draft, which ends its writes
	medium *sftpMedium
	client *sftp.Client
	f      *sftp.File
	buffer *bufio.Writer
}

// Write writes to the file.
func (w *sftpWriting) Write(p []byte) (int, error) { return w.buffer.Write(p) }

// An sftpSender is the same file, without its buffer.
type sftpSender sftpWriting

// Write sends to the server.
func (w *sftpSender) Write(p []byte) (int, error) {
	return within(w.ctx, func() (int, error) {
		n, err := w.f.Write(p)
		return n, w.medium.why(w.client, err)
	})
}

// Close sends what is left and brings the file to stable storage.
func (w *sftpWriting) Close() error {
	if err := w.buffer.Flush(); err != nil {
		go func() { _ = w.f.Close() }() // the server may not answer; the draft is given up
		return err
	}
	_, err := within(w.ctx, func() (nothing, error) {
		return nothing{}, w.medium.why(w.client, errors.Join(syncFile(w.client, w.f), w.f.Close()))
	})
	return err
}

// syncFile brings a file to stable storage where the server offers that.
func syncFile(c *sftp.Client, f *sftp.File) error {
	if _, ok := c.HasExtension("fsync@openssh.com"); !ok {
		return nil
	}
	return f.Sync()
}

func (m *sftpMedium) put(ctx context.Context, name string, data []byte) error {
	return m.run(ctx, func(c *sftp.Client) error {
		dir, base := path.Split(name)
		temporary := path.Join(dir, hidden+base+"-"+rand.Text())
		if err := m.fill(c, temporary, os.O_EXCL, data); err != nil {
			return err
		}
		if err := rename(c, m.path(temporary), m.path(name)); err != nil {
			return err
		}
		// The protocol has no fsync of a directory. That of a file brings its name
		// along in the file systems that keep a journal.
		f, err := c.OpenFile(m.path(name), os.O_WRONLY)
		if err != nil {
			return err
		}
		return errors.Join(syncFile(c, f), f.Close())
	})
}

// fill makes a small file.
func (m *sftpMedium) fill(c *sftp.Client, name string, flags int, data []byte) error {
	f, err := m.create(c, name, flags)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, syncFile(c, f), f.Close())
}

// rename overwrites: at once, where the server offers that.
func rename(c *sftp.Client, from, to string) error {
	if _, ok := c.HasExtension("posix-rename@openssh.com"); ok {
		return c.PosixRename(from, to)
	}
	if err := c.Rename(from, to); err == nil {
		return nil
	}
	if err := c.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.Rename(from, to)
}

func (m *sftpMedium) claim(ctx context.Context, name string, data []byte) error {
	return m.run(ctx, func(c *sftp.Client) error { return m.fillNew(c, name, data) })
}

// fillNew is fill where there is no such file. The protocol has no status for one
// that exists, so that it is looked for.
func (m *sftpMedium) fillNew(c *sftp.Client, name string, data []byte) error {
	err := m.fill(c, name, os.O_EXCL, data)
	if _, failed := errors.AsType[*sftp.StatusError](err); !failed {
		return err
	}
	if there, statErr := c.Lstat(m.path(name)); statErr != nil || there.Size() == 0 {
		// Not there, or made by ourselves just now and never filled.
		if why := m.why(c, err); errors.Is(why, errFull) {
			return errors.Join(why, c.Remove(m.path(name)))
		}
		if statErr != nil {
			return err
		}
	}
	return fs.ErrExist
}

// replace moves the old file away to a name that follows from what is in it,
// which only one of several can do, and looks at what it has moved.
func (m *sftpMedium) replace(ctx context.Context, name string, old, data []byte) error {
	return m.run(ctx, func(c *sftp.Client) error {
		if bytes.Equal(old, data) {
			return m.touch(c, name, data)
		}
		away := path.Join(path.Dir(name), fmt.Sprintf("%s%s-%x", hidden, path.Base(name), sha256.Sum256(old)))
		if err := c.Rename(m.path(name), m.path(away)); err != nil {
			return fs.ErrExist // another was faster
		}
		moved, err := readAll(c, m.path(away))
		if err != nil {
			return err
		}
		if !bytes.Equal(moved, old) {
			// It was a successor's: give it back, if there is no third.
			_ = c.Rename(m.path(away), m.path(name))
			return fs.ErrExist
		}
		return m.fillNew(c, name, data)
	})
}

// touch writes a file again if that is what is in it.
func (m *sftpMedium) touch(c *sftp.Client, name string, data []byte) error {
	now, err := readAll(c, m.path(name))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, data) {
		return fs.ErrExist
	}
	f, err := c.OpenFile(m.path(name), os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func readAll(c *sftp.Client, name string) ([]byte, error) {
	f, err := c.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxManifest))
	return data, errors.Join(err, f.Close())
}

// age makes a file, whose time is the server's, to compare with.
func (m *sftpMedium) age(ctx context.Context, name string) (time.Duration, error) {
	return onServer(ctx, m, func(c *sftp.Client) (time.Duration, error) {
		probe := path.Join(path.Dir(name), hidden+"clock-"+rand.Text())
		if err := m.fill(c, probe, os.O_EXCL, []byte{0}); err != nil {
			return 0, err
		}
		now, err := c.Stat(m.path(probe))
		if err = errors.Join(err, c.Remove(m.path(probe))); err != nil {
			return 0, err
		}
		written, err := c.Stat(m.path(name))
		if err != nil {
			return 0, err
		}
		return now.ModTime().Sub(written.ModTime()), nil
	})
}

func (m *sftpMedium) remove(ctx context.Context, name string) error {
	return m.run(ctx, func(c *sftp.Client) error { return gone(c.Remove(m.path(name))) })
}

// gone is nil for what is not there.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (m *sftpMedium) removeAll(ctx context.Context, dir, first string) error {
	return m.run(ctx, func(c *sftp.Client) error {
		if first != "" {
			if err := gone(c.Remove(path.Join(m.path(dir), first))); err != nil {
				return err
			}
		}
		return removeTree(c, m.path(dir))
	})
}

// removeTree removes a file or a directory with what is in it. It follows no
// link, and minds nothing that another removes at the same time.
func removeTree(c *sftp.Client, name string) error {
	info, err := c.Lstat(name)
	if err != nil {
		return gone(err)
	}
	if !info.IsDir() {
		return gone(c.Remove(name))
	}
	entries, err := c.ReadDir(name)
	if err != nil {
		return gone(err)
	}
	for _, e := range entries {
		if err := removeTree(c, path.Join(name, e.Name())); err != nil {
			return err
		}
	}
	return gone(c.RemoveDirectory(name))
}

// sweep does nothing: a file whose writer is gone is in its directory.
func (m *sftpMedium) sweep(context.Context, string) error { return nil }
