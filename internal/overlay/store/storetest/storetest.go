// Package storetest says, as tests, what every kind of store has to do.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// At is when the first backups are made.
var At = time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)

// A Place is an empty store, made for one test.
type Place struct {
	// Open opens it as another process of the site would. The test closes it.
	Open func(t *testing.T, site string) overlay.Store
	// Files lists all that is in it, paths below the store; no directories.
	Files func(t *testing.T) []string
	// Put writes a file into it, past the store.
	Put func(t *testing.T, name, data string)
	// Half is the name that a backup has while it is written, in its node's
	// directory.
	Half string
	// Locked is the file that stays behind for the lock, or "".
	Locked string
	// Stale puts a lock into a node's directory whose holder died long ago; nil:
	// locks end with their holders.
	Stale func(t *testing.T, node string)
	// Fill has the store accept nothing more; nil: that cannot be done here.
	Fill func(t *testing.T)
	// Refuse takes the right to write away; nil: that cannot be done here.
	Refuse func(t *testing.T)
}

// A bench is one test at its place.
type bench struct {
	t *testing.T
	Place
}

// Run tests a kind of store. place is called for each test.
func Run(t *testing.T, place func(t *testing.T) Place) {
	t.Helper()
	for name, test := range map[string]func(bench){
		"published":        published,
		"newest first":     newestFirst,
		"drafts":           drafts,
		"one writer":       oneWriter,
		"written again":    writtenAgain,
		"leftovers":        leftovers,
		"interrupted":      interrupted,
		"names":            names,
		"mixed up":         mixedUp,
		"deleted":          deleted,
		"another site":     anotherSite,
		"two sites' notes": notesOfTwoSites,
		"pruned":           pruned,
		"reboot notes":     rebootNotes,
		"verified notes":   verifiedNotes,
		"damaged":          damaged,
		"full":             full,
		"refused":          refused,
		"several at once":  severalAtOnce,
		"locked":           locked,
		"stale lock":       staleLock,
		"lost lock":        lostLock,
	} {
		t.Run(name, func(t *testing.T) { test(bench{t, place(t)}) })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v\n%s", err, bmc.HintOf(err))
	}
}

// told wants an error that a person can act on.
func told(t *testing.T, err error, kinds ...bmc.Kind) {
	t.Helper()
	if err == nil || bmc.HintOf(err) == "" || !slices.Contains(kinds, bmc.KindOf(err)) {
		t.Errorf("not one of %q with a hint: %s: %v", kinds, bmc.KindOf(err), err)
	}
}

// Content is what Publish writes into a file of a backup.
func Content(name string) string { return strings.Repeat(name+"\n", 20000) }

// Names are the files that Publish writes.
var Names = []string{overlay.ArchiveFile, overlay.DeletedFile, overlay.OpaqueFile}

// Fill writes a draft's files.
func Fill(d overlay.Draft) error {
	for _, name := range Names {
		w, err := d.Write(name)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, Content(name))
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Manifest describes a draft.
func Manifest(d overlay.Draft, site, node string, at time.Time) overlay.Manifest {
	return overlay.Manifest{Version: overlay.ManifestVersion, ID: d.ID(), Site: site, Node: node, CreatedAt: at, Portable: true}
}

// Publish makes a backup.
func Publish(ctx context.Context, s overlay.Store, site, node string, at time.Time) (string, error) {
	d, err := s.Create(ctx, node, at)
	if err != nil {
		return "", err
	}
	defer d.Discard() //nolint:errcheck // the next backup cleans up
	if err := Fill(d); err != nil {
		return "", err
	}
	return d.ID(), d.Publish(Manifest(d, site, node, at))
}

func publish(t *testing.T, s overlay.Store, site, node string, at time.Time) string {
	t.Helper()
	id, err := Publish(t.Context(), s, site, node, at)
	must(t, err)
	return id
}

// IDs lists a node's backups.
func IDs(t *testing.T, s overlay.Store, node string) []string {
	t.Helper()
	list, err := s.List(t.Context(), node)
	must(t, err)
	var ids []string
	for _, m := range list.Backups {
		ids = append(ids, m.ID)
	}
	return ids
}

// Whole wants every backup that is listed to have all its files.
func Whole(t *testing.T, s overlay.Store, node string) {
	t.Helper()
	for _, id := range IDs(t, s, node) {
		for _, name := range Names {
			f, err := s.Open(t.Context(), node, id, name)
			must(t, err)
			data, err := io.ReadAll(f)
			must(t, errors.Join(err, f.Close()))
			if string(data) != Content(name) {
				t.Errorf("%s/%s/%s is not whole: %d bytes", node, id, name, len(data))
			}
		}
	}
}

func published(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	if got := IDs(t, s, "n1"); got != nil {
		t.Errorf("an empty store lists %q", got)
	}
	id := publish(t, s, "lab", "n1", At)
	other := p.Open(t, "lab")
	Whole(t, other, "n1")
	m, err := other.Get(t.Context(), "n1", id)
	must(t, err)
	if m.ID != id || m.Node != "n1" || !m.CreatedAt.Equal(At) {
		t.Errorf("got %+v", m)
	}
	if got := IDs(t, other, "n1"); !slices.Equal(got, []string{id}) {
		t.Errorf("listed: %q", got)
	}
	if got := IDs(t, other, "n2"); got != nil {
		t.Errorf("another node has %q", got)
	}
	_, err = other.Open(t.Context(), "n1", id, "no-such-file")
	told(t, err, bmc.KindOverlay)
	if want := len(Names) + 1; len(p.list(t)) != want {
		t.Errorf("left behind: %q", p.list(t))
	}
}

// list is Files without what may stay behind for the lock.
func (p Place) list(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(p.Files(t), func(name string) bool { return p.Locked != "" && strings.HasSuffix(name, "/"+p.Locked) })
}

func newestFirst(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	for range 3 {
		publish(t, s, "lab", "n1", At)
	}
	for i := range 8 { // up to -11, for 10 follows 9
		p.Put(t, fmt.Sprintf("n1/20261123T050000Z-%d/manifest.json", i+4),
			fmt.Sprintf(`{"version": %d, "id": "20261123T050000Z-%d", "node": "n1", "site": "lab"}`, overlay.ManifestVersion, i+4))
	}
	publish(t, s, "lab", "n1", At.Add(-time.Hour))
	publish(t, s, "lab", "n1", At.Add(time.Second))
	got := IDs(t, s, "n1")
	want := []string{"20261123T050001Z", "20261123T050000Z-11", "20261123T050000Z-10", "20261123T050000Z-9"}
	if len(got) != 13 || !slices.Equal(got[:4], want) || got[12] != "20261123T040000Z" {
		t.Errorf("got %q", got)
	}
}

func drafts(b bench) {
	t, p := b.t, b.Place
	s, other := p.Open(t, "lab"), p.Open(t, "lab")
	d, err := s.Create(t.Context(), "n1", At)
	must(t, err)
	must(t, Fill(d))
	r, err := d.Read(overlay.ArchiveFile)
	must(t, err)
	data, err := io.ReadAll(r)
	must(t, errors.Join(err, r.Close()))
	if string(data) != Content(overlay.ArchiveFile) {
		t.Errorf("read back: %d bytes", len(data))
	}
	if got := IDs(t, other, "n1"); got != nil {
		t.Errorf("a draft is listed: %q", got)
	}
	_, err = other.Open(t.Context(), "n1", d.ID(), overlay.ArchiveFile)
	_, err2 := other.Get(t.Context(), "n1", d.ID())
	if !errors.Is(err, overlay.ErrNoBackup) || !errors.Is(err2, overlay.ErrNoBackup) {
		t.Errorf("a draft is there: %v, %v", err, err2)
	}
	must(t, d.Discard())
	must(t, d.Discard())
	if left := p.list(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	publish(t, other, "lab", "n1", At)
}

func oneWriter(b bench) {
	t, p := b.t, b.Place
	s, other := p.Open(t, "lab"), p.Open(t, "lab")
	d, err := s.Create(t.Context(), "n1", At)
	must(t, err)
	_, err = other.Create(t.Context(), "n1", At)
	told(t, err, bmc.KindBusy)
	_, err = s.Create(t.Context(), "n1", At)
	told(t, err, bmc.KindBusy)
	publish(t, other, "lab", "n2", At)
	must(t, Fill(d))
	must(t, d.Publish(Manifest(d, "lab", "n1", At)))
	must(t, d.Discard())
	publish(t, other, "lab", "n1", At)
	if got := IDs(t, s, "n1"); len(got) != 2 {
		t.Errorf("got %q", got)
	}
}

func writtenAgain(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	d, err := s.Create(t.Context(), "n1", At)
	must(t, err)
	w, err := d.Write(overlay.ArchiveFile)
	must(t, err)
	_, err = io.WriteString(w, strings.Repeat("longer than what follows", 10000))
	must(t, errors.Join(err, w.Close()))
	must(t, Fill(d))
	empty, err := d.Write("empty")
	must(t, err)
	must(t, empty.Close())
	must(t, d.Publish(Manifest(d, "lab", "n1", At)))
	Whole(t, s, "n1")
	f, err := s.Open(t.Context(), "n1", d.ID(), "empty")
	must(t, err)
	data, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	if len(data) != 0 {
		t.Errorf("a file without content has %d bytes", len(data))
	}
}

func leftovers(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	kept := publish(t, s, "lab", "n1", At)
	p.Put(t, "n1/"+p.Half+"/overlay.tar.zst", "half")
	p.Put(t, "n2/"+p.Half+"/overlay.tar.zst", "another node's")
	must(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{}))
	if got := IDs(t, s, "n1"); !slices.Equal(got, []string{kept}) {
		t.Errorf("listed: %q", got)
	}
	publish(t, s, "lab", "n1", At.Add(time.Hour))
	if _, noted, err := s.Reboot(t.Context(), "n1"); !noted || err != nil {
		t.Errorf("the note is gone: %v", err)
	}
	half := slices.DeleteFunc(p.list(t), func(name string) bool { return !strings.Contains(name, p.Half) })
	if !slices.Equal(half, []string{"n2/" + p.Half + "/overlay.tar.zst"}) {
		t.Errorf("of what was half there is %q", half)
	}
	Whole(t, s, "n1")
}

// interrupted ends a draft's context in the middle.
func interrupted(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	ctx, cancel := context.WithCancel(t.Context())
	d, err := s.Create(ctx, "n1", At)
	must(t, err)
	w, err := d.Write(overlay.ArchiveFile)
	must(t, err)
	_, err = io.WriteString(w, "half an archive")
	must(t, err)
	cancel()
	_ = w.Close()
	must(t, d.Discard())
	if left := p.list(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	publish(t, s, "lab", "n1", At)
}

func names(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	publish(t, s, "lab", "n1", At)
	for _, node := range []string{"", ".", "..", "../n1", "a/b", "/etc", ".hidden", "-rf", "a\x00b", "n1\n", strings.Repeat("n", 254)} {
		_, err := s.Create(t.Context(), node, At)
		_, err2 := s.List(t.Context(), node)
		_, err3 := s.Get(t.Context(), node, "20261123T050000Z")
		_, _, err4 := s.Reboot(t.Context(), node)
		for _, err := range []error{err, err2, err3, err4, s.SetReboot(t.Context(), node, overlay.Reboot{}), s.ClearReboot(t.Context(), node)} {
			told(t, err, bmc.KindOverlay)
		}
	}
	for _, id := range []string{"", ".", "..", "../n1/20261123T050000Z", ".lock", "reboot.json", "20261123T050000Z/..", "20261123T050000Z-x", "20261123T050000Z-00001"} {
		_, err := s.Open(t.Context(), "n1", id, overlay.ArchiveFile)
		err2 := s.Delete(t.Context(), "n1", id)
		if !errors.Is(err, overlay.ErrNoBackup) || !errors.Is(err2, overlay.ErrNoBackup) {
			t.Errorf("ID %q: %v, %v", id, err, err2)
		}
	}
	p.Put(t, "n1/20300101T000000Z-x/manifest.json", "{}")
	p.Put(t, "n1/notes.txt", "by hand")
	if got := IDs(t, s, "n1"); len(got) != 1 {
		t.Errorf("listed: %q", got)
	}
}

func mixedUp(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	d, err := s.Create(t.Context(), "n1", At)
	must(t, err)
	defer d.Discard() //nolint:errcheck // the next backup cleans up
	must(t, Fill(d))
	told(t, d.Publish(Manifest(d, "lab", "n2", At)), bmc.KindOverlay)
	if got := append(IDs(t, s, "n1"), IDs(t, s, "n2")...); got != nil {
		t.Errorf("listed: %q", got)
	}
}

func deleted(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	first := publish(t, s, "lab", "n1", At)
	second := publish(t, s, "lab", "n1", At.Add(time.Hour))
	must(t, s.Delete(t.Context(), "n1", first))
	if err := s.Delete(t.Context(), "n1", first); !errors.Is(err, overlay.ErrNoBackup) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Get(t.Context(), "n1", first); !errors.Is(err, overlay.ErrNoBackup) {
		t.Errorf("still there: %v", err)
	}
	if got := IDs(t, s, "n1"); !slices.Equal(got, []string{second}) {
		t.Errorf("left: %q", got)
	}
	if left := p.list(t); len(left) != len(Names)+1 {
		t.Errorf("left behind: %q", left)
	}
}

// notesOfTwoSites has two sites keep notes of nodes of one name.
func notesOfTwoSites(b bench) {
	t, p, ctx := b.t, b.Place, b.t.Context()
	lab, plant := p.Open(t, "lab"), p.Open(t, "plant")
	must(t, plant.SetReboot(ctx, "n1", overlay.Reboot{Restore: "20261123T050000Z"}))
	must(t, plant.SetVerified(ctx, "n1", map[string]overlay.Verified{"20261123T050000Z": {Damaged: "a bit"}}))
	if _, noted, err := lab.Reboot(ctx, "n1"); noted || err != nil {
		t.Errorf("another site's note is there: %v", err)
	}
	must(t, lab.SetReboot(ctx, "n1", overlay.Reboot{Restore: "20261123T060000Z"}))
	must(t, lab.SetVerified(ctx, "n1", nil))
	must(t, lab.ClearReboot(ctx, "n1"))
	if r, noted, err := plant.Reboot(ctx, "n1"); !noted || r.Restore != "20261123T050000Z" || err != nil {
		t.Errorf("the note is gone, or another's: %+v, %v", r, err)
	}
	if v, err := plant.Verified(ctx, "n1"); v["20261123T050000Z"].Damaged == "" || err != nil {
		t.Errorf("that it is damaged is not known any more: %v, %v", v, err)
	}
}

func anotherSite(b bench) {
	t, p := b.t, b.Place
	lab, plant := p.Open(t, "lab"), p.Open(t, "plant")
	theirs := publish(t, plant, "plant", "n1", At)
	if got := IDs(t, lab, "n1"); got != nil {
		t.Errorf("another site's are listed: %q", got)
	}
	_, err := lab.Get(t.Context(), "n1", theirs)
	_, err2 := lab.Open(t.Context(), "n1", theirs, overlay.ArchiveFile)
	for _, err := range []error{err, err2, lab.Delete(t.Context(), "n1", theirs)} {
		if !errors.Is(err, overlay.ErrNoBackup) {
			t.Errorf("another site's is there: %v", err)
		}
	}
	ours := publish(t, lab, "lab", "n1", At)
	if ours == theirs {
		t.Errorf("%s is in two sites", ours)
	}
	for i := range 3 {
		publish(t, lab, "lab", "n1", At.Add(time.Duration(i+1)*time.Hour))
	}
	_, err = overlay.Prune(t.Context(), lab, "n1", overlay.Retention{Keep: 1}, nil)
	must(t, err)
	if got := IDs(t, lab, "n1"); !slices.Equal(got, []string{"20261123T080000Z"}) {
		t.Errorf("left: %q", got)
	}
	if got := IDs(t, plant, "n1"); !slices.Equal(got, []string{theirs}) {
		t.Errorf("left of the other site's: %q", got)
	}
	Whole(t, plant, "n1")
}

func pruned(b bench) {
	t, p := b.t, b.Place
	s := p.Open(t, "lab")
	var ids []string
	for i := range 5 {
		ids = append(ids, publish(t, s, "lab", "n1", At.Add(time.Duration(i)*time.Minute)))
	}
	must(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{Restore: ids[1]}))
	gone, err := overlay.Prune(t.Context(), s, "n1", overlay.Retention{Keep: 2}, nil)
	must(t, err)
	if !slices.Equal(gone, []string{ids[0], ids[2]}) {
		t.Errorf("deleted %q", gone)
	}
	if got := IDs(t, s, "n1"); !slices.Equal(got, []string{ids[4], ids[3], ids[1]}) {
		t.Errorf("left: %q", got)
	}
}

func rebootNotes(b bench) {
	t, p := b.t, b.Place
	s, other := p.Open(t, "lab"), p.Open(t, "lab")
	ctx := t.Context()
	must(t, s.ClearReboot(ctx, "n1"))
	if _, noted, err := s.Reboot(ctx, "n1"); noted || err != nil {
		t.Errorf("got %v, %v", noted, err)
	}
	want := overlay.Reboot{At: At, BootID: "b", Image: "i", Backup: "20261123T050000Z", Restore: "20261123T050000Z"}
	must(t, s.SetReboot(ctx, "n1", want))
	want.Started = true
	must(t, s.SetReboot(ctx, "n1", want))
	want.Version = overlay.RebootVersion
	if got, noted, err := other.Reboot(ctx, "n1"); got != want || !noted || err != nil {
		t.Errorf("got %+v, %v, %v", got, noted, err)
	}
	if got := IDs(t, s, "n1"); got != nil {
		t.Errorf("the note is listed as a backup: %q", got)
	}
	p.Put(t, "n1/reboot@lab.json", "{")
	_, _, err := s.Reboot(ctx, "n1")
	told(t, err, bmc.KindOverlay)
	p.Put(t, "n1/reboot@lab.json", `{"version": 99}`)
	_, _, err = s.Reboot(ctx, "n1")
	told(t, err, bmc.KindOverlay)
	must(t, s.ClearReboot(ctx, "n1"))
	if _, noted, err := other.Reboot(ctx, "n1"); noted || err != nil {
		t.Errorf("got %v, %v", noted, err)
	}
	if left := p.list(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// damaged: a manifest that cannot be read is said, and hides no other backup.
func damaged(b bench) {
	t, p := b.t, b.Place
	s, ctx := p.Open(t, "lab"), t.Context()
	good := []string{
		publish(t, s, "lab", "n1", At.Add(2*time.Hour)), publish(t, s, "lab", "n1", At.Add(time.Hour)), publish(t, s, "lab", "n1", At),
	}
	bad := map[string]string{
		"20300101T000000Z":   "{",
		"20261123T053000Z":   "",
		"20261123T050000Z-2": `{"version": 1, "id": "20261123T050000Z", "node": "n1", "site": "lab"}`,
		"20250101T000000Z":   `{"version": 99, "id": "20250101T000000Z", "node": "n1", "site": "lab"}`,
	}
	for id, manifest := range bad {
		p.Put(t, "n1/"+id+"/manifest.json", manifest)
	}
	p.Put(t, "n1/20250102T000000Z/manifest.json", `{"version": 99, "id": "20250102T000000Z", "node": "n1", "site": "plant"}`)
	if got := IDs(t, s, "n1"); !slices.Equal(got, good) {
		t.Errorf("listed: %q", got)
	}
	unreadable(t, s, []string{"20300101T000000Z", "20261123T053000Z", "20261123T050000Z-2", "20250101T000000Z"})
	latest, err := overlay.Latest(ctx, s, "n1")
	must(t, err)
	if latest.ID != good[0] {
		t.Errorf("the latest is %s", latest.ID)
	}
	must(t, s.SetVerified(ctx, "n1", map[string]overlay.Verified{good[0]: {Damaged: "a bit"}}))
	gone, err := overlay.Prune(ctx, s, "n1", overlay.Retention{Keep: 1}, nil)
	must(t, err)
	if !slices.Equal(gone, good[2:]) {
		t.Errorf("pruned: %q", gone)
	}
	for id := range bad {
		must(t, s.Delete(ctx, "n1", id))
	}
	unreadable(t, s, nil)
	Whole(t, s, "n1")
}

// unreadable wants those backups, and no others, to be named as such, with why.
func unreadable(t *testing.T, s overlay.Store, want []string) {
	t.Helper()
	list, err := s.List(t.Context(), "n1")
	must(t, err)
	var ids []string
	for _, u := range list.Unreadable {
		ids = append(ids, u.ID)
		told(t, u.Err, bmc.KindOverlay)
		if _, err := s.Get(t.Context(), "n1", u.ID); err == nil || errors.Is(err, overlay.ErrNoBackup) {
			t.Errorf("%s is there, and cannot be read: %v", u.ID, err)
		}
	}
	if !slices.Equal(ids, want) {
		t.Errorf("cannot be read: %q, want %q", ids, want)
	}
}

func full(b bench) {
	t, p := b.t, b.Place
	if p.Fill == nil {
		t.Skip("a full store cannot be made here")
	}
	s := p.Open(t, "lab")
	kept := publish(t, s, "lab", "n1", At)
	p.Fill(t)
	_, err := Publish(t.Context(), s, "lab", "n1", At.Add(time.Hour))
	told(t, err, bmc.KindOverlay)
	if err != nil && !strings.Contains(err.Error(), "full") {
		t.Errorf("it is not said that the store is full: %v", err)
	}
	if got := IDs(t, s, "n1"); !slices.Equal(got, []string{kept}) {
		t.Errorf("listed: %q", got)
	}
	Whole(t, s, "n1")
	must(t, s.Delete(t.Context(), "n1", kept)) // has to work, to make room
}

func refused(b bench) {
	t, p := b.t, b.Place
	if p.Refuse == nil {
		t.Skip("rights cannot be taken away here")
	}
	s := p.Open(t, "lab")
	kept := publish(t, s, "lab", "n1", At)
	p.Refuse(t)
	s = p.Open(t, "lab")
	_, err := s.Create(t.Context(), "n1", At)
	told(t, err, bmc.KindOverlay, bmc.KindAuth)
	told(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{}), bmc.KindOverlay, bmc.KindAuth)
	told(t, s.Delete(t.Context(), "n1", kept), bmc.KindOverlay, bmc.KindAuth)
	if got := IDs(t, s, "n1"); !slices.Equal(got, []string{kept}) {
		t.Errorf("listed: %q", got)
	}
}

// severalAtOnce has many begin at once: one goes on.
func severalAtOnce(b bench) { b.race() }

func (b bench) race() {
	t := b.t
	t.Helper()
	stores := []overlay.Store{b.Open(t, "lab"), b.Open(t, "lab")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []overlay.Draft
	for i := range 8 {
		wg.Go(func() {
			d, err := stores[i%2].Create(t.Context(), "n1", At)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, d)
			} else if bmc.KindOf(err) != bmc.KindBusy {
				t.Errorf("not busy: %v", err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d writers at once", len(won))
	}
	must(t, Fill(won[0]))
	must(t, won[0].Publish(Manifest(won[0], "lab", "n1", At)))
	Whole(t, stores[1], "n1")
}

// locked: who holds the node's lock keeps others from writing and from removing,
// and is named to them.
func locked(b bench) {
	t, ctx := b.t, b.t.Context()
	s, other := b.Open(t, "lab"), b.Open(t, "lab")
	kept := []string{publish(t, s, "lab", "n1", At.Add(time.Hour)), publish(t, s, "lab", "n1", At)}
	free, err := s.Lock(ctx, "n1", "restoring it")
	must(t, err)
	refused := func(err error) {
		t.Helper()
		told(t, err, bmc.KindBusy)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("(process %d on ", os.Getpid())) || !strings.Contains(err.Error(), "is restoring it") {
			t.Errorf("it is not said who holds the lock: %v", err)
		}
	}
	_, err = other.Lock(ctx, "n1", "x")
	refused(err)
	_, err = other.Create(ctx, "n1", At)
	refused(err)
	_, err = overlay.Prune(ctx, other, "n1", overlay.Retention{Keep: 1}, nil)
	refused(err)
	if got := IDs(t, other, "n1"); !slices.Equal(got, kept) {
		t.Errorf("left: %q", got)
	}
	publish(t, other, "lab", "n2", At) // is another node
	must(t, free())
	gone, err := overlay.Prune(ctx, other, "n1", overlay.Retention{Keep: 1}, nil)
	must(t, err)
	if !slices.Equal(gone, kept[1:]) {
		t.Errorf("removed: %q", gone)
	}
	d, err := other.Create(ctx, "n1", At)
	must(t, err)
	_, err = s.Lock(ctx, "n1", "x")
	told(t, err, bmc.KindBusy)
	if err == nil || !strings.Contains(err.Error(), "writing a backup of it") {
		t.Errorf("a backup holds the lock: %v", err)
	}
	must(t, d.Discard())
	_, err = s.Lock(ctx, "..", "x")
	told(t, err, bmc.KindOverlay)
}

// staleLock has many find the lock of one that died: one takes it over.
func staleLock(b bench) {
	if b.Stale == nil {
		b.t.Skip("locks end with their holders here")
	}
	b.Stale(b.t, "n1")
	b.race()
	if left := b.list(b.t); len(left) != len(Names)+1 {
		b.t.Errorf("left behind: %q", left)
	}
}

// lostLock has a writer stand still until another has taken its lock: it must
// not publish.
func lostLock(b bench) {
	t, p := b.t, b.Place
	if p.Stale == nil {
		t.Skip("locks end with their holders here")
	}
	s := p.Open(t, "lab")
	d, err := s.Create(t.Context(), "n1", At)
	must(t, err)
	must(t, Fill(d))
	p.Put(t, "n1/.lock", `{"holder": "a successor"}`)
	told(t, d.Publish(Manifest(d, "lab", "n1", At)), bmc.KindBusy)
	must(t, d.Discard())
	if got := IDs(t, s, "n1"); got != nil {
		t.Errorf("listed: %q", got)
	}
	if left := p.list(t); !slices.Equal(left, []string{"n1/.lock"}) {
		t.Errorf("the successor's lock is to be left, and there is %q", left)
	}
}

func verifiedNotes(b bench) {
	t, p := b.t, b.Place
	s, other := p.Open(t, "lab"), p.Open(t, "lab")
	if got, err := s.Verified(t.Context(), "n1"); len(got) != 0 || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	want := map[string]overlay.Verified{"20261123T050000Z": {At: At, Deep: true}}
	must(t, s.SetVerified(t.Context(), "n1", map[string]overlay.Verified{"20261123T040000Z": {}}))
	must(t, s.SetVerified(t.Context(), "n1", want))
	if got, err := other.Verified(t.Context(), "n1"); !maps.Equal(got, want) || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got := IDs(t, s, "n1"); got != nil {
		t.Errorf("the note is listed as a backup: %q", got)
	}
	p.Put(t, "n1/verified@lab.json", "{")
	_, err := s.Verified(t.Context(), "n1")
	told(t, err, bmc.KindOverlay)
	// What was found damaged is not known any more: nothing is taken for good.
	id := publish(t, s, "lab", "n1", At)
	publish(t, s, "lab", "n1", At.Add(-time.Hour))
	_, err = overlay.Latest(t.Context(), s, "n1")
	told(t, err, bmc.KindOverlay)
	_, err = overlay.Prune(t.Context(), s, "n1", overlay.Retention{Keep: 1}, nil)
	told(t, err, bmc.KindOverlay)
	i, err := overlay.TakeInventory(t.Context(), s, "n1")
	must(t, err)
	if len(i.Backups) != 2 || i.Backups[0].ID != id {
		t.Errorf("listed: %v", i.Backups)
	}
}
