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
	always:      Behaviour{NoneWhenEmpty: true, NoMediaTypes: true, ResetActionInfo: true},
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
