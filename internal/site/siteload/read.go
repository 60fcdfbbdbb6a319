package siteload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// What a site file may have, so that no file takes long to refuse.
const (
	maxDepth      = 32
	maxText       = 4096   // bytes of one key or value
	maxAliasNodes = 50_000 // values that aliases stand for, as in CUE's own decoder
)

// read parses the file's bytes. It returns nil when there is no tree to go on
// with; the errors are in f.errs.
func (f *file) read(data []byte) *value {
	if !f.checkBytes(data) {
		return nil
	}
	doc := f.parseYAML(data)
	if doc == nil {
		return nil
	}
	r := reader{file: f, anchors: map[*yaml.Node]*value{}}
	root := &value{}
	r.fill(root, doc, 0)
	return root
}

// checkBytes refuses what is no text, before a parser sees it.
func (f *file) checkBytes(data []byte) bool {
	if len(data) > MaxFileSize {
		f.failAt(0, 0, "", fmt.Sprintf("this file is larger than %d MiB", MaxFileSize>>20), "write ranges of nodes and defaults instead of each node")
		return false
	}
	line, column := int32(1), int32(1)
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			f.failAt(line, column, "", fmt.Sprintf("the byte 0x%02x is not UTF-8", data[i]), "save the file as UTF-8")
			return false
		case isControl(r):
			f.failAt(line, column, "", fmt.Sprintf("the control character %U has no place in a site file", r), "remove it")
			return false
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return true
}

// isControl tells what YAML does not allow in a file (YAML 1.2, 5.1).
func isControl(r rune) bool {
	switch {
	case r == '\t', r == '\n', r == '\r', r == 0x85:
		return false
	case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xfffe, r == 0xffff:
		return true
	}
	return false
}

// parseYAML returns the one document of the file, or nil.
func (f *file) parseYAML(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	doc, err := decodeYAML(dec)
	if errors.Is(err, io.EOF) {
		f.failAt(1, 1, "", "this file is empty", "write a site file; examples/site.yaml is one to start from")
		return nil
	}
	if err != nil {
		f.failYAML(data, err)
		return nil
	}
	second, err := decodeYAML(dec)
	switch {
	case err == nil:
		f.failAt(int32(second.Line), int32(second.Column), "", "a second YAML document begins here", "keep one site in one file, without a line of --- in it")
		return nil
	case !errors.Is(err, io.EOF):
		f.failYAML(data, err)
		return nil
	}
	return doc.Content[0]
}

// decodeYAML reads the next document. The parser reports some bad input by
// panicking; to a caller that is bad input too.
func decodeYAML(dec *yaml.Decoder) (doc *yaml.Node, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("yaml: %v", p)
		}
	}()
	doc = new(yaml.Node)
	if err := dec.Decode(doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 {
		return nil, errors.New("yaml: a document without content")
	}
	return doc, nil
}

// A reader turns YAML nodes into values.
type reader struct {
	*file
	anchors   map[*yaml.Node]*value // what has been read of what has an anchor
	aliasSize int
}

// fill makes v the value of a node. Its key and parent are already set.
func (r *reader) fill(v *value, n *yaml.Node, depth int) {
	v.line, v.column, v.size = int32(n.Line), int32(n.Column), 1
	if depth > maxDepth {
		r.spoil(v, fmt.Sprintf("this is nested more than %d deep", maxDepth), "write it flatter: a site file needs no more than 6 levels")
		return
	}
	if n.Kind != yaml.AliasNode && n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!str" {
		r.spoil(v, fmt.Sprintf("the YAML tag %s is not used in site files", quote(n.Tag)), "remove it")
		return
	}
	switch n.Kind {
	case yaml.ScalarNode:
		r.scalar(v, n)
	case yaml.AliasNode:
		r.alias(v, n, depth)
	case yaml.SequenceNode:
		r.sequence(v, n, depth)
	case yaml.MappingNode:
		r.mapping(v, n, depth)
	default: // a document is in no document
	}
	if n.Anchor != "" {
		r.anchors[n] = v
	}
}

// spoil reports an error at a value and makes the value stand for anything.
func (r *reader) spoil(v *value, message, hint string) {
	r.fail(v, message, hint)
	v.kind, v.bad, v.members = anything, true, nil
}

func (r *reader) sequence(v *value, n *yaml.Node, depth int) {
	v.kind = list
	v.members = make([]*value, 0, len(n.Content))
	for _, c := range n.Content {
		m := &value{parent: v}
		v.members = append(v.members, m)
		r.fill(m, c, depth+1)
		v.hold(m)
	}
}

func (r *reader) mapping(v *value, n *yaml.Node, depth int) {
	v.kind = mapping
	v.members = make([]*value, 0, len(n.Content)/2)
	seen := make(map[string]*value, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		m := r.member(v, n.Content[i])
		if m == nil {
			continue
		}
		if first := seen[m.key]; first != nil {
			r.failKey(m, "this key is given twice, first at "+string(r.at(first.keyLine, first.keyColumn)), "keep one of the two")
			continue
		}
		seen[m.key] = m
		v.members = append(v.members, m)
		r.fill(m, n.Content[i+1], depth+1)
		v.hold(m)
	}
}

// member starts a member of a mapping with its key, and returns nil when the
// key cannot be used.
func (r *reader) member(v *value, key *yaml.Node) *value {
	m := &value{parent: v, keyLine: int32(key.Line), keyColumn: int32(key.Column)}
	if key.Kind == yaml.AliasNode {
		key = key.Alias
	}
	m.key = key.Value
	var message, hint string
	switch tag := key.ShortTag(); {
	case key.Kind != yaml.ScalarNode:
		m.key = "?"
		message, hint = "a key has to be a plain text, not a list or mapping", "write KEY: VALUE, and put text with braces or brackets in quotes"
	case tag == "!!merge":
		message, hint = "merge keys are not used in site files", "write what nodes have in common under defaults"
	case tag != "!!str" && tag != "!!timestamp":
		message, hint = fmt.Sprintf("the key %s is %s to YAML", quote(m.key), tagNames[tag]), fmt.Sprintf("put it in quotes: %s", quote(m.key))
	case len(m.key) > maxText:
		message, hint = fmt.Sprintf("this key is longer than %d bytes", maxText), "write a shorter one"
	default:
		return m
	}
	r.failKey(m, message, hint)
	return nil
}

// tagNames says what YAML took an unquoted text for.
var tagNames = map[string]string{
	"!!int": "a number", "!!float": "a number", "!!bool": "true or false", "!!null": "an empty value", "!!binary": "binary data",
}

// alias makes v a copy of its anchor, in its own place. How much copies may add
// up to is bounded.
func (r *reader) alias(v *value, n *yaml.Node, depth int) {
	anchor := r.anchors[n.Alias]
	switch {
	case anchor == nil:
		// Its end has not been read yet, or it has been left out as an error.
		r.spoil(v, fmt.Sprintf("the anchor %s holds itself, or is in a part that cannot be used", quote(n.Value)), "write the value out instead of *"+n.Value)
		return
	case depth+int(anchor.height) > maxDepth:
		r.spoil(v, fmt.Sprintf("this is nested more than %d deep", maxDepth), "write it flatter: a site file needs no more than 6 levels")
		return
	case r.aliasSize+int(anchor.size) > maxAliasNodes:
		r.spoil(v, fmt.Sprintf("the aliases up to here stand for more than %d values", maxAliasNodes), "write what nodes have in common under defaults")
		return
	}
	r.aliasSize += int(anchor.size)
	v.copyOf(anchor)
}

// scalar reads a text, number, truth value or nothing, each as CUE's YAML
// decoder reads it, and refuses spellings that readers of YAML disagree on.
func (r *reader) scalar(v *value, n *yaml.Node) {
	v.text = n.Value
	if len(v.text) > maxText {
		v.text = ""
		r.spoil(v, fmt.Sprintf("this text is longer than %d bytes", maxText), "write a shorter one")
		return
	}
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		v.kind = text
	case "!!null":
		v.kind = null
	case "!!bool":
		v.kind, v.text = boolean, strings.ToLower(v.text)
	case "!!int", "!!float":
		r.number(v, tag == "!!int")
	default:
		r.spoil(v, fmt.Sprintf("the YAML tag %s is not used in site files", quote(tag)), "remove it")
	}
}

func (r *reader) number(v *value, whole bool) {
	digits := strings.TrimPrefix(v.text, "-")
	plain := digits == "0" || digits[0] >= '1' && digits[0] <= '9' && strings.Trim(digits, "0123456789") == ""
	switch {
	case whole && plain:
		v.kind = integer
	case whole || strings.Trim(v.text, "+-0123456789_") == "":
		r.spoil(v, fmt.Sprintf("%s is a number that readers of YAML disagree on", quote(v.text)), "write it in plain decimal digits, or put it in quotes if it is text")
	default:
		v.kind = float
	}
}
