package redfish_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
)

// FuzzRedfishState gives a BMC any documents at all: every call returns within
// bounds, with a state or a *bmc.Error.
func FuzzRedfishState(f *testing.F) {
	plain := newScript()
	root, sys, media := plain.docs["/redfish/v1/"], plain.docs[sysPath], plain.docs[slotPath]
	f.Add(root, sys, media, `{"TaskState":"Completed"}`)
	f.Add(root, system(`"PowerState":7,"Oem":{"Hpe":{"PostState":{}}},"BootProgress":[]`), media, ``)
	f.Add(root, `{"Actions":{"#ComputerSystem.Reset":[]},"Boot":1}`, media, `[]`)
	f.Add(root, sys, slot(`"Image":"None","ImageName":9,"Oem":{"Ami":{"RedirectionStatus":null}}`), `{"Messages":{}}`)
	f.Add(`{"Systems":{"@odata.id":"/redfish/v1/"},"Links":{"Sessions":{"@odata.id":"//x/y"}}}`, sys, media, `null`)
	f.Add(`<html>`, `{`, `"`, `{"TaskState":"Running","@odata.id":"`+taskPath+`"}`)
	s := newScript()
	srv := serve(f, s)
	conf := srv.config(f)
	conf.Timeouts = redfish.Timeouts{Busy: 10 * time.Second, Task: 10 * time.Second}
	f.Fuzz(func(t *testing.T, root, sys, media, answer string) {
		s.mu.Lock()
		s.log = nil
		s.docs["/redfish/v1/"], s.docs[sysPath], s.docs[slotPath], s.docs[taskPath] = root, sys, media, answer
		for _, w := range []string{"POST " + insertPath, "POST " + ejectPath, "POST " + resetPath, "PATCH " + sysPath, "PATCH " + slotPath} {
			s.writes[w] = []reply{{status: http.StatusAccepted, body: answer, header: map[string]string{"Location": taskPath}}}
		}
		s.mu.Unlock()
		conf := conf
		conf.Clock = newIdleClock()
		c, err := redfish.Open(t.Context(), conf)
		must(t, err)
		defer c.Close(context.WithoutCancel(t.Context()))
		_, err = c.Observe(t.Context())
		sound(t, err)
		sound(t, c.InsertMedia(t.Context(), image))
		sound(t, c.SetBootOnce(t.Context()))
		sound(t, c.EjectMedia(t.Context()))
		sound(t, c.Reset(t.Context(), bmc.PowerUp))
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.log) > 500 {
			t.Errorf("asked %d times", len(s.log))
		}
	})
}

func sound(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	e, ok := errors.AsType[*bmc.Error](err)
	if !ok || e.Op == "" || e.Hint == "" {
		t.Errorf("got %#v, want a *bmc.Error with operation and hint", err)
	}
}
