package redfish_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// reply is what a scripted BMC answers.
type reply struct {
	status int
	body   string
	header map[string]string
	drop   bool // close the connection instead
}

// script is a BMC of canned documents, for what no simulated machine does. A
// write is answered from a list, the last entry again and again.
type script struct {
	mu     sync.Mutex
	docs   map[string]string  // GETs, by path
	writes map[string][]reply // by "METHOD path"
	log    []string           // "METHOD path body", If-Match in front of the body
}

const (
	sysPath  = "/redfish/v1/Systems/1"
	slotPath = "/redfish/v1/Managers/1/VirtualMedia/CD"
)

// newScript is a plain BMC: one system, one manager, one slot, no sessions.
func newScript() *script {
	return &script{
		docs: map[string]string{
			"/redfish/v1/":                        `{"Systems":{"@odata.id":"/redfish/v1/Systems"},"Managers":{"@odata.id":"/redfish/v1/Managers"}}`,
			"/redfish/v1/Systems":                 members(sysPath),
			sysPath:                               system(`"PowerState":"Off"`),
			"/redfish/v1/Managers":                members("/redfish/v1/Managers/1"),
			"/redfish/v1/Managers/1":              `{"Model":"Anvil","FirmwareVersion":"v1.0","VirtualMedia":{"@odata.id":"/redfish/v1/Managers/1/VirtualMedia"}}`,
			"/redfish/v1/Managers/1/VirtualMedia": members(slotPath),
			slotPath:                              slot(`"Image":null,"Inserted":false`),
		},
		writes: map[string][]reply{},
	}
}

func members(uris ...string) string {
	var list []map[string]string
	for _, u := range uris {
		list = append(list, map[string]string{"@odata.id": u})
	}
	b, _ := json.Marshal(map[string]any{"Members": list})
	return string(b)
}

// system is a System's document with more fields.
func system(more string) string {
	return `{"Id":"1","Boot":{"BootSourceOverrideTarget":"None","BootSourceOverrideEnabled":"Disabled",` +
		`"BootSourceOverrideTarget@Redfish.AllowableValues":["None","Cd"]},` +
		`"Actions":{"#ComputerSystem.Reset":{"target":"` + sysPath + `/Reset"}},` +
		`"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/1"}]},` + more + `}`
}

// slot is the slot's document with more fields.
func slot(more string) string {
	return `{"Id":"CD","MediaTypes":["CD"],"Actions":{"#VirtualMedia.InsertMedia":{"target":"` + slotPath + `/Insert"},` +
		`"#VirtualMedia.EjectMedia":{"target":"` + slotPath + `/Eject"}},` + more + `}`
}

// says is a refusal with one message.
func says(status int, id, text string, args ...string) reply {
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"@Message.ExtendedInfo": []any{
		map[string]any{"MessageId": id, "Message": text, "MessageArgs": args, "Severity": "Warning"},
	}}})
	return reply{status: status, body: string(b)}
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	key := r.Method + " " + r.URL.Path
	line := key
	if m := r.Header.Get("If-Match"); m != "" {
		line += " if " + m
	}
	s.log = append(s.log, strings.TrimSpace(line+" "+string(body)))
	a := reply{status: http.StatusNotFound}
	if list := s.writes[key]; len(list) > 0 {
		if a = list[0]; len(list) > 1 {
			s.writes[key] = list[1:]
		}
	} else if doc, ok := s.docs[r.URL.Path]; ok && r.Method == http.MethodGet {
		a = reply{status: http.StatusOK, body: doc}
	}
	if a.drop {
		panic(http.ErrAbortHandler)
	}
	for k, v := range a.header {
		w.Header().Set(k, v)
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

// written lists the writes so far.
func (s *script) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.log), func(l string) bool { return strings.HasPrefix(l, "GET ") })
}

// client connects to the script with one row, made from the generic one.
func (s *script) client(t testing.TB, change func(*bmc.Profile)) (bmc.Client, redfish.Config) {
	t.Helper()
	conf := serve(t, s).config(t)
	row := conf.Profiles[len(conf.Profiles)-1]
	if change != nil {
		change(&row)
	}
	conf.Profiles = []bmc.Profile{row}
	return open(t, conf), conf
}

func wantWritten(t *testing.T, s *script, want ...string) {
	t.Helper()
	if got := s.written(); !slices.Equal(got, want) {
		t.Errorf("wrote\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func post(path, body string) string { return fmt.Sprintf("POST %s %s", path, body) }
