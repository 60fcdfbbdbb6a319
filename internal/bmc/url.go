package bmc

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var plainURLPath = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)

// CheckURL tells whether a BMC of this family would refuse to mount from the
// URL, by the rules of its row. The error is of kind url, names the rule and
// says what to write instead.
func (p Profile) CheckURL(image string) error {
	u, err := url.Parse(image)
	if err != nil || u.Host == "" {
		return p.refuse(image, "is not a url", "write http://HOST/DIRECTORY/NAME.iso")
	}
	if len(p.Schemes) > 0 && !slices.Contains(p.Schemes, u.Scheme) {
		return p.refuse(image, "uses "+u.Scheme+", and this BMC mounts by "+strings.Join(p.Schemes, " or ")+" only",
			"serve the image by "+strings.Join(p.Schemes, " or "))
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return p.refuse(image, "has a user, a query or a fragment, which BMCs misread", "serve the image under a plain path")
	}
	if !p.PlainURL {
		return p.checkLength(image)
	}
	switch dirs := strings.Count(strings.Trim(u.Path, "/"), "/"); {
	case u.Port() != "" && u.Port() != defaultPorts[u.Scheme]:
		return p.refuse(image, "has port "+u.Port()+", and this BMC connects to the default port only", "serve the image on port "+defaultPorts[u.Scheme])
	case dirs < 1:
		return p.refuse(image, "lies at the server's root, where this BMC does not find it", "move it into a directory: /iso/NAME.iso")
	case !plainURLPath.MatchString(u.EscapedPath()):
		return p.refuse(image, "has characters that this BMC refuses", "rename the image with letters, digits, dots and dashes")
	case !strings.HasSuffix(strings.ToLower(u.Path), ".iso"):
		return p.refuse(image, "does not end in .iso", "rename the image to end in .iso")
	}
	return p.checkLength(image)
}

func (p Profile) checkLength(image string) error {
	if p.MaxURL > 0 && len(image) > p.MaxURL {
		return p.refuse(image, fmt.Sprintf("is %d characters long, and this BMC takes %d", len(image), p.MaxURL),
			"rename the image, or move it to a shorter path")
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
