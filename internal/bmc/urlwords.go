package bmc

import (
	"fmt"
	"strings"
)

// Words says the rules for people, a phrase each: "by http", "port 80 only". said
// are the schemes that the BMC itself lists, which go before the row's.
func (r URLRules) Words(said []string) []string {
	schemes, who := r.Schemes, ""
	if len(said) > 0 {
		schemes, who = said, " (by its own word)"
	}
	if len(schemes) == 0 {
		schemes = []string{"http", "https"}
	}
	out := []string{"by " + strings.Join(schemes, " or ") + who}
	add := func(holds bool, format string, args ...any) {
		if holds {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(r.DefaultPort, "from port 80 (https: 443) only")
	add(r.Address, "the server as an IP address")
	add(r.MinDirectories == 1, "in a directory, not at the server's root")
	add(r.MinDirectories > 1, "in %d directories or more", r.MinDirectories)
	add(r.Path != "", "a path of %s and / only", r.Path)
	add(len(r.Endings) > 0, "ending in %s", strings.Join(r.Endings, " or "))
	add(r.MaxURL > 0, "%d characters at most", r.MaxURL)
	add(r.MaxName > 0, "a name of %d characters at most", r.MaxName)
	return append(out, "no user, query or fragment")
}
