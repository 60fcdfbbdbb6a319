package siteload_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// head begins a site file; what a test is about comes after it.
const head = "apiVersion: livecd-sync/v1\nsite: redbird\n"

// loadFixture writes a fixture to a directory of its own, so that paths can be
// told, and loads it.
func loadFixture(t *testing.T, fixture string) (s *site.Site, dir string) {
	t.Helper()
	t.Setenv("HOME", "/home/admin")
	dir = t.TempDir()
	file := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(file, read(t, fixture), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := siteload.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func node(t *testing.T, s *site.Site, name string) site.Node {
	t.Helper()
	for _, n := range s.Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no node %s", name)
	return site.Node{}
}

func names(s *site.Site) string {
	var out []string
	for _, n := range s.Nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func TestLoadProduct(t *testing.T) {
	s, dir := loadFixture(t, "testdata/valid/product.yaml")
	file := filepath.Join(dir, "site.yaml")
	at := func(place string) site.Pos { return site.Pos(file + ":" + place) }
	if got, want := names(s), "ncn-m001 x3000c0s3b0n0 x3000c0s4b0n0 x3000c0s5b0n0 x3000c0s6b0n0 x3000c0s7b0n0 x3000c0s8b0n0 x3000c0s9b0n0 x3000c0s11b0n0"; got != want {
		t.Errorf("nodes\n got %s\nwant %s", got, want)
	}
	want := site.Node{
		Name:   "x3000c0s4b0n0",
		Groups: []string{"compute"},
		BMC: site.BMC{
			URL: "https://x3000c0s4b0", Username: "root", Password: site.SecretRef{Env: "BMC_PASSWORD"},
			TLS: site.TLS{CA: filepath.Join(dir, "certs/bmc-ca.pem")}, Auth: bmc.AuthAuto,
		},
		SSH: &site.SSH{
			Address: "10.252.1.14", Port: 22, User: "root", Identity: "/home/admin/.ssh/id_ed25519",
			HostKey: site.HostKey{Any: true},
		},
		Image:   "pit-1.7",
		Reset:   site.ResetNeeded,
		Boot:    site.Boot{Within: 30 * time.Minute},
		Overlay: &site.Overlay{Store: "admin", Exclude: []string{"*.squashfs"}, Keep: 5, Restore: site.RestoreLatest},
		Pos: map[string]site.Pos{
			"": at("30:3"), "groups": at("33:13"), "image": at("22:10"), "reset": at("23:10"),
			"bmc": at("31:10"), "bmc.address": at("31:20"), "bmc.username": at("18:15"), "bmc.password": at("19:15"), "bmc.tls": at("20:10"),
			"ssh": at("32:10"), "ssh.address": at("32:20"), "ssh.user": at("21:15"), "ssh.identity": at("21:31"), "ssh.hostKey": at("21:59"),
			"overlay": at("24:12"), "overlay.store": at("24:20"), "overlay.keep": at("24:33"), "overlay.exclude": at("24:45"), "overlay.restore": at("24:70"),
		},
	}
	if d := cmp.Diff(want, node(t, s, "x3000c0s4b0n0")); d != "" {
		t.Errorf("x3000c0s4b0n0 (-want +got):\n%s", d)
	}
	if n := node(t, s, "x3000c0s11b0n0"); n.SSH != nil || n.Image != site.NoImage || n.OverlayManaged() || n.At("image") != at("36:12") {
		t.Errorf("x3000c0s11b0n0: %+v", n)
	}
	checkProductSections(t, s, dir)
}

func checkProductSections(t *testing.T, s *site.Site, dir string) {
	t.Helper()
	at := func(place string) site.Pos { return site.Pos(s.File + ":" + place) }
	s.Nodes = nil
	want := &site.Site{
		Name:   "redbird",
		File:   filepath.Join(dir, "site.yaml"),
		Digest: s.Digest,
		Images: map[string]site.Image{
			"pit-1.6": {Name: "pit-1.6", URL: "http://10.1.1.1/iso/pit16.iso", Pos: at("5:3")},
			"pit-1.7": {
				Name: "pit-1.7", File: filepath.Join(dir, "iso/pre-install-toolkit-1.7.0-x86_64.iso"),
				SHA256: "3c0b64a6bc0fcb1c9d7ae4c50f1c4b8f0c2d51f0a9c7f0fb2c1f8b3f4ed2a91e", Pos: at("6:3"),
			},
			"pit-1.8": {Name: "pit-1.8", Release: filepath.Join(dir, "csm-1.8.0.tar.gz"), Pos: at("7:3")},
		},
		Stores: map[string]site.Store{"admin": {Name: "admin", URL: "file:///var/lib/livecd-sync/backups", Pos: at("14:3")}},
		Serve:  &site.Serve{Listen: ":80", URL: "http://10.1.1.1"},
		Watch:  site.Watch{Every: site.DefaultWatchEvery, Apply: site.DefaultWatchApply},
		Groups: map[string][]string{"compute": {
			"x3000c0s3b0n0", "x3000c0s4b0n0", "x3000c0s5b0n0", "x3000c0s6b0n0", "x3000c0s7b0n0", "x3000c0s8b0n0", "x3000c0s9b0n0",
		}},
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if !strings.HasPrefix(s.Digest, "sha256:") || len(s.Digest) != 71 {
		t.Errorf("digest %s", s.Digest)
	}
}

func TestLoadEverything(t *testing.T) {
	s, dir := loadFixture(t, "testdata/valid/everything.yaml")
	n := node(t, s, "n1")
	n.Pos = nil
	want := site.Node{
		Name:   "n1",
		Groups: []string{"compute", "rack-1"},
		BMC: site.BMC{
			URL: "https://bmc1.example.org:8443", System: "/redfish/v1/Systems/1", Username: "operator",
			Password: site.SecretRef{Command: []string{"pass", "show", "bmc/n1"}},
			TLS:      site.TLS{Fingerprint: "sha256:3c0b64a6bc0fcb1c9d7ae4c50f1c4b8f0c2d51f0a9c7f0fb2c1f8b3f4ed2a91e"},
			Auth:     bmc.AuthBasic, NoKeepAlive: true, OldCiphers: true,
		},
		SSH: &site.SSH{
			Address: "n1.example.org", Port: 2222, User: "admin", Identity: filepath.Join(dir, "keys/n1"),
			Password: site.SecretRef{Env: "SSH_PASSWORD"}, HostKey: site.HostKey{KnownHosts: filepath.Join(dir, "known_hosts")},
		},
		Login: &site.Login{
			Password: site.SecretRef{Env: "ROOT_PASSWORD"}, Initial: site.SecretRef{File: filepath.Join(dir, "secrets/initial")},
			AuthorizedKey: filepath.Join(dir, "keys/n1.pub"), Within: 5 * time.Minute,
			Commands: []string{"/root/bin/csi-setup-lan0.sh redbird $LIVECD_SYNC_ADDRESS/24 10.1.1.1 10.1.1.2 em1", "true"},
		},
		Console: site.Console{
			Way: bmc.ConsoleVSP, Port: 2022, HostKey: site.HostKey{Fingerprint: "SHA256:uNiVztksCsDhcc0u9e8BrmYPZ3sRwZPpGRsMJtZ8Vl4"},
		},
		Image: "web",
		Reset: site.ResetNeeded,
		Boot:  site.Boot{Within: 48 * time.Hour},
		Overlay: &site.Overlay{
			Store: "admin", Path: "/run/overlayfs/rw", Exclude: []string{"*.squashfs", "var/tmp"}, Keep: 3, KeepWithin: 7 * 24 * time.Hour, Every: 36 * time.Hour, Restore: "none", Restart: true,
			Repopulate: map[string]site.Source{
				"*.squashfs": {Image: "LiveOS/squashfs.img"},
				"etc/motd":   {File: filepath.Join(dir, "motd")},
				"opt/big":    {URL: "http://10.1.1.1/big"},
			},
		},
	}
	if d := cmp.Diff(want, n); d != "" {
		t.Errorf("n1 (-want +got):\n%s", d)
	}
	n2, n3 := node(t, s, "n2"), node(t, s, "n3")
	if n2.BMC.Auth != bmc.AuthSession || !n2.BMC.TLS.Insecure || n2.BMC.Password.File != filepath.Join(dir, "secrets/bmc") || n2.Reset != site.ResetNever ||
		n2.Boot.Within != 90*time.Minute || n2.SSH.HostKey.Fingerprint == "" || n2.Overlay.Keep != 5 || n2.Image != "" || n2.Groups[0] != "all-nodes" {
		t.Errorf("n2: %+v %+v %+v", n2, n2.SSH, n2.Overlay)
	}
	if n2.Login == nil || n2.Login.Within != 10*time.Minute || n3.Login != nil {
		t.Errorf("login: %+v, %+v", n2.Login, n3.Login)
	}
	known := filepath.Join(dir, "keys/bmcs")
	consoles := map[string]site.Console{
		"n2": {Command: []string{"conman", "n2"}, HostKey: site.HostKey{KnownHosts: known}, OldAlgorithms: true},
		"n3": {Way: bmc.ConsoleSOL, HostKey: site.HostKey{KnownHosts: known}, OldAlgorithms: true},
		"n4": {Socket: filepath.Join(dir, "run/n4.sock"), HostKey: site.HostKey{Any: true}, OldAlgorithms: true},
	}
	for name, want := range consoles {
		if d := cmp.Diff(want, node(t, s, name).Console); d != "" {
			t.Errorf("console of %s (-want +got):\n%s", name, d)
		}
	}
	if n3.BMC.URL != "https://[2001:db8::3]:443" || n3.Overlay != nil || n3.At("overlay.store") != n3.Pos[""] {
		t.Errorf("n3: %+v", n3)
	}
	checkStores(t, s, dir)
	if s.Serve.URL != "http://10.1.1.1:8080" || s.Images["web"].SHA256 != "3c0b64a6bc0fcb1c9d7ae4c50f1c4b8f0c2d51f0a9c7f0fb2c1f8b3f4ed2a91e" {
		t.Errorf("serve %+v, images %+v", s.Serve, s.Images)
	}
}

func checkStores(t *testing.T, s *site.Site, dir string) {
	t.Helper()
	got := map[string]*site.SSH{}
	for name, store := range s.Stores {
		got[name] = store.SSH
	}
	want := map[string]*site.SSH{
		"admin": nil, "spare": nil, "sealed": nil, "cloud": nil, "bucket": nil,
		"far": {
			Address: "2001:db8::7", Port: 2222, User: "backup", Identity: filepath.Join(dir, "keys/backup"),
			HostKey: site.HostKey{Fingerprint: "SHA256:uNiVztksCsDhcc0u9e8BrmYPZ3sRwZPpGRsMJtZ8Vl4"},
		},
		"near":  {Address: "nas.example.org", Port: 22, User: "me", Password: site.SecretRef{File: filepath.Join(dir, "secrets/nas")}, HostKey: site.HostKey{Any: true}},
		"plain": {Address: "nas", Port: 22, User: "me", HostKey: site.HostKey{KnownHosts: "/home/admin/.ssh/known_hosts"}},
	}
	cloud := &site.S3{
		Endpoint: "https://[2001:db8::9]:9000", Region: "eu-1", AccessKey: site.SecretRef{Env: "S3_ACCESS"},
		SecretKey: site.SecretRef{File: filepath.Join(dir, "keys/s3")}, TLS: site.TLS{CA: filepath.Join(dir, "certs/s3.pem")},
	}
	if d := cmp.Diff(cloud, s.Stores["cloud"].S3); d != "" || s.Stores["bucket"].S3.Region != "us-east-1" || s.Stores["admin"].S3 != nil {
		t.Errorf("S3 (-want +got):\n%s", d)
	}
	age := &site.Age{
		Recipients: []string{"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"},
		Identity:   site.SecretRef{File: filepath.Join(dir, "keys/age")},
	}
	if d := cmp.Diff(age, s.Stores["sealed"].Age); d != "" || s.Stores["admin"].Age != nil {
		t.Errorf("age (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("stores (-want +got):\n%s", d)
	}
}

func TestLoadRanges(t *testing.T) {
	s, dir := loadFixture(t, "testdata/valid/ranges.yaml")
	if got, want := names(s), "one7 port1 port2 twin1 twin2 v6-1 v6-2 x1000c0s08b0n0 x1000c0s10b0n0 x1000c0s10b0n1 x1001c0s08b0n0 x1001c0s10b0n0"; got != want {
		t.Errorf("nodes\n got %s\nwant %s", got, want)
	}
	var got []string
	for _, n := range s.Nodes {
		line := []string{n.Name, n.BMC.URL, n.BMC.System, n.BMC.Password.File, n.BMC.TLS.CA + n.BMC.TLS.Pins}
		if c := n.Console; c.Socket != "/run/all.sock" {
			line = append(line, fmt.Sprintf("%s %v %s", c.Socket, c.Command, c.HostKey.KnownHosts))
		}
		if n.SSH != nil {
			line = append(line, n.SSH.Address, n.SSH.Identity, n.SSH.Password.File, n.SSH.HostKey.KnownHosts)
		}
		got = append(got, strings.ReplaceAll(strings.Join(line, "|"), dir, "DIR"))
	}
	want := []string{
		"one7|https://one7-mgmt|||",
		"port1|https://127.0.0.1:10001|||DIR/certs/1.pins|/run/port1.sock [] DIR/bmcs/1|127.0.0.1|||/home/admin/.ssh/known_hosts",
		"port2|https://127.0.0.1:10002|||DIR/certs/2.pins|/run/port2.sock [] DIR/bmcs/2|127.0.0.2|||/home/admin/.ssh/known_hosts",
		"twin1|https://x3000c0s1b0|Node0||",
		"twin2|https://x3000c0s1b0|Node1||",
		"v6-1|https://[2001:db8::1]:443||||2001:db8:1::1|||/home/admin/.ssh/known_hosts",
		"v6-2|https://[2001:db8::2]:443||||2001:db8:1::2|||/home/admin/.ssh/known_hosts",
		"x1000c0s08b0n0|https://x1000c0s08b0:8443||DIR/secrets/1|DIR/certs/1.pem| [conman -F console1 x1000c0s08b0n0] |1.example.org|/home/admin/keys/1|/secrets/ssh1|DIR/known/1",
		"x1000c0s10b0n0|https://x1000c0s10b0:8443||DIR/secrets/2|DIR/certs/2.pem| [conman -F console2 x1000c0s10b0n0] |2.example.org|/home/admin/keys/2|/secrets/ssh2|DIR/known/2",
		"x1000c0s10b0n1|https://x1000c0s10b1|||",
		"x1001c0s08b0n0|https://x1001c0s08b0:8443||DIR/secrets/3|DIR/certs/3.pem| [conman -F console3 x1001c0s08b0n0] |3.example.org|/home/admin/keys/3|/secrets/ssh3|DIR/known/3",
		"x1001c0s10b0n0|https://x1001c0s10b0:8443||DIR/secrets/4|DIR/certs/4.pem| [conman -F console4 x1001c0s10b0n0] |4.example.org|/home/admin/keys/4|/secrets/ssh4|DIR/known/4",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if e := node(t, s, "one7").Overlay.Exclude; len(e) != 1 || e[0] != "core.[0-9]" {
		t.Errorf("a pattern in exclude is no range: %q", e)
	}
}

func TestLoadAliases(t *testing.T) {
	s, _ := loadFixture(t, "testdata/valid/aliases.yaml")
	n := node(t, s, "n2")
	if !n.BMC.TLS.Insecure || n.SSH.Address != "bmc1" || !n.SSH.HostKey.Any || n.At("bmc.tls") != site.Pos(s.File+":11:31") {
		t.Errorf("%+v %+v", n, n.SSH)
	}
}

func TestLoadOddSpellings(t *testing.T) {
	s, _ := loadFixture(t, "testdata/valid/odd-spellings.yaml")
	n := node(t, s, "yes")
	if s.Name != "no" || strings.Join(n.Groups, " ") != "on 1 null 2026-11-23" || n.Overlay.Restore != "2026-11-23T05:00:00Z" ||
		strings.Join(n.Overlay.Exclude, "|") != "*|a b|5" {
		t.Errorf("%s %q %+v", s.Name, n.Groups, n.Overlay)
	}
}

func TestNoHome(t *testing.T) {
	t.Setenv("HOME", "")
	_, err := siteload.Parse("site.yaml", []byte(head+`nodes:
  n1: {bmc: {address: b1}, ssh: {address: h1, identity: ~/.ssh/id}}
`))
	want := `site.yaml:4:33: nodes.n1.ssh: there is no home directory for ~/ to stand for; write the whole path, or set HOME
site.yaml:4:57: nodes.n1.ssh.identity: there is no home directory for ~/ to stand for; write the whole path, or set HOME`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestBytes has files that are wrong before there is any site in them.
func TestBytes(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	for _, tc := range []struct{ name, data, want string }{
		{"empty", "", "1:1: this file is empty; write a site file; examples/site.yaml is one to start from"},
		{"comment", "# nothing\n", "1:1: this file is empty; write a site file; examples/site.yaml is one to start from"},
		{"latin1", "site: \"b\xe4\"\n", "1:9: the byte 0xe4 is not UTF-8; save the file as UTF-8"},
		{"utf16", "\xff\xfes\x00i\x00", "1:1: the byte 0xff is not UTF-8; save the file as UTF-8"},
		{"nul", "site: a\nb: \x00\n", "2:4: the control character U+0000 has no place in a site file; remove it"},
		{"escape", "site: \x1b[31m\n", "1:7: the control character U+001B has no place in a site file; remove it"},
		{"tab", "nodes:\n\tn1: {}\n", "2:2: this is not YAML: a tab or a character with a meaning in YAML begins this text; indent with blanks, and put text that begins with @, %, ` or * in quotes"},
		{"at", "site: @a\n", "1:1: this is not YAML: a tab or a character with a meaning in YAML begins this text; indent with blanks, and put text that begins with @, %, ` or * in quotes"},
		{"colon", "site: a: b\n", "1:1: this is not YAML: a second \": \" on one line, or a key that is indented more than the one before it; put text with \": \" in quotes, and indent keys of one mapping alike"},
		{"brace", head + "nodes: {n1: {}\nserve:\n", "3:1: this is not YAML: a bracket or brace that is opened here is not closed, or a comma is missing; write , between items and ] or } at the end, and put text with brackets or braces in quotes"},
		{"quote", head + "nodes: \"a\n", "3:1: this is not YAML: a quote that is opened here is not closed; write the closing quote"},
		{"escaped", "site: \"\\d\"\n", "1:1: this is not YAML: a backslash in double quotes with no meaning in YAML; use single quotes around text with backslashes"},
		{"alias", "x: ä\nsite: *a\n", "2:7: this is not YAML: an alias of something that has no name in this file; put text that begins with * in quotes"},
		{"directive", "%YAML 1.2\n---\nsite: a\n", "1:1: this is not YAML: a %YAML directive for another version than 1.1; remove the line that begins with %YAML"},
		{"documents", head + "nodes: {}\n---\nsite: b\n", "4:1: a second YAML document begins here; keep one site in one file, without a line of --- in it"},
		{"broken second", head + "nodes: {}\n---\n}\n", "5:1: this is not YAML: a value was expected here; put text that begins with ], }, or a comma in quotes"},
		{"deep", head + "nodes: " + deep, `3:8: nodes: a list is not a mapping; write under it names, each with a colon and what it stands for
site.yaml:3:40: nodes` + strings.Repeat("[0]", 32) + `: this is nested more than 32 deep; write it flatter: a site file needs no more than 6 levels`},
		{"very deep", strings.Repeat("[", 20000), "1:1: this is not YAML: too many levels; write it flatter: a site file needs no more than 6 levels"},
		{"long text", head + "nodes: {}\nserve: " + strings.Repeat("a", 10<<20), "4:8: serve: this text is longer than 4096 bytes; write a shorter one"},
		{"long key", head + "nodes: {}\n? " + strings.Repeat("a", 5000) + "\n: b\n", `4:3: "` + strings.Repeat("a", 57) + `…": this key is longer than 4096 bytes; write a shorter one`},
		{"twice", head + "nodes: {}\nsite: b\n", "4:1: site: this key is given twice, first at site.yaml:2:1; keep one of the two"},
		{"merge", head + "nodes: {n1: {<<: {bmc: {address: b}}, bmc: {address: b1}}}\n", `3:14: nodes.n1."<<": merge keys are not used in site files; write what nodes have in common under defaults`},
		{"number key", head + "nodes: {0123: {bmc: {address: b1}}}\n", `3:9: nodes."0123": the key "0123" is a number to YAML; put it in quotes: "0123"`},
		{"true key", head + "nodes: {true: {bmc: {address: b1}}}\n", `3:9: nodes.true: the key "true" is true or false to YAML; put it in quotes: "true"`},
		{"null key", head + "nodes: {~: {bmc: {address: b1}}}\n", `3:9: nodes."~": the key "~" is an empty value to YAML; put it in quotes: "~"`},
		{"list key", head + "nodes: {[a]: {bmc: {address: b1}}}\n", `3:9: nodes."?": a key has to be a plain text, not a list or mapping; write KEY: VALUE, and put text with braces or brackets in quotes`},
		{"octal", "apiVersion: livecd-sync/v1\nsite: 0123\nnodes: {}\n", `2:7: site: "0123" is a number that readers of YAML disagree on; write it in plain decimal digits, or put it in quotes if it is text`},
		{"bad octal", "apiVersion: livecd-sync/v1\nsite: 0189\nnodes: {}\n", `2:7: site: "0189" is a number that readers of YAML disagree on; write it in plain decimal digits, or put it in quotes if it is text`},
		{"hex", "apiVersion: livecd-sync/v1\nsite: 0x1f\nnodes: {}\n", `2:7: site: "0x1f" is a number that readers of YAML disagree on; write it in plain decimal digits, or put it in quotes if it is text`},
		{"number", "apiVersion: livecd-sync/v1\nsite: 123\nnodes: {}\n", `2:7: site: 123 (a number) cannot be used here; write a name of up to 63 letters, digits, dots, dashes and underscores, for example redbird, in quotes if it looks like a number or like true or false`},
		{"true", "apiVersion: livecd-sync/v1\nsite: true\nnodes: {}\n", `2:7: site: true (true or false) cannot be used here; write a name of up to 63 letters, digits, dots, dashes and underscores, for example redbird, in quotes if it looks like a number or like true or false`},
		{"null", "apiVersion: livecd-sync/v1\nsite:\nnodes: {}\n", `2:6: site: an empty value cannot be used here; write a name of up to 63 letters, digits, dots, dashes and underscores, for example redbird`},
		{"tag", "apiVersion: !v1 a\nsite: !!binary YQ==\nnodes: !!map {}\n", `1:13: apiVersion: the YAML tag "!v1" is not used in site files; remove it
site.yaml:2:7: site: the YAML tag "!!binary" is not used in site files; remove it
site.yaml:3:8: nodes: the YAML tag "!!map" is not used in site files; remove it`},
		{"cycle", head + "nodes: &a {n1: *a}\n", `3:16: nodes.n1: the anchor "a" holds itself, or is in a part that cannot be used; write the value out instead of *a`},
		{"laughs", laughs(), `26:6: zz."24": the aliases up to here stand for more than 50000 values; write what nodes have in common under defaults`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := siteload.Parse("site.yaml", []byte(tc.data))
			if err == nil {
				t.Fatal("no error")
			}
			checkErrors(t, err)
			checkWords(t, err)
			if tc.name == "laughs" { // there is more to say, but not what
				if !strings.Contains(err.Error(), "stand for more than 50000 values") {
					t.Errorf("%.500s", err)
				}
				return
			}
			if got := strings.TrimPrefix(err.Error(), "site.yaml:"); got != tc.want {
				t.Errorf("\n got %.600s\nwant %.600s", got, tc.want)
			}
		})
	}
}

// laughs has aliases of aliases of aliases.
func laughs() string {
	var b strings.Builder
	b.WriteString(head + "nodes: {}\nzz:\n  \"0\": &a0 [x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&b, "  %q: &a%d [*a%d, *a%d]\n", fmt.Sprint(i), i, i-1, i-1)
	}
	return b.String()
}

// TestSpellingsOfFiles has files that are unusual and right.
func TestSpellingsOfFiles(t *testing.T) {
	for name, data := range map[string]string{
		"byte order mark": "\ufeff" + head + "nodes: {}\n",
		"CRLF":            strings.ReplaceAll(head+"nodes: {}\n", "\n", "\r\n"),
		"no newline":      head + "nodes: {}",
		"JSON":            `{"apiVersion": "livecd-sync/v1", "site": "redbird", "nodes": {}}`,
		"one document":    "---\n" + head + "nodes: {}\n...\n",
	} {
		if _, err := siteload.Parse("site.yaml", []byte(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "site.yaml")
	_, err := siteload.Load(missing)
	want := missing + ": there is no such file; name the site file with --file, or try one made by livecd-sync sim"
	if err == nil || err.Error() != want || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = siteload.Load(dir)
	want = dir + ": this file cannot be read: is a directory; name a readable file with --file"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Skip("no room for a large sparse file:", err)
	}
	_, err = siteload.Load(large)
	want = large + ": this file is larger than 16 MiB; write ranges of nodes and defaults instead of each node"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestErrorsAsJSON(t *testing.T) {
	_, err := siteload.Parse("site.yaml", []byte(head+"nodes: {}\nsiet: a\n"))
	got, jsonErr := json.Marshal(err)
	want := `[{"pos":{"file":"site.yaml","line":4,"column":1},"path":"siet","message":"there is no such key","hint":"did you mean site?"}]`
	if jsonErr != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, jsonErr, want)
	}
	if e, ok := errors.AsType[siteload.Error](err); !ok || e.Path != "siet" {
		t.Errorf("errors.As finds %+v", e)
	}
}

// TestConcurrently loads many files at once, for the race detector.
func TestConcurrently(t *testing.T) {
	data := explicitNodes(20)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := siteload.Parse("site.yaml", data); err != nil {
				t.Error(err)
			}
			if _, err := siteload.Profiles(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestMemory bounds what loading ten thousand explicit nodes allocates, all
// told: the goal is 200 MB.
func TestMemory(t *testing.T) {
	if underRace {
		t.Skip("the race detector makes regular expressions allocate anew")
	}
	data := explicitNodes(10_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := siteload.Parse("site.yaml", data)
	runtime.ReadMemStats(&after)
	if err != nil || len(s.Nodes) != 10_000 {
		t.Fatal(err)
	}
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 180 {
		t.Errorf("%d MB allocated for 10,000 nodes, want at most 180", mb)
	}
}
