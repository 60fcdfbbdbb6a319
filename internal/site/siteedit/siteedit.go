package siteedit

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// A Draft is a site file's text while changes of it are being collected. It is
// for one goroutine.
type Draft struct {
	name    string
	text    []byte
	starts  []int                 // of the lines
	entries map[string]*yaml.Node // the values under nodes, by the place of their keys
	edits   []edit
	wanted  map[string]site.TLS // of the nodes that change, by name
}

// An edit puts new text in the place of a part of the old.
type edit struct {
	from, to int
	text     string
}

// errByHand is a place that is not changed here.
var errByHand = errors.New("it is written in a way that is not changed automatically")

// New begins with the text of the site file of that name, which must be valid.
func New(name string, text []byte) (*Draft, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	d := &Draft{name: name, text: text, starts: []int{0}, entries: map[string]*yaml.Node{}, wanted: map[string]site.TLS{}}
	for i, b := range text {
		if b == '\n' {
			d.starts = append(d.starts, i+1)
		}
	}
	if len(doc.Content) != 1 {
		return nil, errByHand
	}
	nodes := member(doc.Content[0], "nodes")
	if nodes == nil || nodes.Kind != yaml.MappingNode {
		return nil, errByHand
	}
	for i := 0; i+1 < len(nodes.Content); i += 2 {
		d.entries[place(nodes.Content[i].Line, nodes.Content[i].Column)] = nodes.Content[i+1]
	}
	return d, nil
}

// Fingerprint has a node's own entry accept the certificate with the
// fingerprint. The entry must stand for that node alone.
func (d *Draft) Fingerprint(n site.Node, fingerprint string) error {
	err := d.set(n, `fingerprint: "`+fingerprint+`"`)
	if err == nil {
		d.wanted[n.Name] = site.TLS{Fingerprint: fingerprint}
	}
	return err
}

// Pins has the entry of all of the nodes accept the certificates that a file has
// the fingerprints of. path is the file as the site file is to name it, absolute
// the same as siteload makes it of that.
func (d *Draft) Pins(nodes []site.Node, path, absolute string) error {
	err := d.set(nodes[0], "pins: "+word(path))
	if err != nil {
		return err
	}
	for _, n := range nodes {
		d.wanted[n.Name] = site.TLS{Pins: absolute}
	}
	return nil
}

// word is a path as YAML: bare where it can be taken for nothing else.
func word(path string) string {
	bare := strings.ContainsAny(path, "/.") && strings.IndexFunc(path, func(r rune) bool {
		return r > 'z' || !strings.ContainsRune("/._-", r) && (r < '0' || r > '9' && r < 'A' || r > 'Z' && r < 'a')
	}) < 0
	if bare && (path[0] == '/' || path[0] >= 'A') {
		return path
	}
	return strconv.Quote(path)
}

// Changed reports whether there is anything to change.
func (d *Draft) Changed() bool { return len(d.edits) > 0 }

// Bytes is the text with all changes made. It is an error if that is no valid
// site file, or says anything else than before but for what was to change.
func (d *Draft) Bytes() ([]byte, error) {
	edits := slices.SortedFunc(slices.Values(d.edits), func(a, b edit) int { return a.from - b.from })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		if e.from < at {
			return nil, fmt.Errorf("two changes are in one place: %w", errByHand)
		}
		out.Write(d.text[at:e.from])
		out.WriteString(e.text)
		at = e.to
	}
	out.Write(d.text[at:])
	return out.Bytes(), d.check(out.Bytes())
}

// check compares what the new text says with what the old one did.
func (d *Draft) check(text []byte) error {
	before, err := siteload.Parse(d.name, d.text)
	if err != nil {
		return err
	}
	after, err := siteload.Parse(d.name, text)
	if err != nil {
		return fmt.Errorf("the changed file would not be valid: %w", err)
	}
	for i := range before.Nodes {
		if want, ok := d.wanted[before.Nodes[i].Name]; ok {
			before.Nodes[i].BMC.TLS = want
		}
	}
	if !reflect.DeepEqual(said(before), said(after)) {
		return fmt.Errorf("the change would reach more than it should, as through an alias: %w", errByHand)
	}
	return nil
}

// said is a site without where things stand.
func said(s *site.Site) *site.Site {
	c := *s
	c.Digest, c.Nodes = "", slices.Clone(s.Nodes)
	for i := range c.Nodes {
		c.Nodes[i].Pos = nil
	}
	c.Images, c.Stores = map[string]site.Image{}, map[string]site.Store{}
	for k, v := range s.Images {
		v.Pos = ""
		c.Images[k] = v
	}
	for k, v := range s.Stores {
		v.Pos = ""
		c.Stores[k] = v
	}
	return &c
}

// set writes bmc.tls of the entry that the node is from.
func (d *Draft) set(n site.Node, tls string) error {
	entry := d.entry(n)
	bmc := member(entry, "bmc")
	if bmc == nil || bmc.Kind != yaml.MappingNode {
		return errByHand
	}
	e, err := d.edit(bmc, tls)
	if err != nil {
		return err
	}
	d.edits = append(d.edits, e)
	return nil
}

func (d *Draft) edit(bmc *yaml.Node, tls string) (edit, error) {
	if old := member(bmc, "tls"); old != nil {
		return d.replace(old, tls)
	}
	address := member(bmc, "address")
	if address == nil {
		return edit{}, errByHand
	}
	end, err := d.end(address)
	if err != nil {
		return edit{}, err
	}
	if bmc.Style&yaml.FlowStyle != 0 {
		return edit{end, end, ", tls: {" + tls + "}"}, nil
	}
	return d.newLine(bmc, end, "tls: {"+tls+"}")
}

// replace puts what is to be accepted in the place of what is. The schema has
// exactly one key there.
func (d *Draft) replace(old *yaml.Node, tls string) (edit, error) {
	from, err := d.offset(old)
	if err != nil {
		return edit{}, err
	}
	if old.Kind == yaml.AliasNode {
		to, err := d.end(old)
		return edit{from, to, "{" + tls + "}"}, err
	}
	if old.Kind != yaml.MappingNode || len(old.Content) != 2 {
		return edit{}, errByHand
	}
	if from, err = d.offset(old.Content[0]); err != nil {
		return edit{}, err
	}
	to, err := d.end(old.Content[1])
	return edit{from, to, tls}, err
}

// newLine adds a line to a mapping, after the line that at is in.
func (d *Draft) newLine(mapping *yaml.Node, at int, text string) (edit, error) {
	first, err := d.offset(mapping.Content[0])
	if err != nil {
		return edit{}, err
	}
	indent := d.text[d.starts[mapping.Content[0].Line-1]:first]
	if strings.Trim(string(indent), " ") != "" {
		return edit{}, errByHand
	}
	rest := d.text[at:]
	eol := bytes.IndexByte(rest, '\n')
	if eol < 0 {
		return edit{len(d.text), len(d.text), "\n" + string(indent) + text + "\n"}, nil
	}
	line, ending := rest[:eol], "\n"
	if strings.HasSuffix(string(line), "\r") {
		line, ending = line[:eol-1], "\r\n"
	}
	if t := strings.TrimSpace(string(line)); t != "" && t[0] != '#' {
		return edit{}, errByHand
	}
	return edit{at + eol + 1, at + eol + 1, string(indent) + text + ending}, nil
}

// entry is the value of the entry that the node is from, by the place of its
// key.
func (d *Draft) entry(n site.Node) *yaml.Node {
	at := strings.Split(string(n.Pos[""]), ":")
	if len(at) < 3 {
		return nil
	}
	return d.entries[strings.Join(at[len(at)-2:], ":")]
}

func place(line, column int) string { return fmt.Sprintf("%d:%d", line, column) }

// member is the value of a key of a mapping, or nil.
func member(m *yaml.Node, name string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name && m.Content[i].Kind == yaml.ScalarNode {
			return m.Content[i+1]
		}
	}
	return nil
}

// offset is where a node begins in the text. YAML counts characters.
func (d *Draft) offset(n *yaml.Node) (int, error) {
	if n.Line < 1 || n.Line > len(d.starts) {
		return 0, errByHand
	}
	at := d.starts[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(d.text[at:])
		if size == 0 || d.text[at] == '\n' {
			return 0, errByHand
		}
		at += size
	}
	return at, nil
}

// end is where a scalar or an alias ends in the text. It is an error unless the
// text there is what the parser read.
func (d *Draft) end(n *yaml.Node) (int, error) {
	at, err := d.offset(n)
	if err != nil {
		return 0, err
	}
	rest := string(d.text[at:])
	raw := ""
	switch {
	case n.Kind == yaml.AliasNode && strings.HasPrefix(rest, "*"+n.Value):
		return at + 1 + len(n.Value), nil
	case n.Kind != yaml.ScalarNode || n.Anchor != "" || rest == "":
		return 0, errByHand
	case rest[0] == '"':
		raw = quoted(rest, '"', `\`)
	case rest[0] == '\'':
		raw = quoted(rest, '\'', "'")
	case strings.HasPrefix(rest, n.Value):
		raw = n.Value
	}
	var back string
	if raw == "" || strings.Contains(raw, "\n") || yaml.Unmarshal([]byte(raw), &back) != nil || back != n.Value {
		return 0, errByHand
	}
	return at + len(raw), nil
}

// quoted is the quoted text that s begins with; escape is what takes the meaning
// from the character after it. "" if it has no end.
func quoted(s string, quote byte, escape string) string {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == escape[0] && i+1 < len(s) && (escape[0] != quote || s[i+1] == quote):
			i++
		case s[i] == quote:
			return s[:i+1]
		}
	}
	return ""
}
