package redfish

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// maybe is a field as a BMC may send it: absent, null, or of a type that the
// schema does not have there (numbers for strings, vendors.md 3.11). Decoding
// one never fails, so that a field nobody needs cannot fail a node; a field
// that is needed is asked whether it is bad.
type maybe[T any] struct {
	v   T
	set bool // present, not null and of type T
	bad bool // present and of another type
}

// UnmarshalJSON implements json.Unmarshaler and returns no error.
func (m *maybe[T]) UnmarshalJSON(data []byte) error {
	*m = maybe[T]{}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil
	}
	if err := json.Unmarshal(data, &m.v); err != nil {
		var zero T
		m.v, m.bad = zero, true
		return nil //nolint:nilerr // bad says so, and the rest of the document is read
	}
	m.set = true
	return nil
}

// link is a reference to another resource. Some send its address alone, or
// under the name it had before Redfish (iLO 4's legacy tree).
type link struct {
	URI  string `json:"@odata.id"`
	Href string `json:"href"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *link) UnmarshalJSON(data []byte) error {
	*l = link{}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &l.URI)
	}
	type plain link
	if err := json.Unmarshal(data, (*plain)(l)); err != nil {
		return err
	}
	if l.URI == "" {
		l.URI = l.Href
	}
	return nil
}

// texts is a list of strings. What is none in it is left out.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(data []byte) error {
	*t = nil
	var list []maybe[string]
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, e := range list {
		if e.set {
			*t = append(*t, e.v)
		}
	}
	return nil
}

// rawFields is an object whose fields are looked at one by one.
type rawFields map[string]json.RawMessage

type links = maybe[linkList]

// linkList is a list of links, or one link in its place.
type linkList []maybe[link]

// UnmarshalJSON implements json.Unmarshaler.
func (l *linkList) UnmarshalJSON(data []byte) error {
	*l = nil
	var list []maybe[link]
	if err := json.Unmarshal(data, &list); err == nil {
		*l = list
		return nil
	}
	var one maybe[link]
	if one.UnmarshalJSON(data) != nil || one.v.URI == "" {
		return errors.New("no link and no list of links")
	}
	*l = linkList{one}
	return nil
}

// uris gives the addresses of a list of links, without the entries that are
// none.
func uris(l links) []string {
	var out []string
	for _, m := range l.v {
		if m.v.URI != "" {
			out = append(out, m.v.URI)
		}
	}
	return out
}

type rootDoc struct {
	ID       maybe[string]      `json:"Id"`
	Vendor   maybe[string]      `json:"Vendor"`
	Product  maybe[string]      `json:"Product"`
	Oem      maybe[rawFields]   `json:"Oem"`
	Systems  maybe[link]        `json:"Systems"`
	Manager  maybe[link]        `json:"Managers"`
	Licences maybe[link]        `json:"LicenseService"`
	Features maybe[featuresDoc] `json:"ProtocolFeaturesSupported"`
	Links    maybe[struct {
		Sessions maybe[link] `json:"Sessions"`
	}] `json:"Links"`
}

type collectionDoc struct {
	Members  links         `json:"Members"`
	NextLink maybe[string] `json:"Members@odata.nextLink"`
}

type systemDoc struct {
	ID           maybe[string]      `json:"Id"`
	Name         maybe[string]      `json:"Name"`
	UUID         maybe[string]      `json:"UUID"`
	Serial       maybe[string]      `json:"SerialNumber"`
	Manufacturer maybe[string]      `json:"Manufacturer"`
	Model        maybe[string]      `json:"Model"`
	SystemType   maybe[string]      `json:"SystemType"`
	PowerState   maybe[string]      `json:"PowerState"`
	Boot         maybe[bootDoc]     `json:"Boot"`
	BootProgress maybe[progressDoc] `json:"BootProgress"`
	Actions      maybe[rawFields]   `json:"Actions"`
	VirtualMedia maybe[link]        `json:"VirtualMedia"`
	Oem          maybe[rawFields]   `json:"Oem"`
	Console      maybe[struct {
		SSH  maybe[consoleDoc] `json:"SSH"`
		IPMI maybe[consoleDoc] `json:"IPMI"`
		Max  maybe[int]        `json:"MaxConcurrentSessions"`
	}] `json:"SerialConsole"`
	Graphic maybe[consolesDoc] `json:"GraphicalConsole"`
	Links   maybe[struct {
		ManagedBy links `json:"ManagedBy"`
	}] `json:"Links"`
	Settings maybe[struct {
		Object maybe[link] `json:"SettingsObject"`
	}] `json:"@Redfish.Settings"`
}

// consolesDoc is one kind of console.
type consolesDoc struct {
	Enabled maybe[bool]  `json:"ServiceEnabled"`
	Max     maybe[int]   `json:"MaxConcurrentSessions"`
	Types   maybe[texts] `json:"ConnectTypesSupported"`
}

// consoleDoc is one protocol of a SerialConsole.
type consoleDoc struct {
	Enabled maybe[bool]   `json:"ServiceEnabled"`
	Port    maybe[int]    `json:"Port"`
	Entry   maybe[string] `json:"ConsoleEntryCommand"`
}

type progressDoc struct {
	LastState maybe[string] `json:"LastState"`
}

type bootDoc struct {
	Target  maybe[string] `json:"BootSourceOverrideTarget"`
	Targets maybe[texts]  `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	Enabled maybe[string] `json:"BootSourceOverrideEnabled"`
	Mode    maybe[string] `json:"BootSourceOverrideMode"`
	Modes   maybe[texts]  `json:"BootSourceOverrideMode@Redfish.AllowableValues"`
	Options maybe[link]   `json:"BootOptions"`
}

type bootOptionDoc struct {
	Reference   maybe[string] `json:"BootOptionReference"`
	DisplayName maybe[string] `json:"DisplayName"`
	DevicePath  maybe[string] `json:"UefiDevicePath"`
}

// hasOverride reports whether the boot settings have any part of an override.
func (b bootDoc) hasOverride() bool {
	return b.Target.set || b.Enabled.set || len(b.Targets.v) > 0
}

type managerDoc struct {
	ID           maybe[string]      `json:"Id"`
	Type         maybe[string]      `json:"ManagerType"`
	Model        maybe[string]      `json:"Model"`
	Firmware     maybe[string]      `json:"FirmwareVersion"`
	DateTime     maybe[string]      `json:"DateTime"`
	Offset       maybe[string]      `json:"DateTimeLocalOffset"`
	Serial       maybe[consolesDoc] `json:"SerialConsole"`
	Shell        maybe[consolesDoc] `json:"CommandShell"`
	Graphic      maybe[consolesDoc] `json:"GraphicalConsole"`
	VirtualMedia maybe[link]        `json:"VirtualMedia"`
	Protocol     maybe[link]        `json:"NetworkProtocol"`
	Actions      maybe[rawFields]   `json:"Actions"`
	Oem          maybe[rawFields]   `json:"Oem"`
	Links        maybe[struct {
		Servers links            `json:"ManagerForServers"`
		Oem     maybe[rawFields] `json:"Oem"`
	}] `json:"Links"`
}

// protocolDoc is the part of a ManagerNetworkProtocol that is read.
type protocolDoc struct {
	VirtualMedia maybe[struct {
		Enabled maybe[bool] `json:"ProtocolEnabled"`
	}] `json:"VirtualMedia"`
}

type mediaDoc struct {
	ID         maybe[string]    `json:"Id"`
	Name       maybe[string]    `json:"Name"`
	MediaTypes maybe[texts]     `json:"MediaTypes"`
	Image      maybe[string]    `json:"Image"`
	ImageName  maybe[string]    `json:"ImageName"`
	Inserted   maybe[bool]      `json:"Inserted"`
	Connected  maybe[string]    `json:"ConnectedVia"`
	Actions    maybe[rawFields] `json:"Actions"`
	Oem        maybe[rawFields] `json:"Oem"`
}

// oemDoc is the part of an Oem block that is read, whoever it belongs to.
type oemDoc struct {
	PostState         maybe[string]    `json:"PostState"`            // HPE
	PostCompleted     maybe[bool]      `json:"PostCompletionStatus"` // Cisco
	RedirectionStatus maybe[string]    `json:"RedirectionStatus"`
	BootOnNextReset   maybe[bool]      `json:"BootOnNextServerReset"`
	Actions           maybe[rawFields] `json:"Actions"`
}

// oemBlocks decodes what a resource's Oem object holds, by key and in the
// keys' order.
func oemBlocks(oem maybe[rawFields]) ([]string, []oemDoc) {
	var names []string
	var docs []oemDoc
	for _, k := range slices.Sorted(maps.Keys(oem.v)) {
		var d maybe[oemDoc]
		if d.UnmarshalJSON(oem.v[k]) == nil && d.set {
			names, docs = append(names, k), append(docs, d.v)
		}
	}
	return names, docs
}

type actionDoc struct {
	Target    maybe[string] `json:"target"`
	Info      maybe[string] `json:"@Redfish.ActionInfo"`
	Allowed   maybe[texts]  `json:"ResetType@Redfish.AllowableValues"`
	Protocols maybe[texts]  `json:"TransferProtocolType@Redfish.AllowableValues"`
}

// action gives the action of that name, however its case is.
func action(actions maybe[rawFields], name string) (actionDoc, bool) {
	for _, k := range slices.Sorted(maps.Keys(actions.v)) {
		if !strings.EqualFold(strings.TrimPrefix(k, "#"), strings.TrimPrefix(name, "#")) {
			continue
		}
		var a maybe[actionDoc]
		if a.UnmarshalJSON(actions.v[k]) == nil && a.set {
			return a.v, true
		}
	}
	return actionDoc{}, false
}

// standardAction gives an action that the resource at uri offers, and where it is
// posted to. A target that is left out is where DSP0266 puts it.
func standardAction(actions maybe[rawFields], uri, name string) (a actionDoc, target string) {
	a, ok := action(actions, name)
	switch {
	case !ok || a.Target.bad:
		return a, ""
	case a.Target.v == "":
		return a, strings.TrimRight(uri, "/") + "/Actions/" + strings.TrimPrefix(name, "#")
	}
	return a, a.Target.v
}

// actionEnding gives the target of the first action, by name, that ends in the
// suffix. An action's OEM prefix changes between firmwares (vendors.md 3.2).
func actionEnding(actions maybe[rawFields], suffix string) string {
	for _, name := range slices.Sorted(maps.Keys(actions.v)) {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		if a, ok := action(actions, name); ok && a.Target.v != "" {
			return a.Target.v
		}
	}
	return ""
}

// oemAction looks for an OEM action in the places where BMCs put them:
// Actions.Oem, Actions.Oem.{Key} and Oem.{Key}.Actions.
func oemAction(actions, oem maybe[rawFields], suffix string) string {
	var inside maybe[rawFields]
	if raw, ok := actions.v["Oem"]; ok && inside.UnmarshalJSON(raw) == nil {
		if t := actionEnding(inside, suffix); t != "" {
			return t
		}
		for _, k := range slices.Sorted(maps.Keys(inside.v)) {
			var deeper maybe[rawFields]
			if deeper.UnmarshalJSON(inside.v[k]) == nil {
				if t := actionEnding(deeper, suffix); t != "" {
					return t
				}
			}
		}
	}
	_, docs := oemBlocks(oem)
	for _, d := range docs {
		if t := actionEnding(d.Actions, suffix); t != "" {
			return t
		}
	}
	return ""
}

type actionInfoDoc struct {
	Parameters maybe[[]maybe[struct {
		Name     maybe[string] `json:"Name"`
		Required maybe[bool]   `json:"Required"`
		Allowed  maybe[texts]  `json:"AllowableValues"`
	}]] `json:"Parameters"`
}

type taskDoc struct {
	URI      maybe[string]   `json:"@odata.id"`
	Monitor  maybe[string]   `json:"TaskMonitor"`
	State    maybe[string]   `json:"TaskState"`
	Status   maybe[string]   `json:"TaskStatus"`
	Messages maybe[messages] `json:"Messages"`
}

// message is a Redfish Message, as in @Message.ExtendedInfo.
type message struct {
	ID       maybe[string]            `json:"MessageId"`
	Text     maybe[string]            `json:"Message"`
	Severity maybe[string]            `json:"Severity"`
	Level    maybe[string]            `json:"MessageSeverity"`
	Args     maybe[[]maybe[string]]   `json:"MessageArgs"`
	Related  maybe[[]json.RawMessage] `json:"RelatedProperties"`
}

// messages is a list of Messages; one object in its place, as xFusion sends it
// (vendors.md 3.11), is a list of one.
type messages []message

// UnmarshalJSON implements json.Unmarshaler.
func (m *messages) UnmarshalJSON(data []byte) error {
	var list []maybe[message]
	if err := json.Unmarshal(data, &list); err == nil {
		*m = nil
		for _, e := range list {
			if e.set {
				*m = append(*m, e.v)
			}
		}
		return nil
	}
	var one message
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*m = messages{one}
	return nil
}

// errorDoc is the body of a refusal, and of some successes.
type errorDoc struct {
	Error maybe[struct {
		Code maybe[string]   `json:"code"`
		Text maybe[string]   `json:"message"`
		Info maybe[messages] `json:"@Message.ExtendedInfo"`
	}] `json:"error"`
	Info maybe[messages] `json:"@Message.ExtendedInfo"`
}

// messagesOf gives the messages in a body, none when it holds none.
func messagesOf(body []byte) messages {
	var d errorDoc
	if json.Unmarshal(body, &d) != nil {
		return nil
	}
	out := slices.Concat(d.Error.v.Info.v, d.Info.v)
	told := slices.ContainsFunc(out, func(m message) bool { return m.Text.v != "" })
	if len(out) == 0 && d.Error.v.Code.v != "" || !told && d.Error.v.Text.v != "" {
		out = append(out, message{ID: d.Error.v.Code, Text: d.Error.v.Text})
	}
	return out
}

// name is the end of a MessageId: "Base.1.12.PropertyMissing" is
// "PropertyMissing".
func (m message) name() string {
	return m.ID.v[strings.LastIndexByte(m.ID.v, '.')+1:]
}

// critical reports whether the BMC itself calls the message an error.
func (m message) critical() bool {
	return m.Severity.v == "Critical" || m.Level.v == "Critical"
}

// names reports whether the message is about the field.
func (m message) names(field string) bool {
	for _, a := range m.Args.v {
		if a.v == field || strings.HasSuffix(a.v, "/"+field) {
			return true
		}
	}
	for _, r := range m.Related.v {
		if s := strings.Trim(string(r), `"`); strings.HasSuffix(s, "/"+field) || s == field {
			return true
		}
	}
	return containsWord(m.Text.v, field)
}

// containsWord keeps "Inserted" from being found in "UninsertedMedia".
func containsWord(text, word string) bool {
	letter := func(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }
	for i := 0; ; {
		j := strings.Index(text[i:], word)
		if j < 0 {
			return false
		}
		start, end := i+j, i+j+len(word)
		if (start == 0 || !letter(text[start-1])) && (end == len(text) || !letter(text[end])) {
			return true
		}
		i = end
	}
}

type licenceServiceDoc struct {
	Licences maybe[link] `json:"Licenses"`
}

type licenceDoc struct {
	Name   maybe[string] `json:"Name"`
	Status maybe[struct {
		State maybe[string] `json:"State"`
	}] `json:"Status"`
}
