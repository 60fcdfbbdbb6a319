package redfish_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// TestLicences has every family lack the licence that mounting takes. Some say so
// before anything is tried, others when they refuse the insert; each way it is
// told as a matter of the licence, with what to do.
func TestLicences(t *testing.T) {
	t.Parallel()
	before := 0
	for _, e := range families() {
		t.Run(string(e.kind), func(t *testing.T) {
			e.b.NoLicence = true
			m, _, h := bare(t, e)
			cl := open(t, serve(t, m.Handler()).config(t))
			st := observe(t, cl)
			if !st.CannotMount.None() {
				before++
				if st.CannotMount.Kind != bmc.KindLicence || st.CannotMount.Hint == "" {
					t.Errorf("the BMC is read as %+v", st.CannotMount)
				}
				if np := planOf(t, st, h.Images[0]); np.Err == nil || np.Err.Kind != bmc.KindLicence || len(np.Steps) > 0 {
					t.Errorf("the plan is %s %q, %v", np.State, stepsOf(np), np.Err)
				}
				return
			}
			wantError(t, cl.InsertMedia(t.Context(), h.Images[0]), bmc.KindLicence)
			if got := m.Mounted(); got != "" {
				t.Errorf("%s is in the drive", got)
			}
		})
	}
	if before < 4 {
		t.Errorf("%d families say beforehand that a licence is missing", before)
	}
}

// TestSecondResetEjects: what iLO boots by the flag of its slot it ejects at the
// reset after that. The drive is seen empty then, and can be filled again.
func TestSecondResetEjects(t *testing.T) {
	m, _, h := bare(t, entry{kind: bmcsim.ILO4})
	conf := serve(t, m.Handler()).config(t)
	conf.Clock = hastyClock{time.Now()}
	cl := open(t, conf)
	observe(t, cl)
	must(t, cl.InsertMedia(t.Context(), h.Images[0]))
	must(t, cl.SetBootOnce(t.Context()))
	for want := 1; want <= 2; want++ {
		must(t, cl.Reset(t.Context(), bmc.Restart))
		for deadline := time.Now().Add(10 * time.Second); len(h.Boots()) < want; {
			if time.Now().After(deadline) {
				t.Fatal("it did not come up")
			}
			<-time.After(time.Millisecond)
		}
		mounted := m.Mounted() == h.Images[0]
		if mounted != (want == 1) {
			t.Errorf("after reset %d the drive holds %q", want, m.Mounted())
		}
	}
	boots := h.Boots()
	if len(boots) != 2 || boots[0] != h.Images[0] || boots[1] != "" {
		t.Errorf("it booted %q", boots)
	}
	if st := observe(t, cl); st.Media.Compare("") != bmc.ImageEmpty || st.Boot.Armed([]string{"Cd"}) {
		t.Errorf("media %+v, boot %+v", st.Media, st.Boot)
	}
	must(t, cl.InsertMedia(t.Context(), h.Images[1]))
}

// TestRecordedOnly: a Supermicro may take an image and connect none, which then
// boots nothing. It is not taken for mounted.
func TestRecordedOnly(t *testing.T) {
	m, _, h := bare(t, entry{kind: bmcsim.Supermicro, b: bmcsim.Behaviour{NeverAttaches: true}})
	conf := serve(t, m.Handler()).config(t)
	conf.Clock = hastyClock{time.Now()}
	cl := open(t, conf)
	observe(t, cl)
	must(t, cl.InsertMedia(t.Context(), h.Images[0]))
	if is := observe(t, cl).Media.Compare(h.Images[0]); is == bmc.ImageMatch || is == bmc.ImageUnnamed {
		t.Errorf("the drive counts as %v", is)
	}
}

// TestSessionOfEachRequest: an iLO that opens a session for each request with Basic
// soon has no more of them. In a session of its own a whole boot needs one.
func TestSessionOfEachRequest(t *testing.T) {
	limited := bmcsim.Behaviour{BasicOpensSession: true, SessionLimit: 4, SessionIdle: time.Hour}
	m, _, h := bare(t, entry{kind: bmcsim.ILO5, b: limited})
	conf := serve(t, m.Handler()).config(t)
	conf.Clock, conf.Auth = hastyClock{time.Now()}, bmc.AuthSession
	cl, err := redfish.Open(t.Context(), conf)
	must(t, err)
	for range 3 {
		observe(t, cl)
	}
	must(t, cl.InsertMedia(t.Context(), h.Images[0]))
	must(t, cl.SetBootOnce(t.Context()))
	must(t, cl.Close(t.Context()))
	if n := m.Stats().Sessions; n != 0 || m.Stats().Logins != 1 {
		t.Errorf("%d sessions are left, after %d logins", n, m.Stats().Logins)
	}

	limited.SessionLimit = 2
	m, _, _ = bare(t, entry{kind: bmcsim.ILO5, b: limited})
	conf = serve(t, m.Handler()).config(t)
	conf.Clock = hastyClock{time.Now()}
	_, err = open(t, conf).Observe(t.Context())
	wantError(t, err, bmc.KindBusy)
}

// TestAlwaysBusy: a BMC that answers nothing but 503 is busy, and has done nothing
// of what it was asked.
func TestAlwaysBusy(t *testing.T) {
	m, _, h := bare(t, entry{kind: bmcsim.Generic})
	conf := serve(t, m.Handler()).config(t)
	conf.Clock = hastyClock{time.Now()}
	cl := open(t, conf)
	observe(t, cl)
	m.SetBehaviour(bmcsim.Behaviour{Busy: true, RetryAfter: 1})
	_, err := cl.Observe(t.Context())
	wantError(t, err, bmc.KindBusy)
	wantError(t, cl.InsertMedia(t.Context(), h.Images[0]), bmc.KindBusy)
	wantError(t, cl.Reset(t.Context(), bmc.Restart), bmc.KindBusy)
	if got := m.Mounted(); got != "" || m.Stats().PowerCycles != 0 {
		t.Errorf("%q is mounted, after %d power cycles", got, m.Stats().PowerCycles)
	}
}

// elsewhere are the behaviours that no line of the matrix has, since a client cannot
// do all that the suite wants of it on such a machine, and what tries them.
var elsewhere = map[string]string{
	"BasicOpensSession": "a boot in one session, in `internal/bmc/redfish`: the suite counts sessions",
	"Busy":              "a look and a write, in `internal/bmc/redfish`: nothing else is answered",
	"CloseAfterAction":  "`misfortunes`, write by write, and a whole apply",
	"DetachAtPowerOn":   "a whole apply, which sees that the image is lost",
	"IgnoreShutdown":    "a whole apply, which switches off by force then",
	"NeverAttaches":     "an insert, in `internal/bmc/redfish`: nothing is ever mounted",
	"NoBasic":           "the logins of `internal/bmc/redfish`: reading alone opens a session",
	"NoLicence":         "each family, in `internal/bmc/redfish`: nothing is ever mounted",
	"TaskFails":         "a whole apply, which tells what the task said",
}

// TestEveryBehaviour: each thing that a simulated machine can do is walked by the
// matrix, or it is said what tries it.
func TestEveryBehaviour(t *testing.T) {
	walked := map[string]bool{}
	walk := func(b bmcsim.Behaviour) {
		v := reflect.ValueOf(b)
		for i := range v.NumField() {
			walked[v.Type().Field(i).Name] = walked[v.Type().Field(i).Name] || !v.Field(i).IsZero()
		}
	}
	for _, k := range bmcsim.Kinds() {
		walk(bmcsim.Always(k))
	}
	for _, e := range behaviours {
		walk(e.b)
	}
	for name, has := range walked {
		if _, said := elsewhere[name]; has == said {
			t.Errorf("%s: in the matrix %t, in the list of others %t", name, has, said)
		}
	}
	for name := range elsewhere {
		if _, known := walked[name]; !known {
			t.Errorf("there is no behaviour %s", name)
		}
	}
}
