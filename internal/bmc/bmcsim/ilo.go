package bmcsim

import (
	"encoding/json"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// ilo5 has the shape of a DL325 with iLO 5 2.46 (vendors.md 2.1, 2.2, 3.1).
var ilo5 = kind{
	vendor: "HPE", product: "ProLiant DL325 Gen10 Plus", redfishVersion: "1.6.0",
	manufacturer: "HPE", model: "ProLiant DL325 Gen10 Plus",
	managerModel: "iLO 5", bmcName: "iLO 5", firmware: "iLO 5 v2.46", systemID: "1", managerID: "1",
	baseRegistry: "Base.1.4", oemRegistry: "iLO.2.14", terse: true, wordings: iloWordings,
	mediaUnder: "Managers", slots: iloSlots,
	bootTargets: []string{"None", "Cd", "Hdd", "Usb", "SDCard", "Utilities", "Diags", "BiosSetup", "Pxe", "UefiShell", "UefiHttp", "UefiTarget"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "GracefulRestart"},
	tellsPost:   true, etags: true, patchMedia: true,
	queries:      features{only: true, maxLevels: 1}, // 2.7
	always:       Behaviour{BodyRequired: true, RefuseEmptyEject: true, BootRefusedInPost: true, RefuseSameState: true},
	dressRoot:    func(d doc, v view) { d["Oem"] = doc{"Hpe": iloRootOem("iLO 5", "2.46")} },
	dressSystem:  func(d doc, v view) { d["Oem"] = doc{"Hpe": iloPost(v)} },
	dressManager: func(d doc, v view) { d["Oem"] = doc{"Hpe": iloLicence(v)} },
	dressSlot:    dressILO5Slot,
	more:         ilo5Actions,
}

// ilo6 and ilo7 have the same media model and the same words (3.1). ilo5Early is a
// BL460c with 1.45: its manager has no model, its links end in slashes, and the
// power button is how to ask for a shutdown.
var (
	ilo5Early = ilo5.like(func(k *kind) {
		k.product, k.model, k.redfishVersion = "ProLiant BL460c Gen10", "ProLiant BL460c Gen10", "1.0.0"
		k.managerModel, k.firmware, k.oemRegistry = "", "iLO 5 v1.45", "iLO.2.8"
		k.resetTypes = []string{"On", "ForceOff", "ForceRestart", "Nmi", "PushPowerButton"}
		k.dressRoot = func(d doc, v view) { d["Oem"] = doc{"Hpe": iloRootOem("iLO 5", "1.45")} }
		k.always.TrailingSlash = true
	})
	ilo6 = ilo5.like(func(k *kind) {
		k.product, k.model = "ProLiant DL380 Gen11", "ProLiant DL380 Gen11"
		k.managerModel, k.bmcName, k.firmware, k.oemRegistry = "iLO 6", "iLO 6", "iLO 6 v1.70", "iLO.2.34"
		k.dressRoot = func(d doc, v view) { d["Oem"] = doc{"Hpe": iloRootOem("iLO 6", "1.70")} }
	})
	ilo7 = ilo5.like(func(k *kind) {
		k.product, k.model = "ProLiant DL380 Gen12", "ProLiant DL380 Gen12"
		k.managerModel, k.bmcName, k.firmware, k.oemRegistry = "iLO 7", "iLO 7", "1.14.00 May 28 2025", "iLO.2.31"
		k.resetTypes = []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PushPowerButton", "GracefulRestart"}
		k.dressRoot = func(d doc, v view) { d["Oem"] = doc{"Hpe": iloRootOem("iLO 7", "1.14")} }
	})
)

// ilo4 has the shape of an iLO 4 2.7x: Oem.Hp, and virtual media only through
// its OEM actions (vendors.md 2.1, 2.3, 3.1).
var ilo4 = kind{
	redfishVersion: "1.0.0",
	manufacturer:   "HPE", model: "ProLiant DL360 Gen9",
	managerModel: "iLO 4", bmcName: "iLO 4", firmware: "iLO 4 v2.73", systemID: "1", managerID: "1",
	baseRegistry: "Base.0.10", oemRegistry: "iLO.0.10", terse: true, wordings: iloWordings,
	mediaUnder: "Managers", slots: iloSlots, oemMedia: true,
	bootTargets: []string{"None", "Cd", "Hdd", "Usb", "Utilities", "Diags", "BiosSetup", "Pxe", "UefiShell", "UefiTarget"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "ForceRestart", "Nmi", "GracefulShutdown"},
	tellsPost:   true, etags: true, patchMedia: true,
	always:       Behaviour{BodyRequired: true, RefuseEmptyEject: true, BootRefusedInPost: true, RefuseSameState: true},
	dressRoot:    func(d doc, v view) { d["Oem"] = doc{"Hp": iloRootOem("iLO 4", "2.73")} },
	dressSystem:  func(d doc, v view) { d["Oem"] = doc{"Hp": iloPost(v)} },
	dressManager: func(d doc, v view) { d["Oem"] = doc{"Hp": iloLicence(v)} },
	dressSlot:    dressILO4Slot,
	more:         ilo4Actions,
}

var iloSlots = []slotKind{
	{id: "1", name: "VirtualMedia", types: []string{"Floppy", "USBStick"}},
	{id: "2", name: "VirtualMedia", types: []string{"CD", "DVD"}, cd: true},
}

func iloRootOem(manager, firmware string) doc {
	return doc{"Manager": []any{doc{"ManagerType": manager, "ManagerFirmwareVersion": firmware}}}
}

func iloLicence(v view) doc {
	licence := "iLO Advanced"
	if v.q.NoLicence {
		licence = "iLO Standard"
	}
	return doc{"License": doc{"LicenseString": licence, "LicenseType": "Perpetual"}}
}

// iloPost is how far the host has come (vendors.md 2.8).
func iloPost(v view) doc {
	state := "FinishedPost"
	switch {
	case v.phase == bmc.PhaseOff:
		state = "PowerOff"
	case v.phase == bmc.PhasePost && v.postHalf:
		state = "InPostDiscoveryComplete"
	case v.phase == bmc.PhasePost:
		state = "InPost"
	}
	return doc{"PostState": state, "CurrentPowerOnTimeSeconds": nil}
}

func dressILO5Slot(d doc, v view, s slotKind) {
	path := v.k.mediaPath() + "/" + s.id
	oem := doc{"Actions": doc{
		"#HpeiLOVirtualMedia.EjectVirtualMedia":  doc{"target": path + "/Actions/Oem/Hpe/HpeiLOVirtualMedia.EjectVirtualMedia"},
		"#HpeiLOVirtualMedia.InsertVirtualMedia": doc{"target": path + "/Actions/Oem/Hpe/HpeiLOVirtualMedia.InsertVirtualMedia"},
	}}
	if s.cd {
		oem["BootOnNextServerReset"] = v.nextCD
	}
	d["Oem"] = doc{"Hpe": oem}
}

func dressILO4Slot(d doc, v view, s slotKind) {
	path := v.k.mediaPath() + "/" + s.id
	oem := doc{"Actions": doc{
		"#HpiLOVirtualMedia.EjectVirtualMedia":  doc{"target": path + "/Actions/Oem/Hp/HpiLOVirtualMedia.EjectVirtualMedia/"},
		"#HpiLOVirtualMedia.InsertVirtualMedia": doc{"target": path + "/Actions/Oem/Hp/HpiLOVirtualMedia.InsertVirtualMedia/"},
	}}
	if s.cd {
		oem["BootOnNextServerReset"] = v.nextCD
	}
	d["Oem"] = doc{"Hp": oem}
}

func ilo4Actions(m *Machine, tree map[string]resource) {
	iloActions(m, tree, "/Actions/Oem/Hp/HpiLOVirtualMedia.")
}

func ilo5Actions(m *Machine, tree map[string]resource) {
	iloActions(m, tree, "/Actions/Oem/Hpe/HpeiLOVirtualMedia.")
}

func iloActions(m *Machine, tree map[string]resource, under string) {
	for _, s := range m.kind.slots {
		path := m.kind.mediaPath() + "/" + s.id + under
		mediaActions(tree, s, path+"InsertVirtualMedia", path+"EjectVirtualMedia")
	}
}

// nextCDPatch is the part of a slot's Oem that sets BootOnNextServerReset.
type nextCDPatch struct {
	Oem struct {
		Hpe, Hp struct{ BootOnNextServerReset *bool }
	}
}

func (p nextCDPatch) value() *bool {
	if p.Oem.Hpe.BootOnNextServerReset != nil {
		return p.Oem.Hpe.BootOnNextServerReset
	}
	return p.Oem.Hp.BootOnNextServerReset
}

// patchOemSlot changes what iLO keeps in a slot's Oem; it tells whether the body
// was about that.
func (m *Machine) patchOemSlot(body []byte) (bool, error) {
	var p nextCDPatch
	if !m.kind.patchMedia || json.Unmarshal(body, &p) != nil || p.value() == nil {
		return false, nil //nolint:nilerr // a body that is about something else
	}
	return true, m.patchNextCD(*p.value())
}
