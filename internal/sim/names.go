package sim

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// nodeNames turns this machine's names in what a host's command writes back into
// the node's. It writes whole lines; flush writes the rest. Not safe for
// concurrent use.
type nodeNames struct {
	to   io.Writer
	back *strings.Replacer
	line []byte // what has no end yet
}

// maxLine is how much is held back while no line ends.
const maxLine = 64 << 10

func (v *view) nodeNames(to io.Writer) *nodeNames {
	v.mu.Lock()
	defer v.mu.Unlock()
	mounts := slices.Clone(v.mounts)
	slices.SortStableFunc(mounts, func(a, b bound) int { return len(b.dir) - len(a.dir) })
	var pairs []string
	for _, b := range mounts {
		pairs = append(pairs, b.dir+"/", strings.TrimSuffix(b.at, "/")+"/", b.dir, b.at)
	}
	return &nodeNames{to: to, back: strings.NewReplacer(pairs...)}
}

// Write takes the bytes and hands whole lines on.
func (n *nodeNames) Write(b []byte) (int, error) {
	n.line = append(n.line, b...)
	end := bytes.LastIndexAny(n.line, "\n\x00") + 1
	if len(n.line) > maxLine {
		end = len(n.line)
	}
	return len(b), n.hand(end)
}

func (n *nodeNames) flush() error { return n.hand(len(n.line)) }

func (n *nodeNames) hand(end int) error {
	if end == 0 {
		return nil
	}
	_, err := n.back.WriteString(n.to, string(n.line[:end]))
	n.line = append(n.line[:0], n.line[end:]...)
	return err
}
