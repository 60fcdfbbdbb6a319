package siteload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/schema"
)

// Profiles returns the rows of schema/profiles.cue in their order. The caller
// must not change them. It may be called concurrently.
func Profiles() ([]bmc.Profile, error) { return profiles() }

var profiles = sync.OnceValues(func() ([]bmc.Profile, error) { return decodeProfiles(schema.Profiles) })

var shippedRows = regexp.MustCompile(`(?s)\nprofiles: \[.*?\n\]\n`)

// ProfilesWith returns the rows of schema/profiles.cue with others in front of
// them, written as they would be there: to try a row before it is one.
func ProfilesWith(rows string) ([]bmc.Profile, error) {
	shipped, err := Profiles()
	if err != nil {
		return nil, err
	}
	list := "\nprofiles: [...#Profile] & [\n" + rows + "\n]\n"
	at := shippedRows.FindStringIndex(schema.Profiles)
	if at == nil {
		return nil, errors.New("schema/profiles.cue has no list of profiles")
	}
	own, err := decodeProfiles(schema.Profiles[:at[0]] + list + schema.Profiles[at[1]:])
	return slices.Concat(own, shipped), err
}

// decodeProfiles refuses rows that bmc.Profile has no room for, and names that
// two rows share.
func decodeProfiles(source string) ([]bmc.Profile, error) {
	v := cuecontext.New().CompileString(source, cue.Filename("profiles.cue")).LookupPath(cue.ParsePath("profiles"))
	text, err := v.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("schema/profiles.cue: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var rows []bmc.Profile
	if err := dec.Decode(&rows); err != nil {
		return nil, fmt.Errorf("schema/profiles.cue: %w", err)
	}
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.Name] {
			return nil, fmt.Errorf("schema/profiles.cue: two rows are named %q", row.Name)
		}
		seen[row.Name] = true
	}
	return rows, nil
}
