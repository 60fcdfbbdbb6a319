package redfish

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// resetTypes maps our kinds to Redfish's, best first. On comes before ForceOn:
// every BMC that takes ForceOn takes On, and On is what others send (vendors.md
// 2.7). PushPowerButton is a toggle: it asks a machine that is on to shut down, as
// on iLO 5 before GracefulShutdown came, and is the last resort.
var resetTypes = []struct {
	kind  bmc.ResetKind
	types []schemas.ResetType
}{
	{bmc.GracefulShutdown, []schemas.ResetType{schemas.GracefulShutdownResetType, schemas.PushPowerButtonResetType}},
	{bmc.ForceOff, []schemas.ResetType{schemas.ForceOffResetType, "Off"}}, // Off: Cray EX
	{bmc.PowerUp, []schemas.ResetType{schemas.OnResetType, schemas.ForceOnResetType, schemas.PushPowerButtonResetType}},
	{bmc.Restart, []schemas.ResetType{
		schemas.ForceRestartResetType, schemas.GracefulRestartResetType, schemas.PowerCycleResetType, "ForcePowerCycle",
	}},
}

// assumedTypes is what a BMC is taken to know that does not list what it knows.
var assumedTypes = []string{
	string(schemas.OnResetType), string(schemas.ForceOffResetType),
	string(schemas.GracefulShutdownResetType), string(schemas.ForceRestartResetType),
}

// resetOf finds the system's reset action, if it has one, and what it takes,
// listed with the action or in the ActionInfo it refers to (Gigabyte, vendors.md
// 2.7).
func (c *Client) resetOf(ctx context.Context, sys found[systemDoc]) (resetAction, error) {
	const op = "find the reset action"
	a, posted := standardAction(sys.doc.Actions, sys.uri, "#ComputerSystem.Reset")
	if a.Target.bad {
		return resetAction{}, wrongType(op, sys.uri, "Actions.#ComputerSystem.Reset.target")
	}
	if posted == "" {
		return resetAction{}, nil
	}
	target, err := c.endpoint.local(posted)
	if err != nil {
		return resetAction{}, malformed(op, sys.uri, "offers a reset that cannot be used: "+c.clean(err.Error()))
	}
	r := resetAction{Target: target, Types: a.Allowed.v}
	if len(r.Types) == 0 && a.Info.v != "" {
		if r.Types, err = c.resetInfo(ctx, a.Info.v); err != nil {
			return r, err
		}
	}
	if len(r.Types) == 0 {
		r.Types = assumedTypes
	}
	return r, nil
}

// resetInfo reads an ActionInfo. One that cannot be had lists nothing.
func (c *Client) resetInfo(ctx context.Context, ref string) ([]string, error) {
	uri, err := c.endpoint.local(ref)
	if err != nil {
		return nil, nil //nolint:nilerr // likewise
	}
	var info actionInfoDoc
	if _, err := c.read(ctx, uri, &info); err != nil {
		if fatal(err) {
			return nil, err
		}
		return nil, nil
	}
	for _, p := range info.Parameters.v {
		if p.v.Name.v == "ResetType" {
			return p.v.Allowed.v, nil
		}
	}
	return nil, nil
}

// offered maps what a BMC takes to our kinds.
func offered(types []string) []bmc.ResetKind {
	var kinds []bmc.ResetKind
	for _, r := range resetTypes {
		if resetType(r.kind, types) != "" {
			kinds = append(kinds, r.kind)
		}
	}
	return kinds
}

// resetType is the best of the types on offer for a kind, "" if there is none.
func resetType(kind bmc.ResetKind, types []string) schemas.ResetType {
	for _, r := range resetTypes {
		if r.kind != kind {
			continue
		}
		for _, t := range r.types {
			if slices.Contains(types, string(t)) {
				return t
			}
		}
	}
	return ""
}

// Reset implements bmc.Actuator. The request is sent once. It is sent again
// only after an answer that says it was refused because the BMC is busy, and
// then only if the system, read again, still is not as wanted. After anything
// that may have acted (no answer, 500, 502, 504) the error is Uncertain.
func (c *Client) Reset(ctx context.Context, kind bmc.ResetKind) error {
	op := "reset (" + string(kind) + ")"
	if err := c.known(ctx); err != nil {
		return err
	}
	t := resetType(kind, c.tree.Reset.Types)
	if t == "" {
		return unsupported(op, "the BMC offers none of that; it takes "+c.clean(cmp.Or(strings.Join(c.tree.Reset.Types, ", "), "no reset")),
			"change the node's power by hand")
	}
	if t == schemas.PushPowerButtonResetType {
		if done, err := c.pushable(ctx, op, kind); done || err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]any{"ResetType": t})
	if err != nil {
		return malformed(op, c.tree.Reset.Target, "cannot be sent what is wanted: "+err.Error())
	}
	delete(c.etags, c.tree.System)
	r := request{method: http.MethodPost, uri: c.tree.Reset.Target, body: body}
	a, err := c.askUnless(ctx, op, r, func(ctx context.Context, refused *bmc.Error) error {
		return c.held(ctx, kind, refused)
	})
	if err != nil {
		return err
	}
	return c.finish(ctx, op, a)
}

// held looks at the system after a refused reset: errHeld if the power is as
// wanted, the refusal if there is nothing that could be reset. Several BMCs
// refuse a reset to the state already held, and iLO with the same words as when
// it is busy (vendors.md 2.7, 3.1).
func (c *Client) held(ctx context.Context, kind bmc.ResetKind, refused *bmc.Error) error {
	sys, err := c.readSystem(ctx, c.tree.System)
	if err != nil {
		return err
	}
	power, err := powerOf(sys)
	switch {
	case err != nil:
		return err
	case kind == bmc.PowerUp && power == bmc.PowerOn,
		(kind == bmc.ForceOff || kind == bmc.GracefulShutdown) && power == bmc.PowerOff:
		return errHeld
	case kind == bmc.Restart && power == bmc.PowerOff:
		return refused
	}
	return nil
}

// pushable makes sure that the power button does what is asked for: it is a toggle,
// which switches a machine on that is off, and asks one that is on to shut down.
// done means that the machine is as wanted already.
func (c *Client) pushable(ctx context.Context, op string, kind bmc.ResetKind) (done bool, err error) {
	from, to := bmc.PowerOff, bmc.PowerOn
	if kind == bmc.GracefulShutdown {
		from, to = to, from
	}
	sys, err := c.readSystem(ctx, c.tree.System)
	if err != nil {
		return false, err
	}
	power, err := powerOf(sys)
	if err != nil || power == from {
		return false, err
	}
	if power == to {
		return true, nil
	}
	return false, &bmc.Error{
		Op: op, Kind: bmc.KindBusy, Hint: "try again when the node's power has settled",
		Err: fmt.Errorf("the BMC can only push the power button for that, and the node's power is neither on nor off but %q", power),
	}
}

// powerOf reads the power state. null, and what the schema does not know, is
// unknown.
func powerOf(sys found[systemDoc]) (bmc.Power, error) {
	if sys.doc.PowerState.bad {
		return bmc.PowerUnknown, wrongType("read "+short(sys.uri), sys.uri, "PowerState")
	}
	for _, p := range []bmc.Power{bmc.PowerOn, bmc.PowerOff, bmc.PoweringOn, bmc.PoweringOff} {
		if strings.EqualFold(sys.doc.PowerState.v, string(p)) {
			return p, nil
		}
	}
	return bmc.PowerUnknown, nil
}

// phaseOf reads how far the host is (vendors.md 2.8). A PostState (iLO) goes
// before BootProgress, which on an iLO is that of a SmartNIC.
func phaseOf(power bmc.Power, s systemDoc) bmc.Phase {
	if power == bmc.PowerOff {
		return bmc.PhaseOff
	}
	_, blocks := oemBlocks(s.Oem)
	for _, b := range blocks {
		switch {
		case b.PostCompleted.set && !b.PostCompleted.v:
			return bmc.PhasePost
		case b.PostCompleted.set:
			return bmc.PhaseOS
		case !b.PostState.set:
			continue
		}
		switch b.PostState.v {
		case "PowerOff", "Reset", "InPost", "InPostDiscoveryStart", "InPostDiscoveryComplete":
			return bmc.PhasePost
		case "FinishedPost":
			return bmc.PhaseOS
		}
		return bmc.PhaseUnknown
	}
	switch s.BootProgress.v.LastState.v {
	case "PrimaryProcessorInitializationStarted", "BusInitializationStarted", "MemoryInitializationStarted",
		"SecondaryProcessorInitializationStarted", "PCIResourceConfigStarted", "SetupEntered":
		return bmc.PhasePost
	case "OSBootStarted", "OSRunning":
		return bmc.PhaseOS
	}
	// SystemHardwareInitializationComplete says nothing: Supermicro's stays
	// there while the system runs.
	return bmc.PhaseUnknown
}
