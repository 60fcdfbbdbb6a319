package overlay_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestRepopulate puts back what a backup left out, and says what it could not.
// Files of a live medium are put back in the tests of package sim: not every
// kernel that tests run on can mount one.
func TestRepopulate(t *testing.T) {
	m := newMachine(t)
	s := openStore(t, t.TempDir())
	n := m.boot(t, "")
	n.run(`cd /lab && mkdir big && cd big && echo other >no-medium
for f in here wrong cut gone nobody same; do printf 'data of %s' $f >$f; done
chown 12:34 here && chmod 4750 here && touch -d '1969-01-02 03:04:05.25' here && ln -s here link && mkdir dir && echo x >"$(printf 'dir/a\nb')"`)
	req := request(overlay.PurposeManual)
	req.Exclude = []string{"big"}
	manifest, err := overlay.Backup(t.Context(), n.conn, s, req)
	must(t, err)
	before := n.view()

	n = m.boot(t, "")
	n.run("mkdir /lab/big && printf 'data of same' >/lab/big/same")
	_, err = overlay.Restore(t.Context(), n.conn, s, overlay.RestoreRequest{Node: "n1", ID: manifest.ID})
	must(t, err)
	running, err := overlay.Probe(t.Context(), n.conn)
	must(t, err)
	read := func(r io.Reader) overlay.Supply {
		return overlay.Supply{From: "a test", Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }}
	}
	text := func(s string) overlay.Supply { return read(strings.NewReader(s)) }
	got, err := overlay.Repopulate(t.Context(), n.conn, running, manifest, func(name string) (overlay.Supply, bool) {
		switch strings.TrimPrefix(name, "/lab/big/") {
		case "no-medium":
			return overlay.Supply{From: "the medium", Medium: "/../dir/none"}, true
		case "here":
			return text("data of here"), true
		case "wrong":
			return text("data of wrong, and more than there was"), true
		case "cut":
			return read(io.MultiReader(strings.NewReader("data"), iotest.ErrReader(errors.New("the line is dead")))), true
		case "gone":
			return overlay.Supply{From: "a test", Open: func(context.Context) (io.ReadCloser, error) { return nil, errors.New("it is gone") }}, true
		case "dir/a\nb":
			return text("x\n"), true
		}
		return overlay.Supply{}, false
	})
	must(t, err)
	t.Logf("%+v", got)
	if got.Put != 2 || got.There != 1 || len(got.Missing) != 6 {
		t.Errorf("report: %+v", got)
	}
	for name, why := range map[string]string{
		"no-medium": "the live medium has no", "wrong": "is not what it was", "cut": "cannot be had", "gone": "it is gone",
		"nobody": "names no source", "link": "no regular file",
	} {
		if !strings.Contains(strings.Join(got.Missing, "\n"), "./lab/big/"+name+": ") || !strings.Contains(strings.Join(got.Missing, "\n"), why) {
			t.Errorf("%s: not told: %q", name, got.Missing)
		}
	}
	after := n.view()
	for _, name := range []string{"lab/big/here", "lab/big/dir/a\nb"} {
		if before[name] != after[name] {
			t.Errorf("%s was %s, is %s", name, before[name], after[name])
		}
	}
	if list := n.run("cd /lab/big && ls -A"); strings.Contains(list, "livecd-sync") || strings.Contains(list, "wrong") || strings.Contains(list, "cut") {
		t.Errorf("left behind: %q", list)
	}
}
