package bmcsim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

// ask sends a GET and gives the status and the body.
func ask(t *testing.T, m *bmcsim.Machine, uri string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, uri, nil)
	r.SetBasicAuth("root", "redfish-secret")
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, r)
	var body map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v", uri, err)
	}
	return rec.Code, body
}

// expandedAt lists where in a document whole resources stand, and references.
func expandedAt(v any, at string, out *[]string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			expandedAt(e, at, out)
		}
	case map[string]any:
		if v["@odata.id"] != nil && at != "" {
			kind := " ref"
			if v["@odata.type"] != nil {
				kind = " whole"
			}
			*out = append(*out, strings.TrimPrefix(at, ".")+kind)
		}
		for k, e := range v {
			expandedAt(e, at+"."+k, out)
		}
	}
}

func TestQueries(t *testing.T) {
	const manager, media = "/redfish/v1/Managers/1", "/redfish/v1/Managers/1/VirtualMedia"
	ilo, deep := bmcsim.Config{}, bmcsim.Config{Behaviour: bmcsim.Behaviour{MaxLevels: 2}}
	links := bmcsim.Config{Kind: bmcsim.Gigabyte13}
	for _, c := range []struct {
		conf   bmcsim.Config
		uri    string
		status int
		want   []string
	}{
		{ilo, "/redfish/v1/Systems?only", 200, nil}, // the system itself: see below
		{ilo, media, 200, []string{"Members ref", "Members ref"}},
		{ilo, media + "?$expand=.", 200, []string{"Members whole", "Members whole"}},
		{ilo, media + "?$expand=.($levels=1)", 200, []string{"Members whole", "Members whole"}},
		{ilo, media + "?only", 200, []string{"Members ref", "Members ref"}},
		{ilo, manager + "?$expand=.", 200, []string{"Links.ManagerForServers ref", "VirtualMedia whole", "VirtualMedia.Members ref", "VirtualMedia.Members ref"}},
		{deep, manager + "?$expand=.($levels=2)", 200, []string{"Links.ManagerForServers ref", "VirtualMedia whole", "VirtualMedia.Members whole", "VirtualMedia.Members whole"}},
		{ilo, media + "?$expand=.($levels=2)", 400, nil},
		{ilo, media + "?$expand=*", 400, nil},
		{ilo, media + "?$expand=x", 400, nil},
		{ilo, manager + "?only", 400, nil},
		{ilo, media + "?only&$expand=.", 400, nil},
		{links, "/redfish/v1/Managers/Self?$expand=~", 200, []string{"Links.ManagerForServers whole", "Links.ManagerForServers.Boot.BootOptions ref", "Links.ManagerForServers.Links.ManagedBy ref", "Links.ManagerForServers.VirtualMedia ref", "VirtualMedia ref"}},
		{bmcsim.Config{Kind: bmcsim.Generic}, "/redfish/v1/Systems?$expand=.", 501, nil},
		{bmcsim.Config{Kind: bmcsim.Generic}, "/redfish/v1/Systems?only", 200, []string{"Members ref"}},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesRefused}}, "/redfish/v1/Systems?only", 400, nil},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesUnbuilt}}, media + "?$expand=.", 501, nil},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesTooBig}}, media + "?$expand=.", 507, nil},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesIgnored}}, media + "?$expand=.", 200, []string{"Members ref", "Members ref"}},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesPartly}}, media + "?$expand=.", 200, []string{"Members ref", "Members whole"}},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesCut}}, media + "?$expand=.", 200, []string{"Members whole"}},
		{bmcsim.Config{Behaviour: bmcsim.Behaviour{Queries: bmcsim.QueriesShallow, MaxLevels: 2}}, manager + "?$expand=.($levels=2)", 200, []string{"Links.ManagerForServers ref", "VirtualMedia whole", "VirtualMedia.Members ref", "VirtualMedia.Members ref"}},
	} {
		m := bmcsim.New(c.conf)
		t.Cleanup(m.Close)
		status, body := ask(t, m, c.uri)
		if status != c.status {
			t.Errorf("%s: %d, want %d", c.uri, status, c.status)
		}
		var got []string
		if expandedAt(body, "", &got); c.want == nil {
			continue
		}
		got = slices.DeleteFunc(got, func(at string) bool {
			return !strings.HasPrefix(at, "Members") && !strings.HasPrefix(at, "VirtualMedia") && !strings.HasPrefix(at, "Links.ManagerForServers")
		})
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.uri, got, c.want)
		}
	}
}

// What only gives is the member as it is read by itself, and what the root says is
// what there is.
func TestOnlyMember(t *testing.T) {
	m := bmcsim.New(bmcsim.Config{})
	t.Cleanup(m.Close)
	_, by := ask(t, m, "/redfish/v1/Systems?only")
	_, is := ask(t, m, "/redfish/v1/Systems/1")
	if by["@odata.id"] != "/redfish/v1/Systems/1" || by["@odata.etag"] != is["@odata.etag"] || by["PowerState"] == nil {
		t.Errorf("%v, want %v", by, is)
	}
	_, root := ask(t, m, "/redfish/v1/")
	if says, _ := root["ProtocolFeaturesSupported"].(map[string]any); says["OnlyMemberQuery"] == nil {
		t.Errorf("the root says %v", says)
	}
	m.SetBehaviour(bmcsim.Behaviour{Queries: bmcsim.QueriesAbsent})
	if _, root := ask(t, m, "/redfish/v1/"); root["ProtocolFeaturesSupported"] != nil {
		t.Errorf("the root says %v", root["ProtocolFeaturesSupported"])
	}
}
