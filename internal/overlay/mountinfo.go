package overlay

import (
	"strings"
)

// A mount is one line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	point  string
	fstype string
	source string
	super  string // the superblock's options, still escaped
}

// parseMounts reads mountinfo; lines it cannot read are left out.
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		before, after, found := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 6 || len(tail) < 2 {
			continue
		}
		m := mount{point: unescape(fields[4]), fstype: tail[0], source: unescape(tail[1])}
		if len(tail) > 2 {
			m.super = tail[2]
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// rootMount returns the topmost mount of "/": the last line wins, because later
// mounts cover earlier ones.
func rootMount(mounts []mount) mount {
	var root mount
	for _, m := range mounts {
		if m.point == "/" {
			root = m
		}
	}
	return root
}

// option is one name=value of a superblock's options, decoded.
type option struct{ name, value string }

// options splits the options. The kernel escapes a comma within a value as \054,
// so that every comma it prints ends an option (seq_show_option).
func (m mount) options() []option {
	var opts []option
	for word := range strings.SplitSeq(m.super, ",") {
		name, value, _ := strings.Cut(word, "=")
		opts = append(opts, option{unescape(name), unescape(value)})
	}
	return opts
}

// unescape decodes the kernel's octal escapes: \040 is a space.
func unescape(s string) string { return decode(s, "", "") }

// decode undoes octal escapes, and those that are a letter each.
func decode(s, letters, controls string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, ok := octal(s[i:]); ok {
			b.WriteByte(c)
			i += 3
			continue
		}
		if s[i] == '\\' && i+1 < len(s) {
			if at := strings.IndexByte(letters, s[i+1]); at >= 0 {
				b.WriteByte(controls[at])
				i++
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func octal(s string) (byte, bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s[1:4]) {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n*8 + int(c-'0')
	}
	return byte(n), n < 256
}

// splitLayers splits lowerdir= at its colons; a colon or a backslash within a
// name has a backslash before it. Data-only layers, after "::", are listed too.
func splitLayers(s string) []string {
	var layers []string
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			layers = append(layers, b.String())
		}
		b.Reset()
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == ':':
			flush()
		default:
			b.WriteByte(s[i])
		}
	}
	flush()
	return layers
}
