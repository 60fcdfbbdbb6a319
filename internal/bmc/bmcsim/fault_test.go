package bmcsim_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

// TestFaults strikes one request with each fault over HTTP, and checks that the
// next is as usual.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		do                       bmcsim.Do
		check                    func(b *browser, r reply)
	}{
		{"401", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoStatus, Status: 401}, func(b *browser, r reply) { b.want(r, 401, "NoValidSession") }},
		{"403", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoStatus, Status: 403}, func(b *browser, r reply) { b.want(r, 403, "InsufficientPrivilege") }},
		{"404", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoStatus, Status: 404}, func(b *browser, r reply) { b.want(r, 404, "ResourceMissingAtURI") }},
		{"409", "POST", iloInsert, insertBody, bmcsim.Do{What: bmcsim.DoStatus, Status: 409}, func(b *browser, r reply) { b.want(r, 409, "ResourceInUse") }},
		{"412", "PATCH", iloSystem, armBody, bmcsim.Do{What: bmcsim.DoStatus, Status: 412}, func(b *browser, r reply) { b.want(r, 412, "PreconditionFailed") }},
		{"500", "POST", iloReset, `{"ResetType":"ForceOff"}`, bmcsim.Do{What: bmcsim.DoStatus, Status: 500, MessageID: "IDRAC.2.8.SYS446"}, func(b *browser, r reply) {
			b.want(r, 500, "IDRAC.2.8.SYS446")
			if b.m.Power() != bmc.PowerOn {
				b.t.Error("it was done all the same")
			}
		}},
		{"503", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoStatus, Status: 503, RetryAfter: 3 * time.Second}, func(b *browser, r reply) {
			if b.want(r, 503, "").header.Get("Retry-After") != "3" {
				b.t.Errorf("got %v", r.header)
			}
		}},
		{"html", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoHTML}, func(b *browser, r reply) {
			if r.status != 200 || r.json != nil || r.body[0] != '<' {
				b.t.Errorf("got %d %.100s", r.status, r.body)
			}
		}},
		{"half a body", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoHalfBody}, func(b *browser, r reply) {
			if r.status != 200 || r.bodyErr == nil || r.body == "" {
				b.t.Errorf("got %d %v %.100s", r.status, r.bodyErr, r.body)
			}
		}},
		{"wrong types", "GET", iloSlot, "", bmcsim.Do{What: bmcsim.DoWrongTypes}, func(b *browser, r reply) {
			b.equal(r, "Image", 42.0)
			b.equal(r, "Inserted", "yes")
			b.equal(r, "@odata.id", "/redfish/v1"+iloSlot)
		}},
		{"close before", "POST", iloInsert, insertBody, bmcsim.Do{What: bmcsim.DoCloseBefore}, func(b *browser, r reply) {
			if r.err == nil || b.m.Mounted() != "" {
				b.t.Errorf("got %d, mounted %q", r.status, b.m.Mounted())
			}
		}},
		{"close after", "POST", iloInsert, insertBody, bmcsim.Do{What: bmcsim.DoCloseAfter}, func(b *browser, r reply) {
			if r.err == nil || b.m.Mounted() != image {
				b.t.Errorf("got %d, mounted %q", r.status, b.m.Mounted())
			}
		}},
		{"huge", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoHuge}, func(b *browser, r reply) {
			if r.status != 200 || len(r.body) < 50<<20 || r.body[0] != '{' {
				b.t.Errorf("got %d, %d bytes", r.status, len(r.body))
			}
		}},
		{"member loop", "GET", "/Managers/1/VirtualMedia", "", bmcsim.Do{What: bmcsim.DoMemberLoop}, func(b *browser, r reply) {
			b.equal(r, "Members|0|@odata.id", "/redfish/v1/Managers/1/VirtualMedia")
		}},
		{"next link loop", "GET", "/Systems", "", bmcsim.Do{What: bmcsim.DoNextLinkLoop}, func(b *browser, r reply) {
			b.equal(r, "Members@odata.nextLink", "/redfish/v1/Systems")
			b.equal(r, "Members|0|@odata.id", "/redfish/v1/Systems/1")
		}},
		{"redirect", "GET", iloSystem, "", bmcsim.Do{What: bmcsim.DoRedirect, To: "https://elsewhere.example/"}, func(b *browser, r reply) {
			if r.status != 307 || r.header.Get("Location") != "https://elsewhere.example/" {
				b.t.Errorf("got %d %v", r.status, r.header)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t, bmcsim.Config{})
			b.m.Faults(bmcsim.Fault{Method: c.method, PathPattern: "^/redfish/v1" + c.path + "$", Do: c.do})
			c.check(b, b.do(t.Context(), c.method, c.path, c.body))
			b.ok(b.get(c.path[:len(c.path)-len(actionPart(c.path))]))
		})
	}
}

// actionPart is what a path has beyond its resource.
func actionPart(path string) string {
	for i := range path {
		if len(path)-i > 9 && path[i:i+9] == "/Actions/" {
			return path[i:]
		}
	}
	return ""
}

func TestFaultHang(t *testing.T) {
	b := open(t, bmcsim.Config{})
	b.m.Faults(bmcsim.Fault{Do: bmcsim.Do{What: bmcsim.DoHang}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r := b.do(ctx, "GET", iloSystem, ""); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("got %d %v", r.status, r.err)
	}
	b.ok(b.get(iloSystem))
}

// TestFaultCounts checks which requests a fault strikes.
func TestFaultCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault bmcsim.Fault
		want  [5]int
	}{
		{"the first", bmcsim.Fault{}, [5]int{500, 200, 200, 200, 200}},
		{"the second and third", bmcsim.Fault{Nth: 2, Count: 2}, [5]int{200, 500, 500, 200, 200}},
		{"all from the third", bmcsim.Fault{Nth: 3, Count: -1}, [5]int{200, 200, 500, 500, 500}},
		{"of another method", bmcsim.Fault{Method: "POST", Count: -1}, [5]int{200, 200, 200, 200, 200}},
		{"of another path", bmcsim.Fault{PathPattern: "VirtualMedia", Count: -1}, [5]int{200, 200, 200, 200, 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t, bmcsim.Config{})
			c.fault.Do = bmcsim.Do{What: bmcsim.DoStatus, Status: 500}
			b.m.Faults(c.fault)
			for i, want := range c.want {
				if got := b.get(iloSystem).status; got != want {
					t.Errorf("request %d: %d, want %d", i+1, got, want)
				}
			}
		})
	}
}

// TestFaultsInMemory checks what the in-memory client makes of the faults.
func TestFaultsInMemory(t *testing.T) {
	for _, c := range []struct {
		do        bmcsim.Do
		kind      bmc.Kind
		uncertain bool
		acted     bool
	}{
		{bmcsim.Do{What: bmcsim.DoStatus, Status: 401}, bmc.KindAuth, false, false},
		{bmcsim.Do{What: bmcsim.DoStatus, Status: 503, RetryAfter: time.Minute}, bmc.KindBusy, false, false},
		{bmcsim.Do{What: bmcsim.DoStatus, Status: 500}, bmc.KindProtocol, false, false},
		{bmcsim.Do{What: bmcsim.DoHTML}, bmc.KindProtocol, false, false},
		{bmcsim.Do{What: bmcsim.DoCloseBefore}, bmc.KindUnreachable, true, false},
		{bmcsim.Do{What: bmcsim.DoCloseAfter}, bmc.KindUnreachable, true, true},
	} {
		t.Run(string(c.do.What)+class(c.do.Status), func(t *testing.T) {
			m := bmcsim.New(bmcsim.Config{})
			t.Cleanup(m.Close)
			m.Faults(bmcsim.Fault{Method: "POST", Do: c.do})
			err := m.Client().Reset(t.Context(), bmc.ForceOff)
			e, ok := errors.AsType[*bmc.Error](err)
			if !ok || e.Kind != c.kind || e.Uncertain != c.uncertain || e.RetryAfter != c.do.RetryAfter {
				t.Errorf("got %#v", err)
			}
			if acted := m.Power() == bmc.PowerOff; acted != c.acted {
				t.Errorf("acted: %v", acted)
			}
		})
	}
}

func class(status int) string {
	if status == 0 {
		return ""
	}
	return " " + string(rune('0'+status/100)) + "xx"
}
