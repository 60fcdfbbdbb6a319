package bmcsim

import (
	"encoding/json"
	"net/http"
)

// gigabyte has the shape of an H262 with AMI MegaRAC 12.84 (vendors.md 2.1, 2.2,
// 3.2).
var gigabyte = kind{
	vendor: "AMI", product: "AMI Redfish Server", redfishVersion: "1.7.0",
	manufacturer: "GIGABYTE", model: "H262-Z63-00",
	managerModel: "410810600", bmcName: "MegaRAC", firmware: "12.84.13", systemID: "Self", managerID: "Self",
	baseRegistry: "Base.1.0", oemRegistry: "Ami.1.0", wordings: amiWordings,
	mediaUnder: "Managers", slots: []slotKind{{id: "CD1", name: "virtual CD1", types: []string{"CD", "DVD"}, cd: true}},
	bootTargets: []string{"None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup", "Utilities", "UefiShell", "UefiTarget", "SDCard", "UefiHttp", "RemoteDrive", "UefiBootNext"},
	bootMode:    "Legacy",
	resetTypes:  []string{"GracefulShutdown", "ForceRestart", "ForceOff", "On"},
	etags:       true,
	queries:     features{only: true, maxLevels: 5, links: true}, // 2.7
	always:      Behaviour{NoneWhenEmpty: true, NoMediaTypes: true, ResetActionInfo: true, Queries: QueriesTooBig},
	dressRoot: func(d doc, v view) {
		d["Oem"] = doc{
			"Ami":    doc{"@odata.type": "#AMIServiceRoot.v1_0_0.AMIServiceRoot", "RtpVersion": "1.7.0"},
			"Vendor": doc{"@odata.type": "#VendorServiceRoot.v1_0_0.VendorServiceRoot", "VendorVersion": "1.7.0.001"},
		}
	},
	dressSystem: func(d doc, v view) {
		boot, _ := d["Boot"].(doc)
		boot["BootNext"] = ""
		boot["BootSourceOverrideEnabled@Redfish.AllowableValues"] = []string{"Disabled", "Once", "Continuous"}
		boot["BootSourceOverrideMode@Redfish.AllowableValues"] = []string{"Legacy", "UEFI"}
	},
	dressManager: dressAMIManager,
	dressSlot:    func(d doc, v view, s slotKind) { d["WriteProtected"] = false },
	more:         amiResources,
}

// gigabyte13 has the shape of Gigabyte's Redfish 1.11 and the habits of one board
// with 13.06.10 (3.2, "The fullest field record").
var gigabyte13 = gigabyte.like(func(k *kind) {
	k.redfishVersion, k.model, k.firmware = "1.15.1", "G293-S42", "13.06.10"
	k.baseRegistry = "Base.1.12"
	k.slots = []slotKind{
		{id: "CD1", name: "Virtual CD1", types: []string{"CD", "DVD"}, cd: true},
		{id: "USBStick1", name: "Virtual USB1", types: []string{"USBStick"}},
	}
	k.also = &otherSide{under: "Systems", slots: k.slots}
	k.cdOption = "0007"
	k.always = Behaviour{
		ResetActionInfo: true, InsertTask: TaskInBody, Echo: EchoDoubled, HTTPOnly: true, DefaultPortOnly: true,
		InsertRefuses: []string{"UserName", "Password"}, EjectKeepsName: true, IfMatch: http.StatusPreconditionRequired, FullBoot: true,
		RedirectionStatus: true, UnmountOnBMCRestart: true, SecondSystem: true,
	}
	k.baseboard = "UBB"
	k.dressManager = dressNewAMIManager
	k.dressSlot = nil
	k.more = newAMIResources
})

// dgx has the shape of a DGX H100 (3.13): remote media off, the override in a
// settings object, a board of GPUs for a second system.
var dgx = gigabyte13.like(func(k *kind) {
	k.redfishVersion, k.firmware, k.managerModel = "1.11.0", "23.11.20", "77171220"
	k.manufacturer, k.model, k.systemID, k.managerID = "NVIDIA", "DGXH100", "DGX", "BMC"
	k.rootOem = doc{"Ami": doc{"RtpVersion": "1.11.0"}}
	k.dressRoot, k.dressSystem = nil, nil
	k.also, k.cdOption = nil, ""
	k.baseboard = "HGX_Baseboard_0"
	k.bootTargets = []string{"None", "Pxe", "Floppy", "Cd", "Usb", "Hdd", "BiosSetup", "Utilities", "Diags", "UefiShell", "UefiTarget", "SDCard", "UefiHttp", "RemoteDrive", "UefiBootNext"}
	k.bootMode = "UEFI"
	k.resetTypes = []string{"On", "ForceOff", "ForceRestart", "GracefulShutdown"}
	k.always = Behaviour{
		SettingsObject: "SD", IfMatch: http.StatusPreconditionFailed, InsertNeeds: []string{"UserName", "Password"}, SecondSystem: true, LockoutAfter: 5,
	}
})

// megaRAC is one of other makers, as MiTAC's (3.2).
var megaRAC = gigabyte13.like(func(k *kind) {
	k.manufacturer, k.model, k.firmware = "MiTAC", "R1520G6", "5.14.0"
	k.cdOption = ""
	k.always = Behaviour{
		InsertTask: TaskInBody, InsertRefuses: []string{"UserName", "Password"}, IfMatch: http.StatusPreconditionRequired, FullBoot: true,
		RedirectionStatus: true, InsertLags: true,
	}
})

// asrockRack is a MegaRAC that wants the whole override (3.2).
var asrockRack = gigabyte.like(func(k *kind) {
	k.manufacturer, k.model, k.firmware = "ASRockRack", "ROMED8-2T", "3.06.00"
	k.always = Behaviour{FullBoot: true, ResetActionInfo: true}
})

// tsm is Lenovo's MegaRAC (2.1, 3.2): it mounts from https, CIFS and NFS servers,
// and an early one, tsmEarly, from NFS servers only. An ActionInfo tells which.
var (
	tsm = gigabyte13.like(func(k *kind) {
		k.manufacturer, k.model, k.firmware = "Lenovo", "ThinkSystem SR635", "AMBT42H"
		k.systemOem = doc{"Lenovo": doc{"FrontPanelUSB": "Server"}}
		k.cdOption, k.also = "", nil
		k.always = Behaviour{InsertTask: TaskInBody, InsertInfo: true, InsertNeeds: []string{"TransferProtocolType"}, HTTPSOnly: true, FullBoot: true}
	})
	tsmEarly = gigabyte.like(func(k *kind) {
		k.manufacturer, k.model, k.firmware = "Lenovo", "ThinkSystem SR655", "AMBT11N"
		k.systemOem = doc{"Lenovo": doc{"FrontPanelUSB": "Server"}}
		k.always = Behaviour{ResetActionInfo: true, InsertInfo: true, HTTPSOnly: true, HTTPOnly: true}
	})
)

const (
	rmediaAction     = "/Actions/Oem/Ami/VirtualMedia.EnableRMedia"
	cdInstanceAction = "/Actions/Oem/Ami/VirtualMedia.ConfigureCDInstance"
)

func dressAMIManager(d doc, v view) {
	d["PowerState"] = "On"
	d["Actions"] = doc{"Oem": doc{
		"#VirtualMedia.EnableRMedia": doc{
			"target":              v.k.managerPath() + rmediaAction,
			"@Redfish.ActionInfo": v.k.managerPath() + "/Oem/Ami/VirtualMedia.EnableRMediaActionInfo",
		},
		"#VirtualMedia.ConfigureCDInstance": doc{
			"target": v.k.managerPath() + cdInstanceAction,
		},
	}}
}

func dressNewAMIManager(d doc, v view) {
	d["PowerState"] = "On"
	status := "Disabled"
	if v.listed {
		status = "Enabled"
	}
	d["Oem"] = doc{"Ami": doc{"VirtualMedia": doc{"CDInstances": 4, "RMediaStatus": status}}}
	d["Actions"] = doc{"Oem": doc{
		"#AMIVirtualMedia.EnableRMedia":        doc{"target": v.k.managerPath() + newRMediaAction},
		"#AMIVirtualMedia.ConfigureCDInstance": doc{"target": v.k.managerPath() + newCDInstanceAction},
	}}
}

const (
	newRMediaAction     = "/Actions/Oem/AMIVirtualMedia.EnableRMedia"
	newCDInstanceAction = "/Actions/Oem/AMIVirtualMedia.ConfigureCDInstance"
)

func newAMIResources(m *Machine, tree map[string]resource) {
	tree[m.kind.managerPath()+newRMediaAction] = resource{post: (*Machine).postEnableRMedia, action: true}
	tree[m.kind.managerPath()+newCDInstanceAction] = resource{post: (*Machine).postConfigureCDInstance, action: true}
}

func amiResources(m *Machine, tree map[string]resource) {
	tree[m.kind.managerPath()+rmediaAction] = resource{post: (*Machine).postEnableRMedia, action: true}
	tree[m.kind.managerPath()+cdInstanceAction] = resource{post: (*Machine).postConfigureCDInstance, action: true}
	tree[m.kind.managerPath()+"/Oem/Ami/VirtualMedia.EnableRMediaActionInfo"] = resource{get: rmediaInfoDoc}
}

func rmediaInfoDoc(v view) doc {
	d := resourceDoc(v.k.managerPath()+"/Oem/Ami/VirtualMedia.EnableRMediaActionInfo", "#ActionInfo.v1_1_1.ActionInfo", "EnableRMedia", "RMediaSupportAction")
	d["Parameters"] = []any{doc{"Name": "RMediaState", "Required": true, "DataType": "String", "AllowableValues": []string{"Enable", "Disable"}}}
	return d
}

// postEnableRMedia switches remote media on or off, and answers 200 with a body that looks like an error and is none
// (vendors.md 3.2).
func (m *Machine) postEnableRMedia(c *call) answer {
	var body struct{ RMediaState string }
	if json.Unmarshal(c.body, &body) != nil || body.RMediaState != "Enable" && body.RMediaState != "Disable" {
		return m.refused(m.kind.refuse("ActionParameterValueNotInList", body.RMediaState, "RMediaState", "VirtualMedia.EnableRMedia"))
	}
	m.mu.Lock()
	m.enableRemote(body.RMediaState == "Enable")
	m.mu.Unlock()
	return m.delayed()
}

// postConfigureCDInstance restarts the media service, whatever the number.
func (m *Machine) postConfigureCDInstance(*call) answer {
	m.mu.Lock()
	err := m.configureCDs()
	m.mu.Unlock()
	if err != nil {
		return m.refusedBy(err)
	}
	return m.delayed()
}

func (m *Machine) delayed() answer {
	return answer{status: http.StatusOK, body: doc{"error": doc{
		"code":    m.kind.oemRegistry + ".DelayInActionCompletion",
		"message": "The action will take some time to complete.",
		"@Message.ExtendedInfo": []any{doc{
			"@odata.type": "#Message.v1_0_7.Message",
			"MessageId":   m.kind.oemRegistry + ".DelayInActionCompletion",
			"Message":     "The action will take some time to complete.",
			"Severity":    "OK", "Resolution": "Wait before the next request.",
		}},
	}}}
}
