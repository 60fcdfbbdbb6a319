package overlay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

func TestDiff(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.change()
	n.run("cd /lab && mkdir more && cd more && for f in same grown touched owned deleted kept-time left.squashfs; do echo one >$f; done; ln same linked")
	later()
	req := request(overlay.PurposeManual)
	req.Exclude = []string{"*.squashfs"}
	last, err := overlay.Backup(t.Context(), n.conn, s, req)
	must(t, err)
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	diff := func(r overlay.Running) string {
		t.Helper()
		found, err := overlay.Diff(t.Context(), n.conn, r, s, last)
		must(t, err)
		var words []string
		for _, d := range found {
			words = append(words, string(d.Kind)+" "+strings.TrimPrefix(d.Path, "./lab/"))
		}
		return strings.Join(words, "\n")
	}
	if got := diff(running); got != "" {
		t.Errorf("nothing has changed, but:\n%s", got)
	}
	later()
	n.run(`cd /lab/more && echo more >>grown && chmod 600 touched && chown 7 owned && rm deleted && echo x >left.squashfs && echo n >"$(printf 'new\nline')" && rm -r ../kept
touch -r kept-time /run/stamp && echo two >kept-time && touch -r /run/stamp kept-time`)
	const want = `D kept
D more/deleted
U more/grown
U more/kept-time
A more/new\012line
U more/owned
U more/touched`
	if got := diff(running); got != want {
		t.Errorf("got\n%s", got)
	}
	// Without the times of this boot a file with its old size and time is taken
	// for what it was.
	other := running
	other.BootID = last.BootID
	last.BootID = "another"
	if got := diff(other); strings.Contains(got, "kept-time") || !strings.Contains(got, "U more/grown") {
		t.Errorf("against a backup of another boot:\n%s", got)
	}
}

// TestDiffAfterRestore: a node that was just restored has what the backup has,
// in the boot that the backup is of as in another one.
func TestDiffAfterRestore(t *testing.T) {
	m := newMachine(t)
	for _, options := range []string{"", "metacopy=on,redirect_dir=on"} {
		s := openStore(t, t.TempDir())
		n := m.boot(t, options)
		n.change()
		last, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
		must(t, err)
		later()
		for _, n := range []*node{n, m.boot(t, options)} {
			n.run("cd /lab && rm -rf modified link-1 'odd names' && echo x >fifo.new && mv fifo.new chmodded")
			_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: last.ID})
			must(t, err)
			running, err := overlay.Probe(t.Context(), n.conn)
			must(t, err)
			found, err := overlay.Diff(t.Context(), n.conn, running, s, last)
			must(t, err)
			if len(found) > 0 {
				t.Errorf("%q: right after a restore: %v", options, found)
			}
			if u, err := overlay.FindUnsaved(t.Context(), n.conn, running, last, nil); err != nil || u != (overlay.Unsaved{Since: last.ID}) {
				t.Errorf("%q: right after a restore: %+v, %v", options, u, err)
			}
			time.Sleep(50 * time.Millisecond) // a tick of the node's clock, and more
			n.run("cd /lab && touch -r modified stamp && echo modifieD >modified && touch -r stamp modified && rm stamp")
			if found, err = overlay.Diff(t.Context(), n.conn, running, s, last); err != nil || fmt.Sprint(found) != "[{U ./lab/modified 9}]" {
				t.Errorf("%q: after a change that has kept size and time: %v, %v", options, found, err)
			}
		}
	}
}

func TestUnsaved(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run("cd /lab && head -c 1000 /dev/zero >a && head -c 500 /dev/zero >b")
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	unsaved := func(last overlay.Manifest) overlay.Unsaved {
		t.Helper()
		u, err := overlay.FindUnsaved(t.Context(), n.conn, running, last, []string{"*.squashfs"})
		must(t, err)
		return u
	}
	if got := unsaved(overlay.Manifest{}); got != (overlay.Unsaved{Files: 2, Bytes: 1500}) {
		t.Errorf("without a backup: %+v", got)
	}
	later()
	last, err := overlay.Backup(t.Context(), n.conn, s, request(overlay.PurposeManual))
	must(t, err)
	if got := unsaved(last); got != (overlay.Unsaved{Since: last.ID}) {
		t.Errorf("right after a backup: %+v", got)
	}
	later()
	n.run("cd /lab && chmod 600 a")
	if got := unsaved(last); got != (overlay.Unsaved{Files: 1, Bytes: 1000, Since: last.ID}) {
		t.Errorf("after a change: %+v", got)
	}

	n = m.boot(t, "")
	_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: last.ID})
	must(t, err)
	if running, err = overlay.Probe(t.Context(), n.conn); err != nil {
		t.Fatal(err)
	}
	if got := unsaved(last); got != (overlay.Unsaved{Since: last.ID}) {
		t.Errorf("right after a restore: %+v", got)
	}
	time.Sleep(50 * time.Millisecond)
	n.run("echo new >/lab/c && echo left out >/lab/left.squashfs")
	if got := unsaved(last); got != (overlay.Unsaved{Files: 1, Bytes: 4, Since: last.ID}) {
		t.Errorf("after a restore and a change: %+v", got)
	}
}

// TestVerify changes every byte of every file of a stored backup in turn: each
// change is found, by name where it is not the archive's.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	m, err := overlay.Backup(t.Context(), sends(pack(t, 3000), "", nil), s, request(overlay.PurposeReset))
	must(t, err)
	if _, err := overlay.Verify(t.Context(), s, "n1", m.ID); err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "n1", m.ID)
	for _, name := range stored(t, place) {
		whole, err := os.ReadFile(filepath.Join(place, name))
		must(t, err)
		step := max(1, len(whole)/300)
		for at := 0; at < len(whole); at += step {
			broken := append([]byte{}, whole...)
			broken[at] ^= 0x10
			must(t, os.WriteFile(filepath.Join(place, name), broken, 0o600))
			_, err := overlay.Verify(t.Context(), s, "n1", m.ID)
			if bmc.KindOf(err) != bmc.KindOverlay || bmc.HintOf(err) == "" {
				t.Fatalf("%s, byte %d of %d: %v", name, at, len(whole), err)
			}
		}
		must(t, os.Remove(filepath.Join(place, name)))
		if _, err := overlay.Verify(t.Context(), s, "n1", m.ID); err == nil {
			t.Errorf("without %s it is whole", name)
		}
		must(t, os.WriteFile(filepath.Join(place, name), whole, 0o600))
	}
}

func TestPruneSpares(t *testing.T) {
	s := openStore(t, t.TempDir())
	at := time.Date(2026, 11, 23, 5, 0, 0, 0, time.UTC)
	var ids []string
	for i := range 6 {
		req := request(overlay.PurposeManual)
		req.Now = func() time.Time { return at.Add(time.Duration(i) * time.Hour) }
		said := ""
		if i > 2 {
			said = "tar: ./f: File shrank by 5 bytes; padding with zeros\n"
		}
		req.AllowPartial = true
		m, err := overlay.Backup(t.Context(), sends(pack(t, 10), said, nil), s, req)
		must(t, err)
		if m.Partial != (i > 2) {
			t.Fatalf("backup %d: partial %v", i, m.Partial)
		}
		ids = append(ids, m.ID)
	}
	must(t, s.SetReboot(t.Context(), "n1", overlay.Reboot{Restore: ids[1]}))
	now := at.Add(5 * time.Hour)
	for name, test := range map[string]struct {
		keep overlay.Retention
		want []int
	}{
		"nothing":    {overlay.Retention{Now: now}, []int{0, 3, 4, 5}}, // 2 is the newest good one, 1 is owed
		"one":        {overlay.Retention{Keep: 1, Now: now}, []int{0, 3, 4}},
		"one needed": {overlay.Retention{Keep: 1, Now: now, Needed: []string{ids[0]}}, []int{3, 4}},
		"young ones": {overlay.Retention{Keep: 1, Now: now, Within: 90 * time.Minute}, []int{0, 3}},
		"all":        {overlay.Retention{Keep: 6, Now: now}, nil},
	} {
		doomed, err := overlay.Prunable(t.Context(), s, "n1", test.keep)
		must(t, err)
		var got []string
		for _, m := range doomed {
			got = append(got, m.ID)
		}
		var want []string
		for _, i := range test.want {
			want = append(want, ids[i])
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("keeping %s: %v go, want %v", name, got, want)
		}
	}
	// One that was found damaged is nobody's last good backup.
	must(t, s.SetVerified(t.Context(), "n1", map[string]overlay.Verified{ids[2]: {At: now, Damaged: "a flipped bit"}}))
	must(t, s.ClearReboot(t.Context(), "n1"))
	doomed, err := overlay.Prunable(t.Context(), s, "n1", overlay.Retention{Keep: 1, Now: now})
	must(t, err)
	latest, err := overlay.Latest(t.Context(), s, "n1")
	if len(doomed) != 4 || doomed[1].ID != ids[2] || latest.ID != ids[1] || err != nil {
		t.Errorf("%d go, the latest is %s: %v", len(doomed), latest.ID, err)
	}
	gone, err := overlay.Prune(t.Context(), s, "n1", overlay.Retention{Keep: 1, Now: now}, nil)
	must(t, err)
	if left, err := s.List(t.Context(), "n1"); err != nil || len(gone) != 4 || len(left.Backups) != 2 {
		t.Errorf("%v went, %d are left: %v", gone, len(left.Backups), err)
	}
}
