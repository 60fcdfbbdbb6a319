package siteload

import (
	"regexp"
	"strconv"
	"strings"
)

// kind is the kind of a value, as CUE's YAML decoder sees it.
type kind uint8

const (
	anything kind = iota // it could not be read
	null
	boolean
	integer
	float
	text
	list
	mapping
)

// A value is one value of the file. An alias is a copy of its anchor, whose
// members stand where the anchor's do.
type value struct {
	kind kind
	// bad marks a value that an error has been reported of: from then on it
	// stands for anything.
	bad bool
	// absent marks a required key that the file does not have.
	absent       bool
	line, column int32
	// Where the value's key stands; 0 for an item of a list.
	keyLine, keyColumn int32
	// size counts the value and everything in it, aliases written out; height
	// is how deep it is nested.
	size    int32
	height  int32
	key     string
	text    string   // of a scalar, as it is written
	members []*value // of a list or mapping
	parent  *value
}

// get returns the value of a mapping's key, or nil. It works on nil.
func (v *value) get(key string) *value {
	if v == nil || v.kind != mapping {
		return nil
	}
	for _, m := range v.members {
		if m.key == key && !m.absent {
			return m
		}
	}
	return nil
}

// hold adds a member's size and height to its parent's.
func (v *value) hold(m *value) {
	v.size += m.size
	v.height = max(v.height, m.height+1)
}

// copyOf makes v what w is, without its key.
func (v *value) copyOf(w *value) {
	v.kind, v.bad, v.text, v.size, v.height = w.kind, w.bad, w.text, w.size, w.height
	v.members = make([]*value, len(w.members))
	for i, m := range w.members {
		v.members[i] = &value{
			line: m.line, column: m.column,
			keyLine: m.keyLine, keyColumn: m.keyColumn,
			key: m.key, parent: v,
		}
		v.members[i].copyOf(m)
	}
}

// str is a text's content; "" for nil and for a value that is bad or no text.
func (v *value) str() string {
	if v == nil || v.bad || v.kind != text {
		return ""
	}
	return v.text
}

// items are the members of a list or mapping that is not bad. It works on nil.
func (v *value) items() []*value {
	if v == nil || v.bad {
		return nil
	}
	return v.members
}

// sound reports whether neither the value nor anything in it is bad.
func (v *value) sound() bool {
	if v.bad {
		return false
	}
	for _, m := range v.members {
		if !m.sound() {
			return false
		}
	}
	return true
}

// keyPlace is where the key stands; where the value does, if it has none.
func (v *value) keyPlace() (line, column int32) {
	if v.keyLine == 0 {
		return v.line, v.column
	}
	return v.keyLine, v.keyColumn
}

var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// path writes the way to the value: nodes."ncn-m001".overlay.exclude[0].
func (v *value) path() string {
	var b strings.Builder
	v.writePath(&b)
	return b.String()
}

func (v *value) writePath(b *strings.Builder) {
	if v.parent == nil {
		return
	}
	v.parent.writePath(b)
	if v.parent.kind == list {
		b.WriteString("[" + strconv.Itoa(v.index()) + "]")
		return
	}
	if b.Len() > 0 {
		b.WriteByte('.')
	}
	if len(v.key) <= shown && plainKey.MatchString(v.key) {
		b.WriteString(v.key)
	} else {
		b.WriteString(quote(v.key))
	}
}

// index is the value's place among its parent's members.
func (v *value) index() int {
	for i, m := range v.parent.members {
		if m == v {
			return i
		}
	}
	return -1
}

// shown is how many bytes of a text an error shows.
const shown = 60

// quote quotes a text for an error, and shortens a long one.
func quote(s string) string {
	if len(s) > shown {
		s = strings.ToValidUTF8(s[:shown-3], "") + "…"
	}
	return strconv.Quote(s)
}

// show writes a value for an error. What stands where a secret belongs is not
// shown, nor the user in a URL: it may be the secret.
func (v *value) show() string {
	switch {
	case v.kind == null:
		return "an empty value"
	case v.kind == list:
		return "a list"
	case v.kind == mapping:
		return v.showKeys()
	case v.secret(), privateKey.MatchString(v.text):
		return "a secret in clear"
	case v.kind == boolean:
		return v.text + " (true or false)"
	case v.kind == integer, v.kind == float:
		return v.text + " (a number)"
	case v.key == "username":
		return "this user name"
	}
	return quote(urlUser.ReplaceAllString(v.text, "://…@"))
}

// privateKey begins those of age, which may be put where a public one belongs.
var privateKey = regexp.MustCompile(`(?i)age-secret-key`)

var urlUser = regexp.MustCompile(`://[^/]*@`)

func (v *value) showKeys() string {
	if len(v.members) == 0 {
		return "an empty mapping"
	}
	var keys []string
	for _, m := range v.members {
		if !m.absent {
			keys = append(keys, m.key)
		}
	}
	s := alternatives(keys, "and")
	if len(s) > shown || v.secret() && !onlyNames(keys) {
		return "a mapping"
	}
	return "a mapping of " + s
}

// onlyNames tells whether all keys are those of a secret's place, and none is
// the secret that somebody put in braces.
func onlyNames(keys []string) bool {
	for _, k := range keys {
		if k != "env" && k != "file" && k != "command" {
			return false
		}
	}
	return true
}

// secret tells whether the value stands where a secret is told of.
func (v *value) secret() bool {
	for ; v != nil; v = v.parent {
		if v.key == "password" || v.key == "accessKey" || v.key == "secretKey" || v.key == "identity" && v.parent.key == "age" {
			return true
		}
	}
	return false
}
