package redfish

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// identity says which BMC this is, from whichever resource tells.
func identity(root rootDoc, sys found[systemDoc], managers []found[managerDoc]) bmc.Identity {
	id := bmc.Identity{
		Vendor: sys.doc.Manufacturer.v, Product: root.Product.v,
		Model: strings.TrimSpace(sys.doc.Model.v), System: sys.uri,
	}
	if id.Vendor == "" {
		id.Vendor = root.Vendor.v
	}
	for _, m := range managers {
		if m.doc.Firmware.v == "" {
			continue
		}
		model := strings.TrimSpace(m.doc.Model.v)
		if model == "" {
			model = productOf(m.doc.Firmware.v)
		}
		// AMI's manager has a number for a model (vendors.md 2.1).
		if strings.Trim(model, "0123456789.- ") != "" {
			id.Product = model
		}
		id.Firmware = bareVersion(m.doc.Firmware.v, model)
		break
	}
	return id
}

// bareVersion takes the product's name off: "iLO 5 v2.46" is "2.46".
func bareVersion(version, product string) string {
	v := strings.TrimSpace(version)
	if product != "" && len(v) > len(product) && strings.EqualFold(v[:len(product)], product) {
		v = strings.TrimSpace(v[len(product):])
	}
	if len(v) > 1 && (v[0] == 'v' || v[0] == 'V') && v[1] >= '0' && v[1] <= '9' {
		v = v[1:]
	}
	return v
}

// productIn is what a version is of, where it names that: of an early iLO 5 only
// "iLO 5 v1.45" says which iLO it is.
var productIn = regexp.MustCompile(`^(.*[^ ]) +[vV][0-9]`)

func productOf(version string) string {
	if m := productIn.FindStringSubmatch(strings.TrimSpace(version)); m != nil {
		return m[1]
	}
	return ""
}

// chooseProfile picks the row: the one that the site file names, else the first
// that matches.
func (c *Client) chooseProfile(root rootDoc, sys found[systemDoc], managers []found[managerDoc], id bmc.Identity) (bmc.Profile, error) {
	tells := tellsOf(root, sys, managers, id)
	for _, p := range c.profiles {
		if c.wanted != "" {
			if p.Name == c.wanted {
				return p, nil
			}
			continue
		}
		ok, err := tells.match(p.Match)
		if err != nil {
			return bmc.Profile{}, unsupported("choose the profile", "the row "+p.Name+" has a pattern that is none: "+err.Error(), "correct profiles.cue")
		}
		if ok {
			return p, nil
		}
	}
	return bmc.Profile{}, unsupported("choose the profile", "no profile is for this BMC", "write bmc.profile: generic")
}

// tells is all that a BMC says of who it is.
type tells struct{ oem, vendor, product, firmware, model []string }

func tellsOf(root rootDoc, sys found[systemDoc], managers []found[managerDoc], id bmc.Identity) tells {
	t := tells{
		oem:      slices.Collect(maps.Keys(root.Oem.v)),
		vendor:   []string{root.Vendor.v, id.Vendor},
		product:  []string{root.Product.v, id.Product, root.ID.v},
		firmware: []string{id.Firmware},
		model:    []string{id.Model},
	}
	t.oem = slices.AppendSeq(t.oem, maps.Keys(sys.doc.Oem.v))
	for _, m := range managers {
		t.oem = slices.AppendSeq(t.oem, maps.Keys(m.doc.Oem.v))
	}
	t.vendor = slices.Concat(t.vendor, t.oem)
	return t
}

func (t tells) match(m bmc.Match) (bool, error) {
	for _, want := range []struct {
		pattern string
		in      []string
	}{
		{m.OemKey, t.oem}, {m.Vendor, t.vendor}, {m.Product, t.product}, {m.Firmware, t.firmware}, {m.Model, t.model},
	} {
		if want.pattern == "" {
			continue
		}
		re, err := regexp.Compile(want.pattern)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(want.in, re.MatchString) {
			return false, nil
		}
	}
	return true, nil
}
