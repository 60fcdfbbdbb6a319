package siteload

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/spelling"
)

// listed is how many names an error lists; of more it suggests one.
const listed = 8

// checkNames reports names that nothing defines, in a node or the defaults.
func (r *resolver) checkNames(node *value) {
	if v := node.get("image"); v.str() != "" && v.str() != site.NoImage {
		r.checkName(v, "images", "image", site.NoImage)
	}
	overlay := node.get("overlay")
	if v := overlay.get("store"); v.str() != "" {
		r.checkName(v, "stores", "store", "")
	}
	if v := node.get("bmc").get("profile"); v.str() != "" {
		r.checkProfile(v)
	}
	for _, v := range overlay.get("repopulate").items() {
		r.webURL(v.get("url"))
	}
}

// checkName looks a name up among the keys of a section of the file, of which
// each is one what. The name besides is allowed too.
func (r *resolver) checkName(v *value, section, what, besides string) {
	defined := r.root.get(section)
	if defined != nil && defined.bad {
		return
	}
	var names []string
	if defined != nil {
		for _, m := range defined.members {
			names = append(names, m.key)
		}
	}
	if slices.Contains(names, v.text) {
		return
	}
	hint := fmt.Sprintf("add %s: to the file with that %s in it", section, what)
	if len(names) > 0 {
		hint = namesHint(v.text, names, section, besides)
	} else if besides != "" {
		hint += ", or write " + besides
	}
	r.fail(v, fmt.Sprintf("%s is not one of the %s", quote(v.text), section), hint)
}

// namesHint says which names there are, or the nearest of many.
func namesHint(word string, names []string, section, besides string) string {
	if len(names) > listed {
		if near := spelling.Nearest(word, names); near != "" {
			return fmt.Sprintf("did you mean %s?", near)
		}
		return fmt.Sprintf("write the name of one of the %d %s", len(names), section)
	}
	if besides != "" {
		names = append(slices.Clone(names), besides)
	}
	if len(names) == 1 {
		return "write " + names[0]
	}
	return "write one of " + alternatives(names, "or")
}

// checkProfile looks a name up among the rows of profiles.cue.
func (r *resolver) checkProfile(v *value) {
	rows, err := Profiles()
	if err != nil {
		r.fail(v, "the BMC profiles cannot be read: "+err.Error(), "use a release of livecd-sync")
		return
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.Name
	}
	if !slices.Contains(names, v.text) {
		hint := "leave the key out"
		if len(names) > 0 {
			hint = namesHint(v.text, names, "BMC profiles", "")
		}
		r.fail(v, quote(v.text)+" is not one of the BMC profiles", hint)
	}
}

// checkEntry checks what an entry and the defaults say together.
func (r *resolver) checkEntry(e entry) {
	user, password := e.get("bmc", "username"), e.get("bmc", "password")
	switch {
	case user != nil && user.bad, password != nil && !password.sound():
	case user != nil && password == nil:
		r.fail(user, "there is no password to go with this user name", "write password: {env: NAME} beside it")
	case user == nil && password != nil:
		r.fail(password, "there is no user name to go with this password", "write username: NAME beside it")
	}
	r.checkLogin(e)
	overlay := e.own.get("overlay")
	if overlay == nil {
		overlay = e.defaults.get("overlay")
	}
	if overlay == nil || !overlay.sound() || e.get("ssh", "address") == nil || e.get("overlay", "store") != nil {
		return
	}
	line, column := overlay.keyPlace()
	r.failAt(line, column, overlay.path()+".store", "this key is missing, so there is no place for backups", "write store: and the name of one of the stores")
}

// checkLogin checks the first login of an entry whose nodes are reached over ssh.
func (r *resolver) checkLogin(e entry) {
	if e.get("ssh", "address") == nil {
		return
	}
	login := e.own.get("login")
	if login == nil {
		login = e.defaults.get("login")
	}
	if key := e.get("ssh", "hostKey"); login == nil && key.str() == "console" {
		r.fail(key, "nothing reads the host key over the console, for there is no login", "write login: {password: {env: NAME}} too")
	}
	if login == nil || !login.sound() || e.get("login", "password") != nil {
		return
	}
	line, column := login.keyPlace()
	r.failAt(line, column, login.path()+".password", "this key is missing: it is what root's password is changed to", "write password: {env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT, …]}")
}

// checkMachines reports two nodes that are one machine: what is done to the one
// would undo what is done to the other.
func (r *resolver) checkMachines(e entry, n site.Node) {
	if n.BMC.URL != "" {
		host := strings.ToLower(strings.TrimPrefix(n.BMC.URL, "https://"))
		r.checkMachine(e.own.get("bmc").get("address"), n, "BMC "+host+" "+n.BMC.System,
			host+" is the BMC", "give each its own, or tell the BMC's systems apart with bmc.system")
	}
	if n.SSH != nil && n.SSH.Address != "" {
		host := strings.ToLower(n.SSH.Address) + " port " + strconv.Itoa(n.SSH.Port)
		r.checkMachine(e.own.get("ssh").get("address"), n, host, host+" is the ssh address", "give each its own")
	}
}

func (r *resolver) checkMachine(v *value, n site.Node, machine, message, hint string) {
	at := r.pos(v)
	first, ok := r.machines[machine]
	switch {
	case !ok:
		r.machines[machine] = taken{n.Name, at}
	case r.told[v]:
	case first.at == at:
		r.told[v] = true
		r.fail(v, fmt.Sprintf("%s of both %s and %s", message, first.node, n.Name), "write a range in it, or "+hint)
	default:
		r.told[v] = true
		r.fail(v, fmt.Sprintf("%s of both %s and, at %s, %s", message, n.Name, first.at, first.node), hint)
	}
}

// bmcURL makes the URL of a BMC of its address, of which ranges are expanded.
func (r *resolver) bmcURL(v *value, text string) string {
	address := strings.TrimSuffix(strings.TrimPrefix(text, "https://"), "/")
	host, port := address, ""
	if end := strings.LastIndexByte(address, ']'); end >= 0 {
		host, port = address[1:end], address[end+1:]
	} else if colon := strings.IndexByte(address, ':'); colon >= 0 {
		host, port = address[:colon], address[colon:]
	}
	if !r.checkPort(v, strings.TrimPrefix(port, ":")) || r.host(v, host) == "" {
		return ""
	}
	return "https://" + address
}

// checkPort reports a port that there cannot be.
func (r *resolver) checkPort(v *value, port string) bool {
	if port == "" || isPort(port) {
		return true
	}
	r.fail(v, port+" is not a port", "write one from 1 to 65535")
	return false
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}

// host checks a host name or IP address, of which ranges are expanded. It
// returns "" for one that there cannot be.
func (r *resolver) host(v *value, text string) string {
	numeric := strings.ContainsRune(text, ':') || strings.Trim(text, "0123456789.") == ""
	_, err := netip.ParseAddr(text)
	switch {
	case numeric && err != nil:
		r.fail(v, quote(text)+" is not an IP address", "write for example 10.252.1.4 or 2001:db8::4")
	case !numeric && !isHostName(text):
		r.fail(v, quote(text)+" cannot be a host name", "write labels of 1 to 63 letters, digits, dashes and underscores with single dots between")
	default:
		return text
	}
	return ""
}

func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}

// webURL checks an http or https URL beyond what the schema can, and returns it.
func (r *resolver) webURL(v *value) string {
	if v.str() == "" {
		return ""
	}
	u, err := url.Parse(v.text)
	if err != nil {
		r.fail(v, quote(v.text)+" is not a URL", "write % as %25, and an IPv6 address in brackets")
		return ""
	}
	if !r.checkPort(v, u.Port()) || r.host(v, u.Hostname()) == "" {
		return ""
	}
	return v.text
}
