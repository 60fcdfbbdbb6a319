package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A draft is one node's plan while it is being made.
type draft struct {
	node       site.Node
	facts      Facts
	image      site.Image
	imageFacts ImageFacts
	at         time.Time
	accept     bool

	blocked bool
	err     *bmc.Error
	drifts  []Drift
	steps   []Step
	notes   []string
	proof   Proof
}

func (d *draft) finish() NodePlan {
	np := NodePlan{
		Node: d.node.Name, State: InSync, Facts: d.facts,
		Drift: d.drifts, Steps: d.steps, Err: d.err, Proof: d.proof, Notes: d.notes,
	}
	switch {
	case d.err != nil && d.blocked:
		np.State, np.Steps = Blocked, nil
	case d.err != nil:
		np.State, np.Steps = Failed, nil
	case len(d.steps) > 0:
		np.State = Change
	}
	return np
}

func (d *draft) step(a Action, because string) { d.steps = append(d.steps, Step{a, because}) }

func (d *draft) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

func (d *draft) fail(err *bmc.Error) { d.err = err }

func (d *draft) block(kind bmc.Kind, err error, hint string) {
	d.blocked = true
	d.err = &bmc.Error{Kind: kind, Err: err, Hint: hint}
}

func (d *draft) drift(field, want, got string) {
	d.drifts = append(d.drifts, Drift{Field: field, Want: want, Got: got, At: d.node.At(field)})
}

func (d *draft) driftMedia() {
	if d.media() == bmc.ImageMatch || slices.ContainsFunc(d.drifts, func(x Drift) bool { return x.Field == "image" }) {
		return
	}
	got := d.facts.BMC.Media.Image
	if bmc.EmptyName(got) {
		got = d.facts.BMC.Media.ImageName
	}
	if bmc.EmptyName(got) {
		got = ""
	}
	d.drift("image", d.image.URL, got)
}

func (d *draft) driftRunning(got string) {
	d.drifts = append(d.drifts, Drift{Field: "running", Want: d.node.Image, Got: got, At: d.node.At("image")})
}

// driftCertificate: another certificate than the accepted one is a difference
// that a person has to judge.
func (d *draft) driftCertificate() {
	if c, ok := errors.AsType[*bmc.CertificateChange](d.facts.Err); ok {
		d.drift("bmc.tls", c.Accepted, c.Shown)
	}
}

func (d *draft) noteArmed() {
	d.note("%s boots at the next reset, which reset: never leaves to a person", d.node.Image)
}

// runs is how what the node runs compares with what it should run.
type runs int

const (
	runsUnknown runs = iota
	runsWanted
	runsOther
	runsUncomparable // a live image, but one of the two volumes is not known
)

func (d *draft) running() runs {
	h, live := d.facts.Host.(HostLive)
	switch {
	case !live:
		return runsUnknown
	case d.imageFacts.Err != nil || d.imageFacts.Volume == (site.Volume{}) || h.Volume == (site.Volume{}):
		return runsUncomparable
	case h.Volume == d.imageFacts.Volume:
		return runsWanted
	}
	return runsOther
}

func (d *draft) whyUncomparable(h HostLive) string {
	switch {
	case d.imageFacts.Err != nil:
		return d.imageFacts.Err.Error()
	case h.Volume == (site.Volume{}):
		return "its live medium could not be read on the node"
	}
	return "the image has not been read"
}

// media compares the drive with the image that is wanted.
func (d *draft) media() bmc.ImageState {
	if d.facts.BMC.Media.Access != bmc.AccessReady {
		return bmc.ImageEmpty
	}
	return d.facts.BMC.Media.Compare(d.image.URL)
}

func (d *draft) armed() bool { return Armed(d.facts) }

// unused reports whether a one-time boot of the virtual CD is still to come. An
// override that is never used up says nothing: a continuous one, and any on a BMC
// that does not clear it.
func (d *draft) unused() bool { return Unused(d.facts) }

// Unused reports whether the node's next boot, and only that, will use the
// virtual CD, as far as its BMC's word is worth anything.
func Unused(f Facts) bool {
	return Armed(f) && f.BMC.Boot.Enabled == "Once" && !f.Profile.OverrideStays
}

// nothingMounted reports whether the drive is empty, or is none.
func (d *draft) nothingMounted() bool {
	m := d.facts.BMC.Media
	return m.Access != bmc.AccessReady || m.Compare("") == bmc.ImageEmpty
}

// Armed reports whether the node's next boot will use the virtual CD.
func Armed(f Facts) bool { return f.BMC.Boot.Armed(f.Profile.BootTargets) }

func (d *draft) endsRunning() bool { return NodePlan{Steps: d.steps}.EndsRunning() }

func (d *draft) backsUp() bool {
	for _, s := range d.steps {
		if _, ok := s.Action.(BackupOverlay); ok {
			return true
		}
	}
	return false
}

// refuse fails the node for something that its BMC cannot do.
func (d *draft) refuse(why bmc.Refusal) {
	d.fail(&bmc.Error{Kind: why.Kind, Err: errors.New(why.Why), Hint: why.Hint})
}

// takesImage checks that this BMC can be given the image, and boot it.
func (d *draft) takesImage() bool {
	m := d.facts.BMC
	switch {
	case !m.CannotArm.None():
		d.refuse(m.CannotArm)
	case d.media() == bmc.ImageMatch:
		return true
	case !m.CannotMount.None():
		d.refuse(m.CannotMount)
	case d.image.URL == "":
		d.fail(&bmc.Error{
			Kind: bmc.KindURL, Err: fmt.Errorf("image %s has no url, and BMCs mount by url only", d.node.Image),
			Hint: fmt.Sprintf("put the ISO on a web server that the BMCs reach, and write images.%s.url", d.node.Image),
		})
	default:
		err := d.facts.Profile.CheckURL(d.image.URL, m.Schemes)
		if err == nil {
			return true
		}
		d.fail(asError(err, "serve the image under a plainer url"))
	}
	return false
}

// mountable checks that the image can be given to this BMC, and that it is there
// to be given.
func (d *draft) mountable() bool {
	if !d.takesImage() {
		return false
	}
	if d.media() == bmc.ImageMatch {
		return true
	}
	live := d.mayBeLive()
	imageErr := d.imageFacts.Err
	switch {
	case imageErr != nil && bmc.KindOf(imageErr) == bmc.KindMedia:
		d.fail(asError(imageErr, "mend the image or its url; nothing was changed on the node"))
	case imageErr != nil && live:
		d.block(bmc.KindOf(imageErr), fmt.Errorf("the live image it runs would be ended for one that could not be read: %w", imageErr),
			"see that the image's web server runs and can be reached from here, and plan again")
	default:
		if imageErr != nil {
			d.note("the image could not be read from here: %v", imageErr)
		}
		return true
	}
	return false
}

// mayBeLive reports whether a live image was seen, or something that may be one.
func (d *draft) mayBeLive() bool {
	switch d.facts.Host.(type) {
	case HostLive, HostLocked:
		return true
	case HostSilent, HostDisk, HostUnknown:
	}
	return false
}

// startable checks that the BMC offers a way to start the machine.
func (d *draft) startable() bool {
	m := d.facts.BMC
	why := "offers no way to power the machine on"
	switch {
	case m.Power == bmc.PowerOff && m.Can(bmc.PowerUp), m.Power != bmc.PowerOff && (m.Can(bmc.Restart) || d.offAndOn()):
		return true
	case m.Power != bmc.PowerOff:
		why = "offers no way to restart the machine, nor to power it off and on"
	}
	d.fail(&bmc.Error{
		Kind: bmc.KindUnsupported, Err: fmt.Errorf("its BMC %s", why),
		Hint: "write reset: never for it, and reset it by hand",
	})
	return false
}

// offAndOn reports whether the machine can be switched off, and on again.
func (d *draft) offAndOn() bool {
	m := d.facts.BMC
	return m.Can(bmc.PowerUp) && (m.Can(bmc.ForceOff) || m.Can(bmc.GracefulShutdown))
}

// saveFirst appends the backup without which nothing may be ended, and reports
// whether the plan may go on.
func (d *draft) saveFirst(because string) bool {
	if _, locked := d.facts.Host.(HostLocked); locked && !d.accept {
		return d.saveWhatIsLocked(because)
	}
	h, live := d.facts.Host.(HostLive)
	if !live {
		return d.saveWhatCannotBeSeen()
	}
	switch {
	case d.node.OverlayManaged() && d.facts.Overlay.Err == nil && d.owed() && !d.accept:
		r := d.facts.Overlay.Reboot
		d.block(bmc.KindOverlay, fmt.Errorf("backup %s, made before a run that was cut off, was never put back, and it runs another boot now", r.Restore),
			fmt.Sprintf("put it back with `livecd-sync restore %s --from %s`, or give it up with --accept-data-loss=%s", d.node.Name, r.Restore, d.node.Name))
	case d.node.OverlayManaged() && h.Restoring != "" && !d.accept:
		d.block(bmc.KindOverlay, fmt.Errorf("a restore of backup %s onto it was cut off, so that a backup of it now would hold part of it only", h.Restoring),
			fmt.Sprintf("finish it with `livecd-sync restore %s`, or give the overlay up with --accept-data-loss=%s", restoreAgain(d.node.Name, h.Restoring), d.node.Name))
	case d.node.OverlayManaged() && d.facts.Overlay.Err == nil:
		if len(d.node.Overlay.Exclude) > 0 {
			d.note("what overlay.exclude leaves out (%s) is in no backup: it is lost, unless overlay.repopulate names where to get it", strings.Join(d.node.Overlay.Exclude, ", "))
		}
		d.step(BackupOverlay{Purpose: ForReset, Store: d.node.Overlay.Store, MayFail: d.accept},
			because+", and its overlay ends with it")
		return true
	case d.accept:
		d.note("the overlay of the running image is given up, as --accept-data-loss says")
		return true
	case !d.node.OverlayManaged():
		d.block(bmc.KindDataLoss, fmt.Errorf("it runs %s, and its overlay has no store to be backed up to", volume(h)),
			"write overlay.store for it, or give the overlay up with --accept-data-loss="+d.node.Name)
	default:
		d.block(bmc.KindDataLoss, fmt.Errorf("the overlay of what it runs cannot be backed up: %w", d.facts.Overlay.Err),
			orHint(d.facts.Overlay.Err, "mend the store")+"; or give the overlay up with --accept-data-loss="+d.node.Name)
	}
	return false
}

// saveWhatIsLocked decides for a node that may run a live image, and shows it
// after its first login only.
func (d *draft) saveWhatIsLocked(why string) bool {
	switch {
	case d.node.OverlayManaged() && d.facts.Overlay.Err == nil && d.owed():
		r := d.facts.Overlay.Reboot
		d.block(bmc.KindOverlay, fmt.Errorf("backup %s, made before a run that was cut off, was never put back, and what it runs now lets nobody in", r.Restore),
			fmt.Sprintf("log in on its console, and put it back with `livecd-sync restore %s --from %s`, or give it up with --accept-data-loss=%s", d.node.Name, r.Restore, d.node.Name))
	case d.node.OverlayManaged() && d.facts.Overlay.Err == nil:
		d.loginIfLocked("")
		d.step(BackupOverlay{Purpose: ForReset, Store: d.node.Overlay.Store}, why+", and its overlay ends with it")
		return true
	case d.facts.Overlay.Err != nil:
		d.block(bmc.KindDataLoss, fmt.Errorf("the overlay of what it may run cannot be backed up: %w", d.facts.Overlay.Err),
			orHint(d.facts.Overlay.Err, "mend the store")+"; or give the overlay up with --accept-data-loss="+d.node.Name)
	default:
		d.block(bmc.KindDataLoss, errors.New("it lets nobody in, and what it may run has no store for its overlay to be backed up to"),
			"write overlay.store for it, or give the overlay up with --accept-data-loss="+d.node.Name)
	}
	return false
}

// restoreAgain are the arguments of the restore that was cut off. What is no
// backup's ID stands for an archive, whose name is not known any more.
func restoreAgain(node, id string) string {
	if strings.HasPrefix(id, "archive-") {
		id = "ARCHIVE"
	}
	return node + " --from " + id
}

// noteHalf tells of a restore that was cut off and that no step finishes.
func (d *draft) noteHalf() {
	if h, live := d.facts.Host.(HostLive); live && h.Restoring != "" && !d.leftOver() {
		d.note("a restore of backup %s onto it was cut off: livecd-sync restore %s", h.Restoring, restoreAgain(d.node.Name, h.Restoring))
	}
}

// saveWhatCannotBeSeen decides for a node that no live image is seen on. A disk
// keeps what it holds; what was never managed is not ours to save.
func (d *draft) saveWhatCannotBeSeen() bool {
	h, silent := d.facts.Host.(HostSilent)
	if !silent || d.accept || d.savedJustNow() {
		return true
	}
	d.block(bmc.KindDataLoss,
		fmt.Errorf("ending what it runs may lose an overlay that cannot be backed up, for ssh does not answer: %w", h.Err),
		hintUnreachableOverlay(d.node.Name, h.Err))
	return false
}

// savedJustNow reports whether a run that was cut off less than a boot's time
// ago had come to the point of ending what the node ran. It leaves its note only
// once everything worth saving was saved, and marks it before it starts the
// machine.
func (d *draft) savedJustNow() bool {
	r := d.facts.Overlay.Reboot
	return r != nil && !r.Started && (r.Backup != "" || r.BootID != "") && r.Image == d.node.Image &&
		d.media() != bmc.ImageMatch && d.at.Sub(r.At) < d.node.Boot.Within
}

// leftOver reports whether a run that was cut off after its reset still has a
// restore to do.
func (d *draft) leftOver() bool {
	r := d.facts.Overlay.Reboot
	if r == nil || r.Restore == "" || r.Image != d.node.Image || !d.restores() || d.facts.Overlay.Err != nil {
		return false
	}
	return d.owed()
}

// owed reports whether the backup that a note speaks of was not put back: not
// onto this boot, and not onto a boot that has been backed up or restored since.
func (d *draft) owed() bool {
	r, latest := d.facts.Overlay.Reboot, d.facts.Overlay.Latest
	if r == nil || r.Restore == "" {
		return false
	}
	h, live := d.facts.Host.(HostLive)
	if !live {
		return true
	}
	return h.BootID != r.BootID && h.Restored == "" && (latest == nil || latest.BootID != h.BootID)
}

// owedFor is how long a restore that is owed may be done without asking: after
// that, what the node holds may be worth more.
const owedFor = 24 * time.Hour

func (d *draft) restores() bool {
	return d.node.OverlayManaged() && d.node.Overlay.Restore != site.RestoreNone
}

func (d *draft) restoreLeftOver() {
	if d.facts.Overlay.Err != nil {
		d.note("its store cannot be read: %v", d.facts.Overlay.Err)
	}
	owed := d.leftOver()
	if !owed && !d.repopulateOwed() {
		return
	}
	r := d.facts.Overlay.Reboot
	if d.at.Sub(r.At) > owedFor {
		d.note("a run at %s was cut off before it had restored backup %s whole; that is too long ago to do it unasked: livecd-sync restore %s --from %s",
			stamp(r.At), r.Restore, d.node.Name, r.Restore)
		return
	}
	because := "the run that reset it at " + stamp(r.At) + " was cut off before this"
	if !owed {
		d.drift("overlay", "what backup "+r.Restore+" left out", "not fetched")
		d.step(Repopulate{From: r.Restore}, because)
		return
	}
	d.drift("overlay", "backup "+r.Restore, "not restored")
	d.restore(r.Restore, because)
}

// restore appends a restore, and what belongs to it.
func (d *draft) restore(from, because string) {
	d.step(RestoreOverlay{From: from}, because)
	if d.repopulates() {
		d.step(Repopulate{From: from}, "overlay.repopulate says where what a backup leaves out is to be had")
	}
}

func (d *draft) repopulates() bool { return d.restores() && len(d.node.Overlay.Repopulate) > 0 }

// repopulateOwed reports whether a run was cut off between its restore and what
// belongs to that: its note is there, and the boot has what the note speaks of.
func (d *draft) repopulateOwed() bool {
	r := d.facts.Overlay.Reboot
	h, live := d.facts.Host.(HostLive)
	return live && r != nil && d.repopulates() && d.facts.Overlay.Err == nil && r.Image == d.node.Image &&
		r.Restore != "" && h.Restored == r.Restore && h.BootID != r.BootID
}

// restoreAfterBoot appends the restore that follows a boot of ours.
func (d *draft) restoreAfterBoot() {
	if !d.restores() {
		return
	}
	latest, want := d.facts.Overlay.Latest, d.node.Overlay.Restore
	switch {
	case d.facts.Overlay.Err != nil && d.accept:
		d.note("no backup will be restored: %v", d.facts.Overlay.Err)
	case d.facts.Overlay.Err != nil:
		d.block(bmc.KindOverlay, fmt.Errorf("its backups cannot be read, so none could be restored after the boot: %w", d.facts.Overlay.Err),
			orHint(d.facts.Overlay.Err, "mend the store")+"; or boot it without, with --accept-data-loss="+d.node.Name)
	case d.facts.Overlay.NoKey && d.accept:
		d.note("no backup will be restored: its store encrypts, and there is no key to it")
	case d.facts.Overlay.NoKey:
		d.block(bmc.KindOverlay, errors.New("its store encrypts, and the site file has no key to it, so nothing could be restored after the boot"),
			fmt.Sprintf("write stores.%s.age.identity, or overlay.restore: none; or boot it without, with --accept-data-loss=%s", d.node.Overlay.Store, d.node.Name))
	case want != "" && want != site.RestoreLatest:
		if !d.onlyDamaged(want) {
			d.restore(want, "overlay.restore names it")
		}
	case d.backsUp():
		d.restore("", "a live image forgets its overlay at a reset")
	case latest != nil:
		d.restore(latest.ID, "it is the node's latest backup, from "+stamp(latest.At))
	case len(d.facts.Overlay.Damaged) > 0:
		d.onlyDamaged(d.facts.Overlay.Damaged[0].ID)
	}
}

// onlyDamaged reports whether what is to be restored is damaged, and then lets
// nobody lose it without having said so.
func (d *draft) onlyDamaged(id string) bool {
	for _, damage := range d.facts.Overlay.Damaged {
		switch {
		case damage.ID != id:
			continue
		case d.accept:
			d.note("no backup will be restored: %s is damaged", id)
		default:
			d.block(bmc.KindOverlay, fmt.Errorf("backup %s, which is to be restored after the boot, is damaged: %s", id, damage.Why),
				"see what can be saved of it, or name another one as overlay.restore; or boot it without, with --accept-data-loss="+d.node.Name)
		}
		return true
	}
	return false
}

// noteDamaged names the backups that cannot be relied on.
func (d *draft) noteDamaged() {
	if !d.node.OverlayManaged() {
		return
	}
	for _, damage := range d.facts.Overlay.Damaged {
		d.note("backup %s is damaged: %s", damage.ID, damage.Why)
	}
}

func asError(err error, hint string) *bmc.Error {
	h := bmc.HintOf(err)
	if h == "" {
		h = hint
	}
	return &bmc.Error{Kind: bmc.KindOf(err), Err: err, Hint: h}
}

func orHint(err error, hint string) string {
	if h := bmc.HintOf(err); h != "" {
		return h
	}
	return hint
}

func hintUnreachableOverlay(node string, err error) string {
	return orHint(err, "see why ssh does not answer") + "; or give the overlay up with --accept-data-loss=" + node
}

// volume names the live image that a node runs.
func volume(h HostLive) string {
	if h.Volume.ID == "" {
		return "an unnamed live image"
	}
	return "volume " + h.Volume.ID
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
