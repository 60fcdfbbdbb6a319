package siteload

import (
	"fmt"
	"strings"

	"cuelang.org/go/cue"

	"github.com/livecd-sync/livecd-sync/internal/site/spelling"
)

// report tells the problems in a person's terms.
func (f *file) report(facts *facts, problems []problem) {
	for _, p := range problems {
		v := p.at
		switch p.what {
		case wrongName:
			f.failKey(v, quote(v.key)+" cannot be a name here", "write "+p.want)
		case missingKey:
			f.failMissing(facts, p)
		case unknownKey:
			f.failKey(v, "there is no such key", keyHint(facts.placeOf(v.parent), v.key))
		case unwanted:
			f.fail(v, v.show()+" cannot be used here", "write "+p.want+quotes(facts.placeOf(v), v))
		default:
			f.failKind(facts.placeOf(v), v)
		}
	}
}

// quotes reminds of quotes where YAML took a text for something else.
func quotes(p *place, v *value) string {
	mistaken := v.kind == boolean || v.kind == integer || v.kind == float
	if mistaken && p != nil && p.kind == cue.StringKind {
		return ", in quotes if it looks like a number or like true or false"
	}
	return ""
}

// failMissing reports a required key that is not there, at the key of the
// mapping that should have it.
func (f *file) failMissing(facts *facts, p problem) {
	line, column := p.at.keyPlace()
	lacking := value{key: p.key, parent: p.at}
	hint := "write " + p.key + ": " + p.want
	if place := facts.placeOf(&lacking); p.want == "" && place != nil && place.kind == cue.ListKind {
		hint = "write " + p.key + ": and the items in brackets: [ITEM, ITEM]"
	} else if p.want == "" {
		hint = "write " + p.key + ": and under it " + contents(place)
	}
	f.failAt(line, column, lacking.path(), "this key is missing", hint)
}

// failKind reports a value of the wrong kind.
func (f *file) failKind(p *place, v *value) {
	message, hint := v.show()+" cannot be used here", "see the explanation of the site file in schema/site.cue"
	switch {
	case p == nil:
	case p.kind == cue.ListKind:
		message, hint = v.show()+" is not a list", "write the items in brackets: [ITEM, ITEM]"
	case p.kind == cue.StructKind:
		message, hint = v.show()+" is not a mapping", "write under it "+contents(p)
	}
	f.fail(v, message, hint)
}

// contents says what a mapping holds.
func contents(p *place) string {
	if p == nil || len(p.keys) == 0 {
		return "names, each with a colon and what it stands for"
	}
	if len(p.keys) == 1 {
		return "the key " + p.keys[0]
	}
	return "one or more of the keys " + alternatives(p.keys, "and")
}

// keyHint says what to write instead of a key that the schema does not know.
func keyHint(p *place, key string) string {
	if p == nil || len(p.keys) == 0 {
		return "remove it"
	}
	if near := nearestKey(p, key); near != "" {
		return fmt.Sprintf("did you mean %s?", near)
	}
	if len(p.keys) == 1 {
		return "the only key that may stand here is " + p.keys[0]
	}
	return "the keys that may stand here are " + alternatives(p.keys, "and")
}

// nearestKey also finds a key that differs in case only, or in dashes.
func nearestKey(p *place, key string) string {
	plain := strings.NewReplacer("-", "", "_", "")
	for _, k := range p.keys {
		if strings.EqualFold(plain.Replace(k), plain.Replace(key)) {
			return k
		}
	}
	return spelling.Nearest(key, p.keys)
}

// alternatives writes "a, b or c".
func alternatives(words []string, or string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + or + " " + words[last]
}
