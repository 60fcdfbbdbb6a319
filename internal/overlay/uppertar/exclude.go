package uppertar

import "strings"

// patterns are those of tar --exclude, with GNU tar's defaults: not anchored,
// and wildcards match slashes.
type patterns []string

// match reports whether name, or a directory that leads to it, is left out.
func (p patterns) match(name string) bool {
	for _, pattern := range p {
		for at := 0; ; {
			if fnmatch(pattern, name[at:]) {
				return true
			}
			next := strings.IndexByte(name[at:], '/')
			if next < 0 {
				break
			}
			at += next + 1
		}
	}
	return false
}

// fnmatch is fnmatch(3) with FNM_LEADING_DIR, in the C locale: what is matched
// may be followed by a slash and anything. Of what a bracket expression may hold,
// collating symbols and equivalence classes are not known.
func fnmatch(pattern, name string) bool {
	// Where the last star was, and how much it has taken: no other has to be
	// tried anew.
	star, taken := -1, 0
	p, n := 0, 0
	for {
		if p == len(pattern) && (n == len(name) || name[n] == '/') {
			return true
		}
		if p < len(pattern) && pattern[p] == '*' {
			star, taken = p, n
			p++
			continue
		}
		if p < len(pattern) && n < len(name) {
			if width, ok := matchOne(pattern[p:], name[n]); ok {
				p, n = p+width, n+1
				continue
			}
		}
		if star < 0 || taken == len(name) {
			return false
		}
		taken++
		p, n = star+1, taken
	}
}

// matchOne matches one character against the head of a pattern, and tells how
// long that is.
func matchOne(pattern string, c byte) (width int, ok bool) {
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		if width, ok, valid := matchBracket(pattern, c); valid {
			return width, ok
		}
	case '\\':
		if len(pattern) == 1 {
			return 1, false
		}
		return 2, pattern[1] == c
	}
	return 1, pattern[0] == c
}

// matchBracket matches a bracket expression; one that does not end is none.
func matchBracket(pattern string, c byte) (width int, ok, valid bool) {
	i := 1
	negated := i < len(pattern) && (pattern[i] == '!' || pattern[i] == '^')
	if negated {
		i++
	}
	for first := true; ; first = false {
		if i >= len(pattern) {
			return 0, false, false
		}
		if pattern[i] == ']' && !first {
			return i + 1, ok != negated, true
		}
		if class, length := className(pattern[i:]); length > 0 {
			ok = ok || inClass(class, c)
			i += length
			continue
		}
		low, length := bracketChar(pattern[i:])
		i += length
		high := low
		if i+1 < len(pattern) && pattern[i] == '-' && pattern[i+1] != ']' {
			high, length = bracketChar(pattern[i+1:])
			i += 1 + length
		}
		ok = ok || low <= c && c <= high
	}
}

func bracketChar(s string) (c byte, length int) {
	if s[0] == '\\' && len(s) > 1 {
		return s[1], 2
	}
	return s[0], 1
}

// className returns what "[:name:]" at the beginning of s names.
func className(s string) (name string, length int) {
	if !strings.HasPrefix(s, "[:") {
		return "", 0
	}
	end := strings.Index(s, ":]")
	if end < 2 {
		return "", 0
	}
	return s[2:end], end + 2
}

func inClass(name string, c byte) bool {
	lower, upper, digit := c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9'
	switch name {
	case "lower":
		return lower
	case "upper":
		return upper
	case "alpha":
		return lower || upper
	case "digit":
		return digit
	case "alnum":
		return lower || upper || digit
	case "xdigit":
		return digit || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
	case "space":
		return c == ' ' || c >= '\t' && c <= '\r'
	case "blank":
		return c == ' ' || c == '\t'
	case "cntrl":
		return c < ' ' || c == 0x7f
	case "print":
		return c >= ' ' && c < 0x7f
	case "graph":
		return c > ' ' && c < 0x7f
	case "punct":
		return c > ' ' && c < 0x7f && !lower && !upper && !digit
	}
	return false
}
