package redfish_test

import (
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
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
		for deadline := time.Now().Add(10 * time.Second); m.Phase() != bmc.PhaseOS; {
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
