package bmcsim_test

import (
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

const (
	dellSlot    = "/Systems/System.Embedded.1/VirtualMedia/1"
	dellAt      = "/Managers/iDRAC.Embedded.1/Attributes"
	xccSlot     = "/Systems/1/VirtualMedia/EXT1"
	bootConfig  = "/Systems/0/Oem/ts_fujitsu/BootConfig"
	plainImage  = `{"Image":"http://192.0.2.1/iso/one.iso"}`
	secureImage = `{"Image":"https://192.0.2.1/iso/one.iso","TransferProtocolType":"HTTPS"}`
	once        = `{"Boot":{"BootSourceOverrideTarget":"Cd","BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI"}}`
)

// familyCases are the behaviours that came with families of their own.
var familyCases = []behaviourCase{
	{"MediaProtocolOff", "", generic(B{MediaProtocolOff: true}), func(b *browser) {
		b.equal(b.get("/Managers/BMC/NetworkProtocol"), "VirtualMedia|ProtocolEnabled", false)
		b.equal(b.get("/Systems/1/VirtualMedia"), "Members@odata.count", 0.0)
		b.want(b.get(genSlot), 404, "")
		b.ok(b.patch("/Managers/BMC/NetworkProtocol", `{"VirtualMedia":{"ProtocolEnabled":true}}`))
		eventually(b.t, "the slots are there", func() bool { return b.get(genSlot).status == 200 })
	}},
	{"InsertFailsAfterEject", "", slow(running(generic(B{InsertFailsAfterEject: true}))), func(b *browser) {
		b.ok(b.post(genEject, "{}"))
		b.want(b.post(genInsert, insertBody), 500, "InternalError")
	}},
	{"NeverAttaches", "", off(generic(B{NeverAttaches: true})), func(b *browser) {
		b.ok(b.post(genInsert, insertBody))
		b.equal(b.get(genSlot), "Inserted", true)
		b.equal(b.get(genSlot), "ConnectedVia", "NotConnected")
		b.ok(b.patch(genSystem, once))
		b.ok(b.post(genReset, `{"ResetType":"On"}`))
		eventually(b.t, "it boots", func() bool { return b.m.Stats().Boots == 1 })
		if b.m.Stats().MediaBoots != 0 {
			b.t.Error("it booted what is not attached")
		}
	}},
	{"AddressOnly", "", generic(B{AddressOnly: true}), func(b *browser) {
		b.want(b.post(genInsert, `{"Image":"http://iso.example/iso/one.iso"}`), 400, "CouldNotEstablishConnection")
		b.ok(b.post(genInsert, insertBody))
	}},
	{"DefaultPortOnly", "", ami(B{DefaultPortOnly: true, RedirectionStatus: true}), func(b *browser) {
		for _, body := range []string{insertBody, `{"Image":"http://192.0.2.1/one.iso"}`} { // port 8080; the root
			b.ok(b.post(amiInsert, body))
			b.equal(b.get(amiSlot), "Inserted", false)
			b.equal(b.get(amiSlot), "Oem|Ami|RedirectionStatus", "Stopped - Unable to Connect")
		}
		b.ok(b.post(amiInsert, plainImage))
		b.equal(b.get(amiSlot), "Inserted", true)
	}},
	{"InsertInfo", "", generic(B{InsertInfo: true, InsertNeeds: []string{"TransferProtocolType"}, HTTPSOnly: true}), func(b *browser) {
		at, _ := b.get(genSlot).at("Actions|#VirtualMedia.InsertMedia|@Redfish.ActionInfo").(string)
		r := b.ok(b.get(at))
		parameters, _ := r.at("Parameters").([]any)
		last, _ := parameters[len(parameters)-1].(map[string]any)
		if required, _ := last["Required"].(bool); last["Name"] != "TransferProtocolType" || !required {
			b.t.Errorf("got %v", last)
		}
	}},
	{"SessionUnmounts", "", config(bmcsim.XCC, B{}), func(b *browser) {
		r := b.want(b.post("/SessionService/Sessions", logIn), 201, "")
		b.token = r.header.Get("X-Auth-Token")
		b.ok(b.patch(xccSlot, plainImage))
		b.equal(b.get(xccSlot), "Inserted", true)
		b.ok(b.do(b.t.Context(), "DELETE", r.header.Get("Location"), ""))
		b.token = ""
		b.equal(b.get(xccSlot), "Inserted", false)
		b.ok(b.patch(xccSlot, plainImage)) // with Basic it stays
		b.equal(b.get(xccSlot), "Inserted", true)
	}},
	{"SettingsObject", "ami", config(bmcsim.DGX, B{}), func(b *browser) {
		b.equal(b.get("/Systems/DGX"), "Boot|BootSourceOverrideTarget", nil)
		b.equal(b.get("/Systems/DGX"), "@Redfish.Settings|SettingsObject|@odata.id", "/redfish/v1/Systems/DGX/SD")
		b.head["If-Match"] = "*"
		b.want(b.patch("/Systems/DGX", once), 400, "OperationSupportedInFutureStateURI")
		b.ok(b.patch("/Systems/DGX/SD", once))
		b.equal(b.get("/Systems/DGX/SD"), "Boot|BootSourceOverrideTarget", "Cd")
	}},
	{"SettingsObject", "dell", config(bmcsim.IDRAC10, B{}), func(b *browser) {
		b.want(b.patch("/Systems/System.Embedded.1", once), 400, "PropertyNotWritable")
		b.ok(b.patch("/Systems/System.Embedded.1/Settings", once))
	}},
	{"PowerOnConflicts", "", slow(generic(B{PowerOnConflicts: true})), func(b *browser) {
		b.ok(b.post(genReset, `{"ResetType":"ForceOff"}`))
		b.want(b.post(genReset, `{"ResetType":"On"}`), 409, "ActionParameterValueConflict")
	}},
	{"NoSessions", "", generic(B{NoSessions: true}), func(b *browser) {
		b.equal(b.get("/redfish/v1"), "Links", nil)
		b.want(b.post("/SessionService/Sessions", logIn), 404, "")
		b.ok(b.get(genSystem))
	}},
	{"TokenInBody", "", generic(B{TokenInBody: true}), func(b *browser) {
		r := b.want(b.post("/SessionService/Sessions", logIn), 201, "")
		token, _ := r.at("Oem|Public|X-Auth-Token").(string)
		if r.header.Get("X-Auth-Token") != "" || token == "" {
			b.t.Fatalf("got %v, %q", r.header, token)
		}
		b.token = token
		b.ok(b.get(genSystem))
	}},
	{"TwinSystem", "", generic(B{TwinSystem: true}), func(b *browser) {
		b.equal(b.get("/Systems"), "Members|0|@odata.id", "/redfish/v1/Systems/2")
		b.equal(b.get("/Systems/2"), "Boot|BootSourceOverrideEnabled", "Disabled")
		b.equal(b.get("/Systems/2"), "VirtualMedia", nil)
	}},
	{"ZeroDates", "", generic(B{ZeroDates: true}), func(b *browser) {
		b.equal(b.get(genSystem), "LastResetTime", "0000-00-00T00:00:00+00:00")
	}},
}

// TestFamilies checks what single families do over HTTP that no behaviour names.
func TestFamilies(t *testing.T) {
	for name, c := range map[string]struct {
		conf bmcsim.Config
		run  func(*browser)
	}{
		"iDRAC 9: the wrong side": {config(bmcsim.IDRAC9, B{}), func(b *browser) {
			b.want(b.post("/Managers/iDRAC.Embedded.1/VirtualMedia/CD/Actions/VirtualMedia.InsertMedia", plainImage), 400, "RAC0904")
			b.ok(b.post(dellSlot+"/Actions/VirtualMedia.InsertMedia", plainImage))
			b.equal(b.get("/Managers/iDRAC.Embedded.1/VirtualMedia/CD"), "Inserted", true)
		}},
		"iDRAC 9 before 6: Cd is the physical drive": {off(config(bmcsim.IDRAC9Old, B{})), func(b *browser) {
			b.ok(b.post("/Managers/iDRAC.Embedded.1/VirtualMedia/CD/Actions/VirtualMedia.InsertMedia", plainImage))
			b.ok(b.patch("/Systems/System.Embedded.1", once))
			b.ok(b.post("/Systems/System.Embedded.1/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`))
			eventually(b.t, "it boots", func() bool { return b.m.Stats().Boots == 1 })
			b.ok(b.patch(dellAt, `{"Attributes":{"ServerBoot.1.BootOnce":"Enabled","ServerBoot.1.FirstBootDevice":"VCD-DVD"}}`))
			b.equal(b.get(dellAt), "Attributes|ServerBoot.1.BootOnce", "Enabled")
			b.ok(b.post("/Systems/System.Embedded.1/Actions/ComputerSystem.Reset", `{"ResetType":"ForceRestart"}`))
			eventually(b.t, "it boots again", func() bool { return b.m.Stats().Boots == 2 })
			if n := b.m.Stats().MediaBoots; n != 1 {
				b.t.Errorf("%d boots of the CD, want one", n)
			}
			b.equal(b.get(dellAt), "Attributes|ServerBoot.1.BootOnce", "Disabled")
		}},
		"iDRAC 8: read-only": {config(bmcsim.IDRAC8, B{}), func(b *browser) {
			b.equal(b.get("/Managers/iDRAC.Embedded.1/VirtualMedia/CD"), "Actions", nil)
			b.want(b.post("/Managers/iDRAC.Embedded.1/VirtualMedia/CD/Actions/VirtualMedia.InsertMedia", plainImage), 404, "")
		}},
		"Supermicro: forms are refused by name": {config(bmcsim.Supermicro, B{}), func(b *browser) {
			const slot = "/Managers/1/VirtualMedia/VirtualMedia1"
			b.equal(b.get(slot), "Actions|#VirtualMedia.EjectMedia", nil)
			b.want(b.post(slot+"/Actions/VirtualMedia.InsertMedia", `{"Image":"http://192.0.2.1/iso/one.iso","Inserted":true}`), 400, "ActionParameterUnknown")
			b.want(b.post(slot+"/Actions/VirtualMedia.InsertMedia", plainImage), 202, "")
			eventually(b.t, "it is inserted", func() bool { return b.get(slot).at("ConnectedVia") == "URI" })
			b.ok(b.post(slot+"/Actions/VirtualMedia.EjectMedia", "{}"))
			b.equal(b.get(slot), "ConnectedVia", "NotConnected")
			b.equal(b.get(slot), "ImageName", "one.iso")
		}},
		"Supermicro X10: no slots": {config(bmcsim.SupermicroX10, B{}), func(b *browser) {
			b.equal(b.get("/Managers/1"), "VirtualMedia|@odata.id", "/redfish/v1/Managers/1/VM1")
			b.equal(b.get("/Managers/1/VM1"), "Members", nil)
			b.equal(b.get("/Managers/1/VM1"), "Oem|Supermicro|VirtualMediaConfig|@odata.id", "/redfish/v1/Managers/1/VM1/CfgCD")
		}},
		"XCC without a licence: no EXT slots": {config(bmcsim.XCC, B{NoLicence: true}), func(b *browser) {
			b.equal(b.get("/Systems/1/VirtualMedia"), "Members|0|@odata.id", "/redfish/v1/Systems/1/VirtualMedia/RDOC1")
			b.want(b.get(xccSlot), 404, "")
		}},
		"OpenBMC: slots that refuse": {config(bmcsim.OpenBMC, B{}), func(b *browser) {
			const slots = "/Managers/bmc/VirtualMedia/"
			b.equal(b.get(slots+"Slot_0"), "Actions|#VirtualMedia.InsertMedia", nil)
			b.want(b.post(slots+"Slot_1/Actions/VirtualMedia.InsertMedia", secureImage), 405, "ActionNotSupported")
			b.want(b.post(slots+"Slot_2/Actions/VirtualMedia.InsertMedia", plainImage), 400, "ResourceAtUriInUnknownFormat")
			b.equal(b.get(slots+"Slot_2"), "Image", nil)
			b.want(b.post(slots+"Slot_2/Actions/VirtualMedia.InsertMedia", secureImage), 204, "")
			b.equal(b.get(slots+"Slot_2"), "ConnectedVia", "Applet")
		}},
		"iRMC: a BootConfig of its own": {off(config(bmcsim.IRMC, B{})), func(b *browser) {
			b.want(b.patch(bootConfig, `{"BootDevice":"Cd","NextBootOnlyEnabled":true}`), 428, "PreconditionRequired")
			b.head["If-Match"] = b.get(bootConfig).header.Get("ETag")
			b.ok(b.patch(bootConfig, `{"BootDevice":"Cd","NextBootOnlyEnabled":true}`))
			b.equal(b.get(bootConfig), "BootDevice", "Cd")
			delete(b.head, "If-Match")
			b.want(b.post("/Managers/iRMC/VirtualMedia/0/Actions/VirtualMedia.InsertMedia", plainImage), 400, "ActionParameterMissing")
		}},
		"CIMC: one slot of five": {config(bmcsim.CIMC, B{}), func(b *browser) {
			b.want(b.post("/Managers/CIMC/VirtualMedia/1/Actions/VirtualMedia.InsertMedia", plainImage), 405, "")
			b.want(b.post("/Managers/CIMC/VirtualMedia/4/Actions/VirtualMedia.InsertMedia", `{"Image":"http://192.0.2.1/iso/one.iso","TransferMethod":"Stream"}`), 400, "ActionParameterUnknown")
			b.want(b.post("/Managers/CIMC/VirtualMedia/4/Actions/VirtualMedia.InsertMedia", plainImage), 202, "")
		}},
		"iBMC: VmmControl and a login of its own": {config(bmcsim.IBMC, B{}), func(b *browser) {
			at, _ := b.get("/Managers/1/VirtualMedia/CD").at("Oem|Huawei|Actions|#VirtualMedia.VmmControl|target").(string)
			b.want(b.post(at, `{"VmmControlType":"Connect","Image":"http://192.0.2.1/iso/one.iso"}`), 400, "FileTransferProtocolMismatch")
			b.want(b.post("/SessionService/Sessions", logIn), 401, "AuthorizationFailed")
			b.want(b.post("/SessionService/Sessions", `{"UserName":"root","Password":"redfish-secret","Oem":{"Huawei":{"Domain":"LocaliBMC"}}}`), 201, "")
		}},
		"Inspur: no web server": {config(bmcsim.Inspur, B{}), func(b *browser) {
			for _, scheme := range []string{"http", "https"} {
				b.want(b.post("/Managers/1/VirtualMedia/CD0/Actions/VirtualMedia.InsertMedia",
					`{"Image":"`+scheme+`://192.0.2.1/iso/one.iso","TransferProtocolType":"X"}`), 400, "ActionParameterValueFormatError")
			}
		}},
		"Gigabyte 13: the boot option comes with the CD": {off(config(bmcsim.Gigabyte13, B{EjectTask: bmcsim.NoTask})), func(b *browser) {
			b.equal(b.get("/Systems/Self/BootOptions"), "Members@odata.count", 1.0)
			b.want(b.post("/Managers/Self/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia", plainImage), 202, "")
			eventually(b.t, "it is inserted", func() bool { return b.m.Mounted() != "" })
			b.ok(b.post("/Systems/Self/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`))
			eventually(b.t, "firmware has seen it", func() bool { return b.get("/Systems/Self/BootOptions").at("Members@odata.count") == 2.0 })
			b.head["If-Match"] = "*"
			b.ok(b.patch("/Systems/Self", `{"Boot":{"BootNext":"Boot0007","BootSourceOverrideTarget":"UefiBootNext","BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI"}}`))
			delete(b.head, "If-Match")
			b.ok(b.post("/Systems/Self/Actions/ComputerSystem.Reset", `{"ResetType":"ForceRestart"}`))
			eventually(b.t, "it boots the CD", func() bool { return b.m.Stats().MediaBoots == 1 })
		}},
		"DGX: remote media off, credentials wanted": {config(bmcsim.DGX, B{RemoteMediaOff: true}), func(b *browser) {
			b.equal(b.get("/Managers/BMC"), "Oem|Ami|VirtualMedia|RMediaStatus", "Disabled")
			b.ok(b.post("/Managers/BMC/Actions/Oem/AMIVirtualMedia.EnableRMedia", `{"RMediaState":"Enable"}`))
			eventually(b.t, "the slots are there", func() bool { return b.get("/Managers/BMC/VirtualMedia/CD1").status == 200 })
			b.want(b.post("/Managers/BMC/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia", plainImage), 400, "ActionParameterMissing")
			b.ok(b.post("/Managers/BMC/VirtualMedia/CD1/Actions/VirtualMedia.InsertMedia", `{"Image":"http://192.0.2.1/iso/one.iso","UserName":"none","Password":"none"}`))
		}},
		"sushy-tools: boots the CD until it is ejected": {off(config(bmcsim.SushyTools, B{})), func(b *browser) {
			const system = "/Systems/5bb4a8d1-6a34-4a4e-9a0f-f0f4a4d04f2d"
			b.equal(b.get("/redfish/v1"), "Id", "RedvirtService")
			b.equal(b.get(system+"/VirtualMedia/Cd"), "ConnectedVia", "URI")
			b.ok(b.post(system+"/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia", plainImage))
			b.ok(b.patch(system, once))
			b.equal(b.get(system), "Boot|BootSourceOverrideEnabled", "Continuous")
			b.ok(b.post(system+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`))
			eventually(b.t, "it boots", func() bool { return b.m.Stats().MediaBoots == 1 })
			b.ok(b.post(system+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceRestart"}`))
			eventually(b.t, "and again", func() bool { return b.m.Stats().MediaBoots == 2 })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.conf.Timing.EjectLag = time.Millisecond
			c.run(open(t, c.conf))
		})
	}
}
