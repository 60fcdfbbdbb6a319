package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

// slotKnown makes sure that the slot was read on this connection: which actions
// it has changes with its state (Supermicro, vendors.md 2.4).
func (c *Client) slotKnown(ctx context.Context, op string) error {
	if err := c.known(ctx); err != nil {
		return err
	}
	if c.tree.Slot == "" {
		// It may have been switched on since.
		if _, err := c.observeMedia(ctx); err != nil {
			return err
		}
	}
	if c.tree.Slot == "" {
		return c.slotless(op)
	}
	if c.slotRead == c.tree.Slot {
		return nil
	}
	return c.readSlot(ctx, c.tree.Slot)
}

// slotless is the error of a change to a drive that is not there.
func (c *Client) slotless(op string) error {
	why := c.tree.Cannot
	if why.None() {
		why = c.noSlot
	}
	if why.None() {
		why = bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "the BMC has remote media switched off",
			Hint: "switch it on first (the step enable-media, or the BMC's web page)",
		}
	}
	return &bmc.Error{Op: op, Kind: why.Kind, Err: errors.New(why.Why), Hint: why.Hint}
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

// insertWays lists how the slot read last can be inserted into, the best first:
// the OEM action where the row wants it, else the standard one, else a PATCH. A
// PATCH is possible where the profile or the BMC's Allow says so, and where
// neither speaks, on a slot without any action (Lenovo, vendors.md 3.15 rule 4).
// A slot with an eject only is not for us (OpenBMC's Proxy, 2.2).
func (c *Client) insertWays(p bmc.Profile) []way {
	var ways []way
	_, standard := standardAction(c.slot.Actions, c.slotRead, "#VirtualMedia.InsertMedia")
	oem := oemAction(c.slot.Actions, c.slot.Oem, ".InsertVirtualMedia")
	if oem != "" && (standard == "" || p.Insert == insertOEM) {
		ways = append(ways, way{insertOEM, oem})
	}
	if standard != "" {
		ways = append(ways, way{insertAction, standard})
	}
	_, eject := standardAction(c.slot.Actions, c.slotRead, "#VirtualMedia.EjectMedia")
	vendors := oem != "" || oemAction(c.slot.Actions, c.slot.Oem, ".VmmControl") != ""
	bare := standard == "" && !vendors && eject == "" && c.allow == ""
	if bare || p.Insert == insertPatch || p.Insert == insertOEM || strings.Contains(c.allow, http.MethodPatch) {
		ways = append(ways, way{insertPatch, c.slotRead})
	}
	return ways
}

// InsertMedia implements bmc.Actuator.
func (c *Client) InsertMedia(ctx context.Context, image string) error {
	const op = "insert media"
	if err := c.slotKnown(ctx, op); err != nil {
		return err
	}
	if err := c.tree.Profile.CheckURL(image, c.tree.Schemes); err != nil {
		return &bmc.Error{Op: op, Kind: bmc.KindOf(err), Hint: bmc.HintOf(err), Err: err}
	}
	if err := c.settleAfterEject(ctx, op); err != nil {
		return err
	}
	err := c.insertHere(ctx, op, image)
	if refusesImages(err) && c.tree.Profile.TrySlots {
		return c.insertElsewhere(ctx, op, image, err)
	}
	return err
}

// settleAfterEject waits for as long as this BMC refuses an insert after an eject
// (iDRAC, iRMC: vendors.md 2.4, 3.9).
func (c *Client) settleAfterEject(ctx context.Context, op string) error {
	left := c.tree.Profile.EjectSettle() - c.clock.Now().Sub(c.ejected)
	if c.ejected.IsZero() || left <= 0 {
		return nil
	}
	if c.clock.Sleep(ctx, left) != nil {
		return c.lost(ctx, op, request{method: http.MethodPost, uri: c.tree.Slot}, false, ctx.Err())
	}
	return nil
}

// refusesImages reports whether a slot refuses to be inserted into at all: Cisco
// and OpenBMC list slots that look like any and answer so (vendors.md 2.2, 3.3).
func refusesImages(err error) bool {
	r, ok := refusalIn(err)
	return ok && r.status < 500 && (r.status == http.StatusMethodNotAllowed || r.status != http.StatusUnauthorized && bmc.KindOf(err) == bmc.KindUnsupported)
}

// insertElsewhere tries the other slots that take a CD, and keeps to the first
// that does not refuse. One that holds the image already is as good.
func (c *Client) insertElsewhere(ctx context.Context, op, image string, refused error) error {
	first := c.tree.Slot
	collection := slices.IndexFunc(c.tree.Media, func(uri string) bool { return strings.HasPrefix(first, strings.TrimRight(uri, "/")+"/") })
	if collection < 0 {
		return refused
	}
	others, err := c.members(ctx, c.tree.Media[collection])
	if err != nil {
		return err
	}
	for _, uri := range inOrder(others, nil) {
		if uri == first {
			continue
		}
		if err := c.readSlot(ctx, uri); err != nil {
			if fatal(err) {
				return err
			}
			continue
		}
		if c.unfit(c.tree.Profile) != "" {
			continue
		}
		m, err := c.mediaOf(uri)
		if err == nil && m.Compare(image) != bmc.ImageMatch {
			err = c.insertHere(ctx, op, image)
		}
		if refusesImages(err) {
			continue
		}
		if err == nil {
			with := *c.tree
			with.Slot = uri
			c.tree = &with
			c.remember()
		}
		return err
	}
	c.slotRead = ""
	return refused
}

// insertHere inserts into the slot read last. What the BMC asks for by name is
// added, what it refuses by name is left out; each once.
func (c *Client) insertHere(ctx context.Context, op, image string) error {
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
		delete(c.etags, c.slotRead) // an action changes the slot
	}
	body := c.insertBody(w, image)
	tried := map[string]bool{}
	for {
		err := c.insertOnce(ctx, op, w, uri, body)
		if err == nil || !mend(body, tried, image, err) {
			return c.explain(ctx, image, err)
		}
	}
}

// insertBody is the request to begin with: what the row sends, and what the BMC
// says that it requires (vendors.md 3.15 rule 3).
func (c *Client) insertBody(w way, image string) map[string]any {
	body := map[string]any{"Image": image}
	for _, with := range c.tree.Profile.InsertWith {
		for name, value := range insertFields(with, image) {
			body[name] = value
		}
	}
	for _, name := range c.tree.Needs {
		if value, ok := insertField(name, image); ok {
			body[name] = value
		}
	}
	if w.name == insertPatch {
		body["Inserted"] = true
	}
	return body
}

// insertFields are the parameters that one of the row's words stands for.
func insertFields(with bmc.InsertField, image string) map[string]any {
	switch with {
	case bmc.WithProtocol:
		scheme, _, _ := strings.Cut(image, ":")
		return map[string]any{"TransferProtocolType": strings.ToUpper(scheme)}
	case bmc.WithMethod:
		return map[string]any{"TransferMethod": "Stream"}
	case bmc.WithInserted:
		return map[string]any{"Inserted": true, "WriteProtected": true}
	case bmc.WithCredentials:
		// A DGX wants some, whatever they are (vendors.md 3.13).
		return map[string]any{"UserName": "none", "Password": "none"}
	}
	return nil
}

// insertField is one parameter by its name; ok is false for one that we have not.
func insertField(name, image string) (value any, ok bool) {
	for _, with := range []bmc.InsertField{bmc.WithProtocol, bmc.WithMethod, bmc.WithInserted, bmc.WithCredentials} {
		if value, ok = insertFields(with, image)[name]; ok {
			return value, true
		}
	}
	return nil, false
}

// optionalFields are the parameters that may come and go, in the order in which
// a BMC's answer is searched for them.
var optionalFields = []string{"TransferProtocolType", "TransferMethod", "Inserted", "WriteProtected", "UserName", "Password"}

// mend changes the body as the BMC's refusal asks for, and reports whether it
// did. A parameter is added or left out once: a BMC that wants both gets
// neither.
func mend(body map[string]any, tried map[string]bool, image string, err error) bool {
	r, ok := refusalIn(err)
	if !ok || r.status < 400 || r.status >= 500 {
		return false
	}
	mended := false
	for _, m := range r.messages {
		for _, name := range optionalFields {
			_, has := body[name]
			if tried[name] || !m.names(name) {
				continue
			}
			switch {
			case has && m.unknownField():
				delete(body, name)
			case !has && m.missingField():
				body[name], _ = insertField(name, image)
			default:
				continue
			}
			tried[name], mended = true, true
		}
	}
	return mended
}

// explain says what a refused insert is about where the BMC's answer alone does
// not: the slot is taken, the image is not there, or its URL is of no use.
func (c *Client) explain(ctx context.Context, image string, refused error) error {
	e, ok := errors.AsType[*bmc.Error](refused)
	r, said := refusalIn(refused)
	if !ok || !said || e.Uncertain || e.Kind != bmc.KindBusy && e.Kind != bmc.KindProtocol && e.Kind != bmc.KindUnsupported {
		return refused
	}
	for _, m := range r.messages {
		if m.refusesValue() && (m.names("TransferProtocolType") || m.names("Image")) {
			scheme, _, _ := strings.Cut(image, ":")
			return &bmc.Error{Op: e.Op, Kind: bmc.KindURL, Err: e.Err, Hint: "the BMC mounts no " + scheme + " image of this URL; serve it by another scheme or under a plainer name"}
		}
	}
	if r.status == http.StatusNotFound || r.status == http.StatusGone {
		return c.notFound(ctx, e)
	}
	return c.occupied(ctx, refused)
}

// notFound tells an image that the BMC did not find from a slot that is gone.
func (c *Client) notFound(ctx context.Context, e *bmc.Error) error {
	hint := "check from the BMC's network that the image is at its URL"
	if err := c.readSlot(ctx, c.tree.Slot); gone(err) {
		hint = "the BMC's slot is gone: its remote media may have been switched off; apply again"
	}
	return &bmc.Error{Op: e.Op, Kind: bmc.KindMedia, Err: e.Err, Hint: hint}
}

// occupied looks whether a refused insert was refused because the slot is
// taken: BMCs have many words for that, and "in use" also means busy.
func (c *Client) occupied(ctx context.Context, refused error) error {
	e, ok := errors.AsType[*bmc.Error](refused)
	if !ok || e.Uncertain || e.Kind != bmc.KindBusy && e.Kind != bmc.KindProtocol {
		return refused
	}
	slot := c.slotRead
	if _, said := refusalIn(refused); !said || ctx.Err() != nil || slot == "" || c.readSlot(ctx, slot) != nil {
		return refused
	}
	m, err := c.mediaOf(slot)
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

// refusesValue reports whether the message refuses what a field holds.
func (m message) refusesValue() bool {
	return strings.HasSuffix(m.name(), "NotInList") || strings.HasSuffix(m.name(), "FormatError") || strings.HasSuffix(m.name(), "ValueError")
}

// EjectMedia implements bmc.Actuator. A slot with nothing to eject is a
// success.
func (c *Client) EjectMedia(ctx context.Context) error {
	const op = "eject media"
	if err := c.slotKnown(ctx, op); err != nil {
		return err
	}
	_, target := standardAction(c.slot.Actions, c.slotRead, "#VirtualMedia.EjectMedia")
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
	c.slotRead, c.ejected = "", c.clock.Now() // its actions may be others now
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
