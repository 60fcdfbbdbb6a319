package bmc

import "time"

// A Profile is how one family of BMCs behaves: a row of schema/profiles.cue.
// The rows are data; what differs in kind is a strategy that a row names.
type Profile struct {
	Name  string `json:"name"`
	Match Match  `json:"match"`
	// MediaAt lists where the virtual media collection is looked for, in order:
	// "system", "manager".
	MediaAt []string `json:"mediaAt"`
	// Slots matches the Id or Name of the CD slot when MediaTypes is absent, as
	// a regular expression.
	Slots string `json:"slots"`
	// Enable names how remote media is switched on: "" (it always is) or
	// "rmedia" (the Manager's OEM action ending in .EnableRMedia).
	Enable string `json:"enable"`
	// Insert names how an image is mounted: "action", "patch" or "oem".
	Insert string `json:"insert"`
	// InsertForms lists the bodies to try, shortest first; the next is tried
	// only when the BMC's answer asks for what it adds.
	InsertForms []InsertForm `json:"insertForms"`
	// Boot names how the virtual CD is armed: "override" or "oem-next-reset".
	Boot string `json:"boot"`
	// BootTargets lists the override targets that mean the virtual CD; the
	// first that the BMC offers is used.
	BootTargets []string `json:"bootTargets"`
	// FullBoot: the override is refused unless target, enabled and mode are
	// sent together (AMI, ASRockRack).
	FullBoot bool `json:"fullBoot"`
	// Schemes lists the URL schemes that the BMC mounts from.
	Schemes []string `json:"schemes"`
	// PlainURL: port 80, at least one directory, only [A-Za-z0-9._-] and at most
	// MaxURL characters (vendors.md 3.2, "URL limits").
	PlainURL bool `json:"plainURL"`
	MaxURL   int  `json:"maxURL"`
	// SettleSeconds is how long an inserted image needs before the machine may be
	// powered on.
	SettleSeconds float64 `json:"settleSeconds"`
	// Auth is what AuthAuto means for this family; "" is the usual. Lenovo may
	// unmount what a session mounted when the session ends (vendors.md 3.6).
	Auth Auth `json:"auth"`
	// Console names how the BMC gives its serial console; "" is what the BMC itself
	// says of it.
	Console ConsoleWay `json:"console"`
	// ConsolePage is where the BMC's web server has the console for browsers, as a
	// path; "" where that is not known.
	ConsolePage string `json:"consolePage"`
	// Kinds maps the end of a Redfish MessageId to the kind of error it means.
	Kinds map[string]Kind `json:"kinds"`
	// AlreadyEmpty lists the ends of MessageIds by which the BMC refuses an eject
	// because nothing is inserted: a success.
	AlreadyEmpty []string `json:"alreadyEmpty"`
	// Lacks says, for people, why a BMC of this family cannot be used at all.
	Lacks    string `json:"lacks"`
	Evidence string `json:"evidence"`
	Verified string `json:"verified"` // the date of the evidence, YYYY-MM-DD
}

// Match says which BMCs a row is for. Every pattern that is not empty has to
// match; the first row that matches is used.
type Match struct {
	OemKey   string `json:"oemKey"`   // a key of the service root's Oem object
	Vendor   string `json:"vendor"`   // regular expressions, from here on
	Product  string `json:"product"`  // of the service root's or the manager's product
	Firmware string `json:"firmware"` // of the manager's firmware version
}

// An InsertForm is one shape of the insert request's body.
type InsertForm string

// The forms, each the one before it and a little more (vendors.md 3.15).
const (
	FormImage    InsertForm = "image"    // {"Image"}
	FormProtocol InsertForm = "protocol" // + "TransferProtocolType"
	FormMethod   InsertForm = "method"   // + "TransferMethod": "Stream"
	FormInserted InsertForm = "inserted" // + "Inserted", "WriteProtected"
)

// Settle is SettleSeconds as a duration.
func (p Profile) Settle() time.Duration {
	return time.Duration(p.SettleSeconds * float64(time.Second))
}
