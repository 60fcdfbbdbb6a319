package redfish

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// maxCacheAge is for how long a walk is believed by a later process. A BMC whose
// firmware was updated may be another row's, and only its manager says so.
const maxCacheAge = 24 * time.Hour

// A cacheFile is where a Topology outlives its process. It may be deleted at any
// time. What cannot be read or written is as if it were not there: the BMC is
// walked again.
type cacheFile struct {
	path  string
	rules string // by which the walk was made: the rows, and the form of a tree
}

type cacheEntry struct {
	Rules string
	walk
}

// read gives what an earlier process found with the same rules, if it is not too
// old.
func (f cacheFile) read(now time.Time, rows []bmc.Profile) walk {
	if f.path == "" {
		return walk{}
	}
	data, err := os.ReadFile(f.path)
	var e cacheEntry
	if err != nil || json.Unmarshal(data, &e) != nil || e.Rules != f.rules || e.Tree == nil {
		return walk{}
	}
	row := slices.IndexFunc(rows, func(p bmc.Profile) bool { return p.Name == e.Tree.ID.Profile })
	if age := now.Sub(e.At); row < 0 || age < 0 || age > maxCacheAge {
		return walk{}
	}
	e.Tree.Profile = rows[row]
	return e.walk
}

// write replaces what the file holds.
func (f cacheFile) write(found walk) {
	if f.path == "" {
		return
	}
	if found.Tree == nil {
		_ = os.Remove(f.path)
		return
	}
	data, err := json.Marshal(cacheEntry{Rules: f.rules, walk: found})
	if err != nil || os.MkdirAll(filepath.Dir(f.path), 0o700) != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), ".new-*")
	if err != nil {
		return
	}
	_, err = tmp.Write(data)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
}

// rules digests what a walk depends on beside the BMC.
func rules(rows []bmc.Profile) string {
	h := sha256.New()
	_ = json.NewEncoder(h).Encode(rows) // plain values, and a hash takes all
	for _, t := range []reflect.Type{reflect.TypeFor[tree](), reflect.TypeFor[resetAction](), reflect.TypeFor[bmc.Identity](), reflect.TypeFor[bmc.Refusal]()} {
		for f := range t.Fields() {
			fmt.Fprintln(h, f.Name, f.Type)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// machine digests what tells one machine from another: a BMC's address may be
// given to another one, and a tray be exchanged. "" where the BMC does not say.
func machine(s systemDoc) string {
	who := []string{s.UUID.v, s.Serial.v, s.Manufacturer.v, s.Model.v}
	if slices.Max(who) == "" {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", who))
	return hex.EncodeToString(sum[:])
}
