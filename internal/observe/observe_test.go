package observe_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/observe"
	"github.com/livecd-sync/livecd-sync/internal/plan"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// asked counts who was asked what.
type asked struct {
	sync.Mutex
	counts map[string]int
	now    int // BMCs being read
	most   int
}

func (a *asked) count(what string) {
	a.Lock()
	defer a.Unlock()
	a.counts[what]++
}

func (a *asked) enter(d int) {
	a.Lock()
	defer a.Unlock()
	a.now += d
	a.most = max(a.most, a.now)
}

var errDead = errors.New("no route")

// observer reads a site in which nodes named off* are switched off, dead* do
// not answer, hang* never do, and mute* have a BMC only.
func observer(a *asked) *observe.Observer {
	starts := func(name, with string) bool { return len(name) >= len(with) && name[:len(with)] == with }
	return &observe.Observer{
		BMC: func(ctx context.Context, n site.Node) (bmc.State, error) {
			a.count("bmc " + n.Name)
			a.enter(1)
			defer a.enter(-1)
			time.Sleep(time.Millisecond)
			switch {
			case starts(n.Name, "dead"):
				return bmc.State{}, errDead
			case starts(n.Name, "hang"):
				<-ctx.Done()
				return bmc.State{}, ctx.Err()
			case starts(n.Name, "off"):
				return bmc.State{Power: bmc.PowerOff}, nil
			}
			return bmc.State{Power: bmc.PowerOn, ID: bmc.Identity{Profile: "row"}}, nil
		},
		Host: func(_ context.Context, n site.Node) (plan.Host, error) {
			a.count("host " + n.Name)
			if starts(n.Name, "mute") {
				return nil, errDead
			}
			return plan.HostDisk{BootID: n.Name}, nil
		},
		Overlay: func(_ context.Context, _ *site.Site, n site.Node) plan.OverlayFacts {
			a.count("store " + n.Name)
			return plan.OverlayFacts{Latest: &plan.Backup{ID: "of-" + n.Name}}
		},
		Image: func(_ context.Context, img site.Image) (site.Volume, error) {
			a.count("image " + img.URL)
			return site.Volume{ID: img.URL}, nil
		},
		Profiles: map[string]bmc.Profile{"row": {Name: "row"}}, Clock: bmc.SystemClock{},
		Jobs: 3, Timeout: 200 * time.Millisecond,
	}
}

func theSite(names ...string) *site.Site {
	s := &site.Site{Images: map[string]site.Image{"a": {URL: "http://a"}, "unused": {URL: "http://unused"}}}
	for _, name := range names {
		s.Nodes = append(s.Nodes, site.Node{
			Name: name, Image: "a", SSH: &site.SSH{}, Overlay: &site.Overlay{Store: "s"},
		})
	}
	return s
}

func TestWhoIsAsked(t *testing.T) {
	a := &asked{counts: map[string]int{}}
	s := theSite("on", "off", "dead", "mute", "hang")
	bare := site.Node{Name: "bare", Image: site.NoImage}
	s.Nodes = append(s.Nodes, bare)
	begun := time.Now()
	o := observer(a).Run(t.Context(), s)
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("a BMC that hangs held everything up for %s", took)
	}
	if len(o.Nodes) != len(s.Nodes) {
		t.Fatalf("facts of %d nodes, want %d", len(o.Nodes), len(s.Nodes))
	}
	if f := o.Nodes["on"]; f.Err != nil || f.Host != (plan.HostDisk{BootID: "on"}) || f.Overlay.Latest.ID != "of-on" || f.Profile.Name != "row" {
		t.Errorf("on: %+v", f)
	}
	if h, ok := o.Nodes["off"].Host.(plan.HostSilent); !ok || h.Err == nil {
		t.Errorf("off: host %+v, want it silent, with the reason", o.Nodes["off"].Host)
	}
	if h, ok := o.Nodes["mute"].Host.(plan.HostSilent); !ok || !errors.Is(h.Err, errDead) {
		t.Errorf("mute: host %+v, want it silent, with the reason", o.Nodes["mute"].Host)
	}
	if f := o.Nodes["dead"]; !errors.Is(f.Err, errDead) {
		t.Errorf("dead: %+v", f)
	}
	if f := o.Nodes["hang"]; !errors.Is(f.Err, context.DeadlineExceeded) {
		t.Errorf("hang: %+v", f)
	}
	if o.Nodes["bare"].Host != (plan.HostUnknown{}) {
		t.Errorf("bare: host %+v, want it unknown", o.Nodes["bare"].Host)
	}
	for what, want := range map[string]int{
		"host on": 1, "host off": 0, "host dead": 0, "host hang": 0, "host mute": 1, "host bare": 0,
		"store on": 1, "store off": 1, "store dead": 0, "store bare": 0,
		"image http://a": 1, "image http://unused": 0,
	} {
		if got := a.counts[what]; got != want {
			t.Errorf("%s: asked %d times, want %d", what, got, want)
		}
	}
}

func TestJobsBoundWhatIsReadAtOnce(t *testing.T) {
	a := &asked{counts: map[string]int{}}
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("on%d", i))
	}
	o := observer(a).Run(t.Context(), theSite(names...))
	if len(o.Nodes) != 50 || a.most != 3 {
		t.Errorf("%d nodes read, %d at once; want 50, and never more than 3", len(o.Nodes), a.most)
	}
}
