package bmcsim

import (
	"errors"
	"net"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// drive is what is in the CD slot.
type drive struct {
	image    string // its URL; named even though not inserted: stale
	inserted bool
	never    bool // it is named, and was never reached
}

func mounted(image string) drive { return drive{image: image, inserted: true} }

// mediaState is the CD slot, with what it was before for a BMC whose readings
// lag.
type mediaState struct {
	now, before drive
	at          time.Time     // when it changed
	lag         time.Duration // how long before is shown after that
	job         *task         // the mount under way
	session     string        // the token of the session it was inserted in
	ejected     time.Time     // when it was last emptied by request
}

// Mounted is the image that the CD slot truly holds, "" when none.
func (m *Machine) Mounted() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.media.now.inserted {
		return ""
	}
	return m.media.now.image
}

// SetMounted puts an image into the CD slot, or with "" takes it out, as another
// client would have some time ago. Nothing lags.
func (m *Machine) SetMounted(image string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.media = mediaState{}
	if image != "" {
		m.media.now = mounted(image)
	}
	m.tellDrive()
}

// tellDrive tells the host what is in the drive, if it wants to know. The lock is
// held by the caller.
func (m *Machine) tellDrive() {
	host, ok := m.cfg.Host.(DriveHost)
	if !ok || m.power.phase != bmc.PhaseOS {
		return
	}
	image := ""
	if m.media.now.inserted {
		image = m.media.now.image
	}
	m.tell(func(Host) { host.Drive(image) })
}

// Detach drops the image off the CD slot: it stays named, and is not inserted
// (vendors.md 3.2, item 6).
func (m *Machine) Detach() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detach()
}

func (m *Machine) detach() {
	m.media = mediaState{now: drive{image: m.media.now.image}}
	m.tellDrive()
}

// detachAtPowerOn is AMI's loss of a CD that was mounted shortly before.
func (m *Machine) detachAtPowerOn() {
	if !m.behaviour.DetachAtPowerOn || !m.media.now.inserted {
		return
	}
	if m.timing.Settle == 0 || time.Since(m.media.at) < m.timing.Settle {
		m.detach()
	}
}

// SetRemoteMedia switches remote media on or off (AMI's RMedia), at once.
func (m *Machine) SetRemoteMedia(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remote, m.listed = on, on
}

// enableRemote switches remote media; the slots follow Timing.EnableDelay later.
func (m *Machine) enableRemote(on bool) {
	m.remote = on
	if !on {
		m.listed = false
		m.media = mediaState{}
		m.tellDrive()
		return
	}
	if !m.listed {
		m.listSlots()
	}
}

// listSlots lists the slots again after a while.
func (m *Machine) listSlots() {
	m.after(m.timing.EnableDelay, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.listed = m.remote
	})
}

// configureCDs restarts AMI's media service with another number of CDs: the
// slots are gone for a while. It is refused while something is redirected.
func (m *Machine) configureCDs() error {
	if m.media.now.inserted || m.media.job != nil {
		return m.kind.refuse("DriveFull")
	}
	m.listed = false
	m.listSlots()
	return nil
}

// insert takes the request to mount an image and does so in its own time. The
// lock is held by the caller; a nil task means that it is done.
func (m *Machine) insert(image string) (*task, error) {
	q := m.behaviour
	switch {
	case q.NoLicence:
		return nil, m.kind.refuse("LicenseKeyRequired")
	case q.InsertFailsAfterEject && time.Since(m.media.ejected) < m.timing.EjectLag:
		return nil, m.kind.refuse("InternalError")
	case m.media.job != nil, m.media.now.inserted, q.staleBlocks() && m.media.now.image != "":
		return nil, m.kind.refuse("DriveFull")
	case image == "":
		return nil, m.kind.refuse("ActionParameterMissing", "VirtualMedia.InsertMedia", "Image")
	case !m.mountable(image):
		return nil, m.kind.refuse("ActionParameterValueFormatError", image, "Image", "VirtualMedia.InsertMedia")
	}
	t := m.newTask("Virtual media insert", q.InsertTask)
	m.media.job = t
	m.after(m.taskTime(q.InsertTask), func() { m.mount(t, image) })
	return t, nil
}

// taskTime is how long a change of media takes before it is done.
func (m *Machine) taskTime(s TaskStyle) time.Duration {
	if s == NoTask {
		return 0
	}
	return m.timing.MediaTask
}

// mountable tells whether the BMC can read from such a URL at all.
func (m *Machine) mountable(image string) bool {
	u, err := url.Parse(image)
	if err != nil || u.Host == "" {
		return false
	}
	return u.Scheme == "http" && !m.behaviour.HTTPSOnly || u.Scheme == "https" && !m.behaviour.HTTPOnly
}

// reaches tells whether the BMC tries such a server at all.
func (b Behaviour) reaches(image string) bool {
	u, err := url.Parse(image)
	if err != nil {
		return false
	}
	return net.ParseIP(u.Hostname()) != nil || !b.AddressOnly
}

// connects tells whether it ever gets there: the request is taken all the same.
func (b Behaviour) connects(image string) bool {
	u, err := url.Parse(image)
	return err == nil && (!b.DefaultPortOnly || strings.Count(u.Path, "/") > 1 && (u.Port() == "" || u.Port() == "80"))
}

// mount ends an insert: it reads the image, if there is a way to, and puts it
// in.
func (m *Machine) mount(t *task, image string) {
	var err error
	if m.cfg.Fetch != nil {
		err = m.cfg.Fetch(m.ctx, image)
	}
	if m.without(func(b Behaviour) bool { return !b.reaches(image) }) {
		err = errors.New("no connection")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.media.job != t { // the drive was taken away meanwhile
		t.end(m.kind.refuse("InternalError"))
		return
	}
	m.media.job = nil
	switch {
	case m.behaviour.TaskFails:
		t.end(m.kind.refuse("InternalError"))
	case err != nil:
		t.end(m.kind.refuse("CouldNotEstablishConnection", image))
	case !m.behaviour.connects(image):
		m.change(drive{image: image, never: true}, false, 0)
		t.end(nil)
	default:
		m.stats.Inserts++
		m.change(mounted(image), m.behaviour.InsertLags, m.timing.MediaLag)
		t.end(nil)
	}
}

// eject takes the request to empty the slot.
func (m *Machine) eject() (*task, error) {
	q := m.behaviour
	if m.media.job != nil {
		return nil, m.kind.refuse("ResourceInUse")
	}
	if m.media.now == (drive{}) {
		if q.RefuseEmptyEject {
			return nil, m.kind.refuse("NoVirtualMediaConnectionAvailable")
		}
		return nil, nil
	}
	t := m.newTask("Virtual media eject", q.EjectTask)
	m.after(m.taskTime(q.EjectTask), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.emptySlot()
		t.end(nil)
	})
	return t, nil
}

func (m *Machine) emptySlot() {
	was := m.media.now
	if was.inserted {
		m.stats.Ejects++
		m.media.ejected = time.Now()
	}
	left := drive{}
	if m.behaviour.NameNeverClears || m.behaviour.EjectKeepsName && was.inserted {
		left.image = was.image
	}
	m.nextCD, m.ejectDue = false, false
	m.change(left, m.behaviour.EjectLags, m.timing.EjectLag)
}

func (m *Machine) change(to drive, lags bool, lag time.Duration) {
	m.media = mediaState{now: to, before: m.media.now, at: time.Now(), session: m.media.session, ejected: m.media.ejected}
	if lags {
		m.media.lag = lag
	}
	m.tellDrive()
}

// shownDrive is what the BMC says is in the slot, with the lag but with the
// image's true name.
func (m *Machine) shownDrive() drive {
	if time.Since(m.media.at) < m.media.lag {
		return m.media.before
	}
	return m.media.now
}

// shownMedia is the CD slot as the BMC words it.
func (m *Machine) shownMedia() bmc.Media {
	d := m.shownDrive()
	s := bmc.Media{Slot: m.kind.cdSlot(), Inserted: d.inserted}
	if m.behaviour.RedirectionStatus {
		s.Detail = m.redirection(d)
	}
	if d.image != "" {
		s.Image, s.ImageName = m.behaviour.Echo.of(d.image)
	}
	return s
}

// redirection words AMI's RedirectionStatus (vendors.md 3.2).
func (m *Machine) redirection(d drive) string {
	switch {
	case m.media.job != nil:
		return "Initiating Redirection"
	case d.inserted:
		return "Redirection Started"
	case d.never:
		return "Stopped - Unable to Connect"
	case d.image != "":
		return "Stopped - Connection Lost"
	}
	return "None"
}

// of tells what a BMC makes of an image's URL (vendors.md 2.5).
func (e Echo) of(image string) (echo, name string) {
	u, err := url.Parse(image)
	if err != nil {
		return image, path.Base(image)
	}
	name = path.Base(u.Path)
	switch e {
	case EchoDoubled:
		return "//" + u.Host + u.Path + "/" + name, name
	case EchoNoPort:
		return strings.Replace(image, u.Host, u.Hostname(), 1), name
	case EchoBlank:
		return "", ""
	case EchoNone:
		return "None", "None"
	case EchoVerbatim:
	}
	return image, name
}
