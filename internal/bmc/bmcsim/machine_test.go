package bmcsim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

// diary is a host that writes down what happens to it. It shuts down when
// willing.
type diary struct {
	mu      sync.Mutex
	lines   []string
	willing bool
	off     func()
}

func (d *diary) write(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) Start(b bmcsim.Boot) { d.write("start " + b.Image) }

func (d *diary) Shutdown(off func()) {
	d.write("shutdown")
	d.mu.Lock()
	d.off = off
	willing := d.willing
	d.mu.Unlock()
	if willing {
		off()
	}
}

func (d *diary) Stop() { d.write("stop") }

func (d *diary) read() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}

// minutes are real machines' times, which cost nothing in a synctest bubble.
var minutes = bmcsim.Timing{
	Post: 4 * time.Minute, Shutdown: 10 * time.Second, MediaTask: 15 * time.Second,
	MediaLag: time.Minute, EjectLag: time.Minute, PowerLag: 5 * time.Second, Settle: 3 * time.Minute,
}

// bubble runs a test on fake time with a machine of its own.
func bubble(t *testing.T, c bmcsim.Config, test func(t *testing.T, m *bmcsim.Machine, d *diary)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &diary{willing: true}
		if c.Host == nil {
			c.Host = d
		}
		c.Timing = minutes
		m := bmcsim.New(c)
		defer m.Close()
		synctest.Wait()
		test(t, m, d)
	})
}

// after lets time pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func diaryIs(t *testing.T, d *diary, want ...string) {
	t.Helper()
	if got := d.read(); !slices.Equal(got, want) {
		t.Errorf("the host saw %q, want %q", got, want)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBoot follows one whole boot of the virtual CD and the one after it.
func TestBoot(t *testing.T) {
	bubble(t, bmcsim.Config{InitialPower: bmc.PowerOff}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		c := m.Client()
		ok(t, c.InsertMedia(t.Context(), image))
		ok(t, c.SetBootOnce(t.Context()))
		phase(t, c, bmc.PhaseOff)
		ok(t, c.Reset(t.Context(), bmc.PowerUp))
		phase(t, c, bmc.PhasePost)
		after(4*time.Minute - time.Second)
		phase(t, c, bmc.PhasePost)
		if o := m.Override(); o.Enabled != "Once" {
			t.Errorf("the override is spent before POST ends: %+v", o)
		}
		after(time.Second)
		phase(t, c, bmc.PhaseOS)
		if o := m.Override(); o.Enabled != "Disabled" {
			t.Errorf("the override is not spent: %+v", o)
		}
		if b, running := m.Booted(); !running || b.Image != image {
			t.Errorf("it runs %+v, %v", b, running)
		}
		ok(t, c.Reset(t.Context(), bmc.Restart))
		after(4 * time.Minute)
		diaryIs(t, d, "start "+image, "stop", "start ")
		if s := m.Stats(); s.Boots != 2 || s.MediaBoots != 1 || s.PowerCycles != 1 {
			t.Errorf("stats %+v", s)
		}
		ok(t, c.Close(t.Context()))
	})
}

func phase(t *testing.T, c bmc.Client, want bmc.Phase) {
	t.Helper()
	s, err := c.Observe(t.Context())
	ok(t, err)
	if s.Phase != want {
		t.Errorf("phase %q, want %q", s.Phase, want)
	}
}

func TestPhaseIsUntold(t *testing.T) {
	bubble(t, bmcsim.Config{Kind: bmcsim.Gigabyte}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		phase(t, m.Client(), bmc.PhaseUnknown)
	})
}

func TestGracefulShutdown(t *testing.T) {
	t.Run("obeyed", func(t *testing.T) {
		bubble(t, bmcsim.Config{}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
			ok(t, m.Client().Reset(t.Context(), bmc.GracefulShutdown))
			after(9 * time.Second)
			powerIs(t, m, bmc.PowerOn)
			after(2 * time.Second)
			powerIs(t, m, bmc.PowerOff)
			diaryIs(t, d, "start ", "shutdown")
			if s := m.Stats(); s.Shutdowns != 1 || s.PowerCycles != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	})
	t.Run("not obeyed", func(t *testing.T) {
		d := &diary{}
		bubble(t, bmcsim.Config{Host: d}, func(t *testing.T, m *bmcsim.Machine, _ *diary) {
			ok(t, m.Client().Reset(t.Context(), bmc.GracefulShutdown))
			after(time.Hour)
			powerIs(t, m, bmc.PowerOn)
			ok(t, m.Client().Reset(t.Context(), bmc.ForceOff))
			synctest.Wait()
			powerIs(t, m, bmc.PowerOff)
			diaryIs(t, d, "start ", "shutdown", "stop")
			ok(t, m.Client().Reset(t.Context(), bmc.PowerUp))
			d.off() // too late: that was another life
			after(5 * time.Minute)
			powerIs(t, m, bmc.PowerOn)
		})
	})
	t.Run("in post", func(t *testing.T) {
		bubble(t, bmcsim.Config{InitialPower: bmc.PowerOff}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
			m.SetPower(bmc.PowerOn)
			ok(t, m.Client().Reset(t.Context(), bmc.GracefulShutdown))
			after(time.Hour)
			powerIs(t, m, bmc.PowerOn)
			diaryIs(t, d, "start ")
		})
	})
}

func powerIs(t *testing.T, m *bmcsim.Machine, want bmc.Power) {
	t.Helper()
	if got := m.Power(); got != want {
		t.Errorf("power %s, want %s", got, want)
	}
}

// TestResetDuringPost: the boot that was under way does not happen, and the
// override is there for the next.
func TestResetDuringPost(t *testing.T) {
	bubble(t, bmcsim.Config{InitialPower: bmc.PowerOff, Running: bmcsim.Boot{Image: image}}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		c := m.Client()
		ok(t, c.SetBootOnce(t.Context()))
		ok(t, c.Reset(t.Context(), bmc.PowerUp))
		after(3 * time.Minute)
		ok(t, c.Reset(t.Context(), bmc.Restart))
		after(3 * time.Minute)
		if n := m.Stats().Boots; n != 0 {
			t.Errorf("%d boots", n)
		}
		after(time.Minute)
		diaryIs(t, d, "stop", "start "+image)
		ok(t, c.Close(t.Context()))
	})
}

// TestSettle is AMI's loss of a CD that had no time to settle (vendors.md 3.2,
// item 6).
func TestSettle(t *testing.T) {
	for wait, want := range map[time.Duration]bmc.ImageState{time.Minute: bmc.ImageStale, 4 * time.Minute: bmc.ImageMatch} {
		b := bmcsim.Behaviour{DetachAtPowerOn: true, Echo: bmcsim.EchoDoubled}
		c := bmcsim.Config{Kind: bmcsim.Gigabyte, InitialPower: bmc.PowerOff, Behaviour: b}
		bubble(t, c, func(t *testing.T, m *bmcsim.Machine, d *diary) {
			c := m.Client()
			ok(t, c.InsertMedia(t.Context(), image))
			after(wait)
			ok(t, c.Reset(t.Context(), bmc.PowerUp))
			s, err := c.Observe(t.Context())
			ok(t, err)
			if got := s.Media.Compare(image); got != want {
				t.Errorf("after %v: %s, want %s: %+v", wait, got, want, s.Media)
			}
			ok(t, c.Close(t.Context()))
		})
	}
}

// TestFetch: the BMC reads an image when it mounts it and when the host boots
// it.
func TestFetch(t *testing.T) {
	var fetched []string
	broken := map[int]bool{}
	fetch := func(_ context.Context, url string) error {
		fetched = append(fetched, url)
		if broken[len(fetched)] {
			return errors.New("connection refused")
		}
		return nil
	}
	bubble(t, bmcsim.Config{Fetch: fetch}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		c := m.Client()
		broken[1] = true
		if err := c.InsertMedia(t.Context(), image); bmc.KindOf(err) != bmc.KindURL || m.Mounted() != "" {
			t.Errorf("an image that cannot be read: %v, mounted %q", err, m.Mounted())
		}
		ok(t, c.InsertMedia(t.Context(), image))
		ok(t, c.SetBootOnce(t.Context()))
		ok(t, c.Reset(t.Context(), bmc.Restart))
		after(4 * time.Minute)
		ok(t, c.SetBootOnce(t.Context()))
		broken[4] = true
		ok(t, c.Reset(t.Context(), bmc.Restart))
		after(4 * time.Minute)
		diaryIs(t, d, "start ", "stop", "start "+image, "stop", "start ")
		if len(fetched) != 4 {
			t.Errorf("fetched %q", fetched)
		}
		ok(t, c.Close(t.Context()))
	})
}

// TestBMCRestart: what the BMC forgets and what it keeps.
func TestBMCRestart(t *testing.T) {
	c := bmcsim.Config{Running: bmcsim.Boot{Image: image}}
	bubble(t, c, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		c := m.Client()
		ok(t, c.SetBootOnce(t.Context()))
		m.RestartBMC()
		_, err := c.Observe(t.Context())
		if bmc.KindOf(err) != bmc.KindUnreachable {
			t.Errorf("got %v", err)
		}
		after(time.Minute)
		s, err := c.Observe(t.Context())
		ok(t, err)
		if s.Media.Compare(image) != bmc.ImageMatch || m.Stats().Sessions != 0 {
			t.Errorf("got %+v, %+v", s, m.Stats())
		}
		diaryIs(t, d, "start "+image)
	})
}

// TestRequestsOfTheMemoryClient: they read like those of one that uses HTTP.
func TestRequestsOfTheMemoryClient(t *testing.T) {
	bubble(t, bmcsim.Config{}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		c := m.Client()
		ok(t, c.InsertMedia(t.Context(), image))
		if err := c.InsertMedia(t.Context(), image); bmc.KindOf(err) != bmc.KindMedia {
			t.Errorf("got %v", err)
		}
		want := []bmcsim.Request{
			{Method: "POST", Path: "/redfish/v1" + iloInsert, Status: 200, Auth: "session"},
			{Method: "POST", Path: "/redfish/v1" + iloInsert, Status: 400, Auth: "session"},
		}
		if got := m.Requests(); !slices.Equal(got, want) {
			t.Errorf("got %+v", got)
		}
		m.ForgetRequests()
		if got := m.Requests(); len(got) != 0 {
			t.Errorf("got %+v", got)
		}
		ok(t, c.Close(t.Context()))
	})
}

// TestHostEndsItself: a host that goes off or resets the machine unasked, which
// is not a power cycle that somebody inflicted on it.
func TestHostEndsItself(t *testing.T) {
	bubble(t, bmcsim.Config{}, func(t *testing.T, m *bmcsim.Machine, d *diary) {
		m.HostReset()
		if p := m.Phase(); p != bmc.PhasePost || m.Power() != bmc.PowerOn {
			t.Errorf("after its reset the machine is %s in phase %s", m.Power(), p)
		}
		m.HostReset() // in POST no host runs that could
		m.HostWentOff()
		after(4 * time.Minute)
		diaryIs(t, d, "start ", "start ")
		m.HostWentOff()
		m.HostReset()
		after(4 * time.Minute)
		diaryIs(t, d, "start ", "start ")
		if s := m.Stats(); m.Power() != bmc.PowerOff || s.PowerCycles != 0 || s.Boots != 1 {
			t.Errorf("at last it is %s, %+v", m.Power(), s)
		}
	})
}

// driver is a diary that sees its drive.
type driver struct{ diary }

func (d *driver) Drive(image string) { d.write("drive " + image) }

func TestHostSeesItsDrive(t *testing.T) {
	h := &driver{}
	bubble(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Host: h}, func(t *testing.T, m *bmcsim.Machine, _ *diary) {
		c := m.Client()
		ok(t, c.InsertMedia(t.Context(), image))
		ok(t, c.EjectMedia(t.Context()))
		m.SetMounted(image)
		m.Detach()
		m.SetMounted(image)
		m.SetRemoteMedia(false) // as at the start of a simulation: nothing is taken out
		m.SetPower(bmc.PowerOff)
		m.SetMounted("") // off: the next boot looks by itself
		synctest.Wait()
		diaryIs(t, &h.diary, "start ", "drive "+image, "drive ", "drive "+image, "drive ", "drive "+image, "stop")
	})
}

// TestRaces has everybody at one machine at once: it has to survive, and to end
// in a state that makes sense.
func TestRaces(t *testing.T) {
	b := open(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{
		InsertTask: bmcsim.TaskLocation, EjectLags: true, PowerLags: true, DetachAtPowerOn: true,
	}, Timing: bmcsim.Timing{Post: time.Millisecond, MediaTask: time.Millisecond, EnableDelay: -1, Shutdown: -1, BMCRestart: -1}})
	const reset = amiSystem + "/Actions/ComputerSystem.Reset"
	turns := []func(int){
		func(int) { b.get(amiSystem) },
		func(int) { b.get(amiSlot) },
		func(int) { b.post(amiInsert, insertBody) },
		func(int) { b.post(amiEject, "{}") },
		func(int) { b.patch(amiSystem, fullArmBody) },
		func(i int) {
			b.post(reset, fmt.Sprintf(`{"ResetType":%q}`, []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}[i%4]))
		},
		func(i int) { b.m.SetRemoteMedia(i%3 != 0) },
		func(i int) { b.m.SetMounted([]string{"", image}[i%2]) },
		func(i int) { b.m.Faults(bmcsim.Fault{Nth: 3, Do: bmcsim.Do{What: bmcsim.DoHalfBody}}) },
		func(i int) {
			b.m.SetBehaviour(bmcsim.Behaviour{InsertTask: bmcsim.TaskInBody, TrailingSlash: i%2 == 0})
		},
		func(int) { b.m.RestartBMC() },
		func(int) { b.m.Stats(); b.m.Requests(); b.m.Booted() },
	}
	var wg sync.WaitGroup
	for _, turn := range turns {
		wg.Go(func() {
			for i := range 30 {
				turn(i)
			}
		})
	}
	wg.Wait()
	b.m.SetBehaviour(bmcsim.Behaviour{})
	b.m.Faults()
	b.m.SetRemoteMedia(true)
	b.m.SetPower(bmc.PowerOff)
	b.m.SetMounted(image)
	before := b.m.Stats().MediaBoots
	b.ok(b.patch(amiSystem, fullArmBody))
	b.ok(b.post(reset, `{"ResetType":"On"}`))
	eventually(t, "the CD boots", func() bool { return b.m.Stats().MediaBoots == before+1 })
}

// TestCloseEndsWhatIsUnderWay: a hanging request and a running fetch do not keep
// Close waiting, and nobody is answered afterwards.
func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	fetching := make(chan struct{})
	m := bmcsim.New(bmcsim.Config{Fetch: func(ctx context.Context, _ string) error {
		close(fetching)
		<-ctx.Done()
		return ctx.Err()
	}})
	done := make(chan error)
	go func() { done <- m.Client().InsertMedia(context.Background(), image) }()
	<-fetching
	m.Close()
	if err := <-done; err == nil {
		t.Error("the insert ended well")
	}
	if _, err := m.Client().Observe(t.Context()); bmc.KindOf(err) != bmc.KindUnreachable {
		t.Errorf("a closed machine answered: %v", err)
	}
	m.Close()
}

func TestUnsupportedInMemory(t *testing.T) {
	for _, k := range []bmcsim.Kind{bmcsim.CrayEX, bmcsim.OpenBMCStock} {
		m := bmcsim.New(bmcsim.Config{Kind: k})
		t.Cleanup(m.Close)
		st, err := m.Client().Observe(t.Context())
		if why := st.CannotMount; err != nil || st.Media.Access != bmc.AccessNone || why.Kind != bmc.KindUnsupported || why.Hint == "" {
			t.Errorf("%s: %+v, %v", k, st, err)
		}
	}
}
