package bmc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSameImage(t *testing.T) {
	const want = "http://10.1.1.1/iso/pit17.iso"
	for _, c := range []struct {
		echo string
		want string
		same bool
	}{
		{want, want, true},
		{"http://10.1.1.1:80/iso/pit17.iso", want, true},
		{"//10.1.1.1/iso/pit17.iso/pit17.iso", want, true}, // AMI 13
		{"//10.1.1.1/iso/pit17.iso", want, true},
		{"HTTP://10.1.1.1/iso//pit17.iso", want, true},
		{"http://Repo/iso/pit17.iso", "http://repo/iso/pit17.iso", true},
		{"http://10.1.1.1/iso/pit17.iso", "http://10.1.1.1:8080/iso/pit17.iso", true}, // xFusion drops the port
		{"http://10.1.1.1:8081/iso/pit17.iso", "http://10.1.1.1:8080/iso/pit17.iso", false},
		{"pit17.iso", want, true},
		{"pit16.iso", want, false},
		{"http://10.1.1.1/iso/pit16.iso", want, false},
		{"http://10.1.1.2/iso/pit17.iso", want, false},
		{"http://10.1.1.1/other/pit17.iso", want, false},
		{"http://10.1.1.1/iso/pit17.iso?v=2", want, false},
		{"::", want, false},
	} {
		if got := SameImage(c.echo, c.want); got != c.same {
			t.Errorf("SameImage(%q, %q) = %v", c.echo, c.want, got)
		}
	}
}

func TestCompare(t *testing.T) {
	const want = "http://10.1.1.1/iso/pit17.iso"
	for _, c := range []struct {
		media Media
		want  string
		state ImageState
	}{
		{Media{}, want, ImageEmpty},
		{Media{Image: "None", ImageName: "None"}, want, ImageEmpty},
		{Media{Image: want, Inserted: true}, want, ImageMatch},
		{Media{ImageName: "pit17.iso", Inserted: true}, want, ImageMatch},
		{Media{Image: want}, want, ImageStale},
		{Media{ImageName: "pit17.iso"}, want, ImageStale},
		{Media{Inserted: true}, want, ImageUnnamed},
		{Media{Image: "None", Inserted: true}, want, ImageUnnamed},
		{Media{Image: "http://10.1.1.1/iso/pit16.iso", Inserted: true}, want, ImageOther},
		{Media{Image: want, Inserted: true}, "", ImageOther},
		{Media{}, "", ImageEmpty},
	} {
		if got := c.media.Compare(c.want); got != c.state {
			t.Errorf("%+v against %q: %s, want %s", c.media, c.want, got, c.state)
		}
	}
}

func TestCheckURL(t *testing.T) {
	plain := Profile{Name: "plain", URL: URLRules{
		Schemes: []string{"http"}, DefaultPort: true, Path: "A-Za-z0-9._-", MinDirectories: 1, MaxURL: 60, Endings: []string{".iso"},
	}}
	secure := Profile{Name: "secure", URL: URLRules{Schemes: []string{"https", "nfs"}, Address: true, MaxName: 20}}
	shares := Profile{Name: "shares", URL: URLRules{Schemes: []string{"nfs", "cifs"}}}
	comma := Profile{Name: "comma", URL: URLRules{Path: "A-Za-z0-9._~!$&'()*+;=:%-"}}
	anything := Profile{Name: "any"}
	for _, c := range []struct {
		profile Profile
		url     string
		says    string // "": taken
	}{
		{secure, "https://10.1.1.1/pit17.iso", ""},
		{secure, "https://[2001:db8::1]/pit17.iso", ""},
		{secure, "http://10.1.1.1/pit17.iso", "mounts by https or nfs only (secure) serve the image by https, and write https://10.1.1.1/pit17.iso"},
		{secure, "https://iso.example/pit17.iso", "wants an IP address (secure) write the server's address in place of iso.example"},
		{secure, "https://10.1.1.1/" + strings.Repeat("a", 20) + ".iso", "name of 24 characters"},
		{shares, "http://10.1.1.1/iso/pit17.iso", "nfs or cifs only (shares) boot the node another way"},
		{comma, "http://10.1.1.1/iso/pit%2017.iso", ""},
		{comma, "http://10.1.1.1/iso/pit,17.iso", `has a "," in its path`},
		{comma, "http://10.1.1.1/iso/pit@17.iso", `has a "@" in its path`},
		{anything, "http://10.1.1.1/iso/pit.iso?", "query"},

		{plain, "http://10.1.1.1/iso/pit17.iso", ""},
		{plain, "http://10.1.1.1:80/iso/pit17.iso", ""},
		{plain, "https://10.1.1.1/iso/pit17.iso", "mounts by http only"},
		{plain, "http://10.1.1.1:8080/iso/pit17.iso", "connects to port 80 only (plain) serve the image on port 80"},
		{plain, "http://10.1.1.1/pit17.iso", "server's root"},
		{plain, "http://10.1.1.1/iso/pit%2017.iso", `has a "%" in its path, which this BMC refuses`},
		{plain, "http://10.1.1.1/iso/pit17.img", "does not end in .iso"},
		{plain, "http://10.1.1.1/iso/" + strings.Repeat("a", 60) + ".iso", "characters long"},
		{anything, "http://10.1.1.1:8080/pit17.iso", ""},
		{anything, "http://admin:hunter2@10.1.1.1/iso/pit17.iso", "has a user"},
		{anything, "http://10.1.1.1/iso/pit17.iso?sig=1", "query"},
		{anything, "pit17.iso", "is not a url"},
	} {
		err := c.profile.CheckURL(c.url, nil)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.url, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error()+" "+HintOf(err), c.says) || KindOf(err) != KindURL || HintOf(err) == ""):
			t.Errorf("%s: %v (hint %q), want %s", c.url, err, HintOf(err), c.says)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("the error shows a password: %v", err)
		}
	}
}

// What a BMC says that it mounts by goes before its row.
func TestCheckURLByWhatTheBMCSays(t *testing.T) {
	row := Profile{Name: "row", URL: URLRules{Schemes: []string{"https"}}}
	const url = "http://10.1.1.1/iso/pit17.iso"
	if err := row.CheckURL(url, []string{"http", "nfs"}); err != nil {
		t.Errorf("a BMC that says http: %v", err)
	}
	err := row.CheckURL(url, []string{"cifs", "https"})
	if KindOf(err) != KindURL || !strings.Contains(err.Error(), "says that it mounts by cifs or https only") {
		t.Errorf("a BMC that says https: %v", err)
	}
}

func TestArmed(t *testing.T) {
	targets := []string{"Cd", "UsbCd"}
	for _, c := range []struct {
		boot  BootOverride
		armed bool
	}{
		{BootOverride{Target: "Cd", Enabled: "Once"}, true},
		{BootOverride{Target: "UsbCd", Enabled: "Continuous"}, true},
		{BootOverride{Target: "Cd", Enabled: "Disabled"}, false}, // stale (Supermicro)
		{BootOverride{Target: "Pxe", Enabled: "Once"}, false},
		{BootOverride{}, false},
	} {
		if got := c.boot.Armed(targets); got != c.armed {
			t.Errorf("%+v: %v", c.boot, got)
		}
	}
}

// However a secret is printed, it does not show.
func TestSecretHides(t *testing.T) {
	cred := Credential{Username: "root", Password: "hunter2"}
	asJSON, err := json.Marshal(cred)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		fmt.Sprint(cred), fmt.Sprintf("%+v %#v %s %q %v", cred, cred, cred.Password, cred.Password, &cred), string(asJSON),
	} {
		if strings.Contains(s, "hunter2") {
			t.Errorf("it shows in %s", s)
		}
	}
	if cred.Password.Reveal() != "hunter2" {
		t.Error("it is lost")
	}
}

func TestErrors(t *testing.T) {
	inner := &Error{Op: "read Systems/1", Kind: KindBusy, Err: errors.New("503"), Hint: "wait"}
	outer := fmt.Errorf("n1: %w", &Error{Kind: KindTimeout, Err: inner})
	if KindOf(outer) != KindTimeout || HintOf(outer) != "wait" || outer.Error() != "n1: read Systems/1: 503" {
		t.Errorf("%v %s %s", outer, KindOf(outer), HintOf(outer))
	}
	if KindOf(errors.New("x")) != KindProtocol || HintOf(nil) != "" {
		t.Error("an error that is not ours has no kind of its own, and no hint")
	}
}
