package bmcsim_test

import (
	"net/http"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

// TestShapes checks what each kind shows, property by property, against what
// vendors.md 2.1, 2.2, 2.5 and 2.7 list of the real ones.
func TestShapes(t *testing.T) {
	for _, c := range []struct {
		kind bmcsim.Kind
		path string
		want map[string]any
	}{
		{bmcsim.ILO5, "/redfish/v1", map[string]any{"Vendor": "HPE", "Oem|Hpe|Manager|0|ManagerType": "iLO 5", "Product": "ProLiant DL325 Gen10 Plus"}},
		{bmcsim.ILO5, iloSystem, map[string]any{"PowerState": "On", "Oem|Hpe|PostState": "FinishedPost", "Boot|BootSourceOverrideEnabled": "Disabled", "Boot|BootSourceOverrideTarget": "None", "VirtualMedia": nil, "Actions|#ComputerSystem.Reset|ResetType@Redfish.AllowableValues|0": "On"}},
		{bmcsim.ILO5, "/Managers/1", map[string]any{"Model": "iLO 5", "FirmwareVersion": "iLO 5 v2.46", "Oem|Hpe|License|LicenseString": "iLO Advanced", "VirtualMedia|@odata.id": "/redfish/v1/Managers/1/VirtualMedia"}},
		{bmcsim.ILO5, "/Managers/1/VirtualMedia/1", map[string]any{"MediaTypes|0": "Floppy", "Oem|Hpe|BootOnNextServerReset": nil}},
		{bmcsim.ILO5, iloSlot, map[string]any{"MediaTypes|0": "CD", "Image": "", "ImageName": nil, "Inserted": false, "ConnectedVia": "NotConnected", "Oem|Hpe|BootOnNextServerReset": false, "Actions|#VirtualMedia.InsertMedia|target": "/redfish/v1" + iloInsert}},
		{bmcsim.ILO4, "/redfish/v1", map[string]any{"Vendor": nil, "Oem|Hp|Manager|0|ManagerType": "iLO 4"}},
		{bmcsim.ILO4, iloSlot, map[string]any{"Actions": nil, "Oem|Hp|Actions|#HpiLOVirtualMedia.InsertVirtualMedia|target": "/redfish/v1" + iloSlot + "/Actions/Oem/Hp/HpiLOVirtualMedia.InsertVirtualMedia/"}},
		{bmcsim.Gigabyte, "/redfish/v1", map[string]any{"Vendor": "AMI", "Product": "AMI Redfish Server", "Oem|Ami|RtpVersion": "1.7.0"}},
		{bmcsim.Gigabyte, amiSystem, map[string]any{"Manufacturer": "GIGABYTE", "Boot|BootNext": "", "Actions|#ComputerSystem.Reset|@Redfish.ActionInfo": "/redfish/v1/Systems/Self/ResetActionInfo", "Actions|#ComputerSystem.Reset|ResetType@Redfish.AllowableValues": nil, "Oem": nil}},
		{bmcsim.Gigabyte, "/Systems/Self/ResetActionInfo", map[string]any{"Parameters|0|Name": "ResetType", "Parameters|0|AllowableValues|0": "GracefulShutdown"}},
		{bmcsim.Gigabyte, "/Managers/Self", map[string]any{"FirmwareVersion": "12.84.13", "Actions|Oem|#VirtualMedia.EnableRMedia|target": "/redfish/v1" + amiEnable}},
		{bmcsim.Gigabyte, amiSlot, map[string]any{"Image": "None", "ImageName": "None", "MediaTypes": nil, "Inserted": false, "WriteProtected": false}},
		{bmcsim.Generic, "/Systems/1", map[string]any{"VirtualMedia|@odata.id": "/redfish/v1/Systems/1/VirtualMedia"}},
		{bmcsim.Generic, "/Managers/BMC", map[string]any{"VirtualMedia": nil}},
		{bmcsim.CrayEX, "/Systems/Node0", map[string]any{"Boot|BootSourceOverrideTarget": nil, "Manufacturer": "HPE", "VirtualMedia": nil}},
		{bmcsim.CrayEX, "/Managers/BMC", map[string]any{"ManagerType": "EnclosureManager", "VirtualMedia": nil}},
		{bmcsim.ILO6, "/Managers/1", map[string]any{"Model": "iLO 6"}},
		{bmcsim.ILO5Early, "/Managers/1/", map[string]any{"Model": nil, "FirmwareVersion": "iLO 5 v1.45"}},
		{bmcsim.ILO7, "/redfish/v1", map[string]any{"Oem|Hpe|Manager|0|ManagerType": "iLO 7"}},
		{bmcsim.Gigabyte13, "/Managers/Self", map[string]any{"Actions|Oem|#AMIVirtualMedia.EnableRMedia|target": "/redfish/v1/Managers/Self/Actions/Oem/AMIVirtualMedia.EnableRMedia", "FirmwareVersion": "13.06.10"}},
		{bmcsim.Gigabyte13, "/Systems/Self", map[string]any{"VirtualMedia|@odata.id": "/redfish/v1/Systems/Self/VirtualMedia"}},
		{bmcsim.DGX, "/Systems", map[string]any{"Members|0|@odata.id": "/redfish/v1/Systems/HGX_Baseboard_0"}},
		{bmcsim.TSM, "/Systems/Self", map[string]any{"Manufacturer": "Lenovo", "Oem|Lenovo|FrontPanelUSB": "Server"}},
		{bmcsim.ASRockRack, "/Systems/Self", map[string]any{"Manufacturer": "ASRockRack"}},
		{bmcsim.IDRAC8, "/Managers/iDRAC.Embedded.1", map[string]any{"Model": "13G Monolithic"}},
		{bmcsim.IDRAC9, "/redfish/v1", map[string]any{"Vendor": "Dell", "Oem|Dell|ServiceTag": "SIM0001"}},
		{bmcsim.IDRAC9, dellSlot, map[string]any{"Image": nil, "MediaTypes|0": "CD", "ConnectedVia": "NotConnected"}},
		{bmcsim.IDRAC9Old, "/Systems/System.Embedded.1", map[string]any{"VirtualMedia": nil, "LastResetTime": nil}},
		{bmcsim.IDRAC10, "/Managers/iDRAC.Embedded.1", map[string]any{"Model": "17G Monolithic", "VirtualMedia": nil}},
		{bmcsim.Supermicro, "/redfish/v1", map[string]any{"Vendor": nil, "Product": nil}},
		{bmcsim.Supermicro, "/Systems/1", map[string]any{"VirtualMedia|@odata.id": "/redfish/v1/Managers/1/VirtualMedia", "BootProgress|LastState": "SystemHardwareInitializationComplete"}},
		{bmcsim.SupermicroX11, "/Managers/1/VirtualMedia/CD1", map[string]any{"Id": "CD1"}},
		{bmcsim.XCC, "/redfish/v1", map[string]any{"Vendor": "Lenovo", "Oem": nil}},
		{bmcsim.XCC, xccSlot, map[string]any{"Actions": nil, "Image": nil}},
		{bmcsim.XCC2, "/Managers/1", map[string]any{"Model": "Lenovo XClarity Controller 2"}},
		{bmcsim.XCC3, "/Systems/1", map[string]any{"Model": "ThinkSystem SR650 V4"}},
		{bmcsim.OpenBMC, "/Managers/bmc", map[string]any{"Model": "OpenBmc", "VirtualMedia|@odata.id": "/redfish/v1/Managers/bmc/VirtualMedia"}},
		{bmcsim.GB200, "/Systems/System_0", map[string]any{"Manufacturer": nil, "Boot|BootSourceOverrideMode": nil}},
		{bmcsim.GB200, "/Systems/HGX_Baseboard_0", map[string]any{"Boot": nil, "Actions": nil}},
		{bmcsim.IRMC, "/Systems/0", map[string]any{"Oem|ts_fujitsu|SystemDescription": "node"}},
		{bmcsim.CIMC, "/Managers/CIMC/VirtualMedia/4", map[string]any{"Name": "CIMC-Mapped vDVD", "MediaTypes|0": "DVD"}},
		{bmcsim.CIMCRack, "/Managers/CIMC/VirtualMedia/0", map[string]any{"Name": "Virtual CD", "Image": nil, "Actions|#VirtualMedia.InsertMedia|TransferMethod@Redfish.AllowableValues|0": "Stream"}},
		{bmcsim.CIMCRack, "/Systems/WZP22490ZCU", map[string]any{"Oem|Cisco|PostCompletionStatus": true}},
		{bmcsim.XFusion, "/redfish/v1", map[string]any{"Oem|xFusion|ProductName": "2288H V7"}},
		{bmcsim.HDM, "/Managers/1/VirtualMedia/CD1", map[string]any{"Actions": nil}},
		{bmcsim.Intel, "/Managers/BMC/VirtualMedia", map[string]any{"Members@odata.count": 0.0}},
		{bmcsim.OpenBMCStock, "/Managers/bmc", map[string]any{"Model": "OpenBmc", "VirtualMedia": nil}},
	} {
		t.Run(string(c.kind)+c.path, func(t *testing.T) {
			b := open(t, bmcsim.Config{Kind: c.kind})
			r := b.ok(b.get(c.path))
			for path, want := range c.want {
				b.equal(r, path, want)
			}
		})
	}
}

// TestEveryLinkLeadsSomewhere walks each tree from its root.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for _, k := range bmcsim.Kinds() {
		for _, bh := range []bmcsim.Behaviour{{}, {TrailingSlash: true}, {SecondSystem: true}} {
			b := open(t, bmcsim.Config{Kind: k, Behaviour: bh})
			seen := map[string]bool{}
			var follow func(string)
			follow = func(path string) {
				if seen[path] {
					return
				}
				seen[path] = true
				r := b.get(path)
				if r.status != 200 {
					t.Errorf("%s: %s is linked and answers %d", k, path, r.status)
				}
				eachLink(r.json, follow)
			}
			follow("/redfish/v1/")
			if len(seen) < 8 {
				t.Errorf("%s: only %d resources", k, len(seen))
			}
		}
	}
}

func eachLink(v any, f func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if s, ok := e.(string); ok && (name == "@odata.id" || name == "@Redfish.ActionInfo") {
				f(s)
			}
			eachLink(e, f)
		}
	case []any:
		for _, e := range v {
			eachLink(e, f)
		}
	}
}

func TestCredentials(t *testing.T) {
	b := open(t, bmcsim.Config{})
	b.anon = true
	b.ok(b.get("/redfish/v1"))
	b.ok(b.get("/redfish/v1/"))
	b.ok(b.get("/redfish"))
	b.want(b.get(iloSystem), 401, "NoValidSession")
	b.want(b.post(iloReset, `{"ResetType":"ForceOff"}`), 401, "NoValidSession")

	r := b.ok(b.post("/SessionService/Sessions", `{"UserName":"root","Password":"redfish-secret"}`))
	if r.status != 201 || r.header.Get("Location") == "" || r.header.Get("X-Auth-Token") == "" {
		t.Fatalf("got %d %v", r.status, r.header)
	}
	b.anon, b.token = false, r.header.Get("X-Auth-Token")
	b.ok(b.get(iloSystem))
	b.ok(b.get(r.header.Get("Location")))
	b.ok(b.do(t.Context(), "DELETE", r.header.Get("Location"), ""))
	b.want(b.get(iloSystem), 401, "NoValidSession")
	if s := b.m.Stats(); s.Sessions != 0 || s.Logins != 1 {
		t.Errorf("stats %+v", s)
	}
	for _, q := range b.m.Requests() {
		if q.Method == http.MethodPost && q.Path == "/redfish/v1/SessionService/Sessions" && q.Body != `{"Password":"(secret)","UserName":"root"}` {
			t.Errorf("the log keeps %s", q.Body)
		}
	}
}

func TestMediaOverHTTP(t *testing.T) {
	b := open(t, bmcsim.Config{})
	b.want(b.post(iloInsert, insertBody), 200, "Base.1.4.Success")
	r := b.ok(b.get(iloSlot))
	b.equal(r, "Image", image)
	b.equal(r, "ImageName", "one.iso")
	b.equal(r, "ConnectedVia", "URI")
	b.equal(r, "Inserted", true)
	b.want(b.post(iloInsert, `{"Image":"`+otherImage+`"}`), 400, "MaxVirtualMediaConnectionEstablished")
	b.want(b.post(iloEject, ""), 415, "")
	b.want(b.post(iloEject, "{}"), 200, "Success")
	b.want(b.post(iloEject, "{}"), 400, "NoVirtualMediaConnectionAvailable")
	b.want(b.post("/Managers/1/VirtualMedia/1/Actions/VirtualMedia.InsertMedia", insertBody), 400, "")
	b.want(b.post(iloInsert, "{"), 400, "MalformedJSON")
	b.want(b.post(iloInsert, "{}"), 400, "ActionParameterMissing")
	b.want(b.post(iloInsert, `{"Image":"nonsense"}`), 400, "ActionParameterValueFormatError")
	b.want(b.get("/Managers/1/VirtualMedia/7"), 404, "ResourceMissingAtURI")
	if r := b.want(b.patch("/Managers/1", "{}"), 405, ""); r.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow is %q", r.header.Get("Allow"))
	}
}

func TestILO4Media(t *testing.T) {
	b := open(t, bmcsim.Config{Kind: bmcsim.ILO4, Behaviour: bmcsim.Reported(bmcsim.ILO4)})
	const actions = iloSlot + "/Actions/Oem/Hp/HpiLOVirtualMedia."
	b.want(b.post(iloInsert, insertBody), 404, "")
	b.want(b.post(actions+"InsertVirtualMedia/", `{"Image":"`+image+`","Inserted":true}`), 400, "ActionParameterUnknown")
	b.ok(b.post(actions+"InsertVirtualMedia/", insertBody))
	b.ok(b.patch(iloSlot, `{"Oem":{"Hp":{"BootOnNextServerReset":true}}}`))
	b.equal(b.get(iloSlot), "Oem|Hp|BootOnNextServerReset", true)
	b.ok(b.post(actions+"EjectVirtualMedia/", "{}"))
	b.equal(b.get(iloSlot), "Image", "")
}

// TestBootOnNextServerReset: the flag boots the CD once, and the reset after
// that ejects it (vendors.md 2.4).
func TestBootOnNextServerReset(t *testing.T) {
	host := &boots{}
	b := open(t, bmcsim.Config{Host: host})
	const flag = `{"Oem":{"Hpe":{"BootOnNextServerReset":true}}}`
	b.want(b.patch(iloSlot, flag), 400, "NoVirtualMediaConnectionAvailable")
	b.ok(b.post(iloInsert, insertBody))
	b.ok(b.patch(iloSlot, flag))
	b.ok(b.post(iloReset, `{"ResetType":"ForceRestart"}`))
	eventually(t, "the CD boots", func() bool { return len(host.list()) == 1 })
	b.equal(b.get(iloSlot), "Oem|Hpe|BootOnNextServerReset", false)
	if got := b.m.Mounted(); got != image || host.list()[0] != image {
		t.Fatalf("mounted %q, booted %q", got, host.list())
	}
	b.ok(b.post(iloReset, `{"ResetType":"ForceRestart"}`))
	eventually(t, "the disk boots", func() bool { return len(host.list()) == 2 })
	if got := b.m.Mounted(); got != "" || host.list()[1] != "" {
		t.Errorf("mounted %q, booted %q", got, host.list())
	}
}

func TestRemoteMedia(t *testing.T) {
	b := open(t, bmcsim.Config{Kind: bmcsim.Gigabyte, Behaviour: bmcsim.Behaviour{RemoteMediaOff: true}})
	b.equal(b.ok(b.get("/Managers/Self/VirtualMedia")), "Members@odata.count", 0.0)
	b.want(b.get(amiSlot), 404, "")
	b.want(b.post(amiInsert, insertBody), 404, "")
	b.want(b.post(amiEnable, `{"RMediaState":"Perhaps"}`), 400, "")
	b.want(b.post(amiEnable, `{"RMediaState":"Enable"}`), 200, "Ami.1.0.DelayInActionCompletion")
	eventually(t, "the slot is listed", func() bool { return b.get(amiSlot).status == 200 })
	b.ok(b.post(amiInsert, insertBody))
	const cds = "/Managers/Self/Actions/Oem/Ami/VirtualMedia.ConfigureCDInstance"
	b.want(b.post(cds, `{"CDInstance":2}`), 400, "")
	b.ok(b.post(amiEject, "{}"))
	b.want(b.post(cds, `{"CDInstance":2}`), 200, "DelayInActionCompletion")
	eventually(t, "the slot is back", func() bool { return b.get(amiSlot).status == 200 })
	b.ok(b.post(amiEnable, `{"RMediaState":"Disable"}`))
	b.want(b.get(amiSlot), 404, "")
}

func TestNoOverride(t *testing.T) {
	b := open(t, bmcsim.Config{Kind: bmcsim.CrayEX})
	b.want(b.patch("/Systems/Node0", armBody), 400, "PropertyUnknown")
	b.want(b.post("/Systems/Node0/Actions/ComputerSystem.Reset", `{"ResetType":"ForceRestart"}`), 400, "ActionParameterValueNotInList")
	b.ok(b.post("/Systems/Node0/Actions/ComputerSystem.Reset", `{"ResetType":"Off"}`))
	if b.m.Power() != bmc.PowerOff {
		t.Error("it is on")
	}
}
