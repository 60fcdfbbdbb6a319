package redfish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	// maxSystems and maxManagers bound how many resources are read to find the
	// right one; a BMC with more needs bmc.system.
	maxSystems  = 16
	maxManagers = 8
)

// A found is a resource that was read, and where.
type found[T any] struct {
	uri string
	doc T
}

// Observe implements bmc.Observer. The first call of a connection without a
// Topology walks the BMC's tree; others read the System and the slot.
func (c *Client) Observe(ctx context.Context) (bmc.State, error) {
	if c.tree != nil {
		s, err := c.observeKnown(ctx)
		if !gone(err) && !errors.Is(err, errOtherMachine) {
			return s, err
		}
		// A resource moved or went: look again (AMI removes the slots when
		// remote media is switched off, vendors.md 2.4).
		c.forget()
	}
	return c.observeCold(ctx)
}

// ObserveSystem implements bmc.Observer.
func (c *Client) ObserveSystem(ctx context.Context) (bmc.State, error) {
	// What arms a medium itself is read with the medium.
	if c.tree == nil || c.media == nil || c.armsMedium(c.tree.Profile) {
		return c.Observe(ctx)
	}
	sys, err := c.readSystem(ctx, c.tree.System)
	if gone(err) {
		c.forget()
		return c.Observe(ctx)
	}
	if err != nil {
		return bmc.State{}, err
	}
	boot, err := c.bootOf(ctx, sys)
	if err != nil {
		return bmc.State{}, err
	}
	return c.state(sys, boot)
}

// ObserveMedia implements bmc.Observer.
func (c *Client) ObserveMedia(ctx context.Context) (bmc.Media, error) {
	if c.tree != nil {
		m, err := c.observeMedia(ctx)
		if err == nil {
			c.media = &m
			c.remember()
		}
		if !gone(err) {
			return m, err
		}
		c.forget()
	}
	s, err := c.observeCold(ctx)
	return s.Media, err
}

func (c *Client) forget() {
	c.tree, c.media = nil, nil
	c.topology.store(walk{})
}

// remember keeps what was found for the connections to come.
func (c *Client) remember() {
	if !c.doubted {
		c.topology.store(walk{Tree: c.tree, Machine: c.machine, At: c.walked})
	}
}

// doubt has the next connection look for everything again. A BMC may refuse
// what it took yesterday since its firmware is another one now.
func (c *Client) doubt(refused *bmc.Error) {
	if refused.Kind == bmc.KindProtocol || refused.Kind == bmc.KindUnsupported {
		c.doubted = true
		c.topology.store(walk{})
	}
}

// known makes sure that the tree was walked.
func (c *Client) known(ctx context.Context) error {
	if c.tree != nil {
		return nil
	}
	_, err := c.observeCold(ctx)
	return err
}

func (c *Client) observeKnown(ctx context.Context) (bmc.State, error) {
	sys, err := c.readSystem(ctx, c.tree.System)
	if err != nil {
		return bmc.State{}, err
	}
	if machine(sys.doc) != c.machine {
		return bmc.State{}, errOtherMachine
	}
	return c.observeRest(ctx, sys)
}

var errOtherMachine = errors.New("another machine answers than the one that was walked")

func (c *Client) observeCold(ctx context.Context) (bmc.State, error) {
	defer c.dropAhead()
	root, err := c.readRoot(ctx)
	if err != nil {
		return bmc.State{}, err
	}
	sys, err := c.findSystem(ctx, root)
	if err != nil {
		return bmc.State{}, err
	}
	managers, err := c.managers(ctx, root, sys)
	if err != nil {
		return bmc.State{}, err
	}
	t := &tree{Sessions: *c.sessions, System: sys.uri, ID: identity(root, sys, managers)}
	if t.Profile, err = c.chooseProfile(root, sys, managers, t.ID); err != nil {
		return bmc.State{}, err
	}
	t.ID.Profile = t.Profile.Name
	c.auth.adopt(t.Profile)
	if t.Settings, err = c.settingsOf(sys); err != nil {
		return bmc.State{}, err
	}
	if uri, err := c.endpoint.local(bootAt(t.Profile, sys, managers)); err == nil {
		t.BootAt = uri
	}
	if err := c.collections(t, []found[systemDoc]{sys}, managers); err != nil {
		return bmc.State{}, err
	}
	t.Cannot = cannotMount(t, managers)
	if t.Reset, err = c.resetOf(ctx, sys); err != nil {
		return bmc.State{}, err
	}
	c.tree, c.machine, c.walked, c.doubted = t, machine(sys.doc), c.clock.Now(), false
	s, err := c.observeRest(ctx, sys)
	if err != nil {
		c.forget()
	}
	return s, err
}

// observeRest reads what is left after the system.
func (c *Client) observeRest(ctx context.Context, sys found[systemDoc]) (bmc.State, error) {
	boot, err := c.bootOf(ctx, sys)
	if err != nil {
		return bmc.State{}, err
	}
	m, err := c.observeMedia(ctx)
	if err != nil {
		return bmc.State{}, err
	}
	c.remember()
	c.media = &m
	return c.state(sys, boot)
}

// state puts together what was read.
func (c *Client) state(sys found[systemDoc], boot bmc.BootOverride) (bmc.State, error) {
	t := c.tree
	power, err := powerOf(sys)
	if err != nil {
		return bmc.State{}, err
	}
	s := bmc.State{
		ID: t.ID, Power: power, Media: *c.media, Boot: boot,
		Phase: phaseOf(power, sys.doc), Resets: offered(t.Reset.Types),
		CannotMount: t.Cannot, CannotArm: c.cannotArm(t), Schemes: t.Schemes,
	}
	if s.Media.Access == bmc.AccessNone && s.CannotMount.None() {
		s.CannotMount = c.noSlot
	}
	if c.armsMedium(t.Profile) {
		s.Boot = c.oemOverride(t.Profile)
	}
	return s, nil
}

func (c *Client) readSystem(ctx context.Context, uri string) (found[systemDoc], error) {
	f := found[systemDoc]{uri: uri}
	_, err := c.read(ctx, uri, &f.doc)
	return f, err
}

// bootable tells how likely the system is a host. One can be reset, and has boot
// settings, if need be in a settings object (vendors.md 3.13); a second System
// may be a board of GPUs, a DPU, or a part of another. What tells no power
// either is none.
func bootable(s systemDoc) int {
	_, reset := action(s.Actions, "#ComputerSystem.Reset")
	switch boots := s.Boot.set || s.Settings.v.Object.v.URI != ""; {
	case !reset && !s.PowerState.set:
		return -1
	case !reset:
		return 0
	case !boots:
		return 1
	case s.SystemType.v != "" && s.SystemType.v != "Physical":
		return 2
	}
	return 3
}

// findSystem reads the members of Systems until it knows which one is meant.
func (c *Client) findSystem(ctx context.Context, root rootDoc) (found[systemDoc], error) {
	const op = "find the system"
	var none found[systemDoc]
	uri, err := c.resolve(op, rootURI, "Systems", root.Systems)
	if err != nil {
		return none, err
	}
	if uri == "" {
		return none, unsupported(op, "the service root links no Systems", "check that bmc.address is the BMC of a node, and not of an enclosure or a switch")
	}
	if err := c.aheadSystems(ctx, root, uri); err != nil {
		return none, err
	}
	all, err := c.members(ctx, uri)
	if err != nil {
		return none, err
	}
	if len(all) == 0 {
		return none, unsupported(op, short(uri)+" lists no system", "check that bmc.address is the BMC of a node, and not of an enclosure or a switch")
	}
	if one := named(all, c.system); one != "" {
		return c.readSystem(ctx, one)
	}
	if len(all) > maxSystems {
		return none, unsupported(op, fmt.Sprintf("%s lists %d systems", short(uri), len(all)), "write bmc.system")
	}
	hosts, err := c.hosts(ctx, all)
	if err != nil {
		return none, err
	}
	switch {
	case len(hosts) == 1:
		return hosts[0], nil
	case len(hosts) > 1:
		return none, c.ambiguous(ctx, root, hosts)
	case c.system != "":
		return none, unsupported(op, fmt.Sprintf("the BMC has no system %q", c.system), "bmc.system is one of "+ids(all))
	}
	return none, unsupported(op, "none of the systems "+ids(all)+" has Boot settings and can be reset",
		"this BMC cannot boot a node; check that bmc.address is the BMC of a node")
}

// named finds the system that the site file names by URI or Id among URIs.
func named(all []string, want string) string {
	for _, uri := range all {
		if want != "" && (strings.Trim(uri, "/") == strings.Trim(want, "/") || path.Base(uri) == want) {
			return uri
		}
	}
	return ""
}

// hosts reads the systems and keeps those that are most likely meant. One that cannot
// be read is left out as long as another one is found: a second System answers
// 500 while the host is off (vendors.md 3.2 point 10).
func (c *Client) hosts(ctx context.Context, all []string) ([]found[systemDoc], error) {
	var hosts []found[systemDoc]
	var failed error
	best := 1
	if len(all) == 1 {
		best = 0 // the only one is the one: what it lacks the plan says
	}
	for _, uri := range all {
		s, err := c.readSystem(ctx, uri)
		if err != nil && fatal(err) {
			return nil, err
		}
		likely := bootable(s.doc)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case c.system != "":
			if s.doc.ID.v == c.system || strings.EqualFold(s.doc.UUID.v, c.system) {
				hosts = append(hosts, s)
			}
		case likely > best:
			hosts, best = []found[systemDoc]{s}, likely
		case likely == best:
			hosts = append(hosts, s)
		}
	}
	if len(hosts) > 0 || failed == nil {
		return hosts, nil
	}
	// The first of the joined errors is the one that a person needs to see.
	e, _ := errors.AsType[*bmc.Error](failed)
	return nil, e
}

// ambiguous says which systems there are to choose from, or, when no choice
// could help (Cray EX has two nodes on a BMC and media for none), why not.
func (c *Client) ambiguous(ctx context.Context, root rootDoc, hosts []found[systemDoc]) error {
	var all []string
	for _, h := range hosts {
		all = append(all, h.uri)
	}
	managers, err := c.managers(ctx, root, hosts[0])
	if err != nil {
		return err
	}
	t := &tree{ID: identity(root, hosts[0], managers)}
	if err := c.collections(t, hosts, managers); err != nil {
		return err
	}
	if why := cannotMount(t, managers); len(t.Media) == 0 {
		return unsupported("find the virtual media", why.Why, why.Hint)
	}
	return unsupported("find the system", "the BMC has several systems: "+ids(all), "write bmc.system, one of "+ids(all))
}

func ids(all []string) string {
	var out []string
	for _, uri := range all {
		out = append(out, path.Base(uri))
	}
	return strings.Join(out, ", ")
}

// managers reads the managers that the system names, else those that name the
// system, else all there are.
func (c *Client) managers(ctx context.Context, root rootDoc, sys found[systemDoc]) ([]found[managerDoc], error) {
	refs := uris(sys.doc.Links.v.ManagedBy)
	if err := c.aheadManager(ctx, root, sys, refs); err != nil {
		return nil, err
	}
	if len(refs) > 0 {
		own, err := c.readManagers(ctx, sys.uri, refs)
		if err == nil || !gone(err) {
			return own, err
		}
	}
	uri, err := c.resolve("find the manager", rootURI, "Managers", root.Manager)
	if err != nil || uri == "" {
		return nil, err
	}
	if refs, err = c.members(ctx, uri); err != nil {
		return nil, err
	}
	all, err := c.readManagers(ctx, uri, refs)
	own := slices.DeleteFunc(slices.Clone(all), func(m found[managerDoc]) bool {
		return !slices.Contains(uris(m.doc.Links.v.Servers), sys.uri)
	})
	if len(own) > 0 {
		return own, err
	}
	return all, err
}

// readManagers reads the managers that the resource at from lists. One that
// cannot be read is left out as long as there is another.
func (c *Client) readManagers(ctx context.Context, from string, refs []string) ([]found[managerDoc], error) {
	var out []found[managerDoc]
	var failed error
	for _, ref := range refs[:min(len(refs), maxManagers)] {
		uri, err := c.endpoint.local(ref)
		if err != nil {
			failed = malformed("find the manager", from, "names a manager that cannot be used: "+c.clean(err.Error()))
			continue
		}
		m := found[managerDoc]{uri: uri}
		if _, err := c.read(ctx, uri, &m.doc); err != nil {
			if fatal(err) {
				return nil, err
			}
			failed = err
			continue
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, failed
	}
	slices.SortStableFunc(out, func(a, b found[managerDoc]) int { return standing(b.doc) - standing(a.doc) })
	return out, nil
}

// standing puts the manager that governs a host before those of its parts: fans,
// switches, GPUs.
func standing(m managerDoc) int {
	s := 0
	if m.VirtualMedia.set {
		s += 2
	}
	if m.Type.v == "BMC" || m.Type.v == "ManagementController" {
		s++
	}
	return s
}

// collections finds the virtual media collections, in the profile's order, and
// what switches them on.
func (c *Client) collections(t *tree, systems []found[systemDoc], managers []found[managerDoc]) error {
	const op = "find the virtual media"
	at := map[string][]string{}
	add := func(side, uri string, ref maybe[link]) error {
		t.looked = append(t.looked, short(uri))
		media, err := c.resolve(op, uri, "VirtualMedia", ref)
		if err == nil && media != "" && !slices.Contains(at[side], media) {
			at[side] = append(at[side], media)
		}
		return err
	}
	for _, s := range systems {
		if err := add("system", s.uri, s.doc.VirtualMedia); err != nil {
			return err
		}
	}
	for _, m := range managers {
		if err := add("manager", m.uri, m.doc.VirtualMedia); err != nil {
			return err
		}
		c.switches(t, m.doc)
	}
	for _, side := range append(slices.Clone(t.Profile.MediaAt), "system", "manager") {
		for _, uri := range at[side] {
			if !listed(t.Media, uri) { // one side may link the other's
				t.Media = append(t.Media, uri)
			}
		}
	}
	return nil
}

// switches finds what may switch remote media on.
func (c *Client) switches(t *tree, m managerDoc) {
	if target := oemAction(m.Actions, m.Oem, ".EnableRMedia"); t.Enable == "" {
		t.Enable = target
	}
	if ref := m.Protocol.v.URI; ref != "" && t.Protocol == "" {
		if uri, err := c.endpoint.local(ref); err == nil {
			t.Protocol = uri
		}
	}
}

// cannotMount says why no image can be mounted, as far as the walk tells: what
// the BMC lacks, what is known of its family, or its licence.
func cannotMount(t *tree, managers []found[managerDoc]) bmc.Refusal {
	row := t.Profile
	switch why := row.Lacks; {
	case len(t.Media) > 0 && why.Why != "":
		return why
	case len(t.Media) > 0:
		return licence(row.Licence, managers)
	case why.Why != "":
		why.Why += ": " + nor(t.looked) + " a VirtualMedia collection"
		return why
	}
	why := bmc.Refusal{
		Kind: bmc.KindUnsupported, Why: "the BMC has no virtual media: " + nor(t.looked) + " a VirtualMedia collection",
		Hint: "this BMC's firmware cannot mount an image; boot the node another way, or take it out of the site file",
	}
	return because(why, row.NoSlot)
}

// because adds what a family's row knows of the reason.
func because(why, known bmc.Refusal) bmc.Refusal {
	if known.Why == "" {
		return why
	}
	return bmc.Refusal{Kind: known.Kind, Why: why.Why + "; " + known.Why, Hint: known.Hint}
}

// licence looks whether the manager names a licence that does not suffice.
func licence(l bmc.Licence, managers []found[managerDoc]) bmc.Refusal {
	lacking, err := regexp.Compile(l.Lacking)
	if err != nil || len(l.At) == 0 {
		return bmc.Refusal{}
	}
	for _, m := range managers {
		for _, k := range slices.Sorted(maps.Keys(m.doc.Oem.v)) {
			if has := textAt(m.doc.Oem.v[k], l.At); has != "" && lacking.MatchString(has) {
				return bmc.Refusal{Kind: bmc.KindLicence, Why: "its licence is " + has + ", with which it mounts no image", Hint: l.Hint}
			}
		}
	}
	return bmc.Refusal{}
}

// textAt is the string at the end of names, "" if there is none.
func textAt(raw json.RawMessage, names []string) string {
	for _, name := range names {
		var fields maybe[rawFields]
		if fields.UnmarshalJSON(raw) != nil {
			return ""
		}
		raw = fields.v[name]
	}
	var text maybe[string]
	if len(raw) == 0 || text.UnmarshalJSON(raw) != nil {
		return ""
	}
	return text.v
}

func nor(looked []string) string {
	if len(looked) < 2 {
		return strings.Join(looked, "") + " does not link"
	}
	last := len(looked) - 1
	return "neither " + strings.Join(looked[:last], ", ") + " nor " + looked[last] + " links"
}
