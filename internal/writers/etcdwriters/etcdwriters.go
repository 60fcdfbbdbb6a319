// Package etcdwriters keeps the locks and notes of a site's writers in etcd, so
// that several admin hosts share them.
//
//  1. Each process has a lease. Its locks are keys that go with the lease: a process
//     that dies, or cannot reach etcd any more, loses them within the lease.
//  2. A lock is a key that was made where there was none, in one transaction. Its
//     value says who holds it. Beside it stays a mark, as package writers wants it.
//  3. A process that could not renew its lease for two thirds of its time takes its
//     locks for lost, before etcd does, so that what it does can come to an end.
//  4. Before a step that harms, etcd is asked whether the lock is still held.
//  5. Watchers are keys of that kind too. Each node belongs to the one that ranks
//     highest for it (rendezvous hashing), so that they share the work, and a dead
//     one's nodes pass to the others.
package etcdwriters

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.uber.org/zap"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

// Config is how to reach etcd.
type Config struct {
	Endpoints     []string // URLs
	CA, Cert, Key string   // PEM files, or ""
	Lease         time.Duration
	Site          string // its name
	Me            writers.Holder
	Clock         bmc.Clock
	// Wait is how long Lock waits for a lock that another holds; 0: it does not.
	Wait time.Duration
}

// A Site is what the writers of a site share. It is safe for concurrent use.
type Site struct {
	Config
	client *clientv3.Client

	mu    sync.Mutex
	lease *lease // nil until the first lock
}

var (
	_ writers.Locks = (*Site)(nil)
	_ writers.Book  = (*Site)(nil)
)

// New prepares to reach etcd; it asks nobody.
func New(c Config) (*Site, error) {
	conf, err := c.tls()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: conf, DialTimeout: c.patience(), DialKeepAliveTime: c.patience(), DialKeepAliveTimeout: c.patience(),
		Logger: zap.NewNop(), // what fails is returned
	})
	if err != nil {
		return nil, &bmc.Error{Op: "reach etcd", Kind: bmc.KindUnreachable, Err: err, Hint: "look at lock.etcd in the site file"}
	}
	return &Site{Config: c, client: client}, nil
}

// patience is how long one request may take.
func (c Config) patience() time.Duration { return c.Lease / 5 }

func (c Config) tls() (*tls.Config, error) {
	if c.CA == "" && c.Cert == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	wrong := func(err error) (*tls.Config, error) {
		return nil, &bmc.Error{Op: "read the certificates for etcd", Kind: bmc.KindTLS, Err: err, Hint: "look at lock.ca, lock.cert and lock.key in the site file"}
	}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return wrong(err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return wrong(fmt.Errorf("%s has no certificate", c.CA))
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return wrong(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// Close gives everything back.
func (s *Site) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil {
		s.lease.end()
	}
	return s.client.Close()
}

func (s *Site) key(parts ...string) string {
	return "livecd-sync/" + s.Site + "/" + strings.Join(parts, "/")
}

// do makes one request, for no longer than patience.
func (s *Site) do(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	asking, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	resp, err := s.client.Txn(asking).If(cmps...).Then(then...).Else(otherwise...).Commit()
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	return resp, nil
}

func (s *Site) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &bmc.Error{Op: "ask etcd", Kind: bmc.KindCancelled, Err: context.Cause(ctx), Hint: "run the same command again"}
	}
	return &bmc.Error{
		Op: "ask etcd at " + strings.Join(s.Endpoints, ", "), Kind: bmc.KindUnreachable, Err: err,
		Hint: "look at etcd; without its lock nothing is begun on a node, and the next run goes on from what it finds",
	}
}

// A lease is this process's life in etcd.
type lease struct {
	session *concurrency.Session
	lost    chan struct{}
	once    sync.Once
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func (l *lease) lose() { l.once.Do(func() { close(l.lost) }) }

func (l *lease) end() {
	l.lose()
	l.cancel()
	l.done.Wait()
	_ = l.session.Close() // what is not given back ends with the lease
}

// alive is the process's lease, a new one if the last was lost.
func (s *Site) alive(ctx context.Context) (*lease, error) { //nolint:contextcheck // the lease outlives the call
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != nil {
		select {
		case <-s.lease.lost:
			go s.lease.end() // it may have to wait for etcd
			s.lease = nil
		default:
			return s.lease, nil
		}
	}
	asking, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	granted, err := s.client.Grant(asking, int64(max(s.Lease/time.Second, 2)))
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	session, err := concurrency.NewSession(s.client, concurrency.WithLease(granted.ID))
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	renewing, end := context.WithCancel(context.Background())
	l := &lease{session: session, lost: make(chan struct{}), cancel: end}
	l.done.Go(func() { s.keep(renewing, l, s.Clock.Now()) })
	s.lease = l
	return l, nil
}

// keep sees that the lease is renewed, and takes it for lost when it was not for
// too long.
func (s *Site) keep(ctx context.Context, l *lease, renewed time.Time) {
	defer l.lose()
	tick := time.NewTicker(s.Lease / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.session.Done():
			return
		case <-tick.C:
		}
		before := s.Clock.Now()
		if before.Sub(renewed) >= s.Lease*2/3 {
			return
		}
		asking, cancel := context.WithTimeout(ctx, s.Lease/10)
		_, err := s.client.KeepAliveOnce(asking, l.session.Lease())
		cancel()
		if err == nil {
			renewed = before
		}
	}
}

// A record is what a lock's key says.
type record struct {
	Holder writers.Holder `json:"holder"`
	Mark   string         `json:"mark"`
}

// Lock takes the node's lock.
func (s *Site) Lock(ctx context.Context, node string) (writers.Lock, error) {
	deadline := s.Clock.Now().Add(s.Wait)
	for {
		l, holder, err := s.try(ctx, "locks", node)
		if err != nil {
			return nil, err
		}
		if l != nil {
			return l, nil
		}
		if !s.Clock.Now().Before(deadline) {
			return nil, writers.Busy(node, holder)
		}
		if err := s.Clock.Sleep(ctx, 200*time.Millisecond); err != nil {
			return nil, s.explain(ctx, err)
		}
	}
}

// try takes a key, or says who has it.
func (s *Site) try(ctx context.Context, kind, name string) (*held, writers.Holder, error) {
	life, err := s.alive(ctx)
	if err != nil {
		return nil, writers.Holder{}, err
	}
	me := record{Holder: s.Me, Mark: rand.Text()}
	me.Holder.Since = s.Clock.Now().UTC()
	value, err := json.Marshal(me)
	if err != nil {
		return nil, writers.Holder{}, err
	}
	key, mark := s.key(kind, name), s.key("marks", kind, name)
	resp, err := s.do(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		[]clientv3.Op{clientv3.OpGet(mark), clientv3.OpPut(key, string(value), clientv3.WithLease(life.session.Lease())), clientv3.OpPut(mark, me.Mark)},
		[]clientv3.Op{clientv3.OpGet(key)})
	if err != nil {
		s.giveBack(life, key, string(value)) //nolint:contextcheck // only the answer may have been lost; ctx may be over
		return nil, writers.Holder{}, err
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if !resp.Succeeded {
		var r record
		if len(kvs) > 0 && json.Unmarshal(kvs[0].Value, &r) != nil {
			r = record{}
		}
		return nil, r.Holder, nil
	}
	l := &held{site: s, life: life, key: key, value: string(value)}
	if len(kvs) > 0 {
		l.before = string(kvs[0].Value)
	}
	return l, writers.Holder{}, nil
}

// Look sees who holds the nodes' locks.
func (s *Site) Look(ctx context.Context, nodes []string) (map[string]writers.Seen, error) {
	locks, marks := s.key("locks", ""), s.key("marks", "locks", "")
	resp, err := s.do(ctx, nil, []clientv3.Op{clientv3.OpGet(locks, clientv3.WithPrefix()), clientv3.OpGet(marks, clientv3.WithPrefix())}, nil)
	if err != nil {
		return nil, err
	}
	all := make(map[string]writers.Seen, len(nodes))
	for _, n := range nodes {
		all[n] = writers.Seen{}
	}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		if node := strings.TrimPrefix(string(kv.Key), marks); slices.Contains(nodes, node) {
			all[node] = writers.Seen{Mark: string(kv.Value)}
		}
	}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		node := strings.TrimPrefix(string(kv.Key), locks)
		seen, asked := all[node]
		if !asked {
			continue
		}
		var r record
		_ = json.Unmarshal(kv.Value, &r) // a holder that does not say who it is is one
		seen.Holder = &r.Holder
		all[node] = seen
	}
	return all, nil
}

// A held is a lock of this process.
type held struct {
	site       *Site
	life       *lease
	key, value string
	before     string // the mark of the holder before
}

func (l *held) Lost() <-chan struct{} { return l.life.lost }

func (l *held) mine() []clientv3.Cmp {
	return []clientv3.Cmp{clientv3.Compare(clientv3.Value(l.key), "=", l.value)}
}

// Check asks etcd: a process that was held up may not know that time has passed.
func (l *held) Check(ctx context.Context) error {
	resp, err := l.site.do(ctx, l.mine(), nil, nil)
	if err != nil {
		return err
	}
	if !resp.Succeeded {
		return &bmc.Error{
			Op: "hold the lock of the node", Kind: bmc.KindCancelled, Err: errors.New("it went to another writer, or may"),
			Hint: "see whether this machine or the network stood still; the next run goes on from what it finds",
		}
	}
	return nil
}

func (l *held) Fresh(seen writers.Seen) bool { return seen.Holder == nil && seen.Mark == l.before }

// Unlock gives the lock back. One that is not given back ends with the lease.
func (l *held) Unlock() error {
	_, err := l.site.do(context.Background(), l.mine(), []clientv3.Op{clientv3.OpDelete(l.key)}, nil)
	if err != nil {
		l.site.giveBack(l.life, l.key, l.value)
	}
	return err
}

// giveBack removes the key as soon as etcd can be asked; at the latest it ends
// with the lease.
func (s *Site) giveBack(life *lease, key, value string) {
	go func() {
		tick := time.NewTicker(s.Lease / 10)
		defer tick.Stop()
		for {
			_, err := s.do(context.Background(), []clientv3.Cmp{clientv3.Compare(clientv3.Value(key), "=", value)}, []clientv3.Op{clientv3.OpDelete(key)}, nil)
			if err == nil {
				return
			}
			select {
			case <-life.lost:
				return
			case <-tick.C:
			}
		}
	}()
}

// All are the notes of the kind.
func (s *Site) All(ctx context.Context, k writers.Kind) (map[string][]byte, error) {
	prefix := s.key("notes", string(k), "")
	resp, err := s.do(ctx, nil, []clientv3.Op{clientv3.OpGet(prefix, clientv3.WithPrefix())}, nil)
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		all[strings.TrimPrefix(string(kv.Key), prefix)] = kv.Value
	}
	return all, nil
}

// Get is the node's note.
func (s *Site) Get(ctx context.Context, k writers.Kind, node string) ([]byte, error) {
	resp, err := s.do(ctx, nil, []clientv3.Op{clientv3.OpGet(s.key("notes", string(k), node))}, nil)
	if err != nil {
		return nil, err
	}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0].Value, nil
	}
	return nil, nil
}

// Put writes the note.
func (s *Site) Put(ctx context.Context, k writers.Kind, node string, note []byte) error {
	_, err := s.do(ctx, nil, []clientv3.Op{clientv3.OpPut(s.key("notes", string(k), node), string(note))}, nil)
	return err
}

// Remove removes the note.
func (s *Site) Remove(ctx context.Context, k writers.Kind, node string) error {
	_, err := s.do(ctx, nil, []clientv3.Op{clientv3.OpDelete(s.key("notes", string(k), node))}, nil)
	return err
}

// Join makes this process one of those that watch the site, as long as its lease
// lives, and returns all of them.
func (s *Site) Join(ctx context.Context) (me string, all []string, err error) {
	life, err := s.alive(ctx)
	if err != nil {
		return "", nil, err
	}
	me = fmt.Sprintf("%s.%x", cmp.Or(s.Me.Host, "host"), int64(life.session.Lease()))
	prefix := s.key("watchers", "")
	resp, err := s.do(ctx, nil, []clientv3.Op{
		clientv3.OpPut(prefix+me, "", clientv3.WithLease(life.session.Lease())), clientv3.OpGet(prefix, clientv3.WithPrefix()),
	}, nil)
	if err != nil {
		return "", nil, err
	}
	for _, kv := range resp.Responses[1].GetResponseRange().GetKvs() {
		all = append(all, strings.TrimPrefix(string(kv.Key), prefix))
	}
	return me, all, nil
}

// Changes tells, until Close, when a watcher has come or gone.
func (s *Site) Changes(changed func()) {
	for resp := range s.client.Watch(context.Background(), s.key("watchers", ""), clientv3.WithPrefix()) {
		if slices.ContainsFunc(resp.Events, func(e *clientv3.Event) bool { return e.IsCreate() || e.Type == clientv3.EventTypeDelete }) {
			changed()
		}
	}
}

// Place takes one of so many places among the nodes that may be down, nil while
// there is none.
func (s *Site) Place(ctx context.Context, places int) (writers.Lock, error) {
	for i := range places {
		l, _, err := s.try(ctx, "places", fmt.Sprint(i))
		if err != nil {
			return nil, err
		}
		if l != nil {
			return l, nil
		}
	}
	return nil, nil
}

// Owner is the one of the watchers to whom the node belongs; "" if there is none.
func Owner(node string, watchers []string) string {
	var best string
	var most [sha256.Size]byte
	for _, w := range watchers {
		rank := sha256.Sum256([]byte(w + "\x00" + node))
		if best == "" || slices.Compare(rank[:], most[:]) > 0 {
			best, most = w, rank
		}
	}
	return best
}
