package bmcsim

import (
	"encoding/json"
	"net/http"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

var (
	discs  = []string{"CD", "DVD"}
	allOf  = []string{"CD", "DVD", "Floppy", "USBStick"}
	sticks = []string{"CD", "USBStick"}
)

// supermicro has the shape of an SYS-821GE with 11.01 (vendors.md 2.1, 2.2, 3.5).
var supermicro = kind{
	redfishVersion: "1.11.0", manufacturer: "Supermicro", model: "SYS-821GE-TNHR",
	managerModel: "ASPEED", bmcName: "Supermicro BMC", firmware: "11.01.01", systemID: "1", managerID: "1",
	rootOem:      doc{"Supermicro": doc{"DumpService": doc{}}},
	systemOem:    doc{"Supermicro": doc{"NodeManager": doc{}}},
	baseRegistry: "Base.v1_10_3", oemRegistry: "SMC.1.0",
	mediaUnder: "Managers",
	slots: []slotKind{
		{id: "VirtualMedia1", name: "Virtual Removable Media", types: allOf, cd: true},
		{id: "VirtualMedia2", name: "Virtual Removable Media", types: allOf},
		{id: "VirtualMedia3", name: "Virtual Removable Media", types: allOf},
	},
	empty: emptyNull, etags: true, strongTags: true,
	bootTargets: []string{"None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup", "UsbCd", "UefiBootNext", "UefiHttp"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn", "PowerCycle"},
	queries:     features{only: true, maxLevels: 2}, // 2.7: said, and seen not to work
	always: Behaviour{
		Queries: QueriesIgnored, UsbCd: true, EjectActionVanishes: true, NameNeverClears: true, InsertInfo: true, InsertTask: TaskLocation, ResetActionInfo: true,
		InsertRefuses: []string{"Inserted", "WriteProtected"}, LockoutAfter: 3,
	},
	dressSystem: func(d doc, v view) {
		d["BootProgress"] = doc{"LastState": "SystemHardwareInitializationComplete"} // always (2.8)
		d["VirtualMedia"] = ref(v.k.mediaPath())
	},
	dressSlot: func(d doc, v view, _ slotKind) { d["Oem"] = doc{"Supermicro": doc{"AcceptSelfSigned": nil}} },
}

// supermicroARS is the one model that wants Cd (2.6).
var supermicroARS = supermicro.like(func(k *kind) {
	k.model = "ARS-111GL-NHR"
	k.bootTargets = []string{"None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup", "UsbCd", "UefiBootNext", "UefiHttp"}
	k.always.UsbCd = false
})

// supermicroX11 is a late X11, with slots of the old name.
var supermicroX11 = supermicro.like(func(k *kind) {
	k.model, k.firmware = "SSG-6049P-E1CR24H", "1.74.11"
	k.slots = []slotKind{{id: "CD1", name: "Virtual Removable Media", types: discs, cd: true}}
	k.bootTargets = []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "UsbCd"}
	k.always = Behaviour{
		UsbCd: true, EjectActionVanishes: true, NameNeverClears: true, FullBoot: true,
		InsertRefuses: []string{"Inserted", "WriteProtected", "TransferProtocolType", "TransferMethod"},
	}
})

// supermicroX10 has a collection of slots that is none: it names CfgCD (2.2).
var supermicroX10 = supermicro.like(func(k *kind) {
	k.redfishVersion, k.model, k.firmware = "1.0.1", "Super Server", "4.0"
	k.rootOem = doc{}
	k.managerOem = doc{"Supermicro": doc{}}
	k.collection, k.slots, k.queries = "VM1", nil, features{}
	k.bootTargets = []string{"None", "Pxe", "Hdd", "Diags", "CD/DVD", "BiosSetup", "UsbKey", "UsbHdd", "UsbFloppy", "UsbCd", "UefiUsbKey", "UefiCd", "UefiHdd", "UefiUsbHdd", "UefiUsbCd"}
	k.bootMode = ""
	k.always = Behaviour{UsbCd: true}
	k.dressSystem = nil
	k.dressMedia = func(d doc, v view) {
		delete(d, "Members")
		d["Oem"] = doc{"Supermicro": doc{"VirtualMediaConfig": ref(v.k.mediaPath() + "/CfgCD")}}
	}
	k.more = func(m *Machine, tree map[string]resource) {
		path := m.kind.mediaPath() + "/CfgCD"
		tree[path] = resource{get: func(view) doc { return resourceDoc(path, "#IsoConfig.v1_0_0.IsoConfig", "CfgCD", "Virtual Media") }}
	}
})

// xcc has the shape of an SR670 V2 (2.1, 2.2, 3.6): everything by PATCH, what a
// session mounted goes with it.
var xcc = kind{
	vendor: "Lenovo", redfishVersion: "1.15.0", manufacturer: "Lenovo", model: "ThinkSystem SR670 V2",
	managerModel: "Lenovo XClarity Controller", bmcName: "XCC", firmware: "TGBT42S 2.83 2023-07-05", systemID: "1", managerID: "1",
	systemOem:    doc{"Lenovo": doc{"NumberOfReboots": 3, "SystemStatus": "OSBooted"}},
	baseRegistry: "Base.1.15", oemRegistry: "ExtendedError.1.2", wordings: lenovoWordings,
	mediaUnder: "Systems", slots: xccSlots, also: &otherSide{under: "Managers", slots: xccSlots},
	empty: emptyNull, etags: true, strongTags: true,
	bootTargets: []string{"None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup", "Diags", "UefiTarget"},
	bootMode:    "UEFI", boots: []string{"Once", "Disabled"},
	resetTypes: []string{"On", "Nmi", "GracefulShutdown", "GracefulRestart", "ForceOn", "ForceOff", "ForceRestart"},
	always:     Behaviour{MediaByPatch: true, SessionUnmounts: true},
}

var (
	xcc2 = xcc.like(func(k *kind) {
		k.model, k.managerModel, k.firmware = "ThinkSystem SR650 V3", "Lenovo XClarity Controller 2", "ESX321Q 4.11 2024-05-10"
	})
	xcc3 = xcc.like(func(k *kind) {
		k.model, k.managerModel, k.firmware = "ThinkSystem SR650 V4", "Lenovo XClarity Controller 3", "IHX403K 1.20 2025-03-01"
	})
)

var xccSlots = []slotKind{
	{id: "EXT1", name: "VirtualMedia", types: allOf, cd: true, licensed: true},
	{id: "EXT2", name: "VirtualMedia", types: allOf, licensed: true},
	{id: "RDOC1", name: "VirtualMedia", types: allOf},
	{id: "Remote1", name: "VirtualMedia", types: allOf},
}

var lenovoWordings = map[string]wording{
	"DriveFull":                       {http.StatusBadRequest, "Base.PropertyValueConflict", "The property Image could not be written because its value would conflict with the value of the property Inserted.", bmc.KindMedia},
	"ActionParameterValueFormatError": {http.StatusBadRequest, "Base.SourceDoesNotSupportProtocol", "The other end of the connection at %1 does not support the specified protocol.", bmc.KindURL},
}

// openBMC is OpenBMC built with virtual media, of which the first slot is a proxy
// (2.2, 3.3).
var openBMC = openBMCStock.like(func(k *kind) {
	k.manufacturer, k.model = "Contoso", "Contoso Open 1"
	k.dressSystem = nil
	k.progress = true
	k.mediaUnder = "Managers"
	k.slots = []slotKind{
		{id: "Slot_0", name: "Virtual Removable Media", types: sticks, actions: "eject"},
		{id: "Slot_1", name: "Virtual Removable Media", types: sticks, refuses: "ActionNotSupported"},
		{id: "Slot_2", name: "Virtual Removable Media", types: sticks, cd: true},
	}
	k.empty, k.connected = emptyAbsent, "Applet"
	k.wordings = openBMCWordings
	k.always = Behaviour{ResetActionInfo: true, HTTPSOnly: true, RefuseIfMatchOnActions: true}
})

// gb200 is NVIDIA's OpenBMC: a board of GPUs for a second system (3.13).
var gb200 = openBMC.like(func(k *kind) {
	k.vendor, k.product, k.firmware = "NVIDIA", "GB200 NVL", "GB200Nvl-24.12-8"
	k.manufacturer, k.model, k.systemID, k.managerID, k.baseboard = "", "", "System_0", "BMC_0", "HGX_Baseboard_0"
	k.bootMode = ""
	k.slots = []slotKind{
		{id: "USB1", name: "Virtual Removable Media", types: sticks, cd: true},
		{id: "USB2", name: "Virtual Removable Media", types: sticks},
	}
	k.managerOem = doc{"Nvidia": doc{}, "OpenBmc": doc{}}
	k.dressManager = nil
	k.always.SecondSystem, k.always.ZeroDates = true, true
})

var openBMCWordings = map[string]wording{
	"ActionParameterValueFormatError": {http.StatusBadRequest, "Base.ResourceAtUriInUnknownFormat", "The resource at %1 is in a format not recognized by the service.", bmc.KindURL},
}

// irmc is armed by a resource of its own, and mounts from no plain web server
// (3.9).
var irmc = kind{
	redfishVersion: "1.6.0", manufacturer: "FUJITSU", model: "PRIMERGY RX2540 M6",
	managerModel: "iRMC S6", bmcName: "iRMC", firmware: "1.60P", systemID: "0", managerID: "iRMC",
	rootOem: doc{"ts_fujitsu": doc{}}, systemOem: doc{"ts_fujitsu": doc{"SystemDescription": "node"}},
	baseRegistry: "Base.1.5", oemRegistry: "iRMC.1.0", wordings: map[string]wording{
		"ActionParameterValueFormatError": {http.StatusBadRequest, "Base.ActionParameterValueNotInList", "The value HTTP for the parameter TransferProtocolType in the action is not in the list of acceptable values.", bmc.KindURL},
	},
	mediaUnder:  "Managers",
	slots:       []slotKind{{id: "0", name: "Virtual CD", types: discs, cd: true}, {id: "1", name: "Virtual HD", types: []string{"USBStick"}}},
	etags:       true,
	bootTargets: []string{"None", "Pxe", "Cd", "Hdd", "BiosSetup"}, bootMode: "UEFI",
	cdTarget:   "BootConfig",
	resetTypes: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "GracefulRestart", "PushPowerButton", "Nmi"},
	always:     Behaviour{InsertNeeds: []string{"TransferProtocolType"}, HTTPSOnly: true, InsertLags: true, IfMatch: http.StatusPreconditionRequired},
	more: func(m *Machine, tree map[string]resource) {
		tree[m.kind.bootConfigPath()] = resource{get: bootConfigDoc, patch: (*Machine).patchBootConfig}
	},
}

func (k kind) bootConfigPath() string { return k.systemPath() + "/Oem/ts_fujitsu/BootConfig" }

func bootConfigDoc(v view) doc {
	d := resourceDoc(v.k.bootConfigPath(), "#FTSBootConfig.v1_0_0.FTSBootConfig", "BootConfig", "Boot Config")
	d["BootDevice"], d["NextBootOnlyEnabled"] = "None", true
	if v.own.Target == v.k.cdTarget {
		d["BootDevice"] = "Cd"
	}
	return d
}

func (m *Machine) patchBootConfig(c *call) (*task, error) {
	var body struct{ BootDevice string }
	if json.Unmarshal(c.body, &body) != nil || body.BootDevice == "" {
		return nil, m.kind.refuse("PropertyMissing", "BootDevice")
	}
	return nil, m.armOwn(body.BootDevice == "Cd")
}

// cimc is a blade's: of five slots one takes images (2.2, 3.10).
var cimc = kind{
	redfishVersion: "1.2.0", manufacturer: "Cisco Systems Inc", model: "UCSX-210C-M7",
	managerModel: "CIMC", bmcName: "CIMC", firmware: "5.2(0.230061)", systemID: "FCH25337EHM", managerID: "CIMC",
	rootOem:      doc{"Cisco": doc{}},
	baseRegistry: "Base.1.4", oemRegistry: "Cisco.1.0",
	mediaUnder: "Managers",
	slots: []slotKind{
		{id: "0", name: "vKVM-Mapped vHDD", types: []string{"USBStick"}},
		{id: "1", name: "vKVM-Mapped vDVD", types: discs, refuses: "ActionNotSupported"},
		{id: "2", name: "vKVM-Mapped vFDD", types: []string{"Floppy"}},
		{id: "3", name: "CIMC-Mapped vHDD", types: []string{"USBStick"}},
		{id: "4", name: "CIMC-Mapped vDVD", types: []string{"DVD"}, cd: true},
	},
	etags:       true,
	bootTargets: []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup", "Diags"},
	resetTypes:  []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PowerCycle"},
	dressSlot:   cimcInsert("TransferProtocolType", "UserName", "Password", "WriteProtected"),
	always:      Behaviour{InsertTask: TaskResource, InsertLags: true, InsertRefuses: []string{"Inserted", "TransferMethod"}},
}

// cimcRack is a rack server's, which says that it is Cisco's as a manufacturer
// only.
var cimcRack = cimc.like(func(k *kind) {
	k.model, k.managerModel, k.firmware, k.systemID, k.rootOem = "UCSC-C220-M5SX", "UCSC-C220-M5SX", "4.1(3i)", "WZP22490ZCU", nil
	k.slots = []slotKind{
		{id: "1", name: "Virtual HDD", types: []string{"USBStick"}},
		{id: "0", name: "Virtual CD", types: discs, cd: true},
	}
	k.empty, k.loose, k.tellsPost = emptyAbsent, "URI", true
	k.dressSystem = func(d doc, v view) {
		d["Oem"] = doc{"Cisco": doc{"PostCompletionStatus": v.phase == bmc.PhaseOS}}
	}
	k.dressSlot = cimcInsert("TransferProtocolType", "UserName", "Password", "WriteProtected", "TransferMethod", "Inserted")
	k.always = Behaviour{InsertLags: true, EjectLags: true}
})

// cimcInsert says by what and with what a slot takes an image.
func cimcInsert(parameters ...string) func(doc, view, slotKind) {
	says := doc{
		"TransferProtocolType": []string{"CIFS", "HTTP", "HTTPS", "NFS"},
		"TransferMethod":       []string{"Stream"}, "WriteProtected": []string{"true"}, "Inserted": []string{"true"},
	}
	return func(d doc, _ view, _ slotKind) {
		actions, _ := d["Actions"].(doc)
		insert, _ := actions["#VirtualMedia.InsertMedia"].(doc)
		if insert == nil {
			return
		}
		insert["Image@Redfish.AllowableValues"] = []string{"This parameter shall specify the string URI of the remote media."}
		for _, name := range parameters {
			insert[name+"@Redfish.AllowableValues"] = []string{"This parameter shall contain a string."}
			if values, ok := says[name]; ok {
				insert[name+"@Redfish.AllowableValues"] = values
			}
		}
	}
}

// xFusion is a 2288H V7 (3.11).
var xFusion = kind{
	redfishVersion: "1.13.0", manufacturer: "xFusion", model: "2288H V7",
	managerModel: "iBMC", bmcName: "xFusion iBMC", firmware: "3.08.05.85", systemID: "1", managerID: "1",
	rootOem:      doc{"xFusion": doc{"ProductName": "2288H V7"}},
	baseRegistry: "Base.1.0", oemRegistry: "iBMC.1.0", wordings: ibmcWordings,
	mediaUnder: "Managers", slots: xFusionSlots, also: &otherSide{under: "Systems", slots: xFusionSlots},
	etags:       true,
	bootTargets: []string{"None", "Pxe", "Floppy", "Cd", "Hdd", "BiosSetup"}, bootMode: "UEFI",
	resetTypes: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "ForcePowerCycle"},
	always: Behaviour{
		InsertNeeds: []string{"TransferProtocolType"}, HTTPSOnly: true, AddressOnly: true, InsertTask: TaskLocation, EjectTask: TaskLocation,
		MessagesAsObject: true, Echo: EchoNoPort, EjectLags: true,
	},
}

var xFusionSlots = []slotKind{
	{id: "CD", name: "VirtualMedia", types: discs, cd: true},
	{id: "USBStick", name: "VirtualMedia", types: []string{"USBStick"}},
}

var ibmcWordings = map[string]wording{
	"DriveFull":                   {http.StatusBadRequest, "Oem.ConnectionOccupied", "The connection is occupied.", bmc.KindMedia},
	"CouldNotEstablishConnection": {http.StatusBadRequest, "Oem.ConnectionFailed", "The connection to %1 failed.", bmc.KindMedia},
	"InsufficientPrivilege":       {http.StatusBadRequest, "Oem.PropertyModificationNeedPrivilege", "The user does not have the privilege.", bmc.KindAuth},
	"FutureState":                 {http.StatusBadRequest, "Base.PropertyNotWritable", "The property %1 is a read only property.", bmc.KindProtocol},
	"WrongProtocol":               {http.StatusBadRequest, "Oem.FileTransferProtocolMismatch", "The file transfer protocol is not supported.", bmc.KindURL},
}

// ibmc is a Huawei 2288H V5: VmmControl only, and logins of its own (3.11).
var ibmc = xFusion.like(func(k *kind) {
	k.manufacturer, k.model, k.bmcName, k.firmware = "Huawei", "2288H V5", "iBMC", "6.41"
	k.rootOem = doc{"Huawei": doc{"ProductName": "2288H V5"}}
	k.oemMedia, k.also, k.loginOem = true, nil, "Huawei"
	k.always = Behaviour{MessagesAsObject: true}
	k.dressSlot = vmmControl("Huawei")
	k.more = vmmActions("Huawei")
})

// hdm is H3C's (3.12).
var hdm = ibmc.like(func(k *kind) {
	k.manufacturer, k.model, k.bmcName, k.firmware, k.loginOem = "H3C", "UniServer R4900 G5", "HDM", "3.17", ""
	k.rootOem = doc{"Public": doc{}}
	k.slots = []slotKind{{id: "CD1", name: "VirtualMedia", types: discs, cd: true}}
	k.dressSlot = vmmControl("Public")
	k.more = vmmActions("Public")
})

func (k kind) vmmPath(s slotKind, key string) string {
	return k.mediaPath() + "/" + s.id + "/Oem/" + key + "/Actions/VirtualMedia.VmmControl"
}

func vmmControl(key string) func(doc, view, slotKind) {
	return func(d doc, v view, s slotKind) {
		d["Oem"] = doc{key: doc{"Actions": doc{"#VirtualMedia.VmmControl": doc{"target": v.k.vmmPath(s, key)}}}}
	}
}

func vmmActions(key string) func(*Machine, map[string]resource) {
	return func(m *Machine, tree map[string]resource) {
		for _, s := range m.kind.slots {
			tree[m.kind.vmmPath(s, key)] = resource{post: refusing("WrongProtocol"), action: true, media: true}
		}
	}
}

// inspur takes NFS only, and tells a login's token in the body (3.12).
var inspur = kind{
	redfishVersion: "1.6.0", manufacturer: "Inspur", model: "NF5280M6",
	managerModel: "BMC", bmcName: "Inspur BMC", firmware: "4.26.06", systemID: "1", managerID: "1",
	rootOem:      doc{"Public": doc{}},
	baseRegistry: "Base.1.4", oemRegistry: "Inspur.1.0",
	mediaUnder:  "Managers",
	slots:       []slotKind{{id: "CD0", name: "VirtualMedia", types: discs, cd: true, refuses: ""}},
	etags:       true,
	bootTargets: []string{"None", "Pxe", "Cd", "Hdd", "BiosSetup"}, bootMode: "UEFI",
	resetTypes: []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn", "PushPowerButton", "ForcePowerCycle"},
	always:     Behaviour{TokenInBody: true, InsertNeeds: []string{"TransferProtocolType"}, HTTPSOnly: true, HTTPOnly: true},
}

// intel is an S2600BPB: a collection of slots that stays empty (3.7).
var intel = kind{
	redfishVersion: "1.1.0", manufacturer: "Intel Corporation", model: "S2600BPB",
	managerModel: "S2600BPB", bmcName: "Intel BMC", firmware: "1.93.870cf4f0", systemID: "QSBP74100021", managerID: "BMC",
	systemOem:    doc{"Intel_RackScale": doc{}},
	baseRegistry: "Base.1.0", oemRegistry: "Intel.1.0",
	mediaUnder:  "Managers",
	bootTargets: []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "UefiShell", "Usb"}, bootMode: "Legacy",
	resetTypes: []string{"PushPowerButton", "On", "GracefulShutdown", "ForceRestart", "Nmi", "ForceOn", "ForceOff"},
	always:     Behaviour{MediaProtocolOff: true},
}

// sushyTools is openstack's emulator (3.14).
var sushyTools = kind{
	rootID: "RedvirtService", redfishVersion: "1.5.0",
	managerModel: "Sushy", bmcName: "sushy-tools", firmware: "1.0", systemID: "5bb4a8d1-6a34-4a4e-9a0f-f0f4a4d04f2d", managerID: "5bb4a8d1-6a34-4a4e-9a0f-f0f4a4d04f2d",
	manufacturer: "Sushy Emulator", model: "",
	baseRegistry: "Base.1.0", oemRegistry: "Sushy.1.0",
	mediaUnder: "Systems",
	slots: []slotKind{
		{id: "Cd", name: "Virtual CD", types: discs, cd: true},
		{id: "Floppy", name: "Virtual Removable Media", types: []string{"Floppy", "USBStick"}},
	},
	loose:       "URI",
	bootTargets: []string{"Pxe", "Cd", "Hdd"}, bootMode: "UEFI",
	resetTypes: []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "Nmi", "ForceOn"},
	always:     Behaviour{NoSessions: true, OverrideStays: true, OverrideReadsContinuous: true},
}
