package bmcsim_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
)

type B = bmcsim.Behaviour

// TestBehaviours shows over HTTP that each behaviour does what its comment says.
// A case is named after the field of Behaviour that it is about.
func TestBehaviours(t *testing.T) {
	for _, c := range behaviourCases {
		t.Run(c.field+"/"+c.name, func(t *testing.T) {
			c.run(open(t, c.conf))
		})
	}
}

// TestEveryBehaviourIsTested fails when a field of Behaviour has no case.
func TestEveryBehaviourIsTested(t *testing.T) {
	tested := map[string]bool{}
	for _, c := range behaviourCases {
		tested[c.field] = true
	}
	for f := range reflect.TypeFor[bmcsim.Behaviour]().Fields() {
		if !tested[f.Name] {
			t.Errorf("Behaviour.%s has no case", f.Name)
		}
	}
}

func config(k bmcsim.Kind, b B) bmcsim.Config { return bmcsim.Config{Kind: k, Behaviour: b} }

func ilo(b B) bmcsim.Config { return config(bmcsim.ILO5, b) }

func ami(b B) bmcsim.Config { return config(bmcsim.Gigabyte, b) }

// slow makes a state between two events long enough to be seen.
func slow(c bmcsim.Config) bmcsim.Config {
	const long = time.Hour
	c.Timing = bmcsim.Timing{Post: long, MediaTask: long, MediaLag: long, EjectLag: long, PowerLag: long, Lockout: long}
	return c
}

func off(c bmcsim.Config) bmcsim.Config {
	c.InitialPower = bmc.PowerOff
	return c
}

func running(c bmcsim.Config) bmcsim.Config {
	c.Running.Image = image
	return c
}

const (
	genSystem = "/Systems/1"
	genSlot   = "/Systems/1/VirtualMedia/CD1"
	genInsert = genSlot + "/Actions/VirtualMedia.InsertMedia"
	genEject  = genSlot + "/Actions/VirtualMedia.EjectMedia"
	genReset  = "/Systems/1/Actions/ComputerSystem.Reset"
)

func generic(b B) bmcsim.Config { return config(bmcsim.Generic, b) }

var behaviourCases = slices.Concat(mediaCases, bootCases, powerCases, loginCases, familyCases)

type behaviourCase struct {
	field, name string
	conf        bmcsim.Config
	run         func(b *browser)
}

var mediaCases = []behaviourCase{
	{"InsertTask", "location", generic(B{InsertTask: bmcsim.TaskLocation}), func(b *browser) {
		r := b.want(b.post(genInsert, insertBody), 202, "")
		at := r.header.Get("Location")
		eventually(b.t, "the monitor ends", func() bool { return b.get(at).status == 204 })
		b.equal(b.get(genSlot), "Image", image)
	}},
	{"InsertTask", "location, in flight", slow(generic(B{InsertTask: bmcsim.TaskLocation})), func(b *browser) {
		r := b.want(b.post(genInsert, insertBody), 202, "")
		b.equal(b.want(b.get(r.header.Get("Location")), 202, ""), "TaskState", "Running")
		b.equal(b.get(genSlot), "Inserted", false)
		b.equal(b.get("/TaskService/Tasks"), "Members@odata.count", 1.0)
		b.want(b.post(genInsert, insertBody), 409, "ResourceInUse")
		b.want(b.post(genEject, "{}"), 409, "ResourceInUse")
	}},
	{"InsertTask", "resource", slow(generic(B{InsertTask: bmcsim.TaskResource})), func(b *browser) {
		r := b.want(b.post(genInsert, insertBody), 202, "")
		b.equal(b.want(b.get(r.header.Get("Location")), 200, ""), "TaskState", "Running")
	}},
	{"InsertTask", "body", ami(B{InsertTask: bmcsim.TaskInBody}), func(b *browser) {
		r := b.want(b.post(amiInsert, insertBody), 202, "")
		at, _ := r.at("@odata.id").(string)
		if r.header.Get("Location") != "" || at == "" {
			b.t.Fatalf("got %v %s", r.header, r.body)
		}
		eventually(b.t, "the task ends", func() bool { return b.get(at).at("TaskState") == "Completed" })
		b.equal(b.get(amiSlot), "Inserted", true)
	}},
	{"EjectTask", "", running(generic(B{EjectTask: bmcsim.TaskLocation})), func(b *browser) {
		r := b.want(b.post(genEject, "{}"), 202, "")
		eventually(b.t, "the monitor ends", func() bool { return b.get(r.header.Get("Location")).status == 204 })
		b.equal(b.get(genSlot), "Image", "")
	}},
	{"TaskFails", "task", ami(B{InsertTask: bmcsim.TaskInBody, TaskFails: true}), func(b *browser) {
		at, _ := b.want(b.post(amiInsert, insertBody), 202, "").at("@odata.id").(string)
		eventually(b.t, "the task ends", func() bool { return b.get(at).at("TaskState") == "Exception" })
		b.equal(b.get(at), "Messages|0|MessageId", "Base.1.0.InternalError")
		b.equal(b.get(amiSlot), "Inserted", false)
	}},
	{"TaskFails", "monitor", generic(B{InsertTask: bmcsim.TaskLocation, TaskFails: true}), func(b *browser) {
		at := b.want(b.post(genInsert, insertBody), 202, "").header.Get("Location")
		eventually(b.t, "the monitor ends", func() bool { return b.get(at).status == 500 })
	}},
	{"TaskFails", "no task", generic(B{TaskFails: true}), func(b *browser) {
		b.want(b.post(genInsert, insertBody), 500, "InternalError")
	}},
	{"AbsoluteLocation", "", generic(B{InsertTask: bmcsim.TaskLocation, AbsoluteLocation: true}), func(b *browser) {
		at := b.post(genInsert, insertBody).header.Get("Location")
		if !strings.HasPrefix(at, b.url+"/redfish/v1/TaskService/Tasks/") {
			b.t.Errorf("Location is %q", at)
		}
	}},
	{"MessagesAsObject", "", generic(B{InsertTask: bmcsim.TaskInBody, MessagesAsObject: true}), func(b *browser) {
		b.equal(b.post(genInsert, insertBody), "Messages|MessageId", "TaskEvent.1.0.TaskStarted")
	}},
	{"InsertLags", "", slow(ilo(B{InsertLags: true})), func(b *browser) {
		b.ok(b.post(iloInsert, insertBody))
		b.equal(b.get(iloSlot), "Inserted", false)
		if b.m.Mounted() != image {
			b.t.Error("it is not mounted")
		}
	}},
	{"InsertLags", "for a while", ilo(B{InsertLags: true}), func(b *browser) {
		b.ok(b.post(iloInsert, insertBody))
		eventually(b.t, "it shows", func() bool { return b.get(iloSlot).at("Image") == image })
	}},
	{"EjectLags", "", slow(running(ilo(B{EjectLags: true}))), func(b *browser) {
		b.ok(b.post(iloEject, "{}"))
		b.equal(b.get(iloSlot), "Inserted", true)
		b.equal(b.get(iloSlot), "Image", image)
		if b.m.Mounted() != "" {
			b.t.Error("it is mounted")
		}
	}},
	{"EjectKeepsName", "", running(ami(B{EjectKeepsName: true})), func(b *browser) {
		b.ok(b.post(amiEject, "{}"))
		b.equal(b.get(amiSlot), "Image", image)
		b.equal(b.get(amiSlot), "Inserted", false)
		b.want(b.post(amiInsert, insertBody), 400, "GeneralError")
		b.ok(b.post(amiEject, "{}"))
		b.equal(b.get(amiSlot), "Image", "None")
		b.ok(b.post(amiInsert, insertBody))
	}},
	{"NameNeverClears", "", running(generic(B{NameNeverClears: true})), func(b *browser) {
		b.ok(b.post(genEject, "{}"))
		b.ok(b.post(genEject, "{}"))
		b.equal(b.get(genSlot), "Image", image)
		b.equal(b.get(genSlot), "ConnectedVia", "NotConnected")
		b.ok(b.post(genInsert, `{"Image":"`+otherImage+`"}`))
		b.equal(b.get(genSlot), "Image", otherImage)
	}},
	{"Echo", "doubled", running(ami(B{Echo: bmcsim.EchoDoubled})), func(b *browser) {
		b.equal(b.get(amiSlot), "Image", "//192.0.2.1:8080/iso/one.iso/one.iso")
		b.equal(b.get(amiSlot), "ImageName", "one.iso")
	}},
	{"Echo", "no port", running(generic(B{Echo: bmcsim.EchoNoPort})), func(b *browser) {
		b.equal(b.get(genSlot), "Image", "http://192.0.2.1/iso/one.iso")
	}},
	{"Echo", "blank", running(generic(B{Echo: bmcsim.EchoBlank})), func(b *browser) {
		b.equal(b.get(genSlot), "Image", "")
		b.equal(b.get(genSlot), "Inserted", true)
	}},
	{"Echo", "none", running(ami(B{Echo: bmcsim.EchoNone})), func(b *browser) {
		b.equal(b.get(amiSlot), "Image", "None")
		b.equal(b.get(amiSlot), "Inserted", true)
	}},
	{"NoneWhenEmpty", "", generic(B{NoneWhenEmpty: true}), func(b *browser) {
		b.equal(b.get(genSlot), "Image", "None")
		b.equal(b.get(genSlot), "ImageName", "None")
	}},
	{"NoMediaTypes", "", generic(B{NoMediaTypes: true}), func(b *browser) {
		b.equal(b.get(genSlot), "MediaTypes", nil)
	}},
	{"MediaByPatch", "", generic(B{MediaByPatch: true}), func(b *browser) {
		b.equal(b.get(genSlot), "Actions", nil)
		b.ok(b.patch(genSlot, `{"Image":"`+image+`","Inserted":true,"WriteProtected":true}`))
		b.equal(b.get(genSlot), "Image", image)
		b.ok(b.patch(genSlot, `{"Image":null}`))
		b.equal(b.get(genSlot), "Inserted", false)
	}},
	{"MediaByPatch", "ilo", running(ilo(B{})), func(b *browser) {
		b.want(b.patch(iloSlot, `{"WriteProtected":true}`), 400, "PropertyMissing")
		b.ok(b.patch(iloSlot, `{"Image":null,"Inserted":false}`))
		b.equal(b.get(iloSlot), "Inserted", false)
		b.ok(b.patch(iloSlot, `{"Image":"`+image+`"}`))
		b.equal(b.get(iloSlot), "Image", image)
	}},
	{"MediaByPatch", "off", generic(B{}), func(b *browser) {
		b.want(b.patch(genSlot, insertBody), 400, "PropertyNotWritable")
	}},
	{"EjectActionVanishes", "", generic(B{EjectActionVanishes: true}), func(b *browser) {
		b.equal(b.get(genSlot), "Actions|#VirtualMedia.EjectMedia", nil)
		b.ok(b.post(genInsert, insertBody))
		b.equal(b.get(genSlot), "Actions|#VirtualMedia.EjectMedia|target", "/redfish/v1"+genEject)
	}},
	{"InsertNeeds", "", generic(B{InsertNeeds: []string{"TransferProtocolType"}}), func(b *browser) {
		r := b.want(b.post(genInsert, insertBody), 400, "ActionParameterMissing")
		if !strings.Contains(r.body, "TransferProtocolType") {
			b.t.Errorf("it does not say what is missing: %s", r.body)
		}
		b.ok(b.post(genInsert, `{"Image":"`+image+`","TransferProtocolType":"HTTP"}`))
	}},
	{"InsertRefuses", "", generic(B{InsertRefuses: []string{"Inserted"}}), func(b *browser) {
		b.want(b.post(genInsert, `{"Image":"`+image+`","Inserted":true}`), 400, "ActionParameterUnknown")
		b.ok(b.post(genInsert, insertBody))
	}},
	{"RedirectionStatus", "", ami(B{RedirectionStatus: true}), func(b *browser) {
		b.equal(b.get(amiSlot), "Oem|Ami|RedirectionStatus", "None")
		b.ok(b.post(amiInsert, insertBody))
		b.equal(b.get(amiSlot), "Oem|Ami|RedirectionStatus", "Redirection Started")
		b.m.Detach()
		b.equal(b.get(amiSlot), "Oem|Ami|RedirectionStatus", "Stopped - Connection Lost")
	}},
	{"HTTPOnly", "", ami(B{HTTPOnly: true}), func(b *browser) {
		b.want(b.post(amiInsert, `{"Image":"https://192.0.2.1/iso/one.iso"}`), 400, "ActionParameterValueFormatError")
		b.ok(b.post(amiInsert, insertBody))
	}},
	{"HTTPSOnly", "", generic(B{HTTPSOnly: true}), func(b *browser) {
		b.want(b.post(genInsert, insertBody), 400, "ActionParameterValueFormatError")
		b.ok(b.post(genInsert, `{"Image":"https://192.0.2.1/iso/one.iso"}`))
	}},
	{"BodyRequired", "", running(generic(B{BodyRequired: true})), func(b *browser) {
		b.want(b.post(genEject, ""), 415, "")
		b.ok(b.post(genEject, "{}"))
	}},
	{"RefuseEmptyEject", "", generic(B{RefuseEmptyEject: true}), func(b *browser) {
		b.want(b.post(genEject, "{}"), 400, "")
	}},
	{"RefuseEmptyEject", "off", generic(B{}), func(b *browser) {
		b.ok(b.post(genEject, ""))
	}},
	{"NoLicence", "ilo", ilo(B{NoLicence: true}), func(b *browser) {
		b.want(b.post(iloInsert, insertBody), 403, "LicenseKeyRequired")
		b.equal(b.get("/Managers/1"), "Oem|Hpe|License|LicenseString", "iLO Standard")
	}},
	{"NoLicence", "ami", ami(B{NoLicence: true}), func(b *browser) {
		b.want(b.post(amiInsert, insertBody), 403, "Ami.1.0.Licenserequire")
	}},
	{"DetachAtPowerOn", "", off(running(ami(B{DetachAtPowerOn: true}))), func(b *browser) {
		b.ok(b.post(amiSystem+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`))
		b.equal(b.get(amiSlot), "Image", image)
		b.equal(b.get(amiSlot), "Inserted", false)
		b.want(b.post(amiInsert, insertBody), 400, "GeneralError")
	}},
	{"UnmountOnBMCRestart", "", running(ami(B{UnmountOnBMCRestart: true})), func(b *browser) {
		b.m.RestartBMC()
		if b.get("/redfish/v1").err == nil {
			b.t.Error("a BMC that restarts answered")
		}
		eventually(b.t, "it is back", func() bool { return b.get("/redfish/v1").status == 200 })
		b.equal(b.get(amiSlot), "Inserted", false)
	}},
	{"RemoteMediaOff", "", ami(B{RemoteMediaOff: true}), func(b *browser) {
		b.equal(b.get("/Managers/Self/VirtualMedia"), "Members@odata.count", 0.0)
	}},
}

var bootCases = []behaviourCase{
	{"IfMatch", "412", ami(B{IfMatch: 412}), func(b *browser) {
		b.want(b.patch(amiSystem, fullArmBody), 412, "PreconditionFailed")
	}},
	{"IfMatch", "428", ami(B{IfMatch: 428}), func(b *browser) {
		b.want(b.patch(amiSystem, fullArmBody), 428, "PreconditionHeaderMissing")
		b.head["If-Match"] = b.get(amiSystem).header.Get("ETag")
		b.ok(b.patch(amiSystem, fullArmBody))
	}},
	{"IfMatch", "stale", ilo(B{}), func(b *browser) {
		tag := b.get(iloSystem).header.Get("ETag")
		if !strings.HasPrefix(tag, `W/"`) {
			b.t.Errorf("ETag %q is not weak", tag)
		}
		b.equal(b.get(iloSystem), "@odata.etag", tag)
		b.ok(b.patch(iloSystem, armBody))
		b.head["If-Match"] = tag
		b.want(b.patch(iloSystem, armBody), 412, "PreconditionFailed")
		b.head["If-Match"] = "*"
		b.ok(b.patch(iloSystem, armBody))
	}},
	{"RefuseIfMatchOnActions", "", generic(B{RefuseIfMatchOnActions: true}), func(b *browser) {
		b.head["If-Match"] = b.get(genSlot).header.Get("ETag")
		b.want(b.post(genInsert, insertBody), 412, "")
		delete(b.head, "If-Match")
		b.ok(b.post(genInsert, insertBody))
	}},
	{"FullBoot", "", ami(B{FullBoot: true}), func(b *browser) {
		b.want(b.patch(amiSystem, armBody), 400, "PropertyMissing")
		b.ok(b.patch(amiSystem, fullArmBody))
	}},
	{"RefuseBootMode", "", ilo(B{RefuseBootMode: true}), func(b *browser) {
		b.want(b.patch(iloSystem, fullArmBody), 400, "PropertyNotWritable")
		b.ok(b.patch(iloSystem, armBody))
	}},
	{"BootRefusedInPost", "ilo", slow(off(ilo(B{}))), func(b *browser) {
		b.ok(b.patch(iloSystem, armBody))
		b.ok(b.post(iloReset, `{"ResetType":"On"}`))
		b.want(b.patch(iloSystem, armBody), 400, "UnableToModifyDuringSystemPOST")
	}},
	{"BootRefusedInPost", "generic", slow(off(generic(B{BootRefusedInPost: true}))), func(b *browser) {
		b.m.SetPower(bmc.PowerOn)
		b.want(b.patch(genSystem, armBody), 503, "")
	}},
	{"OverrideStays", "", off(running(generic(B{OverrideStays: true}))), func(b *browser) {
		b.ok(b.patch(genSystem, armBody))
		b.m.SetPower(bmc.PowerOn)
		eventually(b.t, "the CD boots", func() bool { return b.m.Stats().MediaBoots == 1 })
		b.equal(b.get(genSystem), "Boot|BootSourceOverrideEnabled", "Once")
	}},
	{"OverrideReadsContinuous", "", generic(B{OverrideReadsContinuous: true}), func(b *browser) {
		b.ok(b.patch(genSystem, armBody))
		b.equal(b.get(genSystem), "Boot|BootSourceOverrideEnabled", "Continuous")
	}},
	{"UsbCd", "cd boots the disk", off(running(generic(B{UsbCd: true}))), func(b *browser) {
		b.ok(b.patch(genSystem, armBody))
		b.m.SetPower(bmc.PowerOn)
		eventually(b.t, "it boots", func() bool { return b.m.Stats().Boots == 1 })
		if b.m.Stats().MediaBoots != 0 {
			b.t.Error("Cd booted the virtual CD")
		}
	}},
	{"UsbCd", "", off(running(generic(B{UsbCd: true}))), func(b *browser) {
		b.ok(b.patch(genSystem, strings.Replace(armBody, "Cd", "UsbCd", 1)))
		b.m.SetPower(bmc.PowerOn)
		eventually(b.t, "the CD boots", func() bool { return b.m.Stats().MediaBoots == 1 })
	}},
	{"UsbCd", "off", generic(B{}), func(b *browser) {
		b.want(b.patch(genSystem, strings.Replace(armBody, "Cd", "UsbCd", 1)), 400, "PropertyValueNotInList")
	}},
	{"IgnoreCd", "", off(running(generic(B{IgnoreCd: true}))), func(b *browser) {
		b.ok(b.patch(genSystem, armBody))
		b.m.SetPower(bmc.PowerOn)
		eventually(b.t, "it boots", func() bool { return b.m.Stats().Boots == 1 })
		if b.m.Stats().MediaBoots != 0 {
			b.t.Error("it booted the CD")
		}
		b.equal(b.get(genSystem), "Boot|BootSourceOverrideEnabled", "Disabled")
	}},
}

var powerCases = []behaviourCase{
	{"ResetTypes", "", generic(B{ResetTypes: []string{"On", "ForceOff"}}), func(b *browser) {
		b.want(b.post(genReset, `{"ResetType":"ForceRestart"}`), 400, "ActionParameterValueNotInList")
		b.equal(b.get(genSystem), "Actions|#ComputerSystem.Reset|ResetType@Redfish.AllowableValues|0", "On")
	}},
	{"ResetActionInfo", "", generic(B{ResetActionInfo: true}), func(b *browser) {
		r := b.get(genSystem)
		b.equal(r, "Actions|#ComputerSystem.Reset|ResetType@Redfish.AllowableValues", nil)
		b.equal(r, "Actions|#ComputerSystem.Reset|@Redfish.ActionInfo", "/redfish/v1/Systems/1/ResetActionInfo")
		b.equal(b.get("/Systems/1/ResetActionInfo"), "Parameters|0|AllowableValues|0", "On")
	}},
	{"RefuseSameState", "ilo", ilo(B{}), func(b *browser) {
		b.want(b.post(iloReset, `{"ResetType":"On"}`), 400, "InvalidOperationForSystemState")
	}},
	{"RefuseSameState", "generic", generic(B{RefuseSameState: true}), func(b *browser) {
		b.want(b.post(genReset, `{"ResetType":"On"}`), 409, "")
	}},
	{"RefuseSameState", "off", generic(B{}), func(b *browser) {
		b.ok(b.post(genReset, `{"ResetType":"On"}`))
		b.m.SetPower(bmc.PowerOff)
		b.want(b.post(genReset, `{"ResetType":"ForceRestart"}`), 409, "")
	}},
	{"IgnoreShutdown", "", ilo(B{IgnoreShutdown: true}), func(b *browser) {
		b.ok(b.post(iloReset, `{"ResetType":"GracefulShutdown"}`))
		b.ok(b.post(iloReset, `{"ResetType":"ForceOff"}`))
		if s := b.m.Stats(); s.Shutdowns != 0 || s.PowerCycles != 1 {
			b.t.Errorf("stats %+v", s)
		}
	}},
	{"PowerLags", "", slow(ilo(B{PowerLags: true})), func(b *browser) {
		b.ok(b.post(iloReset, `{"ResetType":"ForceOff"}`))
		b.equal(b.get(iloSystem), "PowerState", "On")
	}},
	{"PowerTransitions", "", slow(ilo(B{PowerTransitions: true})), func(b *browser) {
		b.ok(b.post(iloReset, `{"ResetType":"ForceOff"}`))
		b.equal(b.get(iloSystem), "PowerState", "PoweringOff")
		b.ok(b.post(iloReset, `{"ResetType":"On"}`))
		b.equal(b.get(iloSystem), "PowerState", "PoweringOn")
	}},
	{"Busy", "", ilo(B{Busy: true}), func(b *browser) {
		b.ok(b.get("/redfish/v1"))
		if r := b.want(b.get(iloSystem), 503, ""); r.header.Get("Retry-After") != "" {
			b.t.Error("there is a Retry-After")
		}
		b.m.SetBehaviour(B{})
		b.ok(b.get(iloSystem))
	}},
	{"BusyInPost", "", slow(off(ami(B{BusyInPost: true}))), func(b *browser) {
		b.ok(b.get(amiSystem))
		b.m.SetPower(bmc.PowerOn)
		b.want(b.get(amiSystem), 503, "Ami.1.0.ServiceTemporarilyUnavailableDueToHostBooting")
	}},
	{"RetryAfter", "", ilo(B{Busy: true, RetryAfter: 7}), func(b *browser) {
		if got := b.want(b.get(iloSystem), 503, "").header.Get("Retry-After"); got != "7" {
			b.t.Errorf("Retry-After is %q", got)
		}
	}},
	{"CloseAfterAction", "", ilo(B{CloseAfterAction: true}), func(b *browser) {
		if r := b.post(iloInsert, insertBody); r.err == nil {
			b.t.Errorf("got an answer: %d", r.status)
		}
		b.equal(b.get(iloSlot), "Image", image)
		b.ok(b.patch(iloSystem, armBody))
	}},
	{"SecondSystem", "", ami(B{SecondSystem: true}), func(b *browser) {
		b.equal(b.get("/Systems"), "Members|0|@odata.id", "/redfish/v1/Systems/Baseboard")
		r := b.ok(b.get("/Systems/Baseboard"))
		b.equal(r, "Boot", nil)
		b.equal(r, "Actions", nil)
		b.m.SetPower(bmc.PowerOff)
		b.want(b.get("/Systems/Baseboard"), 500, "")
	}},
	{"SecondSystem", "off", ami(B{}), func(b *browser) {
		b.want(b.get("/Systems/Baseboard"), 404, "")
	}},
	{"TrailingSlash", "", ilo(B{TrailingSlash: true}), func(b *browser) {
		if r := b.get(iloSystem); r.status != 308 || r.header.Get("Location") != "/redfish/v1"+iloSystem+"/" {
			b.t.Fatalf("got %d %v", r.status, r.header)
		}
		r := b.ok(b.get(iloSystem + "/"))
		b.equal(r, "@odata.id", "/redfish/v1"+iloSystem+"/")
		b.equal(r, "Actions|#ComputerSystem.Reset|target", "/redfish/v1"+iloReset+"/")
	}},
	{"Queries", "refused", ilo(B{Queries: bmcsim.QueriesRefused}), func(b *browser) { // see query_test.go for the others
		b.want(b.get("/Systems?only"), 400, "QueryNotSupportedOnResource")
	}},
	{"MaxLevels", "", config(bmcsim.Generic, B{MaxLevels: 3}), func(b *browser) {
		r := b.ok(b.get(""))
		b.equal(r, "ProtocolFeaturesSupported|ExpandQuery|MaxLevels", float64(3))
		b.want(b.get("/Systems?$expand=.($levels=4)"), 400, "QueryParameterOutOfRange")
	}},
}

const logIn = `{"UserName":"root","Password":"redfish-secret"}`

var loginCases = []behaviourCase{
	{"SessionLimit", "", ilo(B{SessionLimit: 1}), func(b *browser) {
		b.anon = true
		r := b.want(b.post("/SessionService/Sessions", logIn), 201, "")
		b.want(b.post("/SessionService/Sessions", logIn), 503, "SessionLimitExceeded")
		b.anon = false
		b.ok(b.do(b.t.Context(), "DELETE", r.header.Get("Location"), ""))
		b.want(b.post("/SessionService/Sessions", logIn), 201, "")
	}},
	{"SessionIdle", "", ilo(B{SessionIdle: time.Millisecond}), func(b *browser) {
		b.token = b.want(b.post("/SessionService/Sessions", logIn), 201, "").header.Get("X-Auth-Token")
		eventually(b.t, "the session is over", func() bool { return b.m.Stats().Sessions == 0 })
		b.want(b.get(iloSystem), 401, "NoValidSession")
	}},
	{"SessionIdle", "never", ilo(B{}), func(b *browser) {
		b.token = b.want(b.post("/SessionService/Sessions", logIn), 201, "").header.Get("X-Auth-Token")
		b.ok(b.get(iloSystem))
		b.m.EndSessions()
		b.want(b.get(iloSystem), 401, "NoValidSession")
	}},
	{"BasicOpensSession", "", ilo(B{BasicOpensSession: true, SessionLimit: 2, SessionIdle: time.Hour}), func(b *browser) {
		b.ok(b.get(iloSystem))
		b.ok(b.get(iloSystem))
		b.want(b.get(iloSystem), 503, "SessionLimitExceeded")
	}},
	{"NoToken", "", ilo(B{NoToken: true}), func(b *browser) {
		r := b.want(b.post("/SessionService/Sessions", logIn), 201, "")
		if r.header.Get("X-Auth-Token") != "" || b.m.Stats().Sessions != 1 {
			b.t.Errorf("got %v, %+v", r.header, b.m.Stats())
		}
	}},
	{"NoBasic", "", ilo(B{NoBasic: true}), func(b *browser) {
		b.want(b.get(iloSystem), 401, "NoValidSession")
		b.token = b.want(b.post("/SessionService/Sessions", logIn), 201, "").header.Get("X-Auth-Token")
		b.ok(b.get(iloSystem))
	}},
	{"LockoutAfter", "", slow(ilo(B{LockoutAfter: 2})), func(b *browser) {
		b.want(b.post("/SessionService/Sessions", strings.Replace(logIn, "secret", "guess", 1)), 401, "UnauthorizedLoginAttempt")
		b.want(b.post("/SessionService/Sessions", logIn), 201, "")
		for range 2 {
			b.want(b.post("/SessionService/Sessions", strings.Replace(logIn, "secret", "guess", 1)), 401, "UnauthorizedLoginAttempt")
		}
		b.want(b.post("/SessionService/Sessions", logIn), 401, "UnauthorizedLoginAttempt")
		b.want(b.get(iloSystem), 401, "")
		if n := b.m.Stats().BadLogins; n != 5 {
			b.t.Errorf("%d bad logins", n)
		}
	}},
}
