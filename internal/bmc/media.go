package bmc

import (
	"net/url"
	"path"
	"strings"
)

// ImageState is how what a slot shows compares with the image that is wanted
// (vendors.md 4.3 and 5.1).
type ImageState string

// The cases of ImageState.
const (
	ImageEmpty   ImageState = "empty"
	ImageMatch   ImageState = "match"
	ImageOther   ImageState = "other"
	ImageStale   ImageState = "stale"   // named but not inserted: eject, then insert
	ImageUnnamed ImageState = "unnamed" // inserted, and the BMC does not say what
)

// EmptyName reports whether a BMC's Image or ImageName stands for "nothing".
// AMI writes the string "None" (vendors.md 2.5).
func EmptyName(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "none", "n/a", "null":
		return true
	}
	return false
}

// Compare tells whether the slot holds the image at the URL want. An empty want
// stands for no image: the answer is then ImageEmpty or ImageOther, or
// ImageStale.
func (m Media) Compare(want string) ImageState {
	named := !EmptyName(m.Image) || !EmptyName(m.ImageName)
	switch {
	case !named && !m.Inserted:
		return ImageEmpty
	case named && !m.Inserted:
		return ImageStale
	case !named:
		return ImageUnnamed
	case want != "" && m.holds(want):
		return ImageMatch
	}
	return ImageOther
}

func (m Media) holds(want string) bool {
	if !EmptyName(m.Image) && SameImage(m.Image, want) {
		return true
	}
	// With no path to compare, the basename has to do.
	return EmptyName(m.Image) && m.ImageName == basename(want)
}

// SameImage reports whether a BMC's echo of an image is the image at the URL
// want, allowing for what BMCs do to it: the scheme lost, the basename doubled
// (AMI 13), the port dropped (xFusion), the host's case, slashes doubled
// (vendors.md 2.5 and 4.3).
func SameImage(echo, want string) bool {
	e, w := parseImage(echo), parseImage(want)
	if e.host == "" { // a bare name: nothing else is left to compare
		return e.path != "" && strings.TrimPrefix(e.path, "/") == basename(want)
	}
	if e.host != w.host || e.path != w.path {
		return false
	}
	return e.port == w.port || e.port == ""
}

type imageRef struct{ host, port, path string }

var defaultPorts = map[string]string{"http": "80", "https": "443"}

func parseImage(s string) imageRef {
	s = strings.TrimSpace(s)
	u, err := url.Parse(s)
	if err != nil || (u.Host == "" && !strings.HasPrefix(s, "//")) {
		return imageRef{path: s}
	}
	r := imageRef{host: strings.ToLower(u.Hostname()), port: u.Port(), path: path.Clean("/" + u.Path)}
	if r.port == defaultPorts[strings.ToLower(u.Scheme)] || (u.Scheme == "" && r.port == "80") {
		r.port = ""
	}
	if dir, base := path.Split(r.path); base != "" && path.Base(dir) == base {
		r.path = path.Clean(dir)
	}
	if u.RawQuery != "" {
		r.path += "?" + u.RawQuery
	}
	return r
}

func basename(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return path.Base(s)
	}
	return path.Base(u.Path)
}
