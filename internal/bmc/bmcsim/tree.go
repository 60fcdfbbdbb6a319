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
	ctx     context.Context
	method  string
	path    string // without a trailing slash
	origin  string // scheme and host, as the client wrote them
	ifMatch string
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
	other  bool                                 // the second system
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
		otherSystemPath:              {get: otherSystemDoc, other: true},
		k.systemPath() + "/Actions/ComputerSystem.Reset": {post: (*Machine).postReset, action: true},
	}
	tree[k.systemPath()+"/ResetActionInfo"] = resource{get: resetInfoDoc}
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
	tree[k.mediaPath()] = resource{get: mediaDoc}
	for _, s := range k.slots {
		path := k.mediaPath() + "/" + s.id
		r := resource{get: slotDoc(s), media: true}
		if s.cd {
			r.patch = (*Machine).patchSlot
		}
		tree[path] = r
		if !k.oemMedia {
			mediaActions(tree, s, path+"/Actions/VirtualMedia.InsertMedia", path+"/Actions/VirtualMedia.EjectMedia")
		}
	}
}

// mediaActions puts a slot's two actions into the tree. Only the CD can hold an
// ISO; the other slots refuse it.
func mediaActions(tree map[string]resource, s slotKind, insert, eject string) {
	in := resource{post: (*Machine).postWrongSlot, action: true, media: true}
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
		k: m.kind, q: m.quirks(), name: m.cfg.Name, serial: m.cfg.Serial,
		power: m.shownPower(), phase: m.shownPhase(),
		postHalf: time.Since(m.power.post) >= m.timing.Post/2,
		override: m.shownOverride(), media: m.shownMedia(), nextCD: m.nextCD,
		listed:     m.listed,
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
	return fmt.Sprintf("W/%q", fmt.Sprintf("%08X", h.Sum32()))
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
func (m *Machine) refusedBy(err error) answer { return m.refused(err.(*refusal)) }

// succeeded is a plain success: iLO says so at length, others with 204.
func (m *Machine) succeeded() answer {
	if !m.kind.terse {
		return answer{status: http.StatusNoContent}
	}
	return answer{status: http.StatusOK, body: m.kind.body(&refusal{id: m.kind.baseRegistry + ".Success"})}
}

// patched answers a PATCH: precondition, then the change, in one hold of the
// lock.
func (m *Machine) patched(r resource, c *call) answer {
	m.mu.Lock()
	err := m.precondition(c, m.kind.etag(r.get(m.view())))
	var t *task
	if err == nil {
		t, err = r.patch(m, c)
	}
	m.mu.Unlock()
	if err != nil {
		return m.refusedBy(err)
	}
	return m.follow(c, t)
}

// precondition checks If-Match (vendors.md 3.2, ETag).
func (m *Machine) precondition(c *call, tag string) error {
	switch {
	case c.ifMatch == "" && m.behaviour.IfMatch == http.StatusPreconditionFailed:
		return m.kind.refuse("PreconditionFailed")
	case c.ifMatch == "" && m.behaviour.IfMatch != 0:
		return m.kind.refuse("PreconditionRequired")
	case c.ifMatch != "" && c.ifMatch != "*" && c.ifMatch != tag:
		return m.kind.refuse("PreconditionFailed")
	}
	return nil
}

func (m *Machine) patchSystem(c *call) (*task, error) {
	var body struct{ Boot *bootPatch }
	switch {
	case json.Unmarshal(c.body, &body) != nil:
		return nil, m.kind.refuse("MalformedJSON")
	case body.Boot == nil:
		return nil, m.kind.refuse("PropertyMissing", "Boot")
	}
	return nil, m.patchBoot(*body.Boot)
}

// patchSlot changes the CD slot: Lenovo's way to insert and eject, which iLO
// takes as well, and iLO's BootOnNextServerReset.
func (m *Machine) patchSlot(c *call) (*task, error) {
	if oem, err := m.patchOemSlot(c.body); oem {
		return nil, err
	}
	var body map[string]any
	if json.Unmarshal(c.body, &body) != nil {
		return nil, m.kind.refuse("MalformedJSON")
	}
	image, hasImage := body["Image"]
	inserted, hasInserted := body["Inserted"]
	switch {
	case !m.behaviour.MediaByPatch && !m.kind.patchMedia:
		return nil, m.kind.refuse("PropertyNotWritable", "Image")
	case !hasImage && !hasInserted:
		return nil, m.kind.refuse("PropertyMissing", "Image")
	case hasInserted && inserted != true, hasImage && image == nil:
		return m.eject()
	}
	url, _ := image.(string)
	return m.insert(url)
}

func (m *Machine) postReset(c *call) answer {
	var body struct{ ResetType string }
	if json.Unmarshal(c.body, &body) != nil {
		return m.refused(m.kind.refuse("MalformedJSON"))
	}
	m.mu.Lock()
	err := m.reset(body.ResetType)
	m.mu.Unlock()
	if err != nil {
		return m.refusedBy(err)
	}
	return m.succeeded()
}

const insertAction = "VirtualMedia.InsertMedia"

func (m *Machine) postInsert(c *call) answer {
	var body map[string]any
	if json.Unmarshal(c.body, &body) != nil {
		return m.refused(m.kind.refuse("MalformedJSON"))
	}
	m.mu.Lock()
	err := m.checkInsert(body)
	var t *task
	if err == nil {
		image, _ := body["Image"].(string)
		t, err = m.insert(image)
	}
	m.mu.Unlock()
	if err != nil {
		return m.refusedBy(err)
	}
	return m.follow(c, t)
}

// checkInsert looks at which parameters an insert has.
func (m *Machine) checkInsert(body map[string]any) error {
	for _, name := range m.behaviour.InsertNeeds {
		if _, ok := body[name]; !ok {
			return m.kind.refuse("ActionParameterMissing", insertAction, name)
		}
	}
	for _, name := range m.behaviour.InsertRefuses {
		if _, ok := body[name]; ok {
			return m.kind.refuse("ActionParameterUnknown", insertAction, name)
		}
	}
	return nil
}

func (m *Machine) postEject(c *call) answer {
	m.mu.Lock()
	t, err := m.eject()
	m.mu.Unlock()
	if err != nil {
		return m.refusedBy(err)
	}
	return m.follow(c, t)
}

// follow answers a request that started a task; a nil task is one that had
// nothing to do.
func (m *Machine) follow(c *call, t *task) answer {
	if t == nil {
		return m.succeeded()
	}
	if t.style == NoTask {
		select {
		case <-t.done:
		case <-c.ctx.Done():
			return answer{}
		case <-m.ctx.Done():
			return answer{}
		}
		return m.outcome(t)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tasks[t.id] = t
	a := answer{status: http.StatusAccepted, header: http.Header{}, body: m.taskDocument(t)}
	if t.style != TaskInBody {
		a.header.Set("Location", m.location(c, t.path()+"/Monitor"))
	}
	return a
}

// outcome is what the action would have answered had it not been a task.
func (m *Machine) outcome(t *task) answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.err != nil {
		return m.refused(t.err)
	}
	return m.succeeded()
}

func (m *Machine) location(c *call, path string) string {
	if m.behaviour.TrailingSlash {
		path += "/"
	}
	if m.behaviour.AbsoluteLocation {
		return c.origin + path
	}
	return path
}

// getTask answers for a task or its monitor; ok is false when there is none.
func (m *Machine) getTask(path string) (a answer, ok bool) {
	id, isTask := strings.CutPrefix(path, tasksPath+"/")
	id, isMonitor := strings.CutSuffix(id, "/Monitor")
	m.mu.Lock()
	t := m.tasks[id]
	if !isTask || t == nil {
		m.mu.Unlock()
		return answer{}, false
	}
	a = answer{status: http.StatusOK, header: http.Header{}, body: m.taskDocument(t)}
	ended := !t.ended.IsZero()
	m.mu.Unlock()
	if !isMonitor || t.style == TaskResource {
		return a, true
	}
	if ended {
		return m.outcome(t), true
	}
	a.status = http.StatusAccepted
	return a, true
}

func (m *Machine) postSession(c *call) answer {
	var body struct{ UserName, Password string }
	if json.Unmarshal(c.body, &body) != nil {
		return m.refused(m.kind.refuse("MalformedJSON"))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.login(body.UserName, body.Password)
	var s *session
	if err == nil {
		s, err = m.openSession()
	}
	if err != nil {
		return m.refusedBy(err)
	}
	a := answer{status: http.StatusCreated, header: http.Header{}, body: m.sessionDocument(s)}
	a.header.Set("Location", m.location(c, s.path()))
	if !m.behaviour.NoToken {
		a.header.Set("X-Auth-Token", s.token)
	}
	return a
}

func (m *Machine) sessionDocument(s *session) doc {
	d := resourceDoc(s.path(), "#Session.v1_0_0.Session", s.id, "User Session")
	d["UserName"] = m.cfg.Username
	return d
}

// atSession answers a GET or DELETE of one session; ok is false when there is
// none of that name.
func (m *Machine) atSession(c *call) (a answer, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for token, s := range m.auth.sessions {
		if s.path() != c.path {
			continue
		}
		if c.method == http.MethodDelete {
			delete(m.auth.sessions, token)
			return m.succeeded(), true
		}
		return answer{status: http.StatusOK, body: m.sessionDocument(s)}, true
	}
	return answer{}, false
}

// uuid makes the same UUID of the same words always.
func uuid(words ...string) string {
	s := sha256.Sum256([]byte(strings.Join(words, "/")))
	return fmt.Sprintf("%x-%x-%x-%x-%x", s[0:4], s[4:6], s[6:8], s[8:10], s[10:16])
}
