package bmcsim_test

import (
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// boots is a host that obeys and remembers what it was started from, apart from
// the first time, which is before the test.
type boots struct {
	mu      sync.Mutex
	started bool
	images  []string
	stops   int
}

func (b *boots) Start(boot bmcsim.Boot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started {
		b.images = append(b.images, boot.Image)
	}
	b.started = true
}

func (b *boots) Shutdown(off func()) { off() }

func (b *boots) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stops++
}

func (b *boots) list() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.images)
}
