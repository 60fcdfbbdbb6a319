package bmcsim

import (
	"encoding/json"
	"net/http"
	"strings"
)

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
	if m.behaviour.SettingsObject != "" {
		return nil, m.kind.refuse("FutureState", "Boot")
	}
	return m.patchSettings(c)
}

// patchProtocol switches virtual media on or off.
func (m *Machine) patchProtocol(c *call) (*task, error) {
	var body struct {
		VirtualMedia struct{ ProtocolEnabled *bool }
	}
	if json.Unmarshal(c.body, &body) != nil || body.VirtualMedia.ProtocolEnabled == nil {
		return nil, m.kind.refuse("PropertyMissing", "VirtualMedia")
	}
	m.enableRemote(*body.VirtualMedia.ProtocolEnabled)
	return nil, nil //nolint:nilnil // no task, and no refusal
}

// patchSettings changes the override where it is kept.
func (m *Machine) patchSettings(c *call) (*task, error) {
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
	on, _ := inserted.(bool)
	switch {
	case !m.behaviour.MediaByPatch && !m.kind.patchMedia:
		return nil, m.kind.refuse("PropertyNotWritable", "Image")
	case !hasImage && !hasInserted:
		return nil, m.kind.refuse("PropertyMissing", "Image")
	case hasInserted && !on, hasImage && image == nil:
		return m.eject()
	}
	url, _ := image.(string)
	if err := m.checkInsert(body); err != nil {
		return nil, err
	}
	return m.insertIn(c.token, url)
}

// insertIn inserts, and remembers in which session.
func (m *Machine) insertIn(token, image string) (*task, error) {
	t, err := m.insert(image)
	if err == nil {
		m.media.session = token
	}
	return t, err
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
		t, err = m.insertIn(c.token, image)
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
	m.forgetTasks()
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
	var body struct {
		UserName, Password string
		Oem                map[string]struct{ Domain string }
	}
	if json.Unmarshal(c.body, &body) != nil {
		return m.refused(m.kind.refuse("MalformedJSON"))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if key := m.kind.loginOem; key != "" && body.Oem[key].Domain == "" {
		return m.refused(m.kind.refuse("AuthorizationFailed"))
	}
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
	switch {
	case m.behaviour.TokenInBody:
		a.body["Oem"] = doc{"Public": doc{"X-Auth-Token": s.token}}
	case !m.behaviour.NoToken:
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
			m.endSession(token)
			return m.succeeded(), true
		}
		return answer{status: http.StatusOK, body: m.sessionDocument(s)}, true
	}
	return answer{}, false
}
