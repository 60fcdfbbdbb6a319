package bmcsim

import "github.com/livecd-sync/livecd-sync/internal/bmc"

// doc is a JSON object.
type doc map[string]any

// kind is what distinguishes one family of BMCs from another: names, shapes and
// habits, as data. What data cannot say a builder does, which dresses a standard
// document in the vendor's own clothes.
type kind struct {
	vendor, product     string // of the service root; "" leaves them out
	rootID              string // "" is RootService
	redfishVersion      string
	manufacturer, model string // of the system
	managerModel        string
	bmcName             string // what people call it
	firmware            string // of the manager
	systemID, managerID string
	baseboard           string // the Id of SecondSystem; "" is Baseboard
	twin                string // the Id of TwinSystem; "" is 2

	rootOem, systemOem, managerOem doc // as they are; nil: none

	baseRegistry, oemRegistry string
	terse                     bool // errors carry a MessageId and nothing else
	wordings                  map[string]wording
	always                    Behaviour

	mediaUnder string // "Managers", "Systems", or "" for none
	collection string // the collection's Id; "" is VirtualMedia
	slots      []slotKind
	also       *otherSide
	empty      emptyNames
	connected  string // what ConnectedVia says of an inserted image; "" is URI
	loose      string // and of an empty drive; "" is NotConnected
	oemMedia   bool   // no standard actions on the slots
	patchMedia bool   // Image and Inserted of the CD slot are writable
	strongTags bool
	etags      bool

	bootTargets []string // nil: no override at all
	bootMode    string   // "" leaves the mode out
	boots       []string // what Enabled may be; nil: all three
	cdTarget    string   // the target that is the virtual CD; "" is Cd
	cdOption    string   // the boot option of the virtual CD, once firmware has seen it
	resetTypes  []string
	tellsPost   bool
	progress    bool   // BootProgress tells of POST, and not PostState
	loginOem    string // a key of Oem that a login has to name

	queries features // what the root offers of query options

	dressRoot    func(doc, view)
	dressSystem  func(doc, view)
	dressManager func(doc, view)
	dressMedia   func(doc, view)
	dressSlot    func(doc, view, slotKind)
	more         func(m *Machine, tree map[string]resource) // resources of the vendor's own
}

// slotKind is one virtual media device.
type slotKind struct {
	id, name string
	types    []string
	cd       bool   // the one that can hold an ISO
	actions  string // "" is insert and eject; "eject"; "none"
	refuses  string // the wording by which one that is not the CD refuses an image
	licensed bool   // it is not there without a licence
}

// otherSide shows the CD under a second URI (vendors.md 2.2).
type otherSide struct {
	under   string
	slots   []slotKind
	refuses string // the wording by which an insert through it is refused; "": it is not
}

// emptyNames is how an empty drive names its image (vendors.md 2.5).
type emptyNames string

const (
	emptyString emptyNames = ""       // Image is ""
	emptyNull   emptyNames = "null"   // Image and ImageName are null
	emptyAbsent emptyNames = "absent" // there is neither
)

var kinds = map[Kind]kind{
	ILO4: ilo4, ILO5: ilo5, ILO5Early: ilo5Early, ILO6: ilo6, ILO7: ilo7,
	Gigabyte: gigabyte, Gigabyte13: gigabyte13, DGX: dgx, ASRockRack: asrockRack, MegaRAC: megaRAC, TSM: tsm, TSMEarly: tsmEarly,
	IDRAC8: idrac8, IDRAC9Old: idrac9Old, IDRAC9: idrac9, IDRAC10: idrac10,
	SupermicroX10: supermicroX10, SupermicroX11: supermicroX11, Supermicro: supermicro, SupermicroARS: supermicroARS,
	XCC: xcc, XCC2: xcc2, XCC3: xcc3,
	OpenBMC: openBMC, OpenBMCStock: openBMCStock, GB200: gb200,
	IRMC: irmc, CIMC: cimc, CIMCRack: cimcRack, XFusion: xFusion, IBMC: ibmc, HDM: hdm, Inspur: inspur, Intel: intel,
	CrayEX: crayEX, SushyTools: sushyTools, Generic: generic,
}

// like makes a kind of another one that differs in a few things.
func (k kind) like(change func(*kind)) kind {
	change(&k)
	return k
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

func (k kind) baseboardPath() string { return rootPath + "/Systems/" + or(k.baseboard, "Baseboard") }
func (k kind) twinPath() string      { return rootPath + "/Systems/" + or(k.twin, "2") }

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// mediaPath is the virtual media collection, "" for a kind without.
func (k kind) mediaPath() string { return k.mediaBelow(k.mediaUnder) }

func (k kind) mediaBelow(under string) string {
	switch under {
	case "Managers":
		return k.managerPath() + "/" + or(k.collection, "VirtualMedia")
	case "Systems":
		return k.systemPath() + "/" + or(k.collection, "VirtualMedia")
	}
	return ""
}

// below is the collection that a resource links: its own, or none.
func (k kind) linked(under string) string {
	if k.mediaUnder == under || k.also != nil && k.also.under == under {
		return k.mediaBelow(under)
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
	own          bmc.BootOverride // the same, where the vendor's own settings have it
	bootNext     string
	seenCD       bool // firmware lists the virtual CD
	media        bmc.Media
	nextCD       bool
	listed       bool
	protocol     bool // NetworkProtocol says that virtual media are on
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
