package bmcsim

import (
	"reflect"
	"time"
)

// A TaskStyle is how a BMC tells of the task that an action started.
type TaskStyle string

// The styles of task.
const (
	NoTask TaskStyle = "" // the answer comes when all is done
	// TaskLocation: 202 with the Location of a task monitor, which answers 202
	// until the task has ended, and then what the action would have.
	TaskLocation TaskStyle = "location"
	// TaskResource: likewise, but the monitor answers 200 with the Task resource,
	// in the state Running at first (vendors.md 7.3, row 5).
	TaskResource TaskStyle = "resource"
	// TaskInBody: 202 without Location; the body is the Task, whose @odata.id is
	// all there is to follow (3.2, item 1).
	TaskInBody TaskStyle = "body"
)

// An Echo is how a BMC reads an inserted image's URL back.
type Echo string

// The echoes (vendors.md 2.5).
const (
	EchoVerbatim Echo = ""
	EchoDoubled  Echo = "doubled" // AMI 13: no scheme, the basename twice
	EchoNoPort   Echo = "no-port" // xFusion: no port
	EchoBlank    Echo = "blank"   // iDRAC on R670: Inserted, and no name
	EchoNone     Echo = "none"    // AMI 12: Inserted, and the string "None"
)

// Queries is how a BMC treats the query options that its service root offers.
type Queries string

// The treatments of query options.
const (
	// QueriesKept: what is offered works. Of what is not, $expand is refused with 501
	// and only is ignored, as DSP0266 has it.
	QueriesKept    Queries = ""
	QueriesAbsent  Queries = "absent"  // the root offers none
	QueriesIgnored Queries = "ignored" // all are offered, and the answers are as without
	QueriesRefused Queries = "refused" // likewise, and each is refused with 400
	QueriesUnbuilt Queries = "unbuilt" // likewise, with 501
	QueriesTooBig  Queries = "too-big" // an expansion is refused for its size (2.7, AMI)
	QueriesSilent  Queries = "silent"  // no answer comes until the client gives up
	QueriesClose   Queries = "close"   // the connection is closed
	QueriesPartly  Queries = "partly"  // only the first of the references is expanded
	QueriesCut     Queries = "cut"     // an expanded collection ends before its last member
	QueriesShallow Queries = "shallow" // one level is expanded, however many are asked for
)

// Behaviour is what a BMC does beyond, or against, the standard. The zero value
// is well behaved, apart from what its Kind always does. Each field names the
// part of vendors.md that it comes from.
type Behaviour struct {
	// InsertTask and EjectTask make the action answer 202 with a task (2.3).
	InsertTask, EjectTask TaskStyle
	// TaskFails ends every insert in an error, a task in the state Exception.
	TaskFails bool
	// AbsoluteLocation makes every Location header a whole URL (7.3, row 4).
	AbsoluteLocation bool
	// MessagesAsObject makes a Task's Messages one object, not an array (3.11).
	MessagesAsObject bool

	// InsertLags shows an inserted image only Timing.MediaLag later (1, item 2).
	InsertLags bool
	// EjectLags shows an ejected image for Timing.EjectLag more (2.4, iDRAC).
	EjectLags bool
	// EjectKeepsName leaves an ejected image named with Inserted false until it
	// is ejected once more; until then an insert is refused (2.4, AMI).
	EjectKeepsName bool
	// NameNeverClears leaves the last image named for ever; it is in nobody's way
	// (2.5, Supermicro).
	NameNeverClears bool
	// Echo is how an inserted image reads back (2.5).
	Echo Echo
	// NoneWhenEmpty shows an empty slot as the string "None" (2.5, AMI 12.x,
	// always so with Gigabyte).
	NoneWhenEmpty bool
	// NoMediaTypes leaves MediaTypes out of the slots (2.2; always with Gigabyte).
	NoMediaTypes bool
	// MediaByPatch offers no actions on the slots: they are PATCHed (2.3, Lenovo).
	// The iLOs take such a PATCH always, besides their actions (3.1).
	MediaByPatch bool
	// EjectActionVanishes offers EjectMedia only while Inserted (2.4, Supermicro).
	EjectActionVanishes bool
	// InsertNeeds lists parameters of InsertMedia, besides Image, without which it
	// is refused with ActionParameterMissing (2.3, Nokia, xFusion).
	InsertNeeds []string
	// InsertRefuses lists parameters that are refused by name (2.3, Supermicro,
	// iLO 4).
	InsertRefuses []string
	// RedirectionStatus tells of the redirection in Oem.Ami (3.2; AMI 13).
	RedirectionStatus bool
	// HTTPOnly refuses https images with ActionParameterValueFormatError (3.2).
	HTTPOnly bool
	// HTTPSOnly refuses http images likewise (3.3).
	HTTPSOnly bool
	// BodyRequired refuses a POST to an action without a JSON body with 415 (2.4,
	// always so with the iLOs).
	BodyRequired bool
	// RefuseEmptyEject refuses to eject what is not there (3.1; always so with the
	// iLOs).
	RefuseEmptyEject bool
	// NoLicence refuses every insert for want of a licence (2.10).
	NoLicence bool
	// DetachAtPowerOn drops a CD that was mounted less than Timing.Settle before
	// the machine is powered on: Image stays named (3.2, item 6).
	DetachAtPowerOn bool
	// UnmountOnBMCRestart empties the slot when the BMC restarts (2.4, AMI).
	UnmountOnBMCRestart bool
	// RemoteMediaOff starts with remote media switched off: no slot is listed
	// until EnableRMedia, which only AMI's kinds have (3.2). It takes effect in New,
	// and in a SetBehaviour that switches it on.
	RemoteMediaOff bool
	// MediaProtocolOff likewise, and the manager's NetworkProtocol switches it on
	// (3.2).
	MediaProtocolOff bool
	// InsertFailsAfterEject answers an insert with 500 for Timing.EjectLag after an
	// eject (2.4, iDRAC).
	InsertFailsAfterEject bool
	// NeverAttaches records an image without connecting it: Inserted is true,
	// ConnectedVia NotConnected, and nothing boots from it (2.5, Supermicro).
	NeverAttaches bool
	// AddressOnly refuses an image whose server is named (3.11, xFusion).
	AddressOnly bool
	// DefaultPortOnly takes an image on another port than 80, or at the server's
	// root, and never connects to it (3.2, AMI 13).
	DefaultPortOnly bool
	// InsertInfo tells in an ActionInfo which parameters an insert needs and which
	// protocols it takes (3.5).
	InsertInfo bool
	// SessionUnmounts takes out what was inserted in a session when that ends (3.6,
	// Lenovo).
	SessionUnmounts bool

	// IfMatch is the status, 412 or 428, for a PATCH without If-Match; 0 does
	// without (3.2). A stale If-Match is 412 always.
	IfMatch int
	// RefuseIfMatchOnActions answers 412 to a POST with If-Match (3.3, 3.4).
	RefuseIfMatchOnActions bool
	// FullBoot refuses a boot override without target, enabled and mode (2.6, AMI).
	FullBoot bool
	// RefuseBootMode refuses a boot override that names the mode (2.6, DL160).
	RefuseBootMode bool
	// SettingsObject is the name of a resource below the system that has the boot
	// override, and takes it; the system itself shows none (2.6: SD of AMI, Settings
	// of iDRAC 10).
	SettingsObject string
	// BootRefusedInPost refuses to change the override during POST with
	// UnableToModifyDuringSystemPOST (3.1; always so with the iLOs).
	BootRefusedInPost bool
	// OverrideStays never clears a one-time override (2.6, sushy-tools).
	OverrideStays bool
	// OverrideReadsContinuous shows Once as Continuous (2.6, sushy-tools).
	OverrideReadsContinuous bool
	// UsbCd offers the target UsbCd, and Cd is then not the virtual CD (2.6,
	// Supermicro).
	UsbCd bool
	// IgnoreCd consumes the override and boots the disk (3.4, 2.6).
	IgnoreCd bool

	// ResetTypes replaces the ResetTypes that are offered (2.7).
	ResetTypes []string
	// ResetActionInfo tells them in an ActionInfo only (2.7; always so with
	// Gigabyte, CrayEX and OpenBMCStock).
	ResetActionInfo bool
	// RefuseSameState refuses a reset to the state already held (2.7; always so
	// with the iLOs).
	RefuseSameState bool
	// IgnoreShutdown accepts a graceful shutdown and never tells the host.
	IgnoreShutdown bool
	// PowerOnConflicts answers 409 to On for Timing.PowerLag after a power off (3.4,
	// iDRAC 10).
	PowerOnConflicts bool
	// PowerLags shows the old PowerState for Timing.PowerLag.
	PowerLags bool
	// PowerTransitions shows PoweringOn and PoweringOff for Timing.PowerLag.
	PowerTransitions bool

	// Busy answers every request but the service root with 503 (5.5).
	Busy bool
	// BusyInPost does so while the host is in POST (3.2, item 9).
	BusyInPost bool
	// RetryAfter is the Retry-After of such a 503, in seconds; 0 sends none.
	RetryAfter int
	// CloseAfterAction does what a POST to an action asks and closes the
	// connection without an answer (3.1, transport).
	CloseAfterAction bool

	// SessionLimit is how many sessions may be open; 0 is no limit (3.1).
	SessionLimit int
	// SessionIdle is how long a session lives unused; 0 is for ever (2.7). It
	// leaves a client with a 401 in the middle of a wait.
	SessionIdle time.Duration
	// BasicOpensSession makes each request with Basic authentication open a session
	// of its own, which stays for SessionIdle (3.1, sessions).
	BasicOpensSession bool
	// NoSessions has no session service (3.14).
	NoSessions bool
	// TokenInBody tells a new session's token in its body only (3.12, Inspur).
	TokenInBody bool
	// NoToken creates sessions without telling their token (7.3, row 14).
	NoToken bool
	// NoBasic refuses Basic authentication: sessions only.
	NoBasic bool
	// LockoutAfter is how many bad logins in a row close the BMC to every login
	// for Timing.Lockout; 0 is never (9.2).
	LockoutAfter int

	// SecondSystem lists a second system, which has neither Boot nor Reset, before
	// the first; it answers 500 while the host is off (3.2, item 10).
	SecondSystem bool
	// TwinSystem lists a second host before the first, with Boot and Reset of its
	// own: which one is meant has to be said (3.8, Cray EX; chassis of many nodes).
	TwinSystem bool
	// ZeroDates shows times that no calendar has (2.8, iDRAC 7.10).
	ZeroDates bool
	// TrailingSlash ends every URI with a slash and redirects the others with 308
	// (3.1).
	TrailingSlash bool
	// Queries is how the query options only and $expand are treated (2.7). What is
	// offered is the kind's, or MaxLevels.
	Queries Queries
	// MaxLevels, if not 0, offers only and $expand, the latter so many levels deep.
	MaxLevels int
}

// Reported is how a family is reported to behave in the field, all at once: more
// than was captured of it, and true of some firmware versions only.
func Reported(k Kind) Behaviour {
	switch k {
	case Gigabyte:
		return Behaviour{
			InsertTask: TaskInBody, Echo: EchoDoubled, InsertLags: true,
			RedirectionStatus: true, HTTPOnly: true, IfMatch: 428, FullBoot: true,
			UnmountOnBMCRestart: true, RemoteMediaOff: true,
		}
	case ILO5:
		return Behaviour{SessionLimit: 10, AbsoluteLocation: true, EjectLags: true}
	case ILO4:
		return Behaviour{InsertRefuses: []string{"Inserted", "WriteProtected", "Oem"}}
	default:
		return Behaviour{} // these do as they are reported to always
	}
}

// Always is what a kind does without being asked to.
func Always(k Kind) Behaviour { return kinds[k].always }

// SetBehaviour changes how the BMC behaves from now on.
func (m *Machine) SetBehaviour(b Behaviour) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applyBehaviour(b)
}

// Behaviour tells how the BMC behaves beyond its Kind.
func (m *Machine) Behaviour() Behaviour {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

func (m *Machine) applyBehaviour(b Behaviour) {
	was, is := m.behaviour, with(b, m.kind.always)
	if is.RemoteMediaOff && !was.RemoteMediaOff || is.MediaProtocolOff && !was.MediaProtocolOff {
		m.remote, m.listed = false, false
	}
	m.asked, m.behaviour = b, is
}

// with is what was asked for together with what the kind always does.
func with(asked, always Behaviour) Behaviour {
	b, k := reflect.ValueOf(&asked).Elem(), reflect.ValueOf(always)
	for i := range b.NumField() {
		if b.Field(i).IsZero() {
			b.Field(i).Set(k.Field(i))
		}
	}
	return asked
}

// staleBlocks tells whether an image that is named without being inserted stands
// in the way of another.
func (b Behaviour) staleBlocks() bool { return b.EjectKeepsName || b.DetachAtPowerOn }
