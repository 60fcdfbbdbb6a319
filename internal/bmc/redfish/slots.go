package redfish

import (
	"context"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// The strategies that a profile's Enable lists, and the names of other fields'
// values.
const (
	enableRMedia   = "rmedia"
	enableProtocol = "network-protocol"

	attachedConnected = "connected-via"
	staleHarmless     = "harmless"
)

// maxSlots bounds how many slots of one collection are read.
const maxSlots = 32

// observeMedia reads the CD slot, looking for it first if it is not known. A BMC
// without a slot is no error: what is there to be seen is that there is none,
// and c.noSlot says why.
func (c *Client) observeMedia(ctx context.Context) (bmc.Media, error) {
	t := c.tree
	if t.Slot != "" {
		if err := c.readSlot(ctx, t.Slot); err != nil {
			return bmc.Media{}, err
		}
		return c.mediaOf(t.Slot)
	}
	c.noSlot = bmc.Refusal{}
	if len(t.Media) == 0 || t.Profile.Lacks.Why != "" {
		return bmc.Media{Access: bmc.AccessNone}, nil
	}
	slot, passed, err := c.findSlot(ctx, t)
	switch {
	case err != nil:
		return bmc.Media{}, err
	case slot != "":
		m, err := c.mediaOf(slot)
		if err != nil {
			return m, err
		}
		with := *t
		with.Slot = slot
		err = c.readInsert(ctx, &with)
		c.tree = &with
		return m, err
	case len(passed) > 0:
		c.noSlot = because(bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "none of the BMC's slots takes a CD: " + strings.Join(passed, ", "),
			Hint: "check the BMC's licence and its remote media settings",
		}, t.Profile.NoSlot)
		return bmc.Media{Access: bmc.AccessNone}, nil
	}
	return c.withoutSlots(ctx, t)
}

// withoutSlots tells remote media that is switched off from media that there are
// none of. AMI lists the slots only while it is on (vendors.md 3.2).
func (c *Client) withoutSlots(ctx context.Context, t *tree) (bmc.Media, error) {
	if t.Enable != "" && slices.Contains(t.Profile.Enable, enableRMedia) {
		return bmc.Media{Access: bmc.AccessDisabled}, nil
	}
	off, err := c.protocolOff(ctx, t)
	switch {
	case err != nil:
		return bmc.Media{}, err
	case off && slices.Contains(t.Profile.Enable, enableProtocol):
		return bmc.Media{Access: bmc.AccessDisabled}, nil
	case off:
		c.noSlot = bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "the BMC lists no virtual media slot in " + shortAll(t.Media) + ", and says in " + short(t.Protocol) + " that virtual media are switched off",
			Hint: "switch virtual media on in the BMC's web page and plan again; if no slot comes of it, boot the node another way",
		}
	default:
		c.noSlot = because(bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "the BMC lists no virtual media slot in " + shortAll(t.Media),
			Hint: "check the BMC's licence and that its remote media service is switched on",
		}, t.Profile.NoSlot)
	}
	return bmc.Media{Access: bmc.AccessNone}, nil
}

// protocolOff reports whether the manager's NetworkProtocol says that virtual
// media are switched off. One that cannot be read says nothing.
func (c *Client) protocolOff(ctx context.Context, t *tree) (bool, error) {
	if t.Protocol == "" {
		return false, nil
	}
	var doc protocolDoc
	if _, err := c.read(ctx, t.Protocol, &doc); err != nil {
		if fatal(err) {
			return false, err
		}
		return false, nil
	}
	on := doc.VirtualMedia.v.Enabled
	return on.set && !on.v, nil
}

func shortAll(all []string) string {
	var out []string
	for _, uri := range all {
		out = append(out, short(uri))
	}
	return strings.Join(out, ", ")
}

// A candidate is a slot that takes a CD.
type candidate struct {
	uri   string
	doc   mediaDoc
	allow string
}

// findSlot walks the collections in the profile's order and gives the CD slot,
// which is the one read last then. passed says which slots were not taken, and
// why. A collection that cannot be read is passed over if another can.
func (c *Client) findSlot(ctx context.Context, t *tree) (slot string, passed []string, err error) {
	fits, err := regexp.Compile(t.Profile.Slots)
	if err != nil {
		return "", nil, unsupported("find the virtual media", "the row "+t.Profile.Name+" has a pattern for slots that is none", "correct profiles.cue")
	}
	defer c.dropAhead()
	var failed error
	for _, collection := range t.Media {
		if err := c.aheadMedia(ctx, t.Profile, collection); err != nil {
			return "", nil, err
		}
		all, err := c.members(ctx, collection)
		switch {
		case gone(err): // linked, and not built in; or switched off
			continue
		case err != nil && (fatal(err) || len(t.Media) == 1):
			return "", nil, err
		case err != nil:
			failed = errors.Join(failed, err)
			continue
		}
		slot, not, err := c.chooseSlot(ctx, t.Profile, inOrder(all, fits), fits)
		if slot != "" || err != nil && fatal(err) {
			return slot, nil, err
		}
		passed = append(passed, not...)
		failed = errors.Join(failed, err)
	}
	if len(passed) > 0 || failed == nil {
		return "", passed, nil
	}
	e, _ := errors.AsType[*bmc.Error](failed) // the first of the joined ones
	return "", nil, e
}

// chooseSlot reads the slots of one collection until it knows which one to use.
func (c *Client) chooseSlot(ctx context.Context, row bmc.Profile, all []string, fits *regexp.Regexp) (slot string, passed []string, failed error) {
	var best *candidate
	rank := 0
	for _, uri := range all[:min(len(all), maxSlots)] {
		if err := c.readSlot(ctx, uri); err != nil {
			if fatal(err) {
				return "", nil, err
			}
			failed = err
			continue
		}
		if why := c.unfit(row); why != "" {
			passed = append(passed, path.Base(uri)+" "+why)
			continue
		}
		r := c.rank(row, fits)
		if r > rank {
			best, rank = &candidate{uri, c.slot, c.allow}, r
		}
		if rank >= rankNamed && !row.TrySlots {
			break
		}
	}
	if best == nil {
		return "", passed, failed
	}
	c.slot, c.slotRead, c.allow = best.doc, best.uri, best.allow
	return best.uri, nil, nil
}

// The ranks of a slot that can be used.
const (
	rankAny   = 1 + iota
	rankNamed // it is the one that the row names
	rankHolds // and, where slots refuse images, it has taken one
)

// rank tells how likely the slot read last is the one to use.
func (c *Client) rank(row bmc.Profile, fits *regexp.Regexp) int {
	r := rankAny
	if row.Slots == "" || fits.MatchString(c.slot.ID.v) || fits.MatchString(c.slot.Name.v) || fits.MatchString(path.Base(c.slotRead)) {
		r = rankNamed
	}
	if row.TrySlots && c.slot.Inserted.v {
		r = rankHolds
	}
	return r
}

// inOrder sorts members by Id, "CD2" before "CD10", so that the same slot is
// found each time; those that fit, if anything is to, come first.
func inOrder(all []string, fits *regexp.Regexp) []string {
	first := func(uri string) int {
		if fits != nil && fits.MatchString(path.Base(uri)) {
			return 0
		}
		return 1
	}
	return slices.SortedFunc(slices.Values(all), func(a, b string) int {
		if d := first(a) - first(b); d != 0 {
			return d
		}
		if d := len(path.Base(a)) - len(path.Base(b)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// unfit says why the slot read last cannot be used, "" if it can.
func (c *Client) unfit(row bmc.Profile) string {
	fits, err := regexp.Compile(row.Slots)
	named := err == nil && row.Slots != "" && (fits.MatchString(c.slot.ID.v) || fits.MatchString(c.slot.Name.v) || fits.MatchString(path.Base(c.slotRead)))
	switch types := c.slot.MediaTypes; {
	case row.OnlySlots && !named:
		return "(not for images)"
	case c.insertWays(row) == nil:
		return "(cannot be inserted into)"
	case len(types.v) > 0 && !slices.ContainsFunc(types.v, disc):
		return "(" + c.clean(strings.Join(types.v, "/")) + ")"
	case len(types.v) == 0 && !named: // Gigabyte's CD1 has no MediaTypes (vendors.md 2.2)
		return "(no MediaTypes)"
	}
	return ""
}

// disc reports whether a media type is one that an ISO can be.
func disc(mediaType string) bool {
	t := strings.ToUpper(mediaType)
	return strings.HasPrefix(t, "CD") || strings.HasPrefix(t, "DVD")
}

// readInsert learns what the slot's insert takes, from the action or from the
// ActionInfo that it refers to. One that cannot be had says nothing.
func (c *Client) readInsert(ctx context.Context, t *tree) error {
	a, _ := action(c.slot.Actions, "#VirtualMedia.InsertMedia")
	t.Schemes = schemes(a.Protocols.v)
	uri, err := c.endpoint.local(a.Info.v)
	if a.Info.v == "" || err != nil {
		return nil //nolint:nilerr // it is as if there were none
	}
	var info actionInfoDoc
	if _, err := c.read(ctx, uri, &info); err != nil {
		if fatal(err) {
			return err
		}
		return nil
	}
	for _, p := range info.Parameters.v {
		if p.v.Name.v == "TransferProtocolType" && len(t.Schemes) == 0 {
			t.Schemes = schemes(p.v.Allowed.v)
		}
		if p.v.Required.v && p.v.Name.v != "Image" {
			t.Needs = append(t.Needs, p.v.Name.v)
		}
	}
	return nil
}

// schemes are the URL schemes of TransferProtocolTypes; nil if none is told.
func schemes(protocols []string) []string {
	var out []string
	for _, p := range protocols {
		switch s := strings.ToLower(p); s {
		case "http", "https", "nfs", "cifs", "smb", "ftp", "sftp", "tftp", "scp":
			out = append(out, s)
		}
	}
	return out
}

func (c *Client) readSlot(ctx context.Context, uri string) error {
	c.slot, c.slotRead = mediaDoc{}, ""
	a, err := c.read(ctx, uri, &c.slot)
	if err == nil {
		c.slotRead, c.allow = uri, a.header.Get("Allow")
	}
	return err
}

// mediaOf is the slot read last in our words.
func (c *Client) mediaOf(uri string) (bmc.Media, error) {
	op, d := "read "+short(uri), c.slot
	switch {
	case d.Image.bad:
		return bmc.Media{}, wrongType(op, uri, "Image")
	case d.Inserted.bad:
		return bmc.Media{}, wrongType(op, uri, "Inserted")
	}
	m := bmc.Media{Slot: d.ID.v, Image: d.Image.v, ImageName: d.ImageName.v, Inserted: d.Inserted.v}
	if m.Slot == "" {
		m.Slot = path.Base(uri)
	}
	if bmc.EmptyName(m.Image) {
		m.Image = ""
	}
	if bmc.EmptyName(m.ImageName) {
		m.ImageName = ""
	}
	loose := d.Connected.v == "NotConnected"
	switch {
	case !d.Inserted.set: // it has to be told by the rest
		m.Inserted = (m.Image != "" || m.ImageName != "") && !loose
	case c.profile().Attached == attachedConnected && loose:
		m.Inserted = false // it was recorded, and will not boot (vendors.md 3.5)
	}
	if !m.Inserted && c.nameIsHarmless() {
		m.Image, m.ImageName = "", ""
	}
	_, blocks := oemBlocks(d.Oem)
	for _, b := range blocks {
		if s := b.RedirectionStatus.v; s != "" && s != "None" {
			m.Detail = c.clean(s)
		}
	}
	return m, nil
}

// profile is the row of the BMC being spoken to.
func (c *Client) profile() bmc.Profile {
	if c.tree != nil {
		return c.tree.Profile
	}
	return bmc.Profile{}
}

// nameIsHarmless reports whether the name of an image that is not inserted is in
// nobody's way: the row says so, or the BMC does, by offering no eject for it
// (Supermicro, vendors.md 2.4).
func (c *Client) nameIsHarmless() bool {
	if c.profile().StaleName == staleHarmless {
		return true
	}
	_, insert := standardAction(c.slot.Actions, c.slotRead, "#VirtualMedia.InsertMedia")
	_, eject := standardAction(c.slot.Actions, c.slotRead, "#VirtualMedia.EjectMedia")
	return insert != "" && eject == "" && oemAction(c.slot.Actions, c.slot.Oem, ".EjectVirtualMedia") == ""
}

// EnableMedia implements bmc.Actuator. AMI answers with what looks like an
// error and lists the slots some seconds later (vendors.md 3.2).
func (c *Client) EnableMedia(ctx context.Context) error {
	const op = "enable media"
	if err := c.known(ctx); err != nil {
		return err
	}
	ways := c.tree.Profile.Enable
	done := false
	if c.tree.Enable != "" && slices.Contains(ways, enableRMedia) {
		target, err := c.target(op, c.tree.Enable)
		if err == nil {
			err = c.act(ctx, op, target, map[string]any{"RMediaState": "Enable"})
		}
		if err != nil {
			return err
		}
		done = true
	}
	if slices.Contains(ways, enableProtocol) {
		off, err := c.protocolOff(ctx, c.tree)
		if err == nil && off {
			err = c.switchProtocolOn(ctx, op)
		}
		if err != nil {
			return err
		}
		done = done || c.tree.Protocol != ""
	}
	if !done {
		return unsupported(op, "the BMC offers no way to switch remote media on", "switch it on in the BMC's web page")
	}
	return nil
}

func (c *Client) switchProtocolOn(ctx context.Context, op string) error {
	a, err := c.patch(ctx, op, c.tree.Protocol, map[string]any{"VirtualMedia": map[string]any{"ProtocolEnabled": true}})
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}
