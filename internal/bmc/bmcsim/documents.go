package bmcsim

import "github.com/livecd-sync/livecd-sync/internal/bmc"

// rootDoc is the service root.
func rootDoc(v view) doc {
	d := resourceDoc(rootPath, "#ServiceRoot.v1_5_1.ServiceRoot", "RootService", "Root Service")
	d["RedfishVersion"] = v.k.redfishVersion
	d["UUID"] = uuid(v.serial, "bmc")
	d["Systems"] = ref(rootPath + "/Systems")
	d["Managers"] = ref(rootPath + "/Managers")
	d["SessionService"] = ref(rootPath + "/SessionService")
	d["Tasks"] = ref(rootPath + "/TaskService")
	d["Links"] = doc{"Sessions": ref(sessionsPath)}
	if v.k.vendor != "" {
		d["Vendor"] = v.k.vendor
	}
	if v.k.product != "" {
		d["Product"] = v.k.product
	}
	dress(v.k.dressRoot, d, v)
	return d
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
	d["Manufacturer"] = v.k.manufacturer
	d["Model"] = v.k.model
	d["SerialNumber"] = v.serial
	d["UUID"] = uuid(v.serial, "system")
	d["PowerState"] = string(v.power)
	d["Status"] = doc{"Health": "OK", "State": "Enabled"}
	d["Links"] = doc{"ManagedBy": refs(v.k.managerPath())}
	d["Boot"] = bootDoc(v)
	d["Actions"] = doc{"#ComputerSystem.Reset": resetAction(v)}
	if v.k.mediaUnder == "Systems" {
		d["VirtualMedia"] = ref(v.k.mediaPath())
	}
	dress(v.k.dressSystem, d, v)
	return d
}

func bootDoc(v view) doc {
	if v.k.bootTargets == nil {
		return doc{"BootOrder": []any{"Boot0001", "Boot0002"}}
	}
	return doc{
		"BootOrder":                                        []any{"Boot0001", "Boot0002"},
		"BootSourceOverrideTarget":                         v.override.Target,
		"BootSourceOverrideEnabled":                        v.override.Enabled,
		"BootSourceOverrideMode":                           v.override.Mode,
		"BootSourceOverrideTarget@Redfish.AllowableValues": v.bootTargets,
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
	d := resourceDoc(otherSystemPath, "#ComputerSystem.v1_10_0.ComputerSystem", "Baseboard", "Baseboard")
	d["SystemType"] = "Physical"
	d["UUID"] = uuid(v.serial, "baseboard")
	d["PowerState"] = string(v.power)
	d["Status"] = doc{"Health": "OK", "State": "Enabled"}
	return d
}

const otherSystemPath = rootPath + "/Systems/Baseboard"

func systemsDoc(v view) doc {
	members := []string{v.k.systemPath()}
	if v.q.SecondSystem {
		members = []string{otherSystemPath, v.k.systemPath()}
	}
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
	if v.k.mediaUnder == "Managers" {
		d["VirtualMedia"] = ref(v.k.mediaPath())
	}
	dress(v.k.dressManager, d, v)
	return d
}

func mediaDoc(v view) doc {
	var members []string
	if v.listed {
		for _, s := range v.k.slots {
			members = append(members, v.k.mediaPath()+"/"+s.id)
		}
	}
	return collectionDoc(v.k.mediaPath(), "VirtualMedia", members...)
}

// slotDoc is one virtual media device. All but the CD are always empty.
func slotDoc(s slotKind) func(view) doc {
	return func(v view) doc {
		path := v.k.mediaPath() + "/" + s.id
		d := resourceDoc(path, "#VirtualMedia.v1_2_0.VirtualMedia", s.id, s.name)
		media := bmc.Media{}
		if s.cd {
			media = v.media
		}
		d["Inserted"] = media.Inserted
		d["WriteProtected"] = true
		d["ConnectedVia"] = "NotConnected"
		if media.Inserted {
			d["ConnectedVia"] = "URI"
		}
		imageProperties(d, v, media)
		if !v.q.NoMediaTypes {
			d["MediaTypes"] = s.types
		}
		if actions := slotActions(v, path, media); len(actions) > 0 {
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
	if v.q.NoneWhenEmpty && !media.Inserted && media.Image == "" {
		d["Image"], d["ImageName"] = "None", "None"
	}
}

func slotActions(v view, path string, media bmc.Media) doc {
	if v.k.oemMedia || v.q.MediaByPatch {
		return nil
	}
	a := doc{"#VirtualMedia.InsertMedia": doc{"target": path + "/Actions/VirtualMedia.InsertMedia"}}
	if media.Inserted || !v.q.EjectActionVanishes {
		a["#VirtualMedia.EjectMedia"] = doc{"target": path + "/Actions/VirtualMedia.EjectMedia"}
	}
	return a
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
