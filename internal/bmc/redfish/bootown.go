package redfish

import (
	"context"
	"path"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// The values of a profile's Boot that are not the standard override.
const (
	bootNextReset      = "oem-next-reset"
	bootDellAttributes = "dell-attributes"
	bootFujitsu        = "fujitsu-boot-config"
)

// A bootStrategy is how a family arms its virtual CD where it does not do so by
// ComputerSystem.Boot.
type bootStrategy struct {
	at   func(found[systemDoc], []found[managerDoc]) string // the resource; nil: the slot
	read func(bootConfig) (armed, once bool)                // nil: the slot tells
	set  func(c *Client, ctx context.Context, op string, arm bool) error
}

// strategyOf gives the strategy of that name; zero for the standard override.
func strategyOf(name string) bootStrategy {
	switch name {
	case bootNextReset:
		return bootStrategy{set: (*Client).armMedium}
	case bootDellAttributes:
		return bootStrategy{at: dellAttributes, read: bootConfig.dell, set: (*Client).armDell}
	case bootFujitsu:
		return bootStrategy{at: fujitsuBootConfig, read: bootConfig.fujitsu, set: (*Client).armFujitsu}
	}
	return bootStrategy{}
}

// bootConfig is what such a resource says.
type bootConfig struct {
	Attributes maybe[rawFields] `json:"Attributes"`          // Dell
	Device     maybe[string]    `json:"BootDevice"`          // Fujitsu
	NextOnly   maybe[bool]      `json:"NextBootOnlyEnabled"` // Fujitsu
}

// bootAt is the resource by which the row arms the virtual CD, "" for none.
func bootAt(row bmc.Profile, sys found[systemDoc], managers []found[managerDoc]) string {
	if own := strategyOf(row.Boot); own.at != nil {
		return own.at(sys, managers)
	}
	return ""
}

// ownBoot reads the row's own boot settings as the override they amount to.
func (c *Client) ownBoot(ctx context.Context, t *tree, own bootStrategy) (bmc.BootOverride, error) {
	c.config = bootConfig{}
	if _, err := c.read(ctx, t.BootAt, &c.config); err != nil {
		return bmc.BootOverride{}, err
	}
	c.bootRead = true
	armed, once := own.read(c.config)
	return amounts(t.Profile, armed, once), nil
}

// amounts is the override that stands for something armed by other means.
func amounts(row bmc.Profile, armed, once bool) bmc.BootOverride {
	b := bmc.BootOverride{Target: string(schemas.NoneBootSource), Enabled: string(schemas.DisabledBootSourceOverrideEnabled)}
	if !armed || len(row.BootTargets) == 0 {
		return b
	}
	b.Target, b.Enabled = row.BootTargets[0], string(schemas.ContinuousBootSourceOverrideEnabled)
	if once {
		b.Enabled = string(schemas.OnceBootSourceOverrideEnabled)
	}
	return b
}

// armsMedium reports whether the row arms the medium itself, and the slot read
// last can be: what a BMC offers goes before what it is.
func (c *Client) armsMedium(row bmc.Profile) bool {
	if row.Boot != bootNextReset {
		return false
	}
	_, blocks := oemBlocks(c.slot.Oem)
	for _, b := range blocks {
		if b.BootOnNextReset.set {
			return true
		}
	}
	return false
}

// oemOverride shows a medium that is armed as the override it amounts to.
func (c *Client) oemOverride(row bmc.Profile) bmc.BootOverride {
	_, blocks := oemBlocks(c.slot.Oem)
	armed := false
	for _, b := range blocks {
		armed = armed || b.BootOnNextReset.v
	}
	return amounts(row, armed, true)
}

// armMedium sets the OEM flag of the slot that makes the next reset boot it
// (iLO 4's BootOnNextServerReset, vendors.md 3.1).
func (c *Client) armMedium(ctx context.Context, op string, arm bool) error {
	if err := c.slotKnown(ctx, op); err != nil {
		return err
	}
	names, blocks := oemBlocks(c.slot.Oem)
	for i, b := range blocks {
		if b.BootOnNextReset.set {
			return c.change(ctx, op, c.tree.Slot, map[string]any{"Oem": map[string]any{names[i]: map[string]any{"BootOnNextServerReset": arm}}})
		}
	}
	return unsupported(op, "the slot "+c.slot.ID.v+" has no BootOnNextServerReset", "choose the virtual CD by hand on the console")
}

// Dell's attributes of what boots next, and what they hold for the virtual CD
// (vendors.md 2.6).
const (
	dellOnce   = "ServerBoot.1.BootOnce"
	dellDevice = "ServerBoot.1.FirstBootDevice"
	dellCD     = "VCD-DVD"
)

// dellAttributes is where a manager has its attributes: linked, or beside it on
// firmware that does not link them.
func dellAttributes(_ found[systemDoc], managers []found[managerDoc]) string {
	for _, m := range managers {
		var dell maybe[struct {
			Attributes links `json:"DellAttributes"`
		}]
		if raw, ok := m.doc.Links.v.Oem.v["Dell"]; ok && dell.UnmarshalJSON(raw) == nil {
			for _, uri := range uris(dell.v.Attributes) {
				if path.Base(uri) == path.Base(strings.TrimRight(m.uri, "/")) {
					return uri
				}
			}
		}
	}
	if len(managers) == 0 {
		return ""
	}
	return strings.TrimRight(managers[0].uri, "/") + "/Attributes"
}

func (b bootConfig) attribute(name string) string {
	raw, ok := b.Attributes.v[name]
	if !ok {
		return ""
	}
	var text maybe[string]
	if text.UnmarshalJSON(raw) != nil {
		return ""
	}
	return text.v
}

func (b bootConfig) dell() (armed, once bool) {
	return b.attribute(dellDevice) == dellCD, b.attribute(dellOnce) == "Enabled"
}

func (c *Client) armDell(ctx context.Context, op string, arm bool) error {
	set := map[string]any{dellOnce: "Enabled", dellDevice: dellCD}
	if !arm {
		set = map[string]any{dellOnce: "Disabled", dellDevice: "Normal"}
	}
	return c.change(ctx, op, c.tree.BootAt, map[string]any{"Attributes": set})
}

// fujitsuBootConfig is where an iRMC has what boots next: linked in the system's
// Oem block, or below it.
func fujitsuBootConfig(sys found[systemDoc], _ []found[managerDoc]) string {
	for _, key := range []string{"Fsas", "ts_fujitsu"} {
		raw, ok := sys.doc.Oem.v[key]
		if !ok {
			continue
		}
		var oem maybe[struct {
			Config maybe[link] `json:"BootConfig"`
		}]
		if oem.UnmarshalJSON(raw) == nil && oem.v.Config.v.URI != "" {
			return oem.v.Config.v.URI
		}
		return strings.TrimRight(sys.uri, "/") + "/Oem/" + key + "/BootConfig"
	}
	return ""
}

func (b bootConfig) fujitsu() (armed, once bool) { return b.Device.v == "Cd", b.NextOnly.v }

func (c *Client) armFujitsu(ctx context.Context, op string, arm bool) error {
	set := map[string]any{"BootDevice": "Cd", "NextBootOnlyEnabled": true}
	if !arm {
		set = map[string]any{"BootDevice": "None", "NextBootOnlyEnabled": true}
	}
	return c.change(ctx, op, c.tree.BootAt, set)
}

// change patches a resource and waits for the task that may come of it.
func (c *Client) change(ctx context.Context, op, uri string, body map[string]any) error {
	a, err := c.patch(ctx, op, uri, body)
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}
