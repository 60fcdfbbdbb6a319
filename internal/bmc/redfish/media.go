package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// The strategies that a profile's Insert names.
const (
	insertAction = "action"
	insertPatch  = "patch"
	insertOEM    = "oem"
)

// enableRMedia is the one strategy that a profile's Enable names.
const enableRMedia = "rmedia"

// observeMedia reads the CD slot, looking for it first if it is not known.
func (c *Client) observeMedia(ctx context.Context, t *tree) (bmc.Media, error) {
	if t.Slot != "" {
		if err := c.readSlot(ctx, t.Slot); err != nil {
			return bmc.Media{}, err
		}
		return c.mediaOf(t.Slot)
	}
	slot, passed, err := c.findSlot(ctx, t)
	switch {
	case err != nil:
		return bmc.Media{}, err
	case slot != "":
		with := *t
		with.Slot = slot
		c.tree = &with
		return c.mediaOf(slot)
	case len(passed) == 0 && t.Enable != "" && t.Profile.Enable == enableRMedia:
		// AMI lists the slots only while remote media is on: an empty collection
		// is "off", not "none" (vendors.md 3.2).
		return bmc.Media{Access: bmc.AccessDisabled}, nil
	case len(passed) == 0:
		return bmc.Media{}, unsupported("find the virtual media", "the BMC lists no virtual media slot in "+shortAll(t.Media),
			"check the BMC's licence and that its remote media service is switched on")
	}
	return bmc.Media{}, unsupported("find the virtual media", "none of the BMC's slots takes a CD: "+strings.Join(passed, ", "),
		"check the BMC's licence and its remote media settings")
}

func shortAll(all []string) string {
	var out []string
	for _, uri := range all {
		out = append(out, short(uri))
	}
	return strings.Join(out, ", ")
}

// findSlot walks the collections in the profile's order and keeps the first
// slot that takes a CD. passed says which slots were not taken, and why.
func (c *Client) findSlot(ctx context.Context, t *tree) (slot string, passed []string, err error) {
	fits, err := regexp.Compile(t.Profile.Slots)
	if err != nil {
		return "", nil, unsupported("find the virtual media", "the row "+t.Profile.Name+" has a pattern for slots that is none", "correct profiles.cue")
	}
	var failed error
	for _, collection := range t.Media {
		all, err := c.members(ctx, collection)
		if gone(err) && t.Enable != "" {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		for _, uri := range inOrder(all) {
			if err := c.readSlot(ctx, uri); err != nil {
				if fatal(err) {
					return "", nil, err
				}
				failed = err
				continue
			}
			why := c.unfit(t.Profile, fits)
			if why == "" {
				return uri, nil, nil
			}
			passed = append(passed, path.Base(uri)+" "+why)
		}
	}
	return "", passed, failed
}

// inOrder sorts members by Id, "CD2" before "CD10", so that the same slot is
// found each time and as a rule first.
func inOrder(all []string) []string {
	return slices.SortedFunc(slices.Values(all), func(a, b string) int {
		if d := len(path.Base(a)) - len(path.Base(b)); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// unfit says why the slot read last cannot be used, "" if it can.
func (c *Client) unfit(p bmc.Profile, fits *regexp.Regexp) string {
	if c.insertWays(p) == nil {
		return "(cannot be inserted into)"
	}
	if types := c.slot.MediaTypes; types.set && len(types.v) > 0 {
		if slices.Contains(types.v, "CD") || slices.Contains(types.v, "DVD") {
			return ""
		}
		return "(" + c.clean(strings.Join(types.v, "/")) + ")"
	}
	// Gigabyte's CD1 has no MediaTypes (vendors.md 2.2).
	if p.Slots != "" && (fits.MatchString(c.slot.ID.v) || fits.MatchString(c.slot.Name.v)) {
		return ""
	}
	return "(no MediaTypes)"
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
	_, blocks := oemBlocks(d.Oem)
	for _, b := range blocks {
		if s := b.RedirectionStatus.v; s != "" && s != "None" {
			m.Detail = c.clean(s)
		}
	}
	return m, nil
}

// slotKnown makes sure that the slot was read on this connection: which actions
// it has changes with its state (Supermicro, vendors.md 2.4).
func (c *Client) slotKnown(ctx context.Context, op string) error {
	if err := c.known(ctx); err != nil {
		return err
	}
	if c.tree.Slot == "" {
		// It may have been switched on since.
		if _, err := c.observeMedia(ctx, c.tree); err != nil {
			return err
		}
	}
	if c.tree.Slot == "" {
		return &bmc.Error{
			Op: op, Kind: bmc.KindUnsupported, Err: errors.New("the BMC has remote media switched off"),
			Hint: "switch it on first (the step enable-media, or the BMC's web page)",
		}
	}
	if c.slotRead == c.tree.Slot {
		return nil
	}
	return c.readSlot(ctx, c.tree.Slot)
}

// EnableMedia implements bmc.Actuator. AMI answers with what looks like an
// error and lists the slots some seconds later (vendors.md 3.2).
func (c *Client) EnableMedia(ctx context.Context) error {
	const op = "enable media"
	if err := c.known(ctx); err != nil {
		return err
	}
	if c.tree.Enable == "" {
		return unsupported(op, "the BMC offers no action to switch remote media on", "switch it on in the BMC's web page")
	}
	target, err := c.target(op, c.tree.Enable)
	if err != nil {
		return err
	}
	return c.act(ctx, op, target, map[string]any{"RMediaState": "Enable"})
}

// target makes a path of an action's target.
func (c *Client) target(op, ref string) (string, error) {
	uri, err := c.endpoint.local(ref)
	if err != nil {
		return "", malformed(op, c.tree.System, "offers an action that cannot be used: "+c.clean(err.Error()))
	}
	return uri, nil
}

// act posts an action and waits for the task that it may start. Actions carry
// no If-Match: a BMC that compares it with the action's own URL, or with a
// resource that changed in between, can only refuse it (vendors.md 7.3 row 8).
func (c *Client) act(ctx context.Context, op, target string, body map[string]any) error {
	return c.actUnless(ctx, op, target, body, nil)
}

func (c *Client) actUnless(ctx context.Context, op, target string, body map[string]any, settled func(context.Context, *bmc.Error) error) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return malformed(op, target, "cannot be sent what is wanted: "+err.Error())
	}
	a, err := c.askUnless(ctx, op, request{method: http.MethodPost, uri: target, body: raw}, settled)
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}

// way is one manner of inserting.
type way struct {
	name   string
	target string // of the action, or the slot for a PATCH
}

// insertWays lists how the slot read last can be inserted into, the profile's
// way first. A PATCH is possible where the profile or the BMC's Allow says so,
// and where neither speaks, on a slot without any action (Lenovo, vendors.md
// 3.15 rule 4). A slot with an eject only is not for us (OpenBMC's Proxy, 2.2).
func (c *Client) insertWays(p bmc.Profile) []way {
	var ways []way
	standard, _ := action(c.slot.Actions, "#VirtualMedia.InsertMedia")
	if t := standard.Target.v; t != "" {
		ways = append(ways, way{insertAction, t})
	}
	if t := oemAction(c.slot.Actions, c.slot.Oem, ".InsertVirtualMedia"); t != "" {
		ways = append(ways, way{insertOEM, t})
	}
	eject, _ := action(c.slot.Actions, "#VirtualMedia.EjectMedia")
	bare := len(ways) == 0 && eject.Target.v == "" && c.allow == ""
	if bare || p.Insert == insertPatch || p.Insert == insertOEM || strings.Contains(c.allow, http.MethodPatch) {
		ways = append(ways, way{insertPatch, c.slotRead})
	}
	slices.SortStableFunc(ways, func(a, b way) int {
		return rank(b.name == p.Insert) - rank(a.name == p.Insert)
	})
	return ways
}

func rank(first bool) int {
	if first {
		return 1
	}
	return 0
}

// InsertMedia implements bmc.Actuator.
func (c *Client) InsertMedia(ctx context.Context, image string) error {
	const op = "insert media"
	if err := c.slotKnown(ctx, op); err != nil {
		return err
	}
	if err := c.tree.Profile.CheckURL(image); err != nil {
		return &bmc.Error{Op: op, Kind: bmc.KindOf(err), Hint: bmc.HintOf(err), Err: err}
	}
	ways := c.insertWays(c.tree.Profile)
	if len(ways) == 0 {
		return unsupported(op, "the slot "+c.slot.ID.v+" offers no way to insert an image", "check the BMC's licence")
	}
	w := ways[0]
	uri, err := c.target(op, w.target)
	if err != nil {
		return err
	}
	if w.name != insertPatch {
		delete(c.etags, c.tree.Slot) // an action changes the slot
	}
	forms := slices.Clone(c.tree.Profile.InsertForms)
	if len(forms) == 0 {
		forms = []bmc.InsertForm{bmc.FormImage}
	}
	body := insertBody(forms[0], image)
	if w.name == insertPatch {
		body["Inserted"] = true
	}
	for {
		err := c.insertOnce(ctx, op, w, uri, body)
		if err == nil {
			return nil
		}
		next, rest := climb(forms, image, body, err)
		if next == nil {
			return c.occupied(ctx, err)
		}
		body, forms = next, rest
	}
}

// occupied looks whether a refused insert was refused because the slot is
// taken: BMCs have many words for that, and "in use" also means busy.
func (c *Client) occupied(ctx context.Context, refused error) error {
	e, ok := errors.AsType[*bmc.Error](refused)
	if !ok || e.Uncertain || e.Kind != bmc.KindBusy && e.Kind != bmc.KindProtocol {
		return refused
	}
	if _, said := refusalIn(refused); !said || ctx.Err() != nil || c.readSlot(ctx, c.tree.Slot) != nil {
		return refused
	}
	m, err := c.mediaOf(c.tree.Slot)
	if err != nil || m.Compare("") == bmc.ImageEmpty {
		return refused
	}
	held := m.Image
	if held == "" {
		held = "an image that it does not name"
	}
	return &bmc.Error{
		Op: e.Op, Kind: bmc.KindMedia, Err: fmt.Errorf("the slot %s already holds %s: %w", m.Slot, c.clean(held), e.Err),
		Hint: "eject it first",
	}
}

func (c *Client) insertOnce(ctx context.Context, op string, w way, uri string, body map[string]any) error {
	if w.name != insertPatch {
		return c.actUnless(ctx, op, uri, body, func(ctx context.Context, refused *bmc.Error) error {
			if err := c.occupied(ctx, refused); bmc.KindOf(err) == bmc.KindMedia {
				return err
			}
			return nil
		})
	}
	a, err := c.patch(ctx, op, uri, body)
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}

// insertBody is the request in one form; each form has all of the ones before
// it (vendors.md 3.15 rule 3).
func insertBody(form bmc.InsertForm, image string) map[string]any {
	body := map[string]any{"Image": image}
	switch form {
	case bmc.FormInserted:
		body["Inserted"], body["WriteProtected"] = true, true
		fallthrough
	case bmc.FormMethod:
		body["TransferMethod"] = "Stream"
		fallthrough
	case bmc.FormProtocol:
		if u, err := url.Parse(image); err == nil {
			body["TransferProtocolType"] = strings.ToUpper(u.Scheme)
		}
	case bmc.FormImage:
	}
	return body
}

// climb gives the next body to try, and the forms that are left: a longer one
// when the BMC misses a field by name, a PATCH without Inserted when the BMC
// does not know that. nil means that the answer asks for nothing we have.
func climb(forms []bmc.InsertForm, image string, body map[string]any, err error) (map[string]any, []bmc.InsertForm) {
	r, ok := refusalIn(err)
	if !ok || r.status < 400 || r.status >= 500 {
		return nil, nil
	}
	for _, m := range r.messages {
		if _, has := body["Inserted"]; has && len(body) == 2 && m.unknownField() && m.names("Inserted") {
			return map[string]any{"Image": image}, forms
		}
		if !m.missingField() {
			continue
		}
		for i := 1; i < len(forms); i++ {
			longer := insertBody(forms[i], image)
			for field := range longer {
				if _, has := body[field]; !has && m.names(field) {
					return longer, forms[i:]
				}
			}
		}
	}
	return nil, nil
}

// missingField reports whether the message asks for a field (Base registry:
// ActionParameterMissing, PropertyMissing, CreateFailedMissingReqProperties).
func (m message) missingField() bool {
	text := strings.ToLower(m.Text.v)
	return strings.Contains(m.name(), "Missing") || strings.Contains(text, "missing") || strings.Contains(text, "required")
}

// unknownField reports whether the message refuses a field.
func (m message) unknownField() bool {
	switch m.name() {
	case "PropertyUnknown", "PropertyNotWritable", "ActionParameterUnknown", "ActionParameterNotSupported":
		return true
	}
	return strings.Contains(m.Text.v, "not in the list of valid properties")
}

// EjectMedia implements bmc.Actuator. A slot with nothing to eject is a
// success.
func (c *Client) EjectMedia(ctx context.Context) error {
	const op = "eject media"
	if err := c.slotKnown(ctx, op); err != nil {
		return err
	}
	standard, _ := action(c.slot.Actions, "#VirtualMedia.EjectMedia")
	target := standard.Target.v
	if oem := oemAction(c.slot.Actions, c.slot.Oem, ".EjectVirtualMedia"); oem != "" && (target == "" || c.tree.Profile.Insert == insertOEM) {
		target = oem
	}
	var err error
	if target != "" {
		if target, err = c.target(op, target); err == nil {
			delete(c.etags, c.tree.Slot)
			// With no body at all, iLO answers 415 (vendors.md 2.4).
			err = c.act(ctx, op, target, map[string]any{})
		}
	} else {
		err = c.ejectByPatch(ctx, op)
	}
	c.slotRead = "" // its actions may be others now
	if r, ok := refusalIn(err); ok && r.status < 500 && c.wasEmpty(ctx, r.messages) {
		return nil
	}
	return err
}

// wasEmpty tells whether an eject was refused for want of anything to eject: by
// what the BMC says, else by looking.
func (c *Client) wasEmpty(ctx context.Context, ms messages) bool {
	for _, m := range ms {
		if slices.Contains(c.tree.Profile.AlreadyEmpty, m.name()) {
			return true
		}
	}
	if c.readSlot(ctx, c.tree.Slot) != nil {
		return false
	}
	m, err := c.mediaOf(c.tree.Slot)
	return err == nil && m.Compare("") == bmc.ImageEmpty
}

func (c *Client) ejectByPatch(ctx context.Context, op string) error {
	ways := c.insertWays(c.tree.Profile)
	i := slices.IndexFunc(ways, func(w way) bool { return w.name == insertPatch })
	if i < 0 && !c.slot.Inserted.v {
		// Supermicro offers the action only while something is inserted, and
		// keeps the old name (vendors.md 2.4): there is nothing to do.
		return nil
	}
	if i < 0 {
		return unsupported(op, fmt.Sprintf("the slot %s offers no way to eject", c.slot.ID.v), "eject in the BMC's web page")
	}
	body := map[string]any{"Image": nil, "Inserted": false}
	a, err := c.patch(ctx, op, ways[i].target, body)
	if r, ok := refusalIn(err); ok && slices.ContainsFunc(r.messages, func(m message) bool { return m.unknownField() && m.names("Inserted") }) {
		delete(body, "Inserted")
		a, err = c.patch(ctx, op, ways[i].target, body)
	}
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}
