package siteload

import (
	"strings"
	"testing"
)

func TestDecodeProfilesErrors(t *testing.T) {
	for _, tc := range []struct{ source, want string }{
		{`profiles: [{name: "a"}, {name: "a"}]`, `schema/profiles.cue: two rows are named "a"`},
		{`profiles: [{name: "a", vendor: "x"}]`, `schema/profiles.cue: json: unknown field "vendor"`},
		{`profiles: [{name: string}]`, "schema/profiles.cue: "},
		{`profile: []`, "schema/profiles.cue: "},
	} {
		if _, err := decodeProfiles(tc.source); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s\n got %v\nwant %s", tc.source, err, tc.want)
		}
	}
}

func TestNewFactsErrors(t *testing.T) {
	for _, source := range []string{"#Site: {", "#Site: {a: 1}\n#Site: {a: 2}", "#Site: {}", "#Site: {}\n#Builtin: {bmc: auth: string}"} {
		if f, err := newFacts(source); err == nil {
			t.Errorf("%q: no error but %+v", source, f)
		}
	}
}
