package bmcsim

import (
	"maps"
	"slices"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// rootDoc is the service root.
func rootDoc(v view) doc {
	d := resourceDoc(rootPath, "#ServiceRoot.v1_5_1.ServiceRoot", or(v.k.rootID, "RootService"), "Root Service")
	d["RedfishVersion"] = v.k.redfishVersion
	d["UUID"] = uuid(v.serial, "bmc")
	d["Systems"] = ref(rootPath + "/Systems")
	d["Managers"] = ref(rootPath + "/Managers")
	d["Tasks"] = ref(rootPath + "/TaskService")
	if !v.q.NoSessions {
		d["SessionService"] = ref(rootPath + "/SessionService")
		d["Links"] = doc{"Sessions": ref(sessionsPath)}
	}
	if f, ok := v.features(); ok {
		d["ProtocolFeaturesSupported"] = f.doc()
	}
	withOem(d, v.k.rootOem)
	if v.k.vendor != "" {
		d["Vendor"] = v.k.vendor
	}
	if v.k.product != "" {
		d["Product"] = v.k.product
	}
	dress(v.k.dressRoot, d, v)
	return d
}

func withOem(d, oem doc) {
	if oem != nil {
		d["Oem"] = maps.Clone(oem)
	}
}

func dress(f func(doc, view), d doc, v view) {
	if f != nil {
		f(d, v)
	}
}

// systemDoc is the system that the BMC governs.
func systemDoc(v view) doc {
	path := v.k.systemPath()
	d := resourceDoc(path, "#ComputerSystem.v1_10_0.ComputerSystem", v.k.systemID, "System")
	d["SystemType"] = "Physical"
	d["HostName"] = v.name
	if v.k.manufacturer != "" {
		d["Manufacturer"], d["Model"] = v.k.manufacturer, v.k.model
	}
	d["SerialNumber"] = v.serial
	d["UUID"] = uuid(v.serial, "system")
	d["PowerState"] = string(v.power)
	d["Status"] = doc{"Health": "OK", "State": "Enabled"}
	d["Links"] = doc{"ManagedBy": refs(v.k.managerPath())}
	d["Boot"] = bootDoc(v)
	d["Actions"] = doc{"#ComputerSystem.Reset": resetAction(v)}
	if media := v.k.linked("Systems"); media != "" {
		d["VirtualMedia"] = ref(media)
	}
	withOem(d, v.k.systemOem)
	progressOf(d, v)
	if name := v.q.SettingsObject; name != "" {
		d["Boot"] = doc{"BootOrder": []any{"Boot0001", "Boot0002"}, "BootSourceOverrideMode": nil, "BootNext": nil}
		d["@Redfish.Settings"] = doc{"@odata.type": "#Settings.v1_3_0.Settings", "SettingsObject": ref(path + "/" + name)}
	}
	dress(v.k.dressSystem, d, v)
	return d
}

// progressOf tells how far the host is, in the ways of vendors.md 2.8.
func progressOf(d doc, v view) {
	if v.k.progress {
		state := "OSRunning"
		switch v.phase {
		case bmc.PhaseOff:
			state = "None"
		case bmc.PhasePost:
			state = "MemoryInitializationStarted"
		case bmc.PhaseOS, bmc.PhaseUnknown:
		}
		d["BootProgress"] = doc{"LastState": state}
	}
	if v.q.ZeroDates {
		d["LastResetTime"] = "0000-00-00T00:00:00+00:00"
	}
}

func bootDoc(v view) doc {
	d := doc{"BootOrder": []any{"Boot0001", "Boot0002"}}
	if v.k.bootTargets == nil {
		return d
	}
	d["BootSourceOverrideTarget"] = v.override.Target
	d["BootSourceOverrideEnabled"] = v.override.Enabled
	d["BootSourceOverrideTarget@Redfish.AllowableValues"] = v.bootTargets
	if v.k.bootMode != "" {
		d["BootSourceOverrideMode"] = v.override.Mode
	}
	if v.k.boots != nil {
		d["BootSourceOverrideEnabled@Redfish.AllowableValues"] = v.k.boots
	}
	if v.k.cdOption != "" {
		d["BootNext"], d["BootOptions"] = v.bootNext, ref(v.k.optionsPath())
	}
	return d
}

// settingsDoc is the settings object, which has the override in the system's
// place.
func settingsDoc(name string) func(view) doc {
	return func(v view) doc {
		d := resourceDoc(v.k.systemPath()+"/"+name, "#ComputerSystem.v1_10_0.ComputerSystem", name, "Settings")
		d["Boot"] = bootDoc(v)
		return d
	}
}

// The boot options are the disk, and the virtual CD once firmware has seen it
// (vendors.md 2.6, AMI 13).
func (k kind) optionsPath() string { return k.systemPath() + "/BootOptions" }

func optionsDoc(v view) doc {
	members := []string{v.k.optionsPath() + "/0001"}
	if v.seenCD {
		members = append(members, v.k.optionsPath()+"/"+v.k.cdOption)
	}
	return collectionDoc(v.k.optionsPath(), "BootOption", members...)
}

func optionDoc(id, name, device string) func(view) doc {
	return func(v view) doc {
		d := resourceDoc(v.k.optionsPath()+"/"+id, "#BootOption.v1_0_0.BootOption", id, "Boot Option")
		d["BootOptionReference"], d["DisplayName"], d["UefiDevicePath"] = "Boot"+id, name, device
		return d
	}
}

func resetAction(v view) doc {
	a := doc{"target": v.k.systemPath() + "/Actions/ComputerSystem.Reset"}
	if v.q.ResetActionInfo {
		a["@Redfish.ActionInfo"] = v.k.systemPath() + "/ResetActionInfo"
	} else {
		a["ResetType@Redfish.AllowableValues"] = v.resetTypes
	}
	return a
}

func resetInfoDoc(v view) doc {
	d := resourceDoc(v.k.systemPath()+"/ResetActionInfo", "#ActionInfo.v1_1_1.ActionInfo", "ResetAction", "ResetAction")
	d["Parameters"] = []any{doc{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": v.resetTypes}}
	return d
}

// otherSystemDoc is a second system behind the same BMC (vendors.md 3.2, item
// 10): no Boot, no Reset.
func otherSystemDoc(v view) doc {
	d := resourceDoc(v.k.baseboardPath(), "#ComputerSystem.v1_10_0.ComputerSystem", or(v.k.baseboard, "Baseboard"), "Baseboard")
	d["SystemType"] = "Physical"
	d["UUID"] = uuid(v.serial, "baseboard")
	d["PowerState"] = string(v.power)
	d["Status"] = doc{"Health": "OK", "State": "Enabled"}
	return d
}

// twinDoc is a second host behind the same BMC, which has media for none of its
// own.
func twinDoc(v view) doc {
	d := systemDoc(v)
	id := or(v.k.twin, "2")
	d["@odata.id"], d["Id"], d["UUID"], d["HostName"] = v.k.twinPath(), id, uuid(v.serial, "twin"), v.name+"-"+id
	d["SerialNumber"] = v.serial + "T"
	delete(d, "VirtualMedia")
	d["Actions"] = doc{"#ComputerSystem.Reset": doc{
		"target": v.k.twinPath() + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": v.resetTypes,
	}}
	return d
}

func systemsDoc(v view) doc {
	var members []string
	if v.q.SecondSystem {
		members = append(members, v.k.baseboardPath())
	}
	if v.q.TwinSystem {
		members = append(members, v.k.twinPath())
	}
	members = append(members, v.k.systemPath())
	return collectionDoc(rootPath+"/Systems", "ComputerSystem", members...)
}

func managersDoc(v view) doc {
	return collectionDoc(rootPath+"/Managers", "Manager", v.k.managerPath())
}

// managerDoc is the BMC itself.
func managerDoc(v view) doc {
	d := resourceDoc(v.k.managerPath(), "#Manager.v1_5_1.Manager", v.k.managerID, "Manager")
	d["ManagerType"] = "BMC"
	d["FirmwareVersion"] = v.k.firmware
	d["UUID"] = uuid(v.serial, "bmc")
	d["Status"] = doc{"Health": "OK", "State": "Enabled"}
	d["Links"] = doc{"ManagerForServers": refs(v.k.systemPath())}
	if v.k.managerModel != "" {
		d["Model"] = v.k.managerModel
	}
	if media := v.k.linked("Managers"); media != "" {
		d["VirtualMedia"] = ref(media)
	}
	if v.q.MediaProtocolOff {
		d["NetworkProtocol"] = ref(v.k.managerPath() + "/NetworkProtocol")
	}
	withOem(d, v.k.managerOem)
	dress(v.k.dressManager, d, v)
	return d
}

// protocolDoc is the manager's NetworkProtocol, which tells whether virtual media
// are on.
func protocolDoc(v view) doc {
	d := resourceDoc(v.k.managerPath()+"/NetworkProtocol", "#ManagerNetworkProtocol.v1_2_0.ManagerNetworkProtocol", "NetworkProtocol", "Manager Network Protocol")
	d["VirtualMedia"] = doc{"ProtocolEnabled": v.protocol, "Port": 627}
	return d
}

func mediaDoc(path string, slots []slotKind) func(view) doc {
	return func(v view) doc {
		var members []string
		if v.listed {
			for _, s := range slots {
				if !s.licensed || !v.q.NoLicence {
					members = append(members, path+"/"+s.id)
				}
			}
		}
		d := collectionDoc(path, "VirtualMedia", members...)
		dress(v.k.dressMedia, d, v)
		return d
	}
}

// slotDoc is one virtual media device. All but the CD are always empty.
func slotDoc(collection string, s slotKind) func(view) doc {
	return func(v view) doc {
		path := collection + "/" + s.id
		d := resourceDoc(path, "#VirtualMedia.v1_2_0.VirtualMedia", s.id, s.name)
		media := bmc.Media{}
		if s.cd {
			media = v.media
		}
		d["Inserted"] = media.Inserted
		d["WriteProtected"] = true
		d["ConnectedVia"] = or(v.k.loose, "NotConnected")
		if media.Inserted && !v.q.NeverAttaches {
			d["ConnectedVia"] = or(v.k.connected, "URI")
		}
		imageProperties(d, v, media)
		if !v.q.NoMediaTypes {
			d["MediaTypes"] = s.types
		}
		if actions := slotActions(v, s, path, media); len(actions) > 0 {
			d["Actions"] = actions
		}
		if v.k.dressSlot != nil {
			v.k.dressSlot(d, v, s)
		}
		if v.q.RedirectionStatus && s.cd {
			d["Oem"] = doc{"Ami": doc{"RedirectionStatus": media.Detail}}
		}
		return d
	}
}

func imageProperties(d doc, v view, media bmc.Media) {
	d["Image"] = media.Image
	if media.ImageName != "" {
		d["ImageName"] = media.ImageName
	}
	if media.Image == "" && media.ImageName == "" {
		switch v.k.empty {
		case emptyNull:
			d["Image"], d["ImageName"] = nil, nil
		case emptyAbsent:
			delete(d, "Image")
		case emptyString:
		}
	}
	if v.q.NoneWhenEmpty && !media.Inserted && media.Image == "" {
		d["Image"], d["ImageName"] = "None", "None"
	}
}

func slotActions(v view, s slotKind, path string, media bmc.Media) doc {
	if v.k.oemMedia || v.q.MediaByPatch || s.actions == "none" {
		return nil
	}
	a := doc{}
	if s.actions != "eject" {
		insert := doc{"target": path + "/Actions/VirtualMedia.InsertMedia"}
		if v.q.InsertInfo {
			insert["@Redfish.ActionInfo"] = path + "/InsertMediaActionInfo"
		}
		a["#VirtualMedia.InsertMedia"] = insert
	}
	if media.Inserted || !v.q.EjectActionVanishes {
		a["#VirtualMedia.EjectMedia"] = doc{"target": path + "/Actions/VirtualMedia.EjectMedia"}
	}
	return a
}

// insertInfoDoc is the ActionInfo of a slot's insert.
func insertInfoDoc(slot string) func(view) doc {
	return func(v view) doc {
		d := resourceDoc(slot+"/InsertMediaActionInfo", "#ActionInfo.v1_1_2.ActionInfo", "InsertMediaActionInfo", "Insert Media Action Info")
		parameters := []any{doc{"Name": "Image", "Required": true, "DataType": "String"}}
		for _, name := range []string{"Inserted", "TransferMethod", "UserName", "Password", "WriteProtected"} {
			parameters = append(parameters, doc{"Name": name, "Required": slices.Contains(v.q.InsertNeeds, name)})
		}
		parameters = append(parameters, doc{
			"Name": "TransferProtocolType", "Required": slices.Contains(v.q.InsertNeeds, "TransferProtocolType"), "AllowableValues": v.q.protocols(),
		})
		d["Parameters"] = parameters
		return d
	}
}

// protocols are the TransferProtocolTypes that images may be mounted by.
func (b Behaviour) protocols() []string {
	switch {
	case b.HTTPSOnly && b.HTTPOnly:
		return []string{"NFS"}
	case b.HTTPSOnly:
		return []string{"HTTPS", "CIFS"}
	case b.HTTPOnly:
		return []string{"HTTP"}
	}
	return []string{"HTTP", "HTTPS"}
}

func sessionServiceDoc(v view) doc {
	d := resourceDoc(rootPath+"/SessionService", "#SessionService.v1_0_0.SessionService", "SessionService", "Session Service")
	d["ServiceEnabled"] = true
	d["Sessions"] = ref(sessionsPath)
	if v.q.SessionIdle > 0 {
		d["SessionTimeout"] = int(v.q.SessionIdle.Seconds())
	}
	return d
}

func sessionsDoc(v view) doc { return collectionDoc(sessionsPath, "Session", v.sessions...) }

func taskServiceDoc(view) doc {
	d := resourceDoc(rootPath+"/TaskService", "#TaskService.v1_1_1.TaskService", "TaskService", "Task Service")
	d["ServiceEnabled"] = true
	d["Tasks"] = ref(tasksPath)
	return d
}

func tasksDoc(v view) doc { return collectionDoc(tasksPath, "Task", v.tasks...) }
