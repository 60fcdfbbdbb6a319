package bmcsim

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"time"
)

// authState is who is logged in and how logins went.
type authState struct {
	sessions   map[string]*session // by token
	last       int
	badInARow  int
	lockedTill time.Time
}

type session struct {
	id    string
	token string
	used  time.Time
}

const sessionsPath = "/redfish/v1/SessionService/Sessions"

func (s *session) path() string { return sessionsPath + "/" + s.id }

// sweepSessions ends the sessions that were idle too long. The lock is held by
// the caller.
func (m *Machine) sweepSessions() {
	idle := m.behaviour.SessionIdle
	for token, s := range m.auth.sessions {
		if idle > 0 && time.Since(s.used) > idle {
			m.endSession(token)
		}
	}
}

// endSession ends a session, and with it what was mounted in it, where that is
// so.
func (m *Machine) endSession(token string) {
	delete(m.auth.sessions, token)
	if m.behaviour.SessionUnmounts && token != "" && m.media.session == token {
		m.media = mediaState{}
	}
}

// login checks a password; a wrong one counts towards the lockout.
func (m *Machine) login(username, password string) error {
	right := subtle.ConstantTimeCompare([]byte(username), []byte(m.cfg.Username)) == 1 &&
		subtle.ConstantTimeCompare([]byte(password), []byte(m.cfg.Password)) == 1
	if right && !time.Now().Before(m.auth.lockedTill) {
		m.auth.badInARow = 0
		return nil
	}
	m.stats.BadLogins++
	if !right {
		m.auth.badInARow++
	}
	if n := m.behaviour.LockoutAfter; n > 0 && m.auth.badInARow >= n {
		m.auth.badInARow = 0
		m.auth.lockedTill = time.Now().Add(m.timing.Lockout)
	}
	return m.kind.refuse("Unauthorized")
}

// openSession creates a session for a password that login has accepted.
func (m *Machine) openSession() (*session, error) {
	m.sweepSessions()
	if n := m.behaviour.SessionLimit; n > 0 && len(m.auth.sessions) >= n {
		return nil, m.kind.refuse("SessionLimitExceeded")
	}
	m.auth.last++
	s := &session{id: fmt.Sprintf("%s%08x", m.cfg.Username, m.auth.last), token: rand.Text(), used: time.Now()}
	m.auth.sessions[s.token] = s
	m.stats.Logins++
	return s, nil
}

// useSession tells whether a token is good, and keeps its session alive.
func (m *Machine) useSession(token string) error {
	m.sweepSessions()
	s, ok := m.auth.sessions[token]
	if !ok {
		return m.kind.refuse("NoValidSession")
	}
	s.used = time.Now()
	return nil
}

// EndSessions ends all sessions, as a BMC does that has had enough: the next
// request of each is answered 401.
func (m *Machine) EndSessions() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.auth.sessions)
}

// RestartBMC restarts the BMC and not the host: sessions and tasks are gone, and
// connections are dropped until Timing.BMCRestart has passed.
func (m *Machine) RestartBMC() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.auth.sessions)
	clear(m.tasks)
	m.downTill = time.Now().Add(m.timing.BMCRestart)
	if m.behaviour.UnmountOnBMCRestart {
		m.media = mediaState{}
		m.tellDrive()
	}
}
