package bmcsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Client speaks to the machine in memory, for tests of what sits on top of a
// bmc.Client: no HTTP, the same state machine, behaviours, faults and log of
// requests. It opens a session with its first write and ends it with Close.
//
// It knows the machine, so it needs no profile and is not misled by a
// behaviour's wire format; what a behaviour does to the state is what it sees.
// A fault that spoils a body is a protocol error to it.
func (m *Machine) Client() bmc.Client { return &memClient{m: m} }

type memClient struct {
	m     *Machine
	token string
	last  *view // of the last Observe
}

// Observe reads the system and the CD slot.
func (c *memClient) Observe(ctx context.Context) (bmc.State, error) {
	const op = "observe"
	m := c.m
	var v view
	for _, path := range m.observedPaths() {
		err := c.ask(ctx, op, http.MethodGet, path, func() error {
			v = m.view()
			return nil
		})
		if err != nil {
			return bmc.State{}, err
		}
	}
	c.last = &v
	return m.state(v), nil
}

// ObserveSystem reads the system alone.
func (c *memClient) ObserveSystem(ctx context.Context) (bmc.State, error) {
	if c.last == nil {
		return c.Observe(ctx)
	}
	var v view
	err := c.ask(ctx, "observe", http.MethodGet, c.m.kind.systemPath(), func() error {
		v = c.m.view()
		return nil
	})
	if err != nil {
		return bmc.State{}, err
	}
	v.media, v.listed = c.last.media, c.last.listed
	return c.m.state(v), nil
}

// ObserveMedia reads the CD slot alone.
func (c *memClient) ObserveMedia(ctx context.Context) (bmc.Media, error) {
	if c.last == nil || !c.last.listed {
		s, err := c.Observe(ctx)
		return s.Media, err
	}
	var v view
	err := c.ask(ctx, "observe", http.MethodGet, c.m.kind.slotPath(), func() error {
		v = c.m.view()
		return nil
	})
	if err != nil {
		return bmc.Media{}, err
	}
	c.last.media, c.last.listed = v.media, v.listed
	return c.m.state(v).Media, nil
}

func (m *Machine) observedPaths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	paths := []string{rootPath, m.kind.systemPath(), m.kind.managerPath()}
	switch {
	case m.kind.mediaUnder == "":
		return paths
	case m.listed:
		return append(paths, m.kind.mediaPath(), m.kind.slotPath())
	}
	return append(paths, m.kind.mediaPath())
}

// state is a view in the vocabulary.
func (m *Machine) state(v view) bmc.State {
	s := bmc.State{
		ID: bmc.Identity{
			Vendor: or(v.k.manufacturer, v.k.vendor), Product: v.k.bmcName, Model: v.k.model,
			Firmware: strings.TrimPrefix(v.k.firmware, v.k.bmcName+" v"), Profile: string(m.cfg.Kind), System: v.k.systemPath(),
		},
		Power: v.power, Phase: v.phase, Boot: v.override, Media: v.media,
	}
	if v.own.Target == v.k.cdTarget && v.k.cdTarget != "" {
		s.Boot = bmc.BootOverride{Target: "Cd", Enabled: v.own.Enabled}
	}
	if v.q.NeverAttaches {
		s.Media.Inserted = false
	}
	switch {
	case m.kind.mediaUnder == "":
		s.Media = bmc.Media{Access: bmc.AccessNone}
		s.CannotMount = bmc.Refusal{Kind: bmc.KindUnsupported, Why: "the BMC has no virtual media", Hint: "use another way to boot this machine"}
	case !v.listed:
		s.Media = bmc.Media{Access: bmc.AccessDisabled}
	}
	for _, p := range []*string{&s.Media.Image, &s.Media.ImageName} {
		if bmc.EmptyName(*p) {
			*p = ""
		}
	}
	for _, r := range resetKinds {
		if slices.Contains(v.resetTypes, r.resetType) && !slices.Contains(s.Resets, r.kind) {
			s.Resets = append(s.Resets, r.kind)
		}
	}
	return s
}

// resetKinds are the ResetTypes that mean a kind of reset, the best first.
var resetKinds = []struct {
	kind      bmc.ResetKind
	resetType string
}{
	{bmc.GracefulShutdown, "GracefulShutdown"},
	{bmc.GracefulShutdown, pushButton},
	{bmc.ForceOff, "ForceOff"},
	{bmc.ForceOff, "Off"},
	{bmc.PowerUp, "On"},
	{bmc.PowerUp, "ForceOn"},
	{bmc.Restart, "ForceRestart"},
	{bmc.Restart, "PowerCycle"},
}

// EnableMedia switches remote media on, or does nothing where that is not a
// matter.
func (c *memClient) EnableMedia(ctx context.Context) error {
	return c.ask(ctx, "enable remote media", http.MethodPost, c.m.kind.managerPath()+rmediaAction, func() error {
		c.m.enableRemote(true)
		return nil
	})
}

// InsertMedia mounts an image.
func (c *memClient) InsertMedia(ctx context.Context, image string) error {
	return c.change(ctx, "insert media", "InsertMedia", func() (*task, error) { return c.m.insert(image) })
}

// EjectMedia empties the slot; that it is empty already is no error.
func (c *memClient) EjectMedia(ctx context.Context) error {
	err := c.change(ctx, "eject media", "EjectMedia", c.m.eject)
	var r *refusal
	if errors.As(err, &r) && r.id == c.m.kind.refuse("NoVirtualMediaConnectionAvailable").id {
		return nil
	}
	return err
}

// change asks for a change of media and waits for it to end.
func (c *memClient) change(ctx context.Context, op, action string, start func() (*task, error)) error {
	if c.m.kind.mediaUnder == "" {
		return fail(op, bmc.KindUnsupported, "use another way to boot this machine", errors.New("the BMC has no virtual media"))
	}
	var t *task
	path := c.m.kind.slotPath() + "/Actions/VirtualMedia." + action
	err := c.ask(ctx, op, http.MethodPost, path, func() (err error) {
		if !c.m.listed {
			return c.m.kind.refuse("ResourceMissingAtURI", path)
		}
		t, err = start()
		return err
	})
	if err != nil || t == nil {
		return err
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		return uncertain(gaveUp(ctx, op))
	case <-c.m.ctx.Done():
		return uncertain(gone(op))
	}
	if t.err != nil {
		return refusedError(op, t.err)
	}
	return nil
}

// SetBootOnce arms the virtual CD for the next boot.
func (c *memClient) SetBootOnce(ctx context.Context) error {
	return c.ask(ctx, "set boot once", http.MethodPatch, c.m.kind.systemPath(), func() error {
		target, enabled, mode := c.m.cdTarget(), "Once", "UEFI"
		if !slices.Contains(c.m.bootTargets(), target) {
			return c.m.armOwn(true)
		}
		p := bootPatch{Target: &target, Enabled: &enabled, Mode: &mode}
		if c.m.behaviour.RefuseBootMode {
			p.Mode = nil
		}
		return c.m.patchBoot(p)
	})
}

// ClearBoot takes that back.
func (c *memClient) ClearBoot(ctx context.Context) error {
	return c.ask(ctx, "clear boot", http.MethodPatch, c.m.kind.systemPath(), func() error {
		target, enabled := "None", "Disabled"
		if !slices.Contains(c.m.bootTargets(), c.m.cdTarget()) {
			return c.m.armOwn(false)
		}
		if !slices.Contains(c.m.bootTargets(), target) {
			target = "Hdd"
		}
		p := bootPatch{Target: &target, Enabled: &enabled}
		if mode := c.m.override.Mode; !c.m.behaviour.RefuseBootMode {
			p.Mode = &mode
		}
		return c.m.patchBoot(p)
	})
}

// Reset asks for a change of power.
func (c *memClient) Reset(ctx context.Context, kind bmc.ResetKind) error {
	for {
		err := c.resetOnce(ctx, kind)
		var r *refusal
		if !errors.As(err, &r) || r.id != c.m.kind.refuse("PowerConflict").id {
			return err
		}
		// It says of itself that it is settling.
		if (bmc.SystemClock{}).Sleep(ctx, c.m.timing.PowerLag/4) != nil {
			return gaveUp(ctx, "reset")
		}
	}
}

func (c *memClient) resetOnce(ctx context.Context, kind bmc.ResetKind) error {
	path := c.m.kind.systemPath() + "/Actions/ComputerSystem.Reset"
	return c.ask(ctx, "reset", http.MethodPost, path, func() error {
		offered := c.m.resetTypes()
		for _, r := range resetKinds {
			switch {
			case r.kind != kind || !slices.Contains(offered, r.resetType):
			case r.resetType == pushButton && c.m.power.now != bmc.PowerOn:
				return nil // it would switch on
			default:
				return c.m.reset(r.resetType)
			}
		}
		return c.m.kind.refuse("ActionParameterValueNotInList", string(kind), "ResetType", "ComputerSystem.Reset")
	})
}

// Close ends the session, whatever ctx says and without a fault's leave.
func (c *memClient) Close(context.Context) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.endSession(c.token)
	c.token = ""
	return nil
}

// ask passes one request through the gates that a request by HTTP passes: is
// there a BMC, is a fault due, is a session needed, is it busy. do is called with
// the machine's lock.
func (c *memClient) ask(ctx context.Context, op, method, path string, do func() error) error {
	m := c.m
	entry := &Request{Method: method, Path: path}
	if method != http.MethodGet {
		entry.Auth = "session"
	}
	if ctx.Err() != nil {
		return gaveUp(ctx, op)
	}
	req := &call{ctx: ctx, method: method, path: path}
	fault, alive := m.begin(req, entry)
	err := error(gone(op))
	if alive {
		err = c.suffer(req, op, fault, do)
	}
	m.finish(entry, statusOf(err))
	return err
}

// statusOf is what HTTP would have answered; 0 when nothing.
func statusOf(err error) int {
	var r *refusal
	switch {
	case err == nil:
		return http.StatusOK
	case errors.As(err, &r):
		return r.status
	}
	return 0
}

// suffer does what is asked, under a fault if one is due.
func (c *memClient) suffer(req *call, op string, fault Do, do func() error) error {
	write := req.method != http.MethodGet
	switch fault.What {
	case DoHang:
		select {
		case <-req.ctx.Done():
			return maybe(write, gaveUp(req.ctx, op))
		case <-c.m.ctx.Done():
			return maybe(write, gone(op))
		}
	case DoCloseBefore:
		return maybe(write, gone(op))
	case DoStatus:
		return c.faultError(op, fault)
	case DoHTML, DoHuge, DoRedirect:
		return fail(op, bmc.KindProtocol, "look at what answers at this address", fmt.Errorf("the answer is no Redfish (%s)", fault.What))
	case DoHalfBody, DoWrongTypes, DoCloseAfter, DoMemberLoop, DoNextLinkLoop: // it is done first
	}
	err := c.do(req, op, do)
	switch {
	case err != nil || fault.What == "":
		return err
	case fault.What == DoCloseAfter:
		return maybe(write, gone(op))
	case !write:
		return fail(op, bmc.KindProtocol, "run it again, then report it", fmt.Errorf("the answer cannot be read (%s)", fault.What))
	}
	return nil
}

func (c *memClient) faultError(op string, fault Do) error {
	a := c.m.faultStatus(fault)
	kind := bmc.KindProtocol
	switch fault.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = bmc.KindAuth
	case http.StatusServiceUnavailable, http.StatusConflict, http.StatusPreconditionFailed:
		kind = bmc.KindBusy
	}
	err := refusedError(op, &refusal{status: a.status, id: fault.MessageID, message: http.StatusText(a.status), kind: kind})
	err.RetryAfter = fault.RetryAfter
	return err
}

// do is a request to a BMC without faults.
func (c *memClient) do(req *call, op string, do func() error) error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if req.busy && req.path != rootPath {
		return refusedError(op, m.kind.refuse("ServiceUnavailable", "0"))
	}
	if req.method != http.MethodGet {
		if err := c.logIn(); err != nil {
			return refusedError(op, refusalOf(err))
		}
	}
	err := do()
	if err != nil {
		return refusedError(op, refusalOf(err))
	}
	if m.behaviour.CloseAfterAction && req.method == http.MethodPost && strings.Contains(req.path, "/Actions/") {
		return uncertain(gone(op))
	}
	return nil
}

// logIn opens a session, or another when the first has ended.
func (c *memClient) logIn() error {
	if c.token != "" && c.m.useSession(c.token) == nil {
		return nil
	}
	s, err := c.m.openSession()
	if err == nil {
		c.token = s.token
	}
	return err
}

func fail(op string, kind bmc.Kind, hint string, err error) *bmc.Error {
	return &bmc.Error{Op: op, Kind: kind, Hint: hint, Err: err}
}

func refusedError(op string, r *refusal) *bmc.Error {
	return fail(op, r.kind, "look at the BMC's own log", r)
}

// gone is a BMC that closed the connection.
func gone(op string) *bmc.Error {
	return fail(op, bmc.KindUnreachable, "check that the BMC answers", io.ErrUnexpectedEOF)
}

// gaveUp is a client that did not wait longer.
func gaveUp(ctx context.Context, op string) *bmc.Error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fail(op, bmc.KindTimeout, "give it more time with --timeout", ctx.Err())
	}
	return fail(op, bmc.KindCancelled, "run it again", ctx.Err())
}

func uncertain(err *bmc.Error) *bmc.Error { return maybe(true, err) }

// maybe marks the error of a write whose answer was lost.
func maybe(write bool, err *bmc.Error) *bmc.Error {
	err.Uncertain = write
	return err
}
