package imageserver

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/media/isomap"
)

// Reads is what a node's BMC has read of an image since the node's last Begin,
// or since the server began.
type Reads struct {
	Node  string `json:"node"`
	Image string `json:"image"`
	// Size and Digest are the image's.
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
	// First and Last are when it asked first and when bytes were sent to it last, or
	// it asked last.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// From is the address that asked last.
	From     string `json:"from"`
	Requests int64  `json:"requests"`
	// Bytes were sent, those counted twice that were read twice.
	Bytes int64        `json:"bytes"`
	Read  isomap.Spans `json:"read"`
	// Rate is how many bytes a second were sent lately; 0 when it stopped.
	Rate float64 `json:"rate"`
}

// rateOver is over how many seconds a rate is told.
const rateOver = 10

// A tracker notes who reads what. Its methods are safe for concurrent use. It
// takes a bounded amount of memory for each node and image.
type tracker struct {
	mu   sync.Mutex
	read map[reader]*track
}

type reader struct{ node, digest string }

// A track is what one node's BMC has read of one image.
type track struct {
	Reads
	// sent are the bytes of each of the last seconds; newest is the second that was
	// counted last, as Unix time.
	sent   [rateOver + 1]int64
	newest int64
}

// note notes that bytes were sent; none for a request that has just come in.
func (t *tracker) note(r reader, img *image, from string, x isomap.Span, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.read[r]
	if k == nil {
		if t.read == nil {
			t.read = make(map[reader]*track)
		}
		k = &track{Reads: Reads{Node: r.node, Image: img.local.Name, Size: img.local.Size, Digest: r.digest, First: now}}
		t.read[r] = k
	}
	k.Last, k.From = now, from
	if x.To <= x.From {
		k.Requests++
		return
	}
	k.Read.Add(x.From, x.To)
	k.Bytes += x.To - x.From
	k.forget(now.Unix())
	k.sent[k.newest%int64(len(k.sent))] += x.To - x.From
}

// forget empties the seconds that have passed since something was counted.
func (k *track) forget(second int64) {
	for s := max(k.newest+1, second-int64(len(k.sent))+1); s <= second; s++ {
		k.sent[s%int64(len(k.sent))] = 0
	}
	k.newest = max(k.newest, second)
}

func (k *track) rate(now time.Time) float64 {
	k.forget(now.Unix())
	var n int64
	for _, s := range k.sent {
		n += s
	}
	seconds := min(now.Sub(k.First).Seconds(), rateOver)
	return float64(n) / max(seconds, 1)
}

// all returns what was read, by the nodes' names and then the images'.
func (t *tracker) all(now time.Time) []Reads {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Reads, 0, len(t.read))
	for _, k := range t.read {
		list = append(list, k.reads(now))
	}
	slices.SortFunc(list, func(a, b Reads) int {
		if c := strings.Compare(a.Node, b.Node); c != 0 {
			return c
		}
		return strings.Compare(a.Image, b.Image)
	})
	return list
}

func (k *track) reads(now time.Time) Reads {
	r := k.Reads
	r.Rate, r.Read = k.rate(now), slices.Clone(k.Read)
	return r
}

func (t *tracker) one(r reader, now time.Time) (Reads, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.read[r]
	if !ok {
		return Reads{}, false
	}
	return k.reads(now), true
}

// begin forgets what the node has read.
func (t *tracker) begin(node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.read {
		if r.node == node {
			delete(t.read, r)
		}
	}
}

// keep forgets all but what is still served.
func (t *tracker) keep(served func(reader) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.read {
		if !served(r) {
			delete(t.read, r)
		}
	}
}
