package bmcsim

// generic keeps to the standard: media under the System, InsertMedia and
// EjectMedia, everything synchronous.
var generic = kind{
	vendor: "Contoso", product: "Contoso BMC", redfishVersion: "1.15.0",
	manufacturer: "Contoso", model: "Contoso R100",
	managerModel: "Contoso BMC 4", bmcName: "Contoso BMC", firmware: "4.20.1", systemID: "1", managerID: "BMC",
	baseRegistry: "Base.1.8", oemRegistry: "Contoso.1.0",
	mediaUnder: "Systems",
	slots: []slotKind{
		{id: "USB1", name: "Virtual USB", types: []string{"USBStick"}},
		{id: "CD1", name: "Virtual CD", types: []string{"CD", "DVD"}, cd: true},
	},
	bootTargets: []string{"None", "Pxe", "Cd", "Usb", "Hdd", "BiosSetup"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "GracefulRestart"},
	etags:       true,
}

// crayEX has the shape of an EX425 node card: no virtual media, no boot
// override, no restart (vendors.md 3.8).
var crayEX = kind{
	redfishVersion: "1.2.0",
	manufacturer:   "HPE", model: "HPE CRAY EX425 (MILAN)",
	firmware: "nc.1.6.3", systemID: "Node0", managerID: "BMC",
	baseRegistry: "Base.1.4", oemRegistry: "Cray.1.0",
	resetTypes: []string{"ForceOff", "On", "Off"},
	etags:      true,
	always:     Behaviour{ResetActionInfo: true},
	dressManager: func(d doc, v view) {
		d["ManagerType"] = "EnclosureManager"
		delete(d, "FirmwareVersion")
	},
}

// openBMCStock has the shape of OpenBMC as it comes: virtual media is compiled
// out (vendors.md 3.3).
var openBMCStock = kind{
	redfishVersion: "1.17.0",
	manufacturer:   "", model: "",
	managerModel: "OpenBmc", bmcName: "OpenBMC", firmware: "2.15.0-dev", systemID: "system", managerID: "bmc",
	baseRegistry: "Base.1.13", oemRegistry: "OpenBMC.0.2",
	bootTargets: []string{"None", "Pxe", "Hdd", "Cd", "Diags", "BiosSetup", "Usb"},
	bootMode:    "UEFI",
	resetTypes:  []string{"On", "ForceOff", "ForceOn", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle", "Nmi"},
	queries:     features{only: true}, // as captured
	always:      Behaviour{ResetActionInfo: true},
	dressSystem: func(d doc, v view) {
		delete(d, "Manufacturer")
		delete(d, "Model")
		delete(d, "HostName")
		d["BootProgress"] = doc{"LastState": "None", "LastStateTime": "1970-01-01T00:00:00.000000+00:00"}
		d["LastResetTime"] = "1970-01-01T00:00:00+00:00"
	},
	dressManager: func(d doc, v view) {
		d["Oem"] = doc{"OpenBmc": doc{"@odata.type": "#OemManager.OpenBmc"}}
	},
}
