package siteload

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// An entry is one entry of nodes, with what it inherits.
type entry struct{ own, defaults *value }

// get is the value that holds for a key of a section, or without one for a key
// outside of sections: the node's own, else the defaults'.
func (e entry) get(section, key string) *value {
	own, inherited := e.own, e.defaults
	if section != "" {
		own, inherited = own.get(section), inherited.get(section)
	}
	if v := own.get(key); v != nil {
		return v
	}
	return inherited.get(key)
}

// str is the text that holds for a key.
func (e entry) str(section, key, otherwise string) string {
	if s := e.get(section, key).str(); s != "" {
		return s
	}
	return otherwise
}

// number is the whole number that holds for a key.
func (e entry) number(section, key string, otherwise int) int {
	v := e.get(section, key)
	if v == nil || v.bad || v.kind != integer {
		return otherwise
	}
	n, err := strconv.Atoi(v.text)
	if err != nil {
		return otherwise
	}
	return n
}

// flag is the truth value that holds for a key.
func (e entry) flag(section, key string, otherwise bool) bool {
	v := e.get(section, key)
	if v == nil || v.bad || v.kind != boolean {
		return otherwise
	}
	return v.text == "true"
}

// entry adds the nodes that one entry of the file stands for.
func (r *resolver) entry(v *value, names []string) {
	e := entry{own: v, defaults: r.defaults}
	r.checkEntry(e)
	shared := r.node(e)
	values := r.spread(e, names)
	for i, name := range names {
		if !r.claim(v, name) {
			continue
		}
		n := ownSections(shared)
		n.Name = name
		for _, s := range values {
			s.put(r, &n, s.value, s.texts[i%len(s.texts)])
		}
		r.checkMachines(e, n)
		r.site.Nodes = append(r.site.Nodes, n)
	}
}

// claim notes that there is a node of the name, and reports a second one.
func (r *resolver) claim(v *value, name string) bool {
	at := r.keyPos(v)
	first, taken := r.nodeAt[name]
	switch {
	case !taken:
		r.nodeAt[name] = at
		return true
	case r.told[v]:
	case first == at:
		r.told[v] = true
		r.failKey(v, fmt.Sprintf("this name stands for %s more than once", name), "write ranges that do not overlap")
	default:
		r.failKey(v, fmt.Sprintf("%s is also the node at %s", name, first), "give each node one entry")
	}
	return false
}

// ownSections copies a node so that its sections are its own.
func ownSections(n site.Node) site.Node {
	if n.SSH != nil {
		ssh := *n.SSH
		n.SSH = &ssh
	}
	if n.Login != nil {
		login := *n.Login
		n.Login = &login
	}
	if n.Overlay != nil {
		overlay := *n.Overlay
		n.Overlay = &overlay
	}
	n.Console.Command = slices.Clone(n.Console.Command)
	return n
}

// node is what the nodes of an entry have in common.
func (r *resolver) node(e entry) site.Node {
	n := site.Node{
		Groups: texts(e.get("", "groups")),
		BMC: site.BMC{
			Username: e.str("bmc", "username", ""),
			Password: secretRef(e.get("bmc", "password")),
			TLS:      certificate(e.get("bmc", "tls")),
			Auth:     bmc.Auth(e.str("bmc", "auth", r.builtin.BMC.Auth)),
			Profile:  e.str("bmc", "profile", ""),

			NoKeepAlive: !e.flag("bmc", "keepAlive", true),
			OldCiphers:  e.flag("bmc", "oldCiphers", false),
		},
		SSH:     r.ssh(e),
		Login:   r.login(e),
		Console: console(e),
		Image:   e.str("", "image", ""),
		Reset:   site.Reset(e.str("", "reset", r.builtin.Reset)),
		Boot:    site.Boot{Within: duration(e.str("boot", "within", r.builtin.Boot.Within))},
		Overlay: r.overlay(e),
	}
	n.Pos = make(map[string]site.Pos, len(r.defaultPos)+8)
	maps.Copy(n.Pos, r.defaultPos)
	r.addPos(n.Pos, e.own)
	n.Pos[""] = r.keyPos(e.own)
	return n
}

// ssh is nil for a node without ssh.address: it is not reached.
func (r *resolver) ssh(e entry) *site.SSH {
	if e.get("ssh", "address") == nil {
		return nil
	}
	s := &site.SSH{
		Port:     e.number("ssh", "port", r.builtin.SSH.Port),
		User:     e.str("ssh", "user", r.builtin.SSH.User),
		Password: secretRef(e.get("ssh", "password")),
	}
	key := e.get("ssh", "hostKey")
	switch {
	case key == nil:
		s.HostKey.KnownHosts = r.path(e.own.get("ssh"), r.builtin.SSH.HostKey.KnownHosts)
	case key.str() == "console":
		s.HostKey.Console = true
	case key.kind == text:
		s.HostKey.Any = true
	default:
		s.HostKey.Fingerprint = key.get("fingerprint").str()
	}
	return s
}

// login is nil for a node that neither has nor inherits such a section, or is not
// reached over ssh: nothing would show whether it needs one. Its files are filled in
// by spread.
func (r *resolver) login(e entry) *site.Login {
	if e.get("", "login") == nil || e.get("ssh", "address") == nil {
		return nil
	}
	return &site.Login{
		Password: secretRef(e.get("login", "password")),
		Initial:  secretRef(e.get("login", "initial")),
		Commands: words(e.get("login", "commands")),
		Within:   duration(e.str("login", "within", r.builtin.Login.Within)),
	}
}

// consoleChoices are the keys of console of which one holds.
var consoleChoices = []string{"socket", "command", "way"}

// consoleChoice is the one that holds for an entry, or "": the entry's own one
// takes the place of any that it inherits.
func consoleChoice(e entry) string {
	for _, from := range []*value{e.own, e.defaults} {
		for _, key := range consoleChoices {
			if from.get("console").get(key) != nil {
				return key
			}
		}
	}
	return ""
}

// console is what a node's console is. Its paths, and the arguments of its
// command, are filled in by spread.
func console(e entry) site.Console {
	key := e.get("console", "hostKey")
	c := site.Console{
		Port:          e.number("console", "port", 0),
		OldAlgorithms: e.flag("console", "oldAlgorithms", false),
		HostKey:       site.HostKey{Any: key != nil && key.kind == text, Fingerprint: key.get("fingerprint").str()},
	}
	switch consoleChoice(e) {
	case "command":
		c.Command = words(e.get("console", "command"))
	case "way":
		c.Way = bmc.ConsoleWay(e.str("console", "way", ""))
	}
	return c
}

// secretRef says where a secret is. Its file is filled in by spread.
func secretRef(v *value) site.SecretRef {
	return site.SecretRef{Env: v.get("env").str(), Command: words(v.get("command"))}
}

// certificate says which certificate a BMC must show. Its file is filled in by
// spread.
func certificate(v *value) site.TLS {
	insecure := v.get("insecure")
	return site.TLS{
		Fingerprint: strings.ToLower(v.get("fingerprint").str()),
		Insecure:    insecure != nil && insecure.kind == boolean && insecure.text == "true",
	}
}

// overlay is nil when neither the node nor the defaults have such a section.
func (r *resolver) overlay(e entry) *site.Overlay {
	if e.get("", "overlay") == nil {
		return nil
	}
	o := &site.Overlay{
		Store:      e.str("overlay", "store", ""),
		Path:       e.str("overlay", "path", ""),
		Exclude:    texts(e.get("overlay", "exclude")),
		Keep:       e.number("overlay", "keep", r.builtin.Overlay.Keep),
		KeepWithin: duration(e.str("overlay", "keepWithin", "")),
		Every:      duration(e.str("overlay", "every", "")),
		Restore:    e.str("overlay", "restore", r.builtin.Overlay.Restore),
		Restart:    e.flag("overlay", "restart", false),
	}
	for _, v := range e.get("overlay", "repopulate").items() {
		if o.Repopulate == nil {
			o.Repopulate = map[string]site.Source{}
		}
		file := v.get("file")
		o.Repopulate[v.key] = site.Source{
			URL:   v.get("url").str(),
			Image: v.get("image").str(),
			File:  r.path(file, file.str()),
		}
	}
	return o
}

// words are the texts of a list.
func words(v *value) []string {
	var out []string
	for _, m := range v.items() {
		out = append(out, m.str())
	}
	return out
}

// texts are the texts of a list, each once.
func texts(v *value) []string {
	var out []string
	for _, s := range words(v) {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// units are the units of the schema's #Duration.
var units = map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}

// duration reads the schema's #Duration, which bounds it so that it fits.
func duration(s string) time.Duration {
	var sum time.Duration
	n := 0
	for i := range len(s) {
		if unit, ok := units[s[i]]; ok {
			sum, n = sum+time.Duration(n)*unit, 0
			continue
		}
		n = n*10 + int(s[i]-'0')
	}
	return sum
}

// sections are the keys of which a node knows the place, by section.
var sections = map[string][]string{
	"bmc":     {"address", "system", "username", "password", "tls", "auth", "profile", "keepAlive", "oldCiphers"},
	"ssh":     {"address", "port", "user", "identity", "password", "hostKey"},
	"console": {"socket", "command", "way", "port", "hostKey", "oldAlgorithms"},
	"login":   {"password", "initial", "authorizedKey", "commands", "within"},
	"boot":    {"within"},
	"overlay": {"store", "path", "exclude", "keep", "keepWithin", "every", "restore", "restart", "repopulate"},
}

// dotted are the same keys in the form "bmc.address".
var dotted = func() map[string][]string {
	out := map[string][]string{}
	for section, keys := range sections {
		for _, k := range keys {
			out[section] = append(out[section], section+"."+k)
		}
	}
	return out
}()

// addPos notes where the keys of a node, or of the defaults, stand.
func (r *resolver) addPos(pos map[string]site.Pos, node *value) {
	for _, v := range node.items() {
		pos[v.key] = r.pos(v)
		for _, w := range v.items() {
			if i := slices.Index(sections[v.key], w.key); i >= 0 {
				pos[dotted[v.key][i]] = r.pos(w)
			}
		}
	}
}
