package redfish_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/plan"
)

// captures is where trees of real BMCs lie; they are not part of the repository.
// TREES names a directory with more of them.
const captures = "../../../../shared/captures"

// capture serves the tree of a real BMC, as far as it was captured, and lists
// what was asked.
type capture struct {
	dir   string
	mu    sync.Mutex
	asked []string
}

func openCapture(t *testing.T, name string) *capture {
	t.Helper()
	dir := filepath.Join(captures, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the captured tree %s is not here", name)
	}
	return &capture{dir: dir}
}

func (c *capture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.asked = append(c.asked, r.Method+" "+r.URL.Path)
	c.mu.Unlock()
	path := strings.Trim(r.URL.Path, "/")
	// Some trees begin at /redfish/v1.
	for _, p := range []string{path, strings.Trim(strings.TrimPrefix(path, "redfish/v1"), "/")} {
		body, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(p), "index.json"))
		if err == nil && r.Method == http.MethodGet {
			w.Header().Set("Content-Type", "application/json")
			w.Write(body)
			return
		}
	}
	http.NotFound(w, r)
}

func TestCapturesObserved(t *testing.T) {
	for _, c := range []struct {
		name  string
		want  bmc.State
		asked []string
	}{
		{
			"hpe-ilo5-dl325",
			bmc.State{
				ID: bmc.Identity{
					Vendor: "HPE", Product: "iLO 5", Model: "ProLiant DL325 Gen10 Plus", Firmware: "2.46",
					Profile: "hpe-ilo5", System: "/redfish/v1/Systems/1",
				},
				Power: bmc.PowerOn, Phase: bmc.PhaseOS,
				Media:  bmc.Media{Slot: "2"},
				Boot:   bmc.BootOverride{Target: "None", Enabled: "Disabled", Mode: "UEFI"},
				Resets: []bmc.ResetKind{bmc.GracefulShutdown, bmc.ForceOff, bmc.PowerUp, bmc.Restart},
			},
			[]string{
				"GET /redfish/v1/", "GET /redfish/v1/Systems", "GET /redfish/v1/Systems/1", "GET /redfish/v1/Managers/1",
				"GET /redfish/v1/Managers/1/VirtualMedia", "GET /redfish/v1/Managers/1/VirtualMedia/2",
			},
		},
		{
			"gigabyte-h262-ami",
			bmc.State{
				ID: bmc.Identity{
					Vendor: "GIGABYTE", Product: "AMI Redfish Server", Model: "H262-Z63-00", Firmware: "12.84.13",
					Profile: "ami-megarac-12", System: "/redfish/v1/Systems/Self",
				},
				Power:  bmc.PowerOn,
				Media:  bmc.Media{Slot: "CD1"},
				Boot:   bmc.BootOverride{Target: "None", Enabled: "Disabled", Mode: "Legacy"},
				Resets: []bmc.ResetKind{bmc.GracefulShutdown, bmc.ForceOff, bmc.PowerUp, bmc.Restart},
			},
			[]string{
				"GET /redfish/v1/", "GET /redfish/v1/Systems", "GET /redfish/v1/Systems/Self", "GET /redfish/v1/Managers/Self",
				"GET /redfish/v1/Systems/Self/ResetActionInfo",
				"GET /redfish/v1/Managers/Self/VirtualMedia", "GET /redfish/v1/Managers/Self/VirtualMedia/CD1",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := openCapture(t, c.name)
			s := serve(t, tree)
			got := observe(t, open(t, s.config(t)))
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			if !reflect.DeepEqual(tree.asked, c.asked) {
				t.Errorf("asked %q\nwant  %q", tree.asked, c.asked)
			}
		})
	}
}

func TestCapturesUnsupported(t *testing.T) {
	for _, c := range []struct{ name, system, why string }{
		{"cray-ex425", "Node0", "a Cray EX node card has no virtual media and no boot override: neither Systems/Node0 nor Managers/BMC links a VirtualMedia collection"},
		{"openbmc-stock", "", "the BMC has no virtual media: neither Systems/system nor Managers/bmc links a VirtualMedia collection; its firmware was built without"},
	} {
		t.Run(c.name+" "+c.system, func(t *testing.T) {
			s := serve(t, openCapture(t, c.name))
			conf := s.config(t)
			conf.System = c.system
			wantNoMedia(t, observe(t, open(t, conf)), bmc.KindUnsupported, c.why)
		})
	}
	s := serve(t, openCapture(t, "cray-ex425"))
	_, err := open(t, s.config(t)).Observe(t.Context())
	wantError(t, err, bmc.KindUnsupported, "neither Systems/Node0, Systems/Node1 nor Managers/BMC links a VirtualMedia collection")
}

// TestCapturesPlanned plans a boot on each captured machine.
func TestCapturesPlanned(t *testing.T) {
	const secure = "https://10.1.1.1/iso/pit.iso"
	boot := []string{"power-off", "insert-media", "set-boot-once", "power-on", "await-boot"}
	for _, c := range []struct {
		name, system, image string
		steps               []string
		kind                bmc.Kind
		says                string
	}{
		{"hpe-ilo5-dl325", "", image, boot, "", ""},
		{"hpe-ilo5-dl325", "", secure, boot, "", ""},
		{"hpe-ilo5-dl325", "", "http://10.1.1.1/iso/a,b.iso", nil, bmc.KindURL, `has a "," in its path`},
		{"gigabyte-h262-ami", "", image, boot, "", ""},
		{"gigabyte-h262-ami", "", secure, nil, bmc.KindURL, "mounts by http only"},
		{"gigabyte-h262-ami", "", "http://10.1.1.1:8080/iso/pit.iso", nil, bmc.KindURL, "port 80 only"},
		{"gigabyte-h262-ami", "", "http://10.1.1.1/pit.iso", nil, bmc.KindURL, "server's root"},
		{"cray-ex425", "Node1", image, nil, bmc.KindUnsupported, "a Cray EX node card has no virtual media"},
		{"openbmc-stock", "", secure, nil, bmc.KindUnsupported, "built without virtual media"},
	} {
		t.Run(c.name+" "+c.image, func(t *testing.T) {
			conf := serve(t, openCapture(t, c.name)).config(t)
			conf.System = c.system
			np := planOf(t, observe(t, open(t, conf)), c.image)
			if c.kind != "" {
				if np.Err == nil || np.Err.Kind != c.kind || !strings.Contains(np.Err.Error(), c.says) || np.Err.Hint == "" {
					t.Errorf("%s, %v, want %s: %s", np.State, np.Err, c.kind, c.says)
				}
				return
			}
			if got := stepsOf(np); !slices.Equal(got, c.steps) {
				t.Errorf("%s %q (%v), want %q", np.State, got, np.Err, c.steps)
			}
		})
	}
}

// TestTrees looks at every tree there is, these and those of TREES: each ends in
// a plan or in a reason with what to do, after reads only and not many.
func TestTrees(t *testing.T) {
	for _, dir := range []string{captures, os.Getenv("TREES")} {
		all, err := os.ReadDir(dir)
		if err != nil {
			t.Logf("there are no trees in %q", dir)
			continue
		}
		for _, e := range all {
			if e.IsDir() {
				t.Run(e.Name(), func(t *testing.T) { lookAt(t, &capture{dir: filepath.Join(dir, e.Name())}) })
			}
		}
	}
}

func lookAt(t *testing.T, tree *capture) {
	t.Helper()
	st, err := open(t, serve(t, tree).config(t)).Observe(t.Context())
	if err != nil {
		e := wantError(t, err, bmc.KindOf(err))
		t.Logf("%s: %v (%s)", e.Kind, e, e.Hint)
	} else {
		t.Logf("%s: row %s, system %s, firmware %s, slot %q, power %s %s, boot %+v", st.ID.Model, st.ID.Profile, st.ID.System, st.ID.Firmware, st.Media.Slot, st.Power, st.Phase, st.Boot)
		for _, image := range []string{image, "https" + strings.TrimPrefix(image, "http")} {
			np := planOf(t, st, image)
			t.Logf("%s: %s %q %v", image, np.State, stepsOf(np), np.Err)
			if len(np.Steps) == 0 && np.State != plan.InSync && (np.Err == nil || np.Err.Hint == "") {
				t.Errorf("%s: %s, and %v", image, np.State, np.Err)
			}
		}
	}
	if n := len(tree.asked); n > 40 {
		t.Errorf("asked %d times", n)
	}
	for _, a := range tree.asked {
		if !strings.HasPrefix(a, "GET ") {
			t.Errorf("a look sent %s", a)
		}
	}
}
