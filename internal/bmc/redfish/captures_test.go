package redfish_test

import (
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// captures is where trees of real BMCs lie; they are not part of the repository.
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
	body, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(strings.Trim(r.URL.Path, "/")), "index.json"))
	if err != nil || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
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
