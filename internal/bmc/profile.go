package bmc

import "time"

// A Profile is how one family of BMCs behaves: a row of schema/profiles.cue.
// The rows are data; what differs in kind is a strategy that a row names. What a
// BMC says of itself goes before its row.
type Profile struct {
	Name   string `json:"name"`
	Family string `json:"family"` // for people: "HPE iLO 5"
	Match  Match  `json:"match"`

	// Lacks says why no BMC of this family can be used, and what to do instead.
	Lacks Refusal `json:"lacks"`
	// Licence tells a licence that does not suffice from what the manager says.
	Licence Licence `json:"licence"`

	// NoExpand: it is never asked to expand what it refers to, whatever its service
	// root offers.
	NoExpand bool `json:"noExpand"`
	// MediaAt lists where the virtual media collection is looked for, in order:
	// "system", "manager".
	MediaAt []string `json:"mediaAt"`
	// Slots matches the Id or Name of the CD slot, as a regular expression. A slot
	// that matches goes before others; one without MediaTypes has to match.
	Slots string `json:"slots"`
	// OnlySlots: a slot that does not match Slots is never used.
	OnlySlots bool `json:"onlySlots"`
	// TrySlots: slots look alike, and some refuse images. The one that holds an
	// image is used, and another is tried when one refuses.
	TrySlots bool `json:"trySlots"`
	// NoSlot says what it means when no slot can be used; zero: nothing is known.
	NoSlot Refusal `json:"noSlot"`

	// Enable lists how remote media may be switched on: "rmedia" (the manager's
	// OEM action ending in .EnableRMedia), "network-protocol" (a PATCH of the
	// manager's NetworkProtocol). What the BMC offers is used.
	Enable []string `json:"enable"`
	// Insert names how an image is mounted: "action", "patch" or "oem".
	Insert string `json:"insert"`
	// InsertWith lists what is sent with the image's URL from the start. Whatever
	// else the BMC asks for by name is added, and what it refuses is left out.
	InsertWith []InsertField `json:"insertWith"`
	// Attached names what else has to be so for an image to be in the drive: ""
	// (nothing) or "connected-via" (ConnectedVia is not NotConnected).
	Attached string `json:"attached"`
	// StaleName names what the name of an image that is not inserted does: ""
	// (another is refused until it is ejected) or "harmless".
	StaleName string `json:"staleName"`
	// SettleSeconds is how long an inserted image needs before the machine may be
	// powered on; EjectSettleSeconds how long after an eject an insert is refused.
	SettleSeconds      float64 `json:"settleSeconds"`
	EjectSettleSeconds float64 `json:"ejectSettleSeconds"`

	// Boot names how the virtual CD is armed: "override" (ComputerSystem.Boot),
	// "oem-next-reset" (a flag of the slot), "dell-attributes" (ServerBoot of the
	// manager's attributes) or "fujitsu-boot-config".
	Boot string `json:"boot"`
	// BootTargets lists the override targets that mean the virtual CD; the
	// first that the BMC offers is used.
	BootTargets []string `json:"bootTargets"`
	// FullBoot: the override is refused unless target, enabled and mode are
	// sent together (AMI, ASRockRack).
	FullBoot bool `json:"fullBoot"`
	// OverrideStays: a one-time override is never cleared by a boot, so that one
	// which is set tells nothing (sushy-tools, vendors.md 3.14).
	OverrideStays bool `json:"overrideStays"`

	// URL says which images the BMC mounts.
	URL URLRules `json:"url"`
	// Auth is what AuthAuto means for this family; "" is the usual. Lenovo may
	// unmount what a session mounted when the session ends (vendors.md 3.6).
	Auth Auth `json:"auth"`
	// Login is sent along when a session is opened (Huawei's Domain, 3.11).
	Login map[string]any `json:"login"`
	// Console names how the BMC gives its serial console; "" is what the BMC itself
	// says of it.
	Console ConsoleWay `json:"console"`
	// ConsolePage is where the BMC's web server has the HTML5 console, or the page
	// that leads to it, as a path; "" where that is not known.
	ConsolePage string `json:"consolePage"`
	// Kinds maps the end of a Redfish MessageId to the kind of error it means.
	Kinds map[string]Kind `json:"kinds"`
	// AlreadyEmpty lists the ends of MessageIds by which the BMC refuses an eject
	// because nothing is inserted: a success.
	AlreadyEmpty []string `json:"alreadyEmpty"`

	// Holes is what is known of the family and not acted upon.
	Holes []string `json:"holes"`
	// Evidence is what is known, each entry with its mark in front: [C] seen in a
	// captured tree, [S] in source code, [D] in documentation, [F] reported from
	// the field, [I] inferred.
	Evidence []string `json:"evidence"`
	Verified string   `json:"verified"` // the date of the evidence, YYYY-MM-DD
}

// Match says which BMCs a row is for. Every pattern that is not empty has to
// match, and is a regular expression; the first row that matches is used.
type Match struct {
	// OemKey is a key of the Oem object of the service root, the manager or the
	// system.
	OemKey string `json:"oemKey"`
	// Vendor is the service root's, the system's manufacturer or an Oem key: BMCs
	// leave out one or another.
	Vendor   string `json:"vendor"`
	Product  string `json:"product"`  // the service root's or its Id, or the manager's model
	Firmware string `json:"firmware"` // the manager's firmware version
	Model    string `json:"model"`    // the system's
}

// A Refusal is why something cannot be done, for people. The zero value is none.
type Refusal struct {
	Kind Kind   `json:"kind"`
	Why  string `json:"why"`
	Hint string `json:"hint"` // what to do instead
}

// None reports whether there is nothing in the way.
func (r Refusal) None() bool { return r == Refusal{} }

// Licence says where a BMC tells its licence, and which do not mount images.
type Licence struct {
	At      []string `json:"at"`      // the names that lead to it, in one of the manager's Oem blocks
	Lacking string   `json:"lacking"` // a regular expression
	Hint    string   `json:"hint"`
}

// An InsertField is what an insert request may have beside the image's URL
// (vendors.md 3.15).
type InsertField string

// The fields.
const (
	WithProtocol    InsertField = "protocol"    // TransferProtocolType
	WithMethod      InsertField = "method"      // TransferMethod: Stream
	WithInserted    InsertField = "inserted"    // Inserted, WriteProtected
	WithCredentials InsertField = "credentials" // UserName, Password, of no meaning (DGX)
)

// Settle is SettleSeconds as a duration.
func (p Profile) Settle() time.Duration { return seconds(p.SettleSeconds) }

// EjectSettle is EjectSettleSeconds as a duration.
func (p Profile) EjectSettle() time.Duration { return seconds(p.EjectSettleSeconds) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
