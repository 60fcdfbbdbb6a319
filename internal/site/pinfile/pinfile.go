// Package pinfile reads and changes files of fingerprints: which certificate
// each of many BMCs must show. A site file names one as bmc.tls: {pins: FILE},
// and `livecd-sync trust` writes it.
//
// A line is a BMC, as host or host:port, and the SHA-256 of its certificate:
//
//	# rack 3
//	x3000c0s3b0 sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//
// Empty lines and lines that begin with # are left as they are.
package pinfile

import (
	"bytes"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// MaxSize is how many bytes a file may have: over 100,000 lines.
const MaxSize = 16 << 20

// A File is a file's text and what it says. It is not safe for concurrent use
// while it is being changed.
type File struct {
	lines []line
}

type line struct {
	text      string // as it is written, without its line break
	bmc, pin  string // "" for a line that says nothing
	from, end int    // of the fingerprint in text
}

var entry = regexp.MustCompile(`^[ \t]*([^ \t#]+)[ \t]+(sha256:[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31})[ \t]*(?:#.*)?$`)

// Parse reads a file. An error names the line.
func Parse(data []byte) (*File, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("it is larger than %d MiB", MaxSize>>20)
	}
	f := &File{}
	seen := map[string]int{}
	for text := range bytes.Lines(data) {
		l := line{text: strings.TrimRight(string(text), "\r\n")}
		f.lines = append(f.lines, l)
		if t := strings.TrimSpace(l.text); t == "" || t[0] == '#' {
			continue
		}
		if err := f.entry(&f.lines[len(f.lines)-1], seen); err != nil {
			return nil, fmt.Errorf("line %d: %w", len(f.lines), err)
		}
	}
	return f, nil
}

func (f *File) entry(l *line, seen map[string]int) error {
	m := entry.FindStringSubmatchIndex(l.text)
	if m == nil {
		return fmt.Errorf("want a BMC and a fingerprint, as x3000c0s3b0 sha256:… with 64 hexadecimal digits")
	}
	l.bmc, l.from, l.end = name(l.text[m[2]:m[3]]), m[4], m[5]
	l.pin = Normal(l.text[l.from:l.end])
	if first := seen[l.bmc]; first != 0 {
		return fmt.Errorf("%s has a fingerprint already, in line %d", l.bmc, first)
	}
	seen[l.bmc] = len(f.lines)
	return nil
}

// Normal is a fingerprint in the one form that is compared: lower case, without
// colons between the digits.
func Normal(pin string) string {
	digits := strings.TrimPrefix(strings.ToLower(pin), "sha256:")
	return "sha256:" + strings.ReplaceAll(digits, ":", "")
}

// Name is how a file names the BMC at a URL: its host, and its port unless that
// is 443.
func Name(bmcURL string) string {
	u, err := url.Parse(bmcURL)
	if err != nil {
		return ""
	}
	return name(u.Host)
}

func name(host string) string { return strings.TrimSuffix(strings.ToLower(host), ":443") }

// Pin is the fingerprint of the BMC of that name, "" if there is none.
func (f *File) Pin(bmc string) string {
	for _, l := range f.lines {
		if l.bmc == bmc && bmc != "" {
			return l.pin
		}
	}
	return ""
}

// Pins are all fingerprints, by the names of their BMCs.
func (f *File) Pins() map[string]string {
	pins := make(map[string]string, len(f.lines))
	for _, l := range f.lines {
		if l.bmc != "" {
			pins[l.bmc] = l.pin
		}
	}
	return pins
}

// New is what a file begins with.
func New() *File {
	return &File{lines: []line{{text: "# Which certificate each BMC must show; livecd-sync trust adds to it."}}}
}

// Set gives a BMC a fingerprint: in its line, or in a new one at the end.
func (f *File) Set(bmc, pin string) {
	for i := range f.lines {
		if l := &f.lines[i]; l.bmc == bmc {
			l.text = l.text[:l.from] + pin + l.text[l.end:]
			l.pin, l.end = Normal(pin), l.from+len(pin)
			return
		}
	}
	f.lines = append(f.lines, line{text: bmc + " " + pin, bmc: bmc, pin: Normal(pin), from: len(bmc) + 1, end: len(bmc) + 1 + len(pin)})
}

// Bytes is the file's text, with a line break at its end.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
