package redfish

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// maxOptions bounds how many boot options are read.
const maxOptions = 64

// settingsOf gives the settings object to write the override to, "" for the
// system itself. A system whose live Boot lists no targets is read-only there
// (DGX, iDRAC 10: vendors.md 2.6).
func (c *Client) settingsOf(sys found[systemDoc]) (string, error) {
	uri, err := c.resolve("read "+short(sys.uri), sys.uri, "@Redfish.Settings", sys.doc.Settings.v.Object)
	if err != nil || len(sys.doc.Boot.v.Targets.v) > 0 {
		return "", err
	}
	return uri, nil
}

// bootOf reads what says what the next boot uses: the row's own settings, or the
// override from where it is written.
func (c *Client) bootOf(ctx context.Context, sys found[systemDoc]) (bmc.BootOverride, error) {
	t := c.tree
	if own := strategyOf(t.Profile.Boot); own.read != nil && t.BootAt != "" {
		boot, err := c.ownBoot(ctx, t, own)
		if !gone(err) {
			return boot, err
		}
		// This one has no settings of its own: the override has to do.
		with := *t
		with.BootAt = ""
		t, c.tree = &with, &with
	}
	if t.Settings != "" {
		future, err := c.readSystem(ctx, t.Settings)
		if err != nil {
			return bmc.BootOverride{}, err
		}
		if future.doc.Boot.v.hasOverride() || future.doc.Boot.bad {
			// Boot options hang on the live system.
			if !future.doc.Boot.v.Options.set {
				future.doc.Boot.v.Options = sys.doc.Boot.v.Options
			}
			sys = future
		} else {
			with := *t
			with.Settings = "" // it is for other things
			c.tree = &with
		}
	}
	c.boot, c.bootRead = sys.doc.Boot.v, true
	op := "read " + short(sys.uri)
	switch {
	case sys.doc.Boot.bad:
		return bmc.BootOverride{}, wrongType(op, sys.uri, "Boot")
	case c.boot.Target.bad:
		return bmc.BootOverride{}, wrongType(op, sys.uri, "Boot.BootSourceOverrideTarget")
	case c.boot.Enabled.bad:
		return bmc.BootOverride{}, wrongType(op, sys.uri, "Boot.BootSourceOverrideEnabled")
	}
	return bmc.BootOverride{Target: c.boot.Target.v, Enabled: c.boot.Enabled.v, Mode: c.boot.Mode.v}, nil
}

// cannotArm says why the virtual CD cannot be made the next boot's device, by
// what was read last.
func (c *Client) cannotArm(t *tree) bmc.Refusal {
	targets := c.boot.Targets.v
	switch {
	case t.BootAt != "", c.armsMedium(t.Profile):
		return bmc.Refusal{}
	case !c.boot.hasOverride():
		return bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "the BMC has no boot override: " + short(t.System) + " shows none",
			Hint: "choose the virtual CD by hand on the console, or boot the node another way",
		}
	case len(targets) > 0 && !slices.ContainsFunc(t.Profile.BootTargets, func(want string) bool { return slices.Contains(targets, want) }):
		return bmc.Refusal{
			Kind: bmc.KindUnsupported,
			Why:  "the BMC can boot from none of " + strings.Join(t.Profile.BootTargets, ", ") + "; it offers " + c.clean(strings.Join(targets, ", ")),
			Hint: "choose the virtual CD by hand on the console",
		}
	}
	return bmc.Refusal{}
}

// bootKnown makes sure that the boot settings were read on this connection.
func (c *Client) bootKnown(ctx context.Context) error {
	if c.bootRead {
		return nil
	}
	sys, err := c.readSystem(ctx, c.tree.System)
	if err == nil {
		_, err = c.bootOf(ctx, sys)
	}
	return err
}

// SetBootOnce implements bmc.Actuator.
func (c *Client) SetBootOnce(ctx context.Context) error {
	const op = "set boot once"
	if err := c.armable(ctx, op); err != nil {
		return err
	}
	if own := strategyOf(c.tree.Profile.Boot); own.set != nil && (c.tree.BootAt != "" || c.armsMedium(c.tree.Profile)) {
		return own.set(c, ctx, op, true)
	}
	boot, err := c.bootBody(ctx, op)
	if err != nil {
		return err
	}
	return c.writeBoot(ctx, op, boot)
}

// ClearBoot implements bmc.Actuator.
func (c *Client) ClearBoot(ctx context.Context) error {
	const op = "clear boot"
	if err := c.armable(ctx, op); err != nil {
		return err
	}
	if own := strategyOf(c.tree.Profile.Boot); own.set != nil && (c.tree.BootAt != "" || c.armsMedium(c.tree.Profile)) {
		return own.set(c, ctx, op, false)
	}
	// One that lists its targets and has no None there boots its disk always
	// (sushy-tools).
	target := string(schemas.NoneBootSource)
	if targets := c.boot.Targets.v; len(targets) > 0 && !slices.Contains(targets, target) {
		target = string(schemas.HddBootSource)
	}
	boot := map[string]any{
		"BootSourceOverrideTarget":  target,
		"BootSourceOverrideEnabled": string(schemas.DisabledBootSourceOverrideEnabled),
	}
	if c.tree.Profile.FullBoot {
		boot["BootSourceOverrideMode"] = c.bootMode()
	}
	return c.writeBoot(ctx, op, boot)
}

// armable reads what arming has to know.
func (c *Client) armable(ctx context.Context, op string) error {
	if err := c.known(ctx); err != nil {
		return err
	}
	if c.tree.Profile.Boot == bootNextReset && c.tree.Cannot.None() {
		return c.slotKnownThenBoot(ctx, op)
	}
	return c.bootKnown(ctx)
}

// slotKnownThenBoot is for a row that arms the medium: one without the flag is
// armed by the override.
func (c *Client) slotKnownThenBoot(ctx context.Context, op string) error {
	if err := c.slotKnown(ctx, op); err != nil || c.armsMedium(c.tree.Profile) {
		return err
	}
	return c.bootKnown(ctx)
}

func (c *Client) writeBoot(ctx context.Context, op string, boot map[string]any) error {
	uri := c.tree.System
	if c.tree.Settings != "" {
		uri = c.tree.Settings
	}
	a, err := c.patchBoot(ctx, op, uri, boot)
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}

// patchBoot sends the override, and once more without or with the mode when the
// BMC refuses it for that by name: iLO's DL160 Gen10 refuses the mode, AMI and
// others its absence (vendors.md 2.6).
func (c *Client) patchBoot(ctx context.Context, op, uri string, boot map[string]any) (answer, error) {
	const mode = "BootSourceOverrideMode"
	a, err := c.patch(ctx, op, uri, map[string]any{"Boot": boot})
	r, ok := refusalIn(err)
	if !ok || r.status >= 500 {
		return a, err
	}
	for _, m := range r.messages {
		_, has := boot[mode]
		switch {
		case m.name() == "OperationSupportedInFutureStateURI" && uri == c.tree.System:
			return c.patchFuture(ctx, op, boot, err)
		case !m.names(mode):
			continue
		case has && !m.missingField():
			delete(boot, mode)
		case !has && m.missingField():
			boot[mode] = c.bootMode()
		default:
			continue
		}
		return c.patch(ctx, op, uri, map[string]any{"Boot": boot})
	}
	return a, err
}

// patchFuture follows AMI's word that the override belongs into the settings
// object (vendors.md 2.6).
func (c *Client) patchFuture(ctx context.Context, op string, boot map[string]any, refused error) (answer, error) {
	sys, err := c.readSystem(ctx, c.tree.System)
	if err != nil {
		return answer{}, err
	}
	uri, err := c.resolve(op, sys.uri, "@Redfish.Settings", sys.doc.Settings.v.Object)
	if err != nil || uri == "" {
		return answer{}, refused
	}
	with := *c.tree
	with.Settings = uri
	c.tree = &with
	c.remember()
	return c.patch(ctx, op, uri, map[string]any{"Boot": boot})
}

// bootBody is the override in the profile's form.
func (c *Client) bootBody(ctx context.Context, op string) (map[string]any, error) {
	for _, target := range c.tree.Profile.BootTargets {
		if len(c.boot.Targets.v) > 0 && !slices.Contains(c.boot.Targets.v, target) {
			continue
		}
		boot := map[string]any{
			"BootSourceOverrideTarget":  target,
			"BootSourceOverrideEnabled": string(schemas.OnceBootSourceOverrideEnabled),
		}
		if c.tree.Profile.FullBoot {
			boot["BootSourceOverrideMode"] = c.bootMode()
		}
		if target == string(schemas.UefiBootNextBootSource) {
			option, err := c.cdOption(ctx)
			if err != nil {
				return nil, err
			}
			if option == "" {
				// The firmware lists the virtual CD only once it has seen it;
				// the profile's next target has to do (vendors.md 3.2 point 8).
				continue
			}
			boot["BootNext"] = option
		}
		return boot, nil
	}
	why := c.cannotArm(c.tree)
	if why.None() {
		why.Why = "the firmware lists no boot option of the virtual CD, and the row no other target"
	}
	return nil, unsupported(op, why.Why, "choose the virtual CD by hand on the console")
}

// bootMode is what goes with a full override. While an override is set, its
// mode is kept. While none is, the mode shown means nothing: Huawei's does not
// (vendors.md 3.11), and the captured H262 shows Legacy although each of its
// boot options is a UEFI one. Then UEFI is asked for, which live ISOs boot,
// unless the BMC allows only something else.
func (c *Client) bootMode() string {
	const uefi = string(schemas.UEFIBootSourceOverrideMode)
	allowed := c.boot.Modes.v
	shown := c.boot.Mode.v
	if c.boot.Enabled.v == string(schemas.DisabledBootSourceOverrideEnabled) || shown == "" {
		shown = uefi
	}
	if len(allowed) > 0 && !slices.Contains(allowed, shown) {
		return allowed[0]
	}
	return shown
}

// cdOption finds the boot option of the virtual CD, "" if the firmware lists
// none: a USB CD by its device path, or by its name (vendors.md 2.6).
func (c *Client) cdOption(ctx context.Context) (string, error) {
	uri, err := c.resolve("find the boot option", c.tree.System, "Boot.BootOptions", c.boot.Options)
	if err != nil || uri == "" {
		return "", err
	}
	all, err := c.members(ctx, uri)
	if err != nil {
		return "", err
	}
	for _, option := range all[:min(len(all), maxOptions)] {
		var d bootOptionDoc
		if _, err := c.read(ctx, option, &d); err != nil {
			if fatal(err) {
				return "", err
			}
			continue
		}
		usb := strings.Contains(d.DevicePath.v, "USB(") && strings.Contains(d.DevicePath.v, "CDROM(")
		if d.Reference.v != "" && (usb || strings.Contains(strings.ToLower(d.DisplayName.v), "virtual cdrom")) {
			return d.Reference.v, nil
		}
	}
	return "", nil
}

// patch changes a resource, with its ETag as the BMC spelled it. When the
// precondition is refused, a fresh ETag is tried once, then none, then "*"
// (vendors.md 5.5: BMCs disagree on the form).
func (c *Client) patch(ctx context.Context, op, uri string, body map[string]any) (answer, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return answer{}, malformed(op, uri, "cannot be sent what is wanted: "+err.Error())
	}
	tag, seen := c.etags[uri]
	if !seen {
		if tag, err = c.freshTag(ctx, uri); err != nil {
			return answer{}, err
		}
	}
	r := request{method: http.MethodPatch, uri: uri, body: raw, match: tag}
	a, err := c.ask(ctx, op, r)
	if precondition(err) {
		if r.match, err = c.freshTag(ctx, uri); err != nil {
			return answer{}, err
		}
		a, err = c.ask(ctx, op, r)
	}
	for _, match := range []string{"", "*"} {
		if r.match == match || !precondition(err) {
			continue
		}
		r.match = match
		a, err = c.ask(ctx, op, r)
	}
	delete(c.etags, uri)
	return a, err
}

func (c *Client) freshTag(ctx context.Context, uri string) (string, error) {
	var nothing struct{} // only the tag is wanted
	_, err := c.read(ctx, uri, &nothing)
	return c.etags[uri], err
}

func precondition(err error) bool {
	r, ok := refusalIn(err)
	return ok && (r.status == http.StatusPreconditionFailed || r.status == http.StatusPreconditionRequired)
}
