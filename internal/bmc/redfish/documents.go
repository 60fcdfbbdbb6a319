package redfish

import (
	"bytes"
	"encoding/json"
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

// link is a reference to another resource.
type link struct {
	URI string `json:"@odata.id"`
}

// rawFields is an object whose fields are looked at one by one.
type rawFields map[string]json.RawMessage

type links = maybe[[]maybe[link]]

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
	Vendor  maybe[string]    `json:"Vendor"`
	Product maybe[string]    `json:"Product"`
	Oem     maybe[rawFields] `json:"Oem"`
	Systems maybe[link]      `json:"Systems"`
	Manager maybe[link]      `json:"Managers"`
	Links   maybe[struct {
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
	PowerState   maybe[string]      `json:"PowerState"`
	Boot         maybe[bootDoc]     `json:"Boot"`
	BootProgress maybe[progressDoc] `json:"BootProgress"`
	Actions      maybe[rawFields]   `json:"Actions"`
	VirtualMedia maybe[link]        `json:"VirtualMedia"`
	Oem          maybe[rawFields]   `json:"Oem"`
	Links        maybe[struct {
		ManagedBy links `json:"ManagedBy"`
	}] `json:"Links"`
	Settings maybe[struct {
		Object maybe[link] `json:"SettingsObject"`
	}] `json:"@Redfish.Settings"`
}

type progressDoc struct {
	LastState maybe[string] `json:"LastState"`
}

type bootDoc struct {
	Target  maybe[string]   `json:"BootSourceOverrideTarget"`
	Targets maybe[[]string] `json:"BootSourceOverrideTarget@Redfish.AllowableValues"`
	Enabled maybe[string]   `json:"BootSourceOverrideEnabled"`
	Mode    maybe[string]   `json:"BootSourceOverrideMode"`
	Modes   maybe[[]string] `json:"BootSourceOverrideMode@Redfish.AllowableValues"`
	Options maybe[link]     `json:"BootOptions"`
}

type bootOptionDoc struct {
	Reference   maybe[string] `json:"BootOptionReference"`
	DisplayName maybe[string] `json:"DisplayName"`
	DevicePath  maybe[string] `json:"UefiDevicePath"`
}

type managerDoc struct {
	ID           maybe[string]    `json:"Id"`
	Model        maybe[string]    `json:"Model"`
	Firmware     maybe[string]    `json:"FirmwareVersion"`
	VirtualMedia maybe[link]      `json:"VirtualMedia"`
	Actions      maybe[rawFields] `json:"Actions"`
	Links        maybe[struct {
		Servers links `json:"ManagerForServers"`
	}] `json:"Links"`
}

type mediaDoc struct {
	ID         maybe[string]    `json:"Id"`
	Name       maybe[string]    `json:"Name"`
	MediaTypes maybe[[]string]  `json:"MediaTypes"`
	Image      maybe[string]    `json:"Image"`
	ImageName  maybe[string]    `json:"ImageName"`
	Inserted   maybe[bool]      `json:"Inserted"`
	Actions    maybe[rawFields] `json:"Actions"`
	Oem        maybe[rawFields] `json:"Oem"`
}

// oemDoc is the part of an Oem block that is read, whoever it belongs to.
type oemDoc struct {
	PostState         maybe[string]    `json:"PostState"`
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
	Target  maybe[string]   `json:"target"`
	Info    maybe[string]   `json:"@Redfish.ActionInfo"`
	Allowed maybe[[]string] `json:"ResetType@Redfish.AllowableValues"`
}

// action gives the action of that exact name.
func action(actions maybe[rawFields], name string) (actionDoc, bool) {
	var a maybe[actionDoc]
	raw, ok := actions.v[name]
	if !ok || a.UnmarshalJSON(raw) != nil || !a.set {
		return actionDoc{}, false
	}
	return a.v, true
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
		Name    maybe[string]   `json:"Name"`
		Allowed maybe[[]string] `json:"AllowableValues"`
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
