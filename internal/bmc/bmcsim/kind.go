package bmcsim

import "github.com/livecd-sync/livecd-sync/internal/bmc"

// doc is a JSON object.
type doc map[string]any

// kind is what distinguishes one family of BMCs from another: names, and the
// builders that dress the standard documents in the vendor's own clothes.
type kind struct {
	vendor, product     string // of the service root; "" leaves them out
	redfishVersion      string
	manufacturer, model string // of the system
	managerModel        string
	bmcName             string // what people call it
	firmware            string // of the manager
	systemID, managerID string

	baseRegistry, oemRegistry string
	terse                     bool // errors carry a MessageId and nothing else
	wordings                  map[string]wording

	mediaUnder  string // "Managers", "Systems", or "" for none
	slots       []slotKind
	bootTargets []string // nil: no override at all
	bootMode    string
	resetTypes  []string
	tellsPost   bool
	oemMedia    bool // no standard actions on the slots
	patchMedia  bool // Image and Inserted of the CD slot are writable
	etags       bool
	always      Behaviour

	dressRoot    func(doc, view)
	dressSystem  func(doc, view)
	dressManager func(doc, view)
	dressSlot    func(doc, view, slotKind)
	more         func(m *Machine, tree map[string]resource) // resources of the vendor's own
}

// slotKind is one virtual media device.
type slotKind struct {
	id, name string
	types    []string
	cd       bool // the one that can hold an ISO
}

var kinds = map[Kind]kind{
	ILO5: ilo5, ILO4: ilo4, Gigabyte: gigabyte,
	Generic: generic, CrayEX: crayEX, OpenBMCStock: openBMCStock,
}

func (k kind) cdSlot() string {
	for _, s := range k.slots {
		if s.cd {
			return s.id
		}
	}
	return ""
}

const rootPath = "/redfish/v1"

func (k kind) systemPath() string  { return rootPath + "/Systems/" + k.systemID }
func (k kind) managerPath() string { return rootPath + "/Managers/" + k.managerID }

// mediaPath is the virtual media collection, "" for a kind without.
func (k kind) mediaPath() string {
	switch k.mediaUnder {
	case "Managers":
		return k.managerPath() + "/VirtualMedia"
	case "Systems":
		return k.systemPath() + "/VirtualMedia"
	}
	return ""
}

func (k kind) slotPath() string { return k.mediaPath() + "/" + k.cdSlot() }

// view is the machine as documents show it at one moment.
type view struct {
	k            kind
	q            Behaviour
	name, serial string
	power        bmc.Power
	phase        bmc.Phase
	postHalf     bool // POST has found its devices
	override     bmc.BootOverride
	media        bmc.Media
	nextCD       bool
	listed       bool
	resetTypes   []string
	bootTargets  []string
	sessions     []string // ids
	tasks        []string
}

func ref(path string) doc { return doc{"@odata.id": path} }

func refs(paths ...string) []any {
	list := make([]any, 0, len(paths))
	for _, p := range paths {
		list = append(list, ref(p))
	}
	return list
}

// resourceDoc begins a resource.
func resourceDoc(path, odataType, id, name string) doc {
	return doc{"@odata.id": path, "@odata.type": odataType, "Id": id, "Name": name}
}

// collectionDoc is a whole collection.
func collectionDoc(path, of string, members ...string) doc {
	return doc{
		"@odata.id":   path,
		"@odata.type": "#" + of + "Collection." + of + "Collection",
		"Name":        of + " Collection",
		"Members":     refs(members...), "Members@odata.count": len(members),
	}
}
