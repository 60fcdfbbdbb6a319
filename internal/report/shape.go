package report

import (
	"regexp"
	"strings"
)

// A shape is a sentence with what differs from node to node taken out, so that
// the same sentence about many nodes can be told once.
type shape struct {
	pattern string   // the sentence, each value replaced by a NUL and its class
	values  []string // what was taken out, in order
}

// The classes of what is taken out, by the word that stands in for values that
// differ.
var classes = map[byte]string{
	'n': "<node>",
	'h': "<host>",
	'a': "<address>",
	't': "<time>",
	'i': "<id>",
}

// variable matches, in order of preference, an identifier, a date, an address
// with or without a port, the authority of a URL, a duration, and a word that
// may be or hold the node's name.
var variable = regexp.MustCompile(
	`(?P<i>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|\bsha256:[0-9a-f]{64}\b|\b\d{8}T\d{6}Z?[\w.-]*)` +
		`|(?P<t>\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d|\b))?)` +
		`|(?P<a>\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9A-Fa-f:.%\w]+\](?::\d+)?)` +
		`|//(?P<h>[^/\s"',;)]+)` +
		`|(?P<d>\b(?:\d+(?:\.\d+)?(?:ns|µs|ms|s|m|h|d))+\b)` +
		`|(?P<w>[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*(?::\d+)?)`)

// classOf gives the class of each of variable's groups; words are looked at.
var classOf = map[string]byte{"i": 'i', "t": 't', "a": 'a', "h": 'h', "d": 't', "w": 0}

// own is what a sentence about a node may say that is the node's alone.
type own struct {
	node string
	ids  []string // of its boots and backups
}

// shapeOf takes out of a sentence about a node what is the node's own. Words
// that merely hold digits stay: "pit-1.6" and "pit-1.7" are not alike. The
// sentence is a clean one, and so holds no NUL.
func shapeOf(text string, o own) shape {
	for _, id := range o.ids {
		if before, after, found := strings.Cut(text, id); found {
			a, b := shapeOf(before, o), shapeOf(after, o)
			return shape{
				pattern: a.pattern + "\x00i" + b.pattern,
				values:  append(append(a.values, id), b.values...),
			}
		}
	}
	if !strings.ContainsAny(text, "0123456789/[") && !strings.Contains(text, o.node) {
		return shape{pattern: text} // most reasons: nothing in them is a node's own
	}
	return shapeOfWords(text, o.node)
}

func shapeOfWords(text, node string) shape {
	var s shape
	var b strings.Builder
	names, last := variable.SubexpNames(), 0
	for _, m := range variable.FindAllStringSubmatchIndex(text, -1) {
		for g := 1; g < len(names); g++ {
			from, to := m[2*g], m[2*g+1]
			if from < 0 {
				continue
			}
			class := classOf[names[g]]
			if class == 0 {
				class = ownName(text[from:to], node)
			}
			if class == 0 {
				continue
			}
			b.WriteString(text[last:from] + "\x00" + string(class))
			s.values = append(s.values, text[from:to])
			last = to
		}
	}
	b.WriteString(text[last:])
	s.pattern = b.String()
	return s
}

// ownName tells whether a word is the node's name ('n') or one made from it, as
// a BMC's often is (x3000c0s3b0 of x3000c0s3b0n0, ncn-m001-mgmt of ncn-m001).
func ownName(word, node string) byte {
	host, _, _ := strings.Cut(word, ":")
	first, _, _ := strings.Cut(host, ".")
	switch {
	case node == "":
		return 0
	case word == node:
		return 'n'
	case len(first) >= len(node)/2 && len(first) > 3 && strings.ContainsAny(first, "0123456789") && strings.HasPrefix(node, first),
		strings.HasPrefix(first, node) && !continues(first, node),
		strings.HasSuffix(first, "-"+node):
		return 'h'
	}
	return 0
}

// continues tells whether word goes on with a digit where node ends with one:
// n10 is not a name made from n1.
func continues(word, node string) bool {
	if len(word) <= len(node) {
		return false
	}
	c := word[len(node)]
	return c >= '0' && c <= '9'
}

// unshape writes one sentence for all of the shapes, which have one pattern in
// common: a value that is the same in all of them is written out, another
// becomes the word for its class. nodes stands for the names of nodes.
func unshape(shapes []shape, nodes string) string {
	var b strings.Builder
	rest := shapes[0].pattern
	for i := 0; ; i++ {
		before, after, found := strings.Cut(rest, "\x00")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		switch class := after[0]; {
		case same(shapes, i):
			b.WriteString(shapes[0].values[i])
		case class == 'n' && nodes != "":
			b.WriteString(nodes)
		default:
			b.WriteString(classes[class])
		}
		rest = after[1:]
	}
}

func same(shapes []shape, i int) bool {
	for _, s := range shapes[1:] {
		if s.values[i] != shapes[0].values[i] {
			return false
		}
	}
	return true
}
