package bmcsim

import (
	"encoding/json"
	"net/http"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// idrac9 has the shape of an R750 with iDRAC 9 7.10 (vendors.md 2.1, 2.2, 3.4): the
// CD under both sides, and inserts through the system's only.
var idrac9 = kind{
	vendor: "Dell", product: "Integrated Dell Remote Access Controller", redfishVersion: "1.17.0",
	manufacturer: "Dell Inc.", model: "PowerEdge R750",
	managerModel: "15G Monolithic", bmcName: "iDRAC 9", firmware: "7.10.30.00",
	systemID: "System.Embedded.1", managerID: "iDRAC.Embedded.1",
	rootOem:      doc{"Dell": doc{"ServiceTag": "SIM0001", "IsBranded": 0}},
	systemOem:    doc{"Dell": doc{"DellSystem": doc{"BIOSVersion": "1.9.2"}}},
	baseRegistry: "Base.1.12", oemRegistry: "IDRAC.2.8", wordings: dellWordings,
	mediaUnder: "Systems",
	slots: []slotKind{
		{id: "1", name: "VirtualMedia Instance 1", types: []string{"CD", "DVD", "USBStick"}, cd: true},
		{id: "2", name: "VirtualMedia Instance 2", types: []string{"CD", "DVD", "USBStick"}, refuses: "WrongSlot"},
	},
	also:  &otherSide{under: "Managers", slots: dellOldSlots, refuses: "WrongSide"},
	empty: emptyNull,
	etags: true, strongTags: true,
	bootTargets: []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Utilities", "UefiTarget", "SDCard", "UefiHttp"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PushPowerButton", "Nmi", "PowerCycle"},
	progress:    true,
	queries:     features{only: true, maxLevels: 1, links: true}, // 2.7
	always:      Behaviour{EjectLags: true, InsertFailsAfterEject: true, ZeroDates: true, RefuseSameState: true, BodyRequired: true},
}

var dellOldSlots = []slotKind{
	{id: "CD", name: "Virtual CD", types: []string{"CD", "DVD"}, cd: true},
	{id: "RemovableDisk", name: "Virtual Removable Disk", types: []string{"USBStick"}},
}

// idrac9Old is an iDRAC 9 before 6.00.02: media under the manager, where Cd is
// the physical drive and the virtual one is an attribute's value.
var idrac9Old = idrac9.like(func(k *kind) {
	k.model, k.managerModel, k.firmware = "PowerEdge R640", "14G Monolithic", "5.10.50.00"
	k.mediaUnder, k.slots, k.also = "Managers", dellOldSlots, nil
	k.cdTarget = "VCD-DVD"
	k.progress = false
	k.always = Behaviour{EjectLags: true, InsertFailsAfterEject: true, RefuseSameState: true, BodyRequired: true}
	k.more = dellResources
})

// idrac10 has one slot, and takes the override in a settings object (2.2, 2.6).
var idrac10 = idrac9.like(func(k *kind) {
	k.model, k.managerModel, k.bmcName, k.firmware = "PowerEdge R670", "17G Monolithic", "iDRAC 10", "1.10.17.00"
	k.also = nil
	k.always = Behaviour{
		SettingsObject: "Settings", EjectLags: true, Echo: EchoBlank, RefuseIfMatchOnActions: true, PowerOnConflicts: true, RefuseSameState: true,
	}
})

// idrac8 shows virtual media and mounts none (3.4).
var idrac8 = idrac9.like(func(k *kind) {
	k.redfishVersion, k.model, k.managerModel, k.bmcName, k.firmware = "1.4.0", "PowerEdge R630", "13G Monolithic", "iDRAC 8", "2.75.75.75"
	k.mediaUnder, k.also, k.queries = "Managers", nil, features{}
	k.slots = []slotKind{
		{id: "CD", name: "Virtual CD", types: []string{"CD", "DVD"}, cd: true, actions: "none"},
		{id: "RemovableDisk", name: "Virtual Removable Disk", types: []string{"USBStick"}, actions: "none"},
	}
	k.progress = false
	k.always = Behaviour{RefuseSameState: true}
})

// dellWordings are Dell's own (3.4).
var dellWordings = map[string]wording{
	"DriveFull":   {http.StatusInternalServerError, "Oem.VRM0021", "Virtual Media is detached or Virtual Media redirection for the selected virtual disk drive is already in use.", bmc.KindMedia},
	"WrongSide":   {http.StatusBadRequest, "Oem.RAC0904", "Unable to complete the operation because the remote file location is not reachable.", bmc.KindMedia},
	"WrongSlot":   {http.StatusBadRequest, "Oem.SYS446", "Unable to complete the operation.", bmc.KindMedia},
	"FutureState": {http.StatusBadRequest, "Base.PropertyNotWritable", "The property %1 is a read only property and cannot be assigned a value.", bmc.KindProtocol},
}

const dellAttributes = "/Attributes"

func dellResources(m *Machine, tree map[string]resource) {
	tree[m.kind.managerPath()+dellAttributes] = resource{get: attributesDoc, patch: (*Machine).patchAttributes}
}

// attributesDoc is the manager's attributes, of which two say what boots next.
func attributesDoc(v view) doc {
	once, device := "Disabled", "Normal"
	if v.own.Target == v.k.cdTarget {
		once, device = "Enabled", v.k.cdTarget
	}
	d := resourceDoc(v.k.managerPath()+dellAttributes, "#DellAttributes.v1_0_0.DellAttributes", "iDRACAttributes", "OEMAttributeRegistry")
	d["Attributes"] = doc{
		"ServerBoot.1.BootOnce": once, "ServerBoot.1.FirstBootDevice": device,
		"VirtualMedia.1.Attached": "AutoAttach", "VirtualMedia.1.MaxSessions": 1,
	}
	return d
}

func (m *Machine) patchAttributes(c *call) (*task, error) {
	var body struct{ Attributes map[string]any }
	if json.Unmarshal(c.body, &body) != nil || body.Attributes == nil {
		return nil, m.kind.refuse("PropertyMissing", "Attributes")
	}
	device, _ := body.Attributes["ServerBoot.1.FirstBootDevice"].(string)
	once, _ := body.Attributes["ServerBoot.1.BootOnce"].(string)
	switch {
	case device == m.kind.cdTarget && once == "Enabled":
		return nil, m.armOwn(true)
	case once == "Disabled":
		return nil, m.armOwn(false)
	}
	return nil, m.kind.refuse("PropertyValueNotInList", device, "ServerBoot.1.FirstBootDevice")
}
