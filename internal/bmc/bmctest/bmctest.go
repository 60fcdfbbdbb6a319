// Package bmctest is what every bmc.Client has to do, whatever it speaks and to
// whatever BMC: a conformance suite to run against each implementation and each
// behaviour of a BMC.
//
// It knows package bmc only. What it needs to see of the machine itself, past
// the client, comes through the probes of a Harness.
package bmctest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Harness is one machine that is powered on, runs from its disk, holds no
// media, and whose boot override is idle. Dial and the probes Power, Mounted,
// Boots and Sessions are needed; a case whose other fields are nil or empty is
// skipped.
type Harness struct {
	// Dial opens a client. The suite closes it.
	Dial func(t testing.TB) bmc.Client
	// Images are two URLs that the BMC can mount.
	Images [2]string

	Power    func() bmc.Power // the truth, which the BMC may lag behind
	Mounted  func() string    // the image that is truly in the slot, "" for none
	Boots    func() []string  // what was booted since the start: an image's URL, or "" for the disk
	Sessions func() int       // sessions open on the BMC

	SetMounted func(image string)    // puts an image in, as somebody else would
	SetPower   func(bmc.Power)       // presses the power button
	SetRemote  func(on bool)         // AMI's remote media; nil where there is none
	Hang       func(writesOnly bool) // from now on, the BMC takes requests and never answers
	Relent     func()                // ends that; it is called before a client is closed at a case's end
	Methods    func() []string       // the HTTP methods of all requests so far
	// Strike has the next write meet one of the Misfortunes, by its name.
	Strike      func(misfortune string)
	Misfortunes []Misfortune

	// BootsDisk is set when the machine is known to boot its disk although the
	// virtual CD is armed.
	BootsDisk bool
	// KeepsOverride is set when the one-time override is known to stay.
	KeepsOverride bool
	// KeepsName is set when the last image stays named for ever after an eject.
	KeepsName bool
	// ManySlots is set when which slot holds what others mount is not known before.
	ManySlots bool
	// EchoesNothing is set when an inserted image reads back without its name.
	EchoesNothing bool

	// Patience bounds each wait for the machine; 0 is 10 s. One case lasts a
	// twentieth of it.
	Patience time.Duration
}

// A Misfortune is something that may happen to a request.
type Misfortune struct {
	Name string
	// Acts: the request has done its work when it strikes.
	Acts bool
	// Passes: it is such that a client may send the request again.
	Passes bool
}

// A Result is how one case of the suite went.
type Result struct {
	Group, Case string
	Skipped     bool // the harness has no means for it
	Failed      bool
	// Parts counts, for a case that is tried in several ways, how often each way
	// was tried and how often it held.
	Parts map[string]Part
}

// A Part is one way in which a case was tried.
type Part struct{ Held, Tried int }

// Groups are the columns of a table of results, in order.
func Groups() []string {
	var out []string
	for _, c := range cases {
		if !slices.Contains(out, c.group) {
			out = append(out, c.group)
		}
	}
	return out
}

// Run runs the suite and tells how it went. open is called once for each case, and
// more often by those that need several machines; it gives a machine of its own,
// which it also cleans up.
func Run(t *testing.T, open func(t *testing.T) Harness) []Result {
	t.Helper()
	var results []Result
	for _, c := range cases {
		r := Result{Group: c.group, Case: c.name}
		t.Run(c.name, func(t *testing.T) {
			s := start(t, open)
			defer func() { r.Skipped, r.Failed, r.Parts = t.Skipped(), t.Failed(), s.parts }()
			if c.needs != nil && !c.needs(s.h) {
				t.Skip("the harness has no means for this")
			}
			c.run(s)
		})
		results = append(results, r)
	}
	return results
}

func start(t *testing.T, open func(t *testing.T) Harness) *suite {
	t.Helper()
	h := open(t)
	if h.Patience == 0 {
		h.Patience = 10 * time.Second
	}
	s := &suite{T: t, h: h, c: h.Dial(t), open: open}
	t.Cleanup(func() {
		if h.Relent != nil {
			h.Relent()
		}
		_ = s.c.Close(context.WithoutCancel(t.Context()))
	})
	return s
}

var cases = []struct {
	group, name string
	needs       func(Harness) bool
	run         func(*suite)
}{
	{"observe", "observe a fresh machine", nil, (*suite).observeFresh},
	{"observe", "observe sends reads only", func(h Harness) bool { return h.Methods != nil }, (*suite).observeReadsOnly},
	{"observe", "observe the media alone", func(h Harness) bool { return h.SetMounted != nil && !h.ManySlots }, (*suite).observeMedia},
	{"observe", "observe the system alone", func(h Harness) bool { return h.SetPower != nil }, (*suite).observeSystem},
	{"insert", "insert shows as a match", nil, (*suite).insertMatches},
	{"insert", "insert into a full drive is an error of kind media", nil, (*suite).insertFull},
	{"insert", "insert what others left is an error of kind media", func(h Harness) bool { return h.SetMounted != nil }, (*suite).insertOverOthers},
	{"eject", "eject empties the drive", nil, (*suite).eject},
	{"eject", "eject of an empty drive is no error", nil, (*suite).ejectEmpty},
	{"eject", "eject, then insert another", nil, (*suite).replace},
	{"arm", "arm the virtual CD", nil, (*suite).arm},
	{"arm", "arm twice", nil, (*suite).armTwice},
	{"arm", "what was armed is disarmed", nil, (*suite).disarm},
	{"power", "power off gracefully", nil, (*suite).powerOffGracefully},
	{"power", "power off by force", nil, (*suite).powerOffByForce},
	{"power", "power on", nil, (*suite).powerOn},
	{"boot", "a boot uses the virtual CD and spends the override", nil, (*suite).bootSpendsOverride},
	{"boot", "a boot that is not armed uses the disk", nil, (*suite).bootUnarmed},
	{"boot", "restart boots once", nil, (*suite).restart},
	{"enable", "enable media", func(h Harness) bool { return h.SetRemote != nil }, (*suite).enableMedia},
	{"sessions", "close leaves no session", nil, (*suite).closeLeavesNone},
	{"sessions", "close after cancellation leaves no session", nil, (*suite).closeAfterCancel},
	{"waits", "a context that has ended ends every call", nil, (*suite).endedContext},
	{"waits", "cancellation ends a call that waits", func(h Harness) bool { return h.Hang != nil }, (*suite).cancelWhileHanging},
	{"waits", "observe times out on a BMC that hangs", func(h Harness) bool { return h.Hang != nil }, (*suite).hangTimesOut},
	{"waits", "a write without an answer is uncertain", func(h Harness) bool { return h.Hang != nil }, (*suite).hangIsUncertain},
	{"misfortunes", "no write is repeated that may have acted, and none is lost", func(h Harness) bool { return h.Strike != nil }, (*suite).misfortunes},
}

type suite struct {
	*testing.T
	h    Harness
	c    bmc.Client
	open func(*testing.T) Harness

	parts map[string]Part
}

// armedTargets are those of Redfish's BootSource that may mean the virtual CD.
var armedTargets = []string{"Cd", "UsbCd", "UefiBootNext", "RemoteDrive"}

func (s *suite) observe() bmc.State {
	s.Helper()
	st, err := s.c.Observe(s.Context())
	s.ok("observe", err)
	return st
}

func (s *suite) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// kind checks that err is a *bmc.Error of a kind, with an operation.
func (s *suite) kind(what string, err error, want bmc.Kind) {
	s.Helper()
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok {
		s.Fatalf("%s: got %v (%T), want a *bmc.Error of kind %s", what, err, err, want)
	}
	if got := bmc.KindOf(err); got != want {
		s.Errorf("%s: kind %s, want %s (%v)", what, got, want, err)
	}
	if e.Op == "" {
		s.Errorf("%s: the error does not say what was being done: %v", what, err)
	}
}

// until observes until the state is as wanted.
func (s *suite) until(what string, want func(bmc.State) bool) {
	s.Helper()
	var last bmc.State
	s.wait(what, func() bool {
		last = s.observe()
		return want(last)
	}, func() any { return last })
}

// wait polls the machine until it is as wanted.
func (s *suite) wait(what string, done func() bool, state func() any) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), s.h.Patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.Fatalf("%s: not within %v; at last %+v", what, s.h.Patience, state())
		}
	}
}

func (s *suite) insert(image string) {
	s.Helper()
	s.ok("insert", s.c.InsertMedia(s.Context(), image))
	s.until("the image to show", func(st bmc.State) bool {
		switch got := st.Media.Compare(image); {
		case got == bmc.ImageMatch:
			return true
		case s.h.EchoesNothing:
			return got == bmc.ImageUnnamed
		}
		return false
	})
}

// empty waits until the drive shows itself empty. A name that stays is ejected once
// more (AMI).
func (s *suite) empty() {
	s.Helper()
	again := false
	s.until("the drive to be empty", func(st bmc.State) bool {
		is := st.Media.Compare("")
		if is == bmc.ImageStale && !again {
			again = true
			s.ok("eject the name", s.c.EjectMedia(s.Context()))
		}
		return is == bmc.ImageEmpty || is == bmc.ImageStale && s.h.KeepsName
	})
}

func (s *suite) reset(kind bmc.ResetKind) {
	s.Helper()
	s.ok("reset "+string(kind), s.c.Reset(s.Context(), kind))
}

func (s *suite) powered(want bmc.Power) {
	s.Helper()
	s.until("power "+string(want), func(st bmc.State) bool { return st.Power == want })
	if got := s.h.Power(); got != want {
		s.Errorf("the BMC says %s, and the machine is %s", want, got)
	}
}

func (s *suite) booted() []string {
	s.Helper()
	s.wait("a boot", func() bool { return len(s.h.Boots()) > 0 }, func() any { return s.h.Boots() })
	return s.h.Boots()
}

// read tells whether a method only reads.
func read(method string) bool { return method == http.MethodGet || method == http.MethodHead }
