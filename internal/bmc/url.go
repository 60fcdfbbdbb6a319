package bmc

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// URLRules say which image URLs a family of BMCs mounts. The zero value takes
// any http or https URL without a user, a query or a fragment.
type URLRules struct {
	Schemes []string `json:"schemes"` // empty: http and https
	// DefaultPort: the BMC connects to the scheme's port only.
	DefaultPort bool `json:"defaultPort"`
	// Address: the host has to be an IP address.
	Address bool `json:"address"`
	// Path is what one character of the path may be, as a regular expression's
	// class without its brackets; "" is any.
	Path string `json:"path"`
	// MinDirectories is how deep the image has to lie at least.
	MinDirectories int `json:"minDirectories"`
	// MaxURL and MaxName bound the URL and its last part, in characters; 0 does
	// not.
	MaxURL  int `json:"maxURL"`
	MaxName int `json:"maxName"`
	// Endings lists how the name may end, in lower case; empty: any way.
	Endings []string `json:"endings"`
}

// CheckURL tells whether a BMC of this family would refuse to mount from the
// URL, by the rules of its row. said are the schemes that the BMC itself lists,
// which go before the row's; nil if it lists none. The error is of kind url,
// names the rule and says what to write instead.
func (p Profile) CheckURL(image string, said []string) error {
	u, err := url.Parse(image)
	if err != nil || u.Hostname() == "" {
		return p.refuse(image, "is not a url", "write http://HOST/DIRECTORY/NAME.iso")
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return p.refuse(image, "has a user, a query or a fragment, which BMCs misread", "serve the image under a plain path")
	}
	for _, rule := range []func(URLRules, *url.URL) error{
		func(r URLRules, u *url.URL) error { return r.scheme(u, said) },
		URLRules.host, URLRules.depth, URLRules.letters, URLRules.ending, URLRules.length,
	} {
		if err := rule(p.URL, u); err != nil {
			b, _ := errors.AsType[*broken](err)
			return p.refuse(image, b.why, b.hint)
		}
	}
	return nil
}

// broken is a rule that a URL does not keep.
type broken struct{ why, hint string }

func (b *broken) Error() string { return b.why }

// scheme: what images are served by is http and https, so that a BMC that takes
// neither cannot be served at all.
func (r URLRules) scheme(u *url.URL, said []string) error {
	takes, who := r.Schemes, "this BMC mounts by "
	if len(said) > 0 {
		takes, who = said, "this BMC says that it mounts by "
	}
	scheme := strings.ToLower(u.Scheme)
	if len(takes) == 0 || slices.Contains(takes, scheme) {
		return nil
	}
	hint := "boot the node another way; livecd-sync mounts images from web servers only"
	for _, s := range []string{"https", "http"} {
		if slices.Contains(takes, s) {
			served := *u
			served.Scheme = s
			hint = "serve the image by " + s + ", and write " + served.String()
		}
	}
	return &broken{"uses " + scheme + ", and " + who + orList(takes) + " only", hint}
}

// orList names alternatives: "a, b or c".
func orList(all []string) string {
	last := len(all) - 1
	if last < 1 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

func (r URLRules) host(u *url.URL) error {
	port := defaultPorts[u.Scheme]
	switch {
	case r.DefaultPort && u.Port() != "" && u.Port() != port:
		return &broken{"has port " + u.Port() + ", and this BMC connects to port " + port + " only", "serve the image on port " + port}
	case r.Address && !isAddress(u.Hostname()):
		return &broken{"names its server, and this BMC wants an IP address", "write the server's address in place of " + u.Hostname()}
	}
	return nil
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func (r URLRules) depth(u *url.URL) error {
	if strings.Count(strings.Trim(u.Path, "/"), "/") < r.MinDirectories {
		return &broken{"lies at the server's root, where this BMC does not find it", "move it into a directory: /iso/NAME.iso"}
	}
	return nil
}

// letters: what is no plain letter of a path is told apart, so that a person
// sees which one it is.
func (r URLRules) letters(u *url.URL) error {
	if r.Path == "" {
		return nil
	}
	bad, err := regexp.Compile("[^/" + r.Path + "]")
	if err != nil {
		return nil //nolint:nilerr // a test wants the rows' classes to compile
	}
	if odd := bad.FindString(u.EscapedPath()); odd != "" {
		return &broken{fmt.Sprintf("has a %q in its path, which this BMC refuses", odd), "rename it with letters, digits, dots, dashes and underscores only"}
	}
	return nil
}

func (r URLRules) ending(u *url.URL) error {
	name := strings.ToLower(u.Path)
	if len(r.Endings) == 0 || slices.ContainsFunc(r.Endings, func(e string) bool { return strings.HasSuffix(name, e) }) {
		return nil
	}
	want := orList(r.Endings)
	return &broken{"does not end in " + want + ", by which this BMC tells what it is", "rename the image to end in " + want}
}

func (r URLRules) length(u *url.URL) error {
	whole, name := len(u.String()), len(path.Base(u.Path))
	switch {
	case r.MaxURL > 0 && whole > r.MaxURL:
		return &broken{fmt.Sprintf("is %d characters long, and this BMC takes %d", whole, r.MaxURL), "rename the image, or move it to a shorter path"}
	case r.MaxName > 0 && name > r.MaxName:
		return &broken{fmt.Sprintf("has a name of %d characters, and this BMC takes %d", name, r.MaxName), "rename the image"}
	}
	return nil
}

func (p Profile) refuse(image, why, hint string) error {
	if u, err := url.Parse(image); err == nil && u.User != nil {
		u.User = url.User("***")
		image = u.String()
	}
	return &Error{Op: "check the image's url", Kind: KindURL, Err: fmt.Errorf("%s %s (%s)", image, why, p.Name), Hint: hint}
}
