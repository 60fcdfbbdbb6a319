package siteedit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

const (
	pin  = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	old  = "sha256:9999999999999999999999999999999999999999999999999999999999999999"
	head = "apiVersion: livecd-sync/v1\nsite: redbird\n\n"
)

// load reads a text and gives the nodes of each name.
func load(t *testing.T, text string) map[string]site.Node {
	t.Helper()
	s, err := siteload.Parse("site.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]site.Node{}
	for _, n := range s.Nodes {
		nodes[n.Name] = n
	}
	return nodes
}

// Only what is to change changes: comments, blank lines, quotes, order and line
// ends stay.
func TestFingerprint(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"a line of its own": {
			"nodes:\n  # the first\n  n1:\n\n    bmc:\n      address: b1   # by hand\n\n      auth: basic\n    groups: [ 'a',b ]\n",
			"nodes:\n  # the first\n  n1:\n\n    bmc:\n      address: b1   # by hand\n      tls: {fingerprint: \"PIN\"}\n\n      auth: basic\n    groups: [ 'a',b ]\n",
		},
		"at the end of the file": {"nodes:\n  n1:\n    bmc:\n        address: b1", "nodes:\n  n1:\n    bmc:\n        address: b1\n        tls: {fingerprint: \"PIN\"}\n"},
		"windows":                {"nodes:\r\n  n1:\r\n    bmc:\r\n      address: b1\r\n", "nodes:\r\n  n1:\r\n    bmc:\r\n      address: b1\r\n      tls: {fingerprint: \"PIN\"}\r\n"},
		"in braces":              {"nodes: {n1: {bmc: {address: \"b1:8443\" , auth: basic}}}\n", "nodes: {n1: {bmc: {address: \"b1:8443\", tls: {fingerprint: \"PIN\"} , auth: basic}}}\n"},
		"single quotes":          {"nodes:\n  n1: {bmc: {address: 'b1'}}\n", "nodes:\n  n1: {bmc: {address: 'b1', tls: {fingerprint: \"PIN\"}}}\n"},
		"not in ASCII":           {"nodes:\n  n1: {groups: [g], image: none, bmc: {system: \"ä\\\"ö\", address: b1}}  # ü\n", "nodes:\n  n1: {groups: [g], image: none, bmc: {system: \"ä\\\"ö\", address: b1, tls: {fingerprint: \"PIN\"}}}  # ü\n"},
		"in place of another":    {"nodes:\n  n1:\n    bmc:\n      tls: {fingerprint: \"" + old + "\"}  # from May\n      address: b1\n", "nodes:\n  n1:\n    bmc:\n      tls: {fingerprint: \"PIN\"}  # from May\n      address: b1\n"},
		"in place of any":        {"nodes:\n  n1:\n    bmc:\n      address: b1\n      tls:\n        # for now\n        insecure: true\n", "nodes:\n  n1:\n    bmc:\n      address: b1\n      tls:\n        # for now\n        fingerprint: \"PIN\"\n"},
		"in place of a file":     {"nodes:\n  n1: {bmc: {address: b1, tls: {ca: certs/a b.pem}}}\n", "nodes:\n  n1: {bmc: {address: b1, tls: {fingerprint: \"PIN\"}}}\n"},
		"in place of an alias":   {"nodes:\n  n0: {bmc: {address: b0, tls: &any {insecure: true}}}\n  n1: {bmc: {address: b1, tls: *any}}\n", "nodes:\n  n0: {bmc: {address: b0, tls: &any {insecure: true}}}\n  n1: {bmc: {address: b1, tls: {fingerprint: \"PIN\"}}}\n"},
		"beside the defaults":    {"defaults: {bmc: {tls: {insecure: true}}}\nnodes:\n  n0: {bmc: {address: b0}}\n  n1: {bmc: {address: b1}}\n", "defaults: {bmc: {tls: {insecure: true}}}\nnodes:\n  n0: {bmc: {address: b0}}\n  n1: {bmc: {address: b1, tls: {fingerprint: \"PIN\"}}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			before := head + c.before
			d, err := New("site.yaml", []byte(before))
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Fingerprint(load(t, before)["n1"], pin); err != nil {
				t.Fatal(err)
			}
			got, err := d.Bytes()
			if want := head + strings.ReplaceAll(c.after, "PIN", pin); err != nil || string(got) != want {
				t.Errorf("%v\ngot\n%q\nwant\n%q", err, got, want)
			}
		})
	}
}

func TestPinsForARange(t *testing.T) {
	before := head + "nodes:\n  \"n[1-3]\":   # a rack\n    bmc: {address: \"b[1-3]\", tls: {insecure: true}}\n  m1:\n    bmc: {address: m1-mgmt}\n"
	nodes := load(t, before)
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	d, err := New("site.yaml", []byte(before))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Pins([]site.Node{nodes["n1"], nodes["n2"], nodes["n3"]}, "certs/bmc.pins", filepath.Join(dir, "certs/bmc.pins")); err != nil {
		t.Fatal(err)
	}
	if err := d.Fingerprint(nodes["m1"], pin); err != nil {
		t.Fatal(err)
	}
	got, err := d.Bytes()
	want := head + "nodes:\n  \"n[1-3]\":   # a rack\n    bmc: {address: \"b[1-3]\", tls: {pins: certs/bmc.pins}}\n  m1:\n    bmc: {address: m1-mgmt, tls: {fingerprint: \"" + pin + "\"}}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\ngot\n%s\nwant\n%s", err, got, want)
	}
}

// A fingerprint for one node in an entry of several would be one for all.
func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"an entry of several":     "nodes:\n  \"n[1-2]\": {bmc: {address: \"b[1-2]\"}}\n",
		"an alias of a section":   "nodes:\n  n0: {bmc: &b {address: b0, system: \"0\"}}\n  n1: {bmc: *b, image: none}\n",
		"what others refer to":    "nodes:\n  n1: {bmc: {address: b1, tls: &any {insecure: true}}}\n  n0: {bmc: {address: b0, tls: *any}}\n",
		"an address in two lines": "nodes:\n  n1:\n    bmc:\n      address: \"b\\\n        1\"\n",
		"a folded address":        "nodes:\n  n1:\n    bmc:\n      address: >-\n        b1\n      auth: basic\n",
		"an anchor":               "nodes:\n  n1:\n    bmc:\n      address: &a b1\n      auth: basic\n",
		"a key with a mark":       "nodes:\n  n1:\n    bmc:\n      ? address\n      : b1\n",
	} {
		t.Run(name, func(t *testing.T) {
			before := head + text
			s, err := siteload.Parse("site.yaml", []byte(before))
			if err != nil && strings.Contains(name, "alias of a section") {
				t.Skip("the loader refuses it first")
			}
			if err != nil {
				t.Fatal(err)
			}
			d, err := New("site.yaml", []byte(before))
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range s.Nodes {
				if n.Name != "n1" {
					continue
				}
				if err = d.Fingerprint(n, pin); err == nil {
					_, err = d.Bytes()
				}
			}
			if err == nil {
				t.Error("it was changed")
			}
		})
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real", "site.yaml"), filepath.Join(dir, "site.yaml")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(filepath.Dir(file), 0o755))
	must(os.WriteFile(file, []byte("one"), 0o640))
	must(os.Chmod(file, 0o640))
	must(os.Symlink("real/site.yaml", link))
	must(Replace(link, []byte("one"), []byte("two")))
	if b, err := os.ReadFile(file); err != nil || string(b) != "two" {
		t.Errorf("%q %v", b, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the symlink is gone")
	}
	if err := Replace(link, []byte("one"), []byte("three")); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that was changed meanwhile: %v", err)
	}
	if err := Replace(link, nil, []byte("three")); !errors.Is(err, ErrChanged) {
		t.Errorf("a file that came to be meanwhile: %v", err)
	}
	pins := filepath.Join(dir, "certs", "bmc.pins")
	must(Replace(pins, nil, []byte("pins")))
	if b, err := os.ReadFile(pins); err != nil || string(b) != "pins" {
		t.Errorf("%q %v", b, err)
	}
	for _, d := range []string{filepath.Dir(file), filepath.Dir(pins)} {
		if left, _ := filepath.Glob(filepath.Join(d, ".livecd*")); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	if err := Replace(filepath.Join(dir, "none"), []byte("x"), nil); err == nil {
		t.Error("a file that is gone was replaced")
	}
}

// Whatever a valid file looks like, the change either does what it should and
// no more, or is refused.
func FuzzFingerprint(f *testing.F) {
	f.Add("nodes:\n  n1:\n    bmc:\n      address: b1 # x\n      tls: {insecure: true}\n")
	f.Add("nodes: {n1: {bmc: {\"address\" : 'b1' , tls: {ca: \"a\"}}}}\n")
	f.Add("x: &a {b: c}\nnodes: {n1: {bmc: {address: b1, tls: *a}}}\n")
	f.Fuzz(func(t *testing.T, text string) {
		before := head + text
		s, err := siteload.Parse("site.yaml", []byte(before))
		if err != nil || len(s.Nodes) == 0 {
			return
		}
		d, err := New("site.yaml", []byte(before))
		if err != nil {
			return
		}
		if d.Fingerprint(s.Nodes[0], pin) != nil {
			return
		}
		got, err := d.Bytes()
		if err != nil {
			return
		}
		after, err := siteload.Parse("site.yaml", got)
		if err != nil || after.Nodes[0].BMC.TLS.Fingerprint != pin {
			t.Errorf("%v\n%s", err, got)
		}
	})
}
