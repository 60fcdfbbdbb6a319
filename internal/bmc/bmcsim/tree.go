package bmcsim

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A call is one request on its way through the machine.
type call struct {
	ctx     context.Context //nolint:containedctx // one request has one, as in http.Request
	method  string
	path    string // without a trailing slash
	query   string
	origin  string // scheme and host, as the client wrote them
	ifMatch string
	token   string // of the session
	body    []byte
	busy    bool // the BMC was busy when the request came
}

// An answer is what goes back; a nil body is none.
type answer struct {
	status int
	header http.Header
	body   doc
}

// A resource is what can be done at a path. A method that is nil is not allowed.
type resource struct {
	get    func(view) doc
	post   func(*Machine, *call) answer
	patch  func(*Machine, *call) (*task, error) // called with the lock
	open   bool                                 // readable without credentials
	action bool                                 // a POST to it may act and never answer
	media  bool                                 // there only while slots are listed
	other  bool                                 // fails while the host is off
	when   func(Behaviour) bool                 // nil: always there
}

// resources is all that a kind has at fixed paths.
func (k kind) resources(m *Machine) map[string]resource {
	tree := map[string]resource{
		"/redfish":                   {get: func(view) doc { return doc{"v1": rootPath + "/"} }, open: true},
		rootPath:                     {get: rootDoc, open: true},
		rootPath + "/Systems":        {get: systemsDoc},
		rootPath + "/Managers":       {get: managersDoc},
		rootPath + "/SessionService": {get: sessionServiceDoc},
		sessionsPath:                 {get: sessionsDoc, post: (*Machine).postSession},
		rootPath + "/TaskService":    {get: taskServiceDoc},
		tasksPath:                    {get: tasksDoc},
		k.managerPath():              {get: managerDoc},
		k.systemPath():               {get: systemDoc, patch: (*Machine).patchSystem},
		k.baseboardPath():            {get: otherSystemDoc, other: true, when: func(b Behaviour) bool { return b.SecondSystem }},
		k.twinPath():                 {get: twinDoc, when: func(b Behaviour) bool { return b.TwinSystem }},
		k.managerPath() + "/NetworkProtocol": {
			get: protocolDoc, patch: (*Machine).patchProtocol, when: func(b Behaviour) bool { return b.MediaProtocolOff },
		},
		k.systemPath() + "/Actions/ComputerSystem.Reset": {post: (*Machine).postReset, action: true},
	}
	tree[k.systemPath()+"/ResetActionInfo"] = resource{get: resetInfoDoc}
	for _, name := range []string{"SD", "Settings"} {
		tree[k.systemPath()+"/"+name] = resource{
			get: settingsDoc(name), patch: (*Machine).patchSettings, when: func(b Behaviour) bool { return b.SettingsObject == name },
		}
	}
	if k.cdOption != "" {
		tree[k.optionsPath()] = resource{get: optionsDoc}
		tree[k.optionsPath()+"/0001"] = resource{get: optionDoc("0001", "disk", "HD(1,GPT)")}
		tree[k.optionsPath()+"/"+k.cdOption] = resource{get: optionDoc(k.cdOption, "UEFI: AMI Virtual CDROM0 1.00", "PciRoot(0x0)/Pci(0x7,0x1)/USB(0x2,0x0)/CDROM(0x1)")}
	}
	k.mediaResources(tree)
	if k.more != nil {
		k.more(m, tree)
	}
	return tree
}

func (k kind) mediaResources(tree map[string]resource) {
	if k.mediaUnder == "" {
		return
	}
	k.sideResources(tree, k.mediaPath(), k.slots, "")
	if k.also != nil {
		k.sideResources(tree, k.mediaBelow(k.also.under), k.also.slots, k.also.refuses)
	}
}

func (k kind) sideResources(tree map[string]resource, collection string, slots []slotKind, refuses string) {
	tree[collection] = resource{get: mediaDoc(collection, slots)}
	for _, s := range slots {
		path := collection + "/" + s.id
		r := resource{get: slotDoc(collection, s), media: true, when: func(b Behaviour) bool { return !s.licensed || !b.NoLicence }}
		if s.cd && refuses == "" {
			r.patch = (*Machine).patchSlot
		}
		tree[path] = r
		tree[path+"/InsertMediaActionInfo"] = resource{get: insertInfoDoc(path), media: true, when: func(b Behaviour) bool { return b.InsertInfo }}
		if k.oemMedia || s.actions == "none" {
			continue
		}
		mediaActions(tree, s, path+"/Actions/VirtualMedia.InsertMedia", path+"/Actions/VirtualMedia.EjectMedia")
		if s.actions == "eject" {
			delete(tree, path+"/Actions/VirtualMedia.InsertMedia")
		}
		if refuses != "" {
			tree[path+"/Actions/VirtualMedia.InsertMedia"] = resource{post: refusing(refuses), action: true, media: true}
		}
	}
}

// refusing is an action that is always refused with the same words.
func refusing(words string) func(*Machine, *call) answer {
	return func(m *Machine, _ *call) answer { return m.refused(m.kind.refuse(words, "InsertMedia", "Image")) }
}

// mediaActions puts a slot's two actions into the tree. Only the CD can hold an
// ISO; the other slots refuse it.
func mediaActions(tree map[string]resource, s slotKind, insert, eject string) {
	in := resource{post: (*Machine).postWrongSlot, action: true, media: true}
	if s.refuses != "" {
		in.post = refusing(s.refuses)
	}
	out := in
	if s.cd {
		in.post, out.post = (*Machine).postInsert, (*Machine).postEject
	}
	tree[insert], tree[eject] = in, out
}

func (m *Machine) postWrongSlot(*call) answer {
	return m.refused(m.kind.refuse("ActionParameterValueFormatError", "the image", "Image", insertAction))
}

// view takes a picture of the machine. The lock is held by the caller.
func (m *Machine) view() view {
	v := view{
		k: m.kind, q: m.behaviour, name: m.cfg.Name, serial: m.cfg.Serial,
		power: m.shownPower(), phase: m.shownPhase(),
		postHalf: time.Since(m.power.post) >= m.timing.Post/2,
		override: m.shownOverride(), own: m.override, bootNext: m.bootNext, seenCD: m.seenCD,
		media: m.shownMedia(), nextCD: m.nextCD,
		listed: m.listed, protocol: m.remote,
		resetTypes: m.resetTypes(), bootTargets: m.bootTargets(),
	}
	m.sweepSessions()
	for _, s := range m.auth.sessions {
		v.sessions = append(v.sessions, s.path())
	}
	for _, t := range m.tasks {
		v.tasks = append(v.tasks, t.path())
	}
	slices.Sort(v.sessions)
	slices.Sort(v.tasks)
	return v
}

// etag is a weak tag of a document (vendors.md 3.1).
func (k kind) etag(d doc) string {
	if !k.etags {
		return ""
	}
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // documents are built here, of plain types
	}
	h := fnv.New32a()
	h.Write(b)
	tag := fmt.Sprintf("%q", fmt.Sprintf("%08X", h.Sum32()))
	if k.strongTags {
		return tag
	}
	return "W/" + tag
}

// get answers a GET.
func (m *Machine) get(r resource) answer {
	m.mu.Lock()
	v := m.view()
	off := m.power.now == bmc.PowerOff
	m.mu.Unlock()
	if r.other && off {
		return m.refused(m.kind.refuse("InternalError"))
	}
	return m.shown(r.get(v))
}

// shown is a document as an answer, with its ETag.
func (m *Machine) shown(d doc) answer {
	a := answer{status: http.StatusOK, header: http.Header{}, body: d}
	if tag := m.kind.etag(d); tag != "" {
		d["@odata.etag"] = tag
		a.header.Set("ETag", tag)
	}
	return a
}

func (m *Machine) refused(r *refusal) answer {
	return answer{status: r.status, header: http.Header{}, body: m.kind.body(r)}
}

// refusedBy turns an error of the state machine, all of which are refusals, into
// an answer.
func (m *Machine) refusedBy(err error) answer { return m.refused(refusalOf(err)) }

// succeeded is a plain success: iLO says so at length, others with 204.
func (m *Machine) succeeded() answer {
	if !m.kind.terse {
		return answer{status: http.StatusNoContent}
	}
	return answer{status: http.StatusOK, body: m.kind.body(&refusal{id: m.kind.baseRegistry + ".Success"})}
}

// uuid makes the same UUID of the same words always.
func uuid(words ...string) string {
	s := sha256.Sum256([]byte(strings.Join(words, "/")))
	return fmt.Sprintf("%x-%x-%x-%x-%x", s[0:4], s[4:6], s[6:8], s[8:10], s[10:16])
}
