package redfish

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// maxLicences bounds how many licences are read.
const maxLicences = 8

// An Inspector reads all that a person may want to know of a BMC. It has no
// method that changes anything. It is not safe for concurrent use.
type Inspector struct {
	c     *Client
	conf  Config
	times times
}

// OpenInspector prepares a connection. It sends nothing. What earlier connections
// found is not used: a card is of what is there now. The errors are of type
// *bmc.Error.
func OpenInspector(ctx context.Context, conf Config) (*Inspector, error) {
	i := &Inspector{conf: conf}
	tap := conf.Tap
	conf.Topology = nil
	conf.Tap = func(next http.RoundTripper) http.RoundTripper {
		if tap != nil {
			next = tap(next)
		}
		i.times.next = next
		return &i.times
	}
	c, err := newClient(ctx, conf)
	if err != nil {
		return nil, err
	}
	i.c, i.times.now = c, c.clock.Now
	return i, nil
}

// Close ends the session, if one was opened, and the connection.
func (i *Inspector) Close(ctx context.Context) error { return i.c.Close(ctx) }

// Inspect reads the BMC. It always gives a card; what could not be read is said
// there.
func (i *Inspector) Inspect(ctx context.Context) bmc.Card {
	r := &inspection{Inspector: i, tree: &tree{}}
	if err := r.walk(ctx); err != nil {
		r.card.Err = err
	}
	if i.times.clock != nil {
		r.card.Clock = i.times.clock
	}
	r.card.Certificate = i.times.certificate
	if r.card.Certificate == nil && ctx.Err() == nil {
		// It was refused, or nothing was asked: this looks at it alone.
		if shown, err := ShownBy(ctx, i.conf); err == nil {
			r.card.Certificate = &shown.Certificate
		}
	}
	return r.card
}

// inspection is one card being written.
type inspection struct {
	*Inspector
	card     bmc.Card
	seen     bmc.MediaCard
	tree     *tree
	root     rootDoc
	sys      found[systemDoc]
	managers []found[managerDoc]
}

// passed notes what could not be read, and reports whether reading can go on.
func (r *inspection) passed(what string, needed bool, err error) bool {
	switch {
	case err == nil:
		return true
	case ends(err):
		r.card.Err = err
		return false
	}
	r.card.Unread = append(r.card.Unread, bmc.Unread{What: what, Needed: needed, Err: err})
	return true
}

// ends reports whether nothing more can be read after an error. An account that
// may not see one thing may see others.
func ends(err error) bool {
	r, said := refusalIn(err)
	return fatal(err) && !(said && r.status == http.StatusForbidden)
}

// walk reads what there is, part by part. Its error is one that ended it.
func (r *inspection) walk(ctx context.Context) error {
	var err error
	if r.root, err = r.c.readRoot(ctx); err != nil {
		return err
	}
	sys, sysErr := r.c.findSystem(ctx, r.root)
	if sysErr != nil && ends(sysErr) {
		return sysErr
	}
	r.sys = sys
	r.managers, err = r.c.managers(ctx, r.root, sys)
	if !r.passed("the manager", true, err) {
		return r.card.Err
	}
	if r.card.ID = identity(r.root, sys, r.managers); sysErr != nil {
		return sysErr // without a system there is nothing to boot, and no row to choose
	}
	r.identify()
	for _, part := range []struct {
		name   string
		needed bool
		read   func(context.Context) error
	}{
		{"the system", true, r.system},
		{"the reset types", true, r.resets},
		{"the virtual media", true, r.media},
		{"the boot settings", true, r.boot},
		{"the licence", false, r.licence},
	} {
		if !r.passed(part.name, part.needed, part.read(ctx)) {
			return r.card.Err
		}
	}
	return nil
}

// identify says which BMC this is and chooses its row.
func (r *inspection) identify() {
	c, t := r.c, r.tree
	t.Sessions, t.System, t.ID = *c.sessions, r.sys.uri, identity(r.root, r.sys, r.managers)
	row, err := c.chooseProfile(r.root, r.sys, r.managers, t.ID)
	if !r.passed("the row", true, err) || err != nil {
		return
	}
	t.Profile, t.ID.Profile = row, row.Name
	c.auth.adopt(row)
	c.tree = t
	r.card.ID, r.card.Row = t.ID, row
	for _, m := range r.managers {
		r.consoles(m.doc)
		r.clock(m.doc)
	}
	s := r.sys.doc
	if says := s.Console; says.set {
		var types []string
		for name, p := range map[string]maybe[consoleDoc]{"SSH": says.v.SSH, "IPMI": says.v.IPMI} {
			if p.v.Enabled.v {
				types = append(types, name)
			}
		}
		slices.Sort(types)
		r.addConsole(bmc.ConsoleCard{Kind: bmc.ConsoleSerial, Enabled: len(types) > 0, Types: types, Sessions: says.v.Max.v})
	}
	r.addConsoleOf(bmc.ConsoleGraphic, s.Graphic)
}

func (r *inspection) consoles(m managerDoc) {
	r.addConsoleOf(bmc.ConsoleSerial, m.Serial)
	r.addConsoleOf(bmc.ConsoleShell, m.Shell)
	r.addConsoleOf(bmc.ConsoleGraphic, m.Graphic)
}

func (r *inspection) addConsoleOf(kind bmc.ConsoleKind, d maybe[consolesDoc]) {
	if !d.set {
		return
	}
	var types []string
	for _, t := range d.v.Types.v {
		types = append(types, r.c.clean(t))
	}
	r.addConsole(bmc.ConsoleCard{Kind: kind, Enabled: d.v.Enabled.v, Types: types, Sessions: max(d.v.Max.v, 0)})
}

// addConsole keeps one of each kind: what a system says of its own goes before
// what a manager does, and what can be used before what cannot.
func (r *inspection) addConsole(c bmc.ConsoleCard) {
	for i, known := range r.card.Consoles {
		if known.Kind == c.Kind {
			if c.Enabled || !known.Enabled {
				r.card.Consoles[i] = c
			}
			return
		}
	}
	r.card.Consoles = append(r.card.Consoles, c)
}

// clock reads the manager's time, for BMCs whose web server sends none.
func (r *inspection) clock(m managerDoc) {
	if r.times.clock != nil || m.DateTime.v == "" {
		return
	}
	for _, text := range []string{m.DateTime.v, m.DateTime.v + m.Offset.v} {
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			r.times.clock = &bmc.ClockCard{Ahead: t.Sub(r.c.clock.Now()).Round(time.Second), From: "DateTime"}
			return
		}
	}
}

func (r *inspection) system(context.Context) error {
	power, err := powerOf(r.sys)
	r.card.Power = power
	return err
}

func (r *inspection) resets(ctx context.Context) error {
	reset, err := r.c.resetOf(ctx, r.sys)
	r.tree.Reset = reset
	for _, t := range reset.Types {
		r.card.ResetTypes = append(r.card.ResetTypes, r.c.clean(t))
	}
	r.card.Resets = offered(reset.Types)
	return err
}

// media looks at every slot, and finds out which one would be used, by the same
// rules as Observe.
func (r *inspection) media(ctx context.Context) error {
	c, t := r.c, r.tree
	if t.Profile.Name == "" {
		return nil
	}
	if err := c.collections(t, []found[systemDoc]{r.sys}, r.managers); err != nil {
		return err
	}
	if len(t.Media) == 0 && len(r.managers) == 0 && len(r.card.Unread) > 0 {
		return nil // the manager may have some, and could not be read
	}
	r.seen.Access = bmc.AccessNone
	r.card.CannotMount = cannotMount(t, r.managers)
	fits, err := regexp.Compile(t.Profile.Slots)
	if err != nil {
		return unsupported("find the virtual media", "the row "+t.Profile.Name+" has a pattern for slots that is none", "correct profiles.cue")
	}
	var failed error
	for _, collection := range t.Media {
		all, err := c.members(ctx, collection)
		if err == nil {
			err = r.slots(ctx, inOrder(all, fits), fits)
		}
		if err != nil && fatal(err) {
			return err
		}
		if !gone(err) { // linked, and not built in; or switched off
			failed = errors.Join(failed, err)
		}
	}
	if first, ok := errors.AsType[*bmc.Error](failed); ok {
		failed = first
	}
	if t.Slot == "" && len(t.Media) > 0 && failed == nil {
		failed = r.withoutSlot(ctx)
	}
	if t.Slot != "" || failed == nil {
		r.card.Media = &r.seen
	}
	return failed
}

// withoutSlot finds out why there is no slot to be used.
func (r *inspection) withoutSlot(ctx context.Context) error {
	m, err := bmc.Media{Access: bmc.AccessNone}, error(nil)
	if len(r.seen.Slots) == 0 && r.tree.Profile.Lacks.Why == "" {
		r.c.noSlot = bmc.Refusal{}
		m, err = r.c.withoutSlots(ctx, r.tree)
		if r.card.CannotMount.None() && m.Access == bmc.AccessNone {
			r.card.CannotMount = r.c.noSlot
		}
	} else if r.card.CannotMount.None() {
		var passed []string
		for _, s := range r.seen.Slots {
			passed = append(passed, s.ID+" ("+s.Why+")")
		}
		r.card.CannotMount = because(bmc.Refusal{
			Kind: bmc.KindUnsupported, Why: "none of the BMC's slots takes a CD: " + strings.Join(passed, ", "),
			Hint: "check the BMC's licence and its remote media settings",
		}, r.tree.Profile.NoSlot)
	}
	r.seen.Access = m.Access
	return err
}

// slots reads the slots of one collection. The best of the first collection that
// has any is the one that is used.
func (r *inspection) slots(ctx context.Context, all []string, fits *regexp.Regexp) error {
	c, t := r.c, r.tree
	best, rank := -1, 0
	var failed error
	var chosen candidate
	for _, uri := range all[:min(len(all), maxSlots)] {
		if slices.ContainsFunc(r.seen.Slots, func(s bmc.SlotCard) bool { return s.URI == uri }) {
			continue
		}
		if err := c.readSlot(ctx, uri); err != nil {
			if fatal(err) {
				return err
			}
			failed = errors.Join(failed, err)
			continue
		}
		s := r.slot(uri)
		r.seen.Slots = append(r.seen.Slots, s)
		if k := c.rank(t.Profile, fits); s.Why == "" && k > rank && t.Slot == "" && t.Profile.Lacks.Why == "" {
			best, rank, chosen = len(r.seen.Slots)-1, k, candidate{uri, c.slot, c.allow}
		}
	}
	if best < 0 {
		return failed
	}
	c.slot, c.slotRead, c.allow = chosen.doc, chosen.uri, chosen.allow
	t.Slot, r.seen.Access, r.seen.Slots[best].Used = chosen.uri, bmc.AccessReady, true
	if err := c.readInsert(ctx, t); err != nil {
		return err
	}
	r.seen.Schemes = t.Schemes
	return failed
}

// slot is the slot read last.
func (r *inspection) slot(uri string) bmc.SlotCard {
	s := bmc.SlotCard{URI: uri, ID: r.c.slot.ID.v, Why: strings.Trim(r.c.unfit(r.tree.Profile), "()")}
	if s.ID == "" {
		s.ID = path.Base(uri)
	}
	for _, t := range r.c.slot.MediaTypes.v {
		s.Types = append(s.Types, r.c.clean(t))
	}
	if m, err := r.c.mediaOf(uri); err == nil {
		s.Inserted = m.Inserted
		if s.Image = m.Image; s.Image == "" {
			s.Image = m.ImageName
		}
	}
	return s
}

// boot reads how the virtual CD would be armed.
func (r *inspection) boot(ctx context.Context) error {
	c, t := r.c, r.tree
	if t.Profile.Name == "" {
		return nil
	}
	var err error
	if t.Settings, err = c.settingsOf(r.sys); err != nil {
		return err
	}
	if uri, err := c.endpoint.local(bootAt(t.Profile, r.sys, r.managers)); err == nil {
		t.BootAt = uri
	}
	now, err := c.bootOf(ctx, r.sys)
	if err != nil {
		return err
	}
	if c.armsMedium(t.Profile) {
		now = c.oemOverride(t.Profile)
	}
	b := bmc.BootCard{Now: now, Settings: c.tree.Settings != ""}
	for _, target := range c.boot.Targets.v {
		b.Targets = append(b.Targets, c.clean(target))
	}
	r.card.CannotArm = c.cannotArm(c.tree)
	if r.card.CannotArm.None() {
		b.Method = bootOverride
		if t.BootAt != "" || c.armsMedium(t.Profile) {
			b.Method = t.Profile.Boot
		}
	}
	for _, want := range t.Profile.BootTargets {
		if b.Method == bootOverride && b.Target == "" && (len(b.Targets) == 0 || slices.Contains(b.Targets, want)) {
			b.Target = want
		}
	}
	r.card.Boot = &b
	return nil
}

// bootOverride is how a row names the standard way.
const bootOverride = "override"

// licence gives what the BMC calls its licence: where the row knows it to be,
// else by the standard.
func (r *inspection) licence(ctx context.Context) error {
	for _, m := range r.managers {
		for _, k := range slices.Sorted(maps.Keys(m.doc.Oem.v)) {
			if at := r.tree.Profile.Licence.At; len(at) > 0 && r.card.Licence == "" {
				r.card.Licence = r.c.clean(textAt(m.doc.Oem.v[k], at))
			}
		}
	}
	service, err := r.c.resolve("read the service root", rootURI, "LicenseService", r.root.Licences)
	if err != nil || service == "" || r.card.Licence != "" {
		return err
	}
	var doc licenceServiceDoc
	if _, err := r.c.read(ctx, service, &doc); err != nil {
		return err
	}
	list, err := r.c.resolve("read "+short(service), service, "Licenses", doc.Licences)
	if err != nil || list == "" {
		return err
	}
	all, err := r.c.members(ctx, list)
	if err != nil {
		return err
	}
	var names []string
	for _, uri := range all[:min(len(all), maxLicences)] {
		var l licenceDoc
		if _, err := r.c.read(ctx, uri, &l); err != nil {
			return err
		}
		if name := r.c.clean(l.Name.v); name != "" && l.Status.v.State.v != "Disabled" {
			names = append(names, name)
		}
	}
	r.card.Licence = strings.Join(names, ", ")
	return nil
}

// times is what looks at the Date of answers, and at the certificate of the
// connection that they came by.
type times struct {
	next        http.RoundTripper
	now         func() time.Time
	clock       *bmc.ClockCard
	certificate *bmc.Certificate
}

// RoundTrip implements http.RoundTripper.
func (t *times) RoundTrip(req *http.Request) (*http.Response, error) {
	begun := t.now()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return resp, err
	}
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		seen := describe(resp.TLS.PeerCertificates[0])
		t.certificate = &seen
	}
	if sent, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		// The header was cut off to a second, at some time while we waited.
		ours := begun.Add(t.now().Sub(begun) / 2)
		t.clock = &bmc.ClockCard{Ahead: sent.Add(time.Second / 2).Sub(ours).Round(time.Second), From: "Date"}
	}
	return resp, nil
}
