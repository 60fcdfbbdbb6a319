package recording

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// A family is a kind of thing that is replaced.
type family int

const (
	serials family = iota
	hosts
	bmcs
	nodes
	users
	uuids
	hardware // MAC addresses and world wide names
	ipv4
	ipv6
)

// redactor replaces what names one machine among others. The same value has the
// same stand-in wherever it is, in the addresses of resources too: some BMCs
// have the serial number for the system's Id.
type redactor struct {
	stand map[family]map[string]string // by the value in lower case
	names map[string]string            // serial numbers, hosts, nodes and users that were learned
	words map[string]string            // those of them that are replaced wherever they stand as a word
	// inside are the serial numbers of the BMC whose exchanges are being written:
	// some have a host name that is made from it, ILOMXQ12345AB.
	inside []string
}

func newRedactor() *redactor {
	return &redactor{stand: map[family]map[string]string{}, names: map[string]string{}, words: map[string]string{}}
}

// redact replaces all of that in everything that is held, and writes it.
func (r *Recorder) redact() {
	r.mu.Lock()
	books := r.bmcs
	r.mu.Unlock()
	x := newRedactor()
	for _, b := range books {
		x.learnSite(b.info)
	}
	for _, b := range books {
		for i := range b.exchanges {
			x.learn(&b.exchanges[i])
		}
		b.serials, x.inside = x.inside, nil
	}
	for _, b := range books {
		if len(b.exchanges) == 0 {
			continue
		}
		x.inside = b.serials
		x.info(&b.info)
		if err := b.begin(b.info.BMC); err != nil {
			r.fail(err)
			continue
		}
		for _, e := range b.exchanges {
			x.exchange(&e)
			if err := b.write(e.file(), e); err != nil {
				r.fail(err)
				break
			}
		}
	}
}

// named is the stand-in of a value. Values are numbered as they come up.
func (x *redactor) named(f family, value string) string {
	key := strings.ToLower(value)
	if x.stand[f] == nil {
		x.stand[f] = map[string]string{}
	}
	if s, ok := x.stand[f][key]; ok {
		return s
	}
	s := standIn(f, len(x.stand[f])+1)
	x.stand[f][key] = s
	return s
}

// standIn is the nth of its family, in the same form as what it stands for, and
// from the ranges that are set aside for examples (RFC 5737, 2544, 3849).
func standIn(f family, n int) string {
	switch f {
	case serials:
		return fmt.Sprintf("SERIAL%04d", n)
	case hosts:
		return fmt.Sprintf("host-%d", n)
	case bmcs:
		return fmt.Sprintf("bmc-%d", n)
	case nodes:
		return fmt.Sprintf("node-%d", n)
	case users:
		return fmt.Sprintf("user-%d", n)
	case uuids:
		return fmt.Sprintf("00000000-0000-4000-8000-%012x", n)
	case hardware:
		return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", n>>24&0xff, n>>16&0xff, n>>8&0xff, n&0xff)
	case ipv4:
		if n < 255 {
			return fmt.Sprintf("192.0.2.%d", n)
		}
		return fmt.Sprintf("198.%d.%d.%d", 18+n>>16&1, n>>8&0xff, n&0xff)
	default:
		return fmt.Sprintf("2001:db8::%x", n)
	}
}

// know takes in a value of the family. It is replaced wherever it stands by
// itself if it cannot be taken for a word of the language: "storage" is also a
// part of addresses. Else it is replaced as the whole of a property and as the
// host of a URL.
func (x *redactor) know(f family, value string) {
	v := strings.ToLower(strings.TrimSpace(value))
	if f == hardware { // some BMCs name an interface by the digits alone
		v = bareDigits.Replace(v)
	}
	if v == "" || common.MatchString(v) || x.names[v] != "" || hasForm(v) {
		return
	}
	x.names[v] = x.named(f, v)
	if f == serials && len(v) >= longSerial {
		x.inside = append(x.inside, v)
	}
	if f == hardware {
		x.names[v] = x.address(v)
	}
	if strings.ContainsAny(v, letters) && strings.ContainsAny(v, "0123456789-.") || len(v) >= 6 && !strings.ContainsAny(v, letters) {
		x.words[v] = x.names[v]
	}
}

// longSerial is how long a serial number has to be to be looked for within words.
const longSerial = 8

const letters = "abcdefghijklmnopqrstuvwxyz"

// hasForm reports whether a value is known by its form.
func hasForm(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil || uuidForm.MatchString(s) || hardwareForm.MatchString(s)
}

// common are the values that BMCs have where nobody has set any, and words that
// addresses of resources are made of.
var common = regexp.MustCompile(`(?i)^(none|null|unknown|n/?a|not .*|to be filled.*|default.*|empty|0+|x+|-+|.|localhost|localdomain|system|self|node|server|redfish|v\d+|bmc|root|admin(istrator)?|operator|chassis|manager|base|i?lo ?\d?|idrac\d*|openbmc|(cd|dvd|usb|slot)-?\d*)$`)

// The properties by whose name their value is known.
var (
	serialKey = regexp.MustCompile(`(?i)(serial(number|no|num)?|servicetag|servicecode|assettag|assetnumber)$|^sku$`)
	hostKey   = regexp.MustCompile(`(?i)^(hostname|hostfqdn|fqdn|dnsname|domainname|dnsdomain.*|computername|nodename|servername|systemname|bmchostname|ilofqdn)$`)
	uuidKey   = regexp.MustCompile(`(?i)^(uuid|guid|serviceuuid|hostuuid)$`)
	macKey    = regexp.MustCompile(`(?i)^(permanent)?mac(address|addr)?$|^(node|port)?ww[np]n?(name)?$`)
	userKey   = regexp.MustCompile(`(?i)^(username|loginname|accountname|emailaddress|contact(name|info)?|createdby)$`)
	// keptKey are the properties that a row of profiles.cue is chosen by, and those
	// that hold versions, which look like addresses.
	keptKey = regexp.MustCompile(`(?i)^@odata\.(type|context|etag)$|^MessageId$|^(Vendor|Manufacturer|Product|Model|RedfishVersion)$|version|firmware`)
)

// The forms by which a value is known wherever it stands. Names of hosts are
// known as such in URLs.
var (
	uuidForm     = regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	hardwareForm = regexp.MustCompile(`(?i)[0-9a-f]{2}(:[0-9a-f]{2}){5,7}|[0-9a-f]{2}(-[0-9a-f]{2}){5,7}`)
	ipv4Form     = regexp.MustCompile(`\d{1,3}(\.\d{1,3}){3}`)
	ipv6Form     = regexp.MustCompile(`(?i)[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}(\.\d{1,3}){0,3}`)
	urlHost      = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]*://(?:[^/@\s"]*@)?([a-z0-9][a-z0-9._-]*)`)
	certificates = regexp.MustCompile(`-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----`)
)

// learnSite takes in the names that the site file has.
func (x *redactor) learnSite(i Info) {
	x.know(bmcs, hostname(i.BMC))
	for _, n := range i.Nodes {
		x.know(nodes, n.Name)
	}
}

// hostname is a host without its port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// learn takes in what an exchange calls a serial number, a host or a user.
func (x *redactor) learn(e *Exchange) {
	look := func(way []string, text string) string {
		if f, ok := familyOf(way); ok {
			x.know(f, text)
		}
		if keepsForm(way) {
			return text
		}
		for _, m := range urlHost.FindAllStringSubmatch(text, -1) {
			x.know(hosts, host(m[1]))
		}
		return text
	}
	rewrite(e.Asked, look)
	rewrite(e.Body, look)
	for _, text := range []string{e.Header["Location"], e.Text, e.Error} {
		look(nil, text)
	}
}

// host is the host of a URL as it is learned; those of schemas name nobody.
func host(name string) string {
	if name = strings.TrimRight(name, "."); strings.HasSuffix(strings.ToLower(name), "dmtf.org") {
		return ""
	}
	return name
}

func familyOf(way []string) (family, bool) {
	if len(way) == 0 {
		return 0, false
	}
	switch key := way[len(way)-1]; {
	case strings.Contains(key, "@"):
	case serialKey.MatchString(key):
		return serials, true
	case hostKey.MatchString(key):
		return hosts, true
	case userKey.MatchString(key):
		return users, true
	case uuidKey.MatchString(key):
		return uuids, true
	case macKey.MatchString(key):
		return hardware, true
	}
	return 0, false
}

func keepsForm(way []string) bool { return len(way) > 0 && keptKey.MatchString(way[len(way)-1]) }

func (x *redactor) info(i *Info) {
	i.BMC = strings.TrimPrefix(x.text("https://"+i.BMC), "https://")
	for k := range i.Nodes {
		n := &i.Nodes[k]
		n.Name = x.whole(nodes, n.Name)
		n.System, n.URL = x.text(n.System), x.text(n.URL)
	}
}

// whole replaces a value that is known to be of the family.
func (x *redactor) whole(f family, value string) string {
	v := strings.TrimSpace(value)
	switch {
	case hasForm(v):
		return x.text(value)
	case x.names[strings.ToLower(v)] != "":
		return x.names[strings.ToLower(v)]
	case common.MatchString(v) || v == "":
		return value
	}
	if f == hardware {
		return x.address(v)
	}
	return x.named(f, v)
}

func (x *redactor) exchange(e *Exchange) {
	property := func(way []string, text string) string {
		if keepsForm(way) {
			return text
		}
		if f, ok := familyOf(way); ok {
			return x.whole(f, text)
		}
		return x.text(text)
	}
	again := func(doc json.RawMessage) json.RawMessage {
		if len(doc) == 0 {
			return doc
		}
		w := rewriter{f: property, key: x.text}
		return w.value(doc)
	}
	e.URI = x.text(e.URI)
	e.Asked, e.Body = again(e.Asked), again(e.Body)
	for _, h := range []map[string]string{e.Sent, e.Header} {
		for k, v := range h {
			if k != "ETag" && k != "If-Match" && k != "Server" && k != "Date" {
				h[k] = x.text(v)
			}
		}
	}
	e.Text, e.Error = x.text(e.Text), x.text(e.Error)
}

// text replaces what a text holds, by its form and by what was learned.
func (x *redactor) text(s string) string {
	s = certificates.ReplaceAllString(s, "(certificate)")
	s = alone(uuidForm, "", s, func(v string) string { return x.like(v, x.named(uuids, v)) })
	s = alone(hardwareForm, ":", s, x.address)
	s = alone(ipv6Form, ":", s, func(v string) string { return x.ip(ipv6, v) })
	s = alone(ipv4Form, "", s, func(v string) string { return x.ip(ipv4, v) })
	if strings.Contains(s, "://") {
		return x.urlHosts(s)
	}
	return x.replaceWords(s)
}

// alone replaces what matches and is not a part of something longer: "e::f" of
// "Base::foo", or four of the five numbers of a version. joins are characters
// that, beside letters and digits, go on with what matches.
func alone(form *regexp.Regexp, joins, s string, f func(string) string) string {
	var b strings.Builder
	last := 0
	for _, m := range form.FindAllStringIndex(s, -1) {
		before, after := s[:m[0]], s[m[1]:]
		if n := len(before); n > 0 && (joined(before[n-1:], joins) || before[n-1] == '.' && n > 1 && joined(before[n-2:n-1], "")) ||
			after != "" && joined(after[:1], joins) || len(after) > 1 && after[0] == '.' && after[1] >= '0' && after[1] <= '9' {
			continue
		}
		b.WriteString(s[last:m[0]] + f(s[m[0]:m[1]]))
		last = m[1]
	}
	return b.String() + s[last:]
}

func joined(char, joins string) bool {
	return strings.Contains(letters+"0123456789"+joins, strings.ToLower(char))
}

// urlHosts replaces the hosts of URLs, and what was learned in between.
func (x *redactor) urlHosts(s string) string {
	var b strings.Builder
	last := 0
	for _, m := range urlHost.FindAllStringSubmatchIndex(s, -1) {
		if v := x.names[strings.ToLower(host(s[m[2]:m[3]]))]; v != "" {
			b.WriteString(x.replaceWords(s[last:m[2]]) + v)
			last = m[3]
		}
	}
	return b.String() + x.replaceWords(s[last:])
}

// like gives a stand-in the case of what it stands for.
func (x *redactor) like(value, standIn string) string {
	if strings.ToUpper(value) == value {
		return strings.ToUpper(standIn)
	}
	return standIn
}

// address replaces a hardware address, which has the same stand-in with colons,
// with dashes and with neither.
func (x *redactor) address(v string) string {
	s := x.like(v, x.named(hardware, bareDigits.Replace(v)))
	switch {
	case strings.Contains(v, ":"):
		return s
	case strings.Contains(v, "-"):
		return strings.ReplaceAll(s, ":", "-")
	}
	return bareDigits.Replace(s)
}

var bareDigits = strings.NewReplacer(":", "", "-", "")

// ip replaces an address, unless it names nobody: no address at all, the machine
// itself, a mask.
func (x *redactor) ip(f family, v string) string {
	a, err := netip.ParseAddr(v)
	if err != nil || a.Is4() != (f == ipv4) || a.IsUnspecified() || a == netip.IPv6LinkLocalAllNodes() || a.IsMulticast() ||
		a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback() || strings.HasPrefix(v, "255.") {
		return v
	}
	return x.named(f, a.String())
}

var wordForm = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._-]*`)

// replaceWords replaces the values that were learned, where they stand as words
// or as parts of one between dots, dashes and underscores.
func (x *redactor) replaceWords(s string) string {
	if v := x.words[strings.ToLower(strings.TrimSpace(s))]; v != "" {
		return v
	}
	return wordForm.ReplaceAllStringFunc(s, func(word string) string {
		if v := x.words[strings.ToLower(word)]; v != "" {
			return v
		}
		for _, serial := range x.inside {
			if i := strings.Index(strings.ToLower(word), serial); i >= 0 {
				return word[:i] + x.names[serial] + x.replaceWords(word[i+len(serial):])
			}
		}
		return x.replaceParts(word)
	})
}

func (x *redactor) replaceParts(word string) string {
	var ends []int // of the parts, where a separator or the end follows
	for i := range len(word) + 1 {
		if i == len(word) || strings.IndexByte("._-", word[i]) >= 0 {
			ends = append(ends, i)
		}
	}
	if len(ends) < 2 || len(ends) > maxParts {
		return word
	}
	start := 0
	for i := range ends {
		for j := len(ends) - 1; j >= i; j-- { // the longest first
			if v := x.words[strings.ToLower(word[start:ends[j]])]; v != "" {
				rest := word[ends[j]:]
				if rest == "" {
					return word[:start] + v
				}
				return word[:start] + v + rest[:1] + x.replaceWords(rest[1:])
			}
		}
		start = ends[i] + 1
	}
	return word
}

// maxParts bounds the work on one word.
const maxParts = 32
