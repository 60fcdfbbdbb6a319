package plan

import (
	"fmt"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Compute plans every node of s. accept names the nodes whose overlay may be
// lost. It has no error result: what could not be read makes its node failed.
// It may be called from several goroutines at once.
func Compute(s *site.Site, o Observed, accept map[string]bool) Plan {
	p := Plan{Site: s.Name, Digest: s.Digest, At: o.At, Nodes: make([]NodePlan, 0, len(s.Nodes))}
	for _, n := range s.Nodes {
		f, ok := o.Nodes[n.Name]
		if !ok {
			f.Err = &bmc.Error{Kind: bmc.KindCancelled, Err: errNotObserved, Hint: "run the command again"}
		}
		d := draft{
			node: n, facts: f, accept: accept[n.Name], at: o.At,
			image: s.Images[n.Image], imageFacts: o.Images[n.Image],
		}
		p.Nodes = append(p.Nodes, d.plan())
	}
	return p
}

var errNotObserved = fmt.Errorf("it was not looked at")

// plan decides what kind of wish the node has, and finishes the draft.
func (d *draft) plan() NodePlan {
	switch {
	case d.facts.Err != nil:
		d.driftCertificate()
		d.fail(asError(d.facts.Err, "read it again with -v, and look at its BMC"))
	case d.facts.BMC.Power == bmc.PowerUnknown:
		d.fail(&bmc.Error{
			Kind: bmc.KindProtocol, Err: fmt.Errorf("its BMC does not say whether the machine is on"),
			Hint: "look at the machine; a BMC that was just reset needs some minutes",
		})
	case d.node.Image == "":
		// Media is not managed; only the overlay may need something.
		if !d.nothingMounted() {
			d.loginIfLocked("")
		}
	case d.node.Image == site.NoImage:
		d.noImage()
	default:
		d.wanted()
	}
	d.noteHalf()
	d.noteDamaged()
	d.backupWhenDue()
	return d.finish()
}

// wanted plans a node that shall run an image.
func (d *draft) wanted() {
	if d.running() == runsWanted {
		d.proof = ProofNode
		d.restoreLeftOver()
		return
	}
	if why := d.facts.BMC.CannotMount; d.facts.BMC.Media.Access == bmc.AccessNone {
		d.refuse(why)
		return
	}
	if d.facts.BMC.Power == bmc.PowerOff {
		d.wantedWhenOff()
		return
	}
	if d.node.Reset == site.ResetNever {
		d.wantedWithoutReset()
		return
	}
	d.wantedWhenOn()
}

func (d *draft) wantedWhenOff() {
	if d.node.Reset != site.ResetNever {
		d.driftRunning("nothing: it is off")
		d.cycle("it is off")
		return
	}
	if !d.takesImage() {
		return
	}
	d.driftMedia()
	d.mount("it is off")
	d.arm()
	d.noteArmed()
}

// wantedWhenOn plans a node that is on, is not proven to run the image and may
// be reset. It resets only what is known to need it.
func (d *draft) wantedWhenOn() {
	switch h := d.facts.Host.(type) {
	case HostLive:
		d.wantedOverLive(h)
	case HostDisk:
		d.driftRunning("its disk")
		d.cycle("it runs from its disk")
	case HostSilent:
		d.wantedOverSilence(h)
	case HostLocked:
		d.wantedOverLocked()
	default:
		d.wantedByTheBMC()
	}
}

func (d *draft) wantedOverLive(h HostLive) {
	if d.running() == runsUncomparable && d.media() == bmc.ImageMatch {
		d.proof = ProofBMC
		d.note("it runs a live image, which could not be compared with %s: %s", d.node.Image, d.whyUncomparable(h))
		return
	}
	d.driftRunning(volume(h))
	d.cycle("it runs " + volume(h))
}

// wantedOverSilence: whatever runs there may be a live image with an overlay
// that only exists in its memory.
func (d *draft) wantedOverSilence(h HostSilent) {
	mounted, armed := d.media() == bmc.ImageMatch, d.armed()
	switch {
	case d.accept:
		d.driftRunning("unknown: ssh does not answer")
		d.cycle("it does not answer over ssh, and its overlay is given up")
	case d.facts.BMC.Phase == bmc.PhasePost:
		d.await("its firmware is starting it")
	case mounted && (!armed || d.facts.BMC.Phase != bmc.PhaseOS):
		d.await("the image is mounted and the machine is on, but it does not answer over ssh yet")
	case d.savedJustNow():
		d.driftRunning("unknown: ssh does not answer")
		d.cycle("a run that was cut off had saved its overlay and was about to reset it")
	default:
		d.driftRunning("unknown: ssh does not answer")
		d.block(bmc.KindDataLoss,
			fmt.Errorf("resetting it may lose an overlay that cannot be backed up, for ssh does not answer: %w", h.Err),
			hintUnreachableOverlay(d.node.Name, h.Err))
	}
}

// wantedOverLocked: it is up, and what it runs is seen only after its first login.
func (d *draft) wantedOverLocked() {
	switch {
	case d.accept:
		d.driftRunning("unknown: it lets nobody in")
		d.cycle("it lets nobody in, and its overlay is given up")
	case d.mayRunWanted():
		d.loginToWanted()
	default:
		d.driftRunning("unknown: it lets nobody in before its first login")
		d.cycle("it is not known to run " + d.node.Image)
	}
}

func (d *draft) loginToWanted() {
	d.driftRunning("not known yet")
	d.loginIfLocked(d.node.Image)
	d.restoreOwed()
}

// mayRunWanted reports whether what nobody can look into may well be the wanted
// image: it is mounted, and no boot of it is still to come.
func (d *draft) mayRunWanted() bool {
	return d.media() == bmc.ImageMatch && !(d.unused() && d.facts.BMC.Phase == bmc.PhaseOS)
}

// wantedByTheBMC: nobody but the BMC can be asked.
func (d *draft) wantedByTheBMC() {
	m, phase := d.media(), d.facts.BMC.Phase
	switch {
	case phase == bmc.PhasePost && m == bmc.ImageMatch:
		d.await("its firmware is starting it")
	case m == bmc.ImageMatch && d.unused() && phase == bmc.PhaseOS:
		d.driftRunning("something started before the virtual CD was armed")
		d.cycle("the virtual CD is armed and was not booted yet")
	case m == bmc.ImageMatch && d.unused():
		d.await("the virtual CD is armed, and the machine may be starting from it")
	case m == bmc.ImageMatch:
		d.proof = ProofBMC
		d.note("in sync by the BMC's word only: the image is mounted and the machine is on; that it runs the image is not proven (the site file gives no ssh)")
	case m == bmc.ImageUnnamed:
		d.proof = ProofBMC
		d.note("in sync by the BMC's word only: something is mounted, and its BMC does not say what")
	default:
		d.driftMedia()
		d.note("its overlay is not managed (the site file gives no ssh): what it holds is lost with the reset")
		d.cycle("the image is not mounted")
	}
}

// wantedWithoutReset mounts and arms under a running machine, and leaves the
// reset to a person.
func (d *draft) wantedWithoutReset() {
	m := d.media()
	if (m == bmc.ImageOther || m == bmc.ImageUnnamed) && d.mayRunFromMedia() {
		d.driftMedia()
		d.block(bmc.KindMedia,
			fmt.Errorf("what it runs may need %s, which is in its drive, and reset: never forbids ending it", orWhatever(d.facts.BMC.Media.Image)),
			"shut it down by hand and apply again, or write reset: needed")
		return
	}
	if !d.takesImage() {
		return
	}
	if _, locked := d.facts.Host.(HostLocked); locked && d.mayRunWanted() {
		d.loginToWanted()
		return
	}
	d.loginIfLocked("")
	d.driftMedia()
	d.mount("it shall be there for the next reset")
	d.arm()
	d.noteArmed()
}

// mayRunFromMedia reports whether the node may be running from what is mounted.
func (d *draft) mayRunFromMedia() bool {
	switch d.facts.Host.(type) {
	case HostLive, HostSilent, HostLocked:
		return true
	case HostDisk, HostUnknown:
	}
	return false
}

// noImage plans a node that shall have nothing mounted.
func (d *draft) noImage() {
	note := d.facts.Overlay.Reboot
	if note != nil && note.Image == site.NoImage && !note.Started && d.facts.BMC.Power == bmc.PowerOff {
		if !d.nothingMounted() {
			d.eject("nothing shall be mounted")
		}
		d.disarm()
		d.drift("power", "on", "off")
		d.step(PowerOn{}, "a run that was cut off at "+stamp(note.At)+" had switched it off")
		return
	}
	if d.nothingMounted() {
		d.disarm()
		return
	}
	d.drift("image", site.NoImage, d.facts.BMC.Media.Image)
	off := d.facts.BMC.Power == bmc.PowerOff
	if off || !d.mayRunFromMedia() {
		d.eject("nothing shall be mounted")
		d.disarm()
		if _, unknown := d.facts.Host.(HostUnknown); unknown && !off {
			d.note("whether it runs from what is mounted is not known (the site file gives no ssh)")
		}
		return
	}
	if d.node.Reset == site.ResetNever {
		d.block(bmc.KindMedia,
			fmt.Errorf("it may be running from %s, and reset: never forbids ending it", orWhatever(d.facts.BMC.Media.Image)),
			"shut it down by hand and apply again, or write reset: needed")
		return
	}
	if !d.offAndOn() {
		d.fail(&bmc.Error{
			Kind: bmc.KindUnsupported, Err: fmt.Errorf("it may be running from %s, and its BMC offers no way to power it off and on", orWhatever(d.facts.BMC.Media.Image)),
			Hint: "shut it down by hand and apply again",
		})
		return
	}
	if !d.saveFirst("its live medium is to be ejected") {
		return
	}
	d.powerOff("it may be running from what is to be ejected")
	d.eject("nothing shall be mounted")
	d.disarm()
	d.step(PowerOn{}, "it was on")
}

// cycle plans the way from whatever the node runs to the wanted image.
func (d *draft) cycle(because string) {
	if !d.mountable() || !d.startable() {
		return
	}
	d.driftMedia()
	on := d.facts.BMC.Power != bmc.PowerOff
	if on && !d.saveFirst(because) {
		return
	}
	inPlace := on && !d.offAndOn()
	if on && !inPlace {
		d.powerOff(because)
	}
	d.mount("it is to be booted")
	d.arm()
	if inPlace {
		d.step(Reset{}, because+"; its BMC cannot switch it off")
	} else {
		d.step(PowerOn{}, "it shall run "+d.node.Image)
	}
	d.step(AwaitBoot{Image: d.node.Image, Within: d.node.Boot.Within}, "nothing else proves that it runs")
	d.loginAfterBoot()
	d.restoreAfterBoot()
}

// await plans a node that may be booting already.
func (d *draft) await(because string) {
	d.driftRunning("not known yet")
	d.step(AwaitBoot{Image: d.node.Image, Within: d.node.Boot.Within}, because)
	d.loginAfterBoot()
	d.restoreOwed()
}

// restoreOwed appends the restore that a run which was cut off has left over.
func (d *draft) restoreOwed() {
	if r := d.facts.Overlay.Reboot; d.leftOver() && r != nil {
		d.restore(r.Restore, "the run that reset it at "+stamp(r.At)+" was cut off before this")
	}
}

// loginAfterBoot appends the first login of what a boot brings. Whether that needs
// one shows only then.
func (d *draft) loginAfterBoot() {
	if d.node.Login != nil {
		d.step(Login{Image: d.node.Image, Within: d.node.Login.Within}, "a live image wants its first login before it lets ssh in")
	}
}

// loginIfLocked appends the first login of what runs now.
func (d *draft) loginIfLocked(image string) {
	h, locked := d.facts.Host.(HostLocked)
	if !locked || d.node.Login == nil {
		return
	}
	d.drift("login", "done", "not done")
	d.step(Login{Image: image, Within: d.node.Login.Within}, "it is up, and lets nobody in over ssh"+because(h.Err))
}

// because is a cause in words.
func because(err error) string {
	if err == nil {
		return ""
	}
	return ": " + err.Error()
}

// mount appends the steps that bring the image into the drive.
func (d *draft) mount(because string) {
	if d.facts.BMC.Media.Access == bmc.AccessDisabled {
		d.step(EnableMedia{}, "its BMC has remote media switched off")
	}
	switch d.media() {
	case bmc.ImageMatch:
		return
	case bmc.ImageEmpty:
	case bmc.ImageOther, bmc.ImageUnnamed:
		d.eject("the drive is taken")
	case bmc.ImageStale:
		d.eject("its BMC still names an image that is not inserted, and refuses another until that is ejected")
	}
	if d.image.SHA256 != "" {
		d.note("the sha256 of %s is not checked by this version", d.node.Image)
	}
	d.step(InsertMedia{Image: d.node.Image, URL: d.image.URL}, because)
}

func (d *draft) eject(because string) {
	m := d.facts.BMC.Media
	on := d.facts.BMC.Power != bmc.PowerOff && !d.endsRunning()
	d.step(EjectMedia{Slot: m.Slot, Image: m.Image, PoweredOn: on}, because)
}

// arm appends the boot override, unless it is set and nothing can use it up
// before the boot: only with the machine off does it stay.
func (d *draft) arm() {
	if d.armed() && !d.endsRunning() {
		return
	}
	d.step(SetBootOnce{}, "the next boot, and only that, shall use the virtual CD")
}

// disarm appends the end of an override that would boot the virtual CD, which
// shall be empty.
func (d *draft) disarm() {
	if !d.armed() {
		return
	}
	b := d.facts.BMC.Boot
	d.drift("boot", "the virtual CD is not armed", b.Enabled+" "+b.Target)
	d.step(ClearBoot{}, "nothing shall be booted from the virtual CD")
}

func (d *draft) powerOff(because string) {
	d.step(PowerOff{}, because)
}

// backupWhenDue adds the backup that overlay.every asks for.
func (d *draft) backupWhenDue() {
	h, live := d.facts.Host.(HostLive)
	if !live || d.err != nil || !d.node.OverlayManaged() || d.node.Overlay.Every <= 0 || d.backsUp() {
		return
	}
	latest := d.facts.Overlay.Latest
	if d.facts.Overlay.Err != nil {
		d.fail(asError(d.facts.Overlay.Err, "look at the store"))
		return
	}
	if latest != nil && d.at.Sub(latest.At) < d.node.Overlay.Every {
		return
	}
	if h.Restoring != "" && !d.leftOver() {
		return // it would hold part of what was being restored, and be the latest
	}
	because := fmt.Sprintf("there is no backup yet, and one is due every %s", d.node.Overlay.Every)
	if latest != nil {
		because = fmt.Sprintf("the last backup is from %s, and one is due every %s", stamp(latest.At), d.node.Overlay.Every)
	}
	d.drift("overlay", "a backup every "+d.node.Overlay.Every.String(), "boot "+h.BootID+" not backed up since")
	due := []Step{{BackupOverlay{Purpose: Due, Store: d.node.Overlay.Store}, because}}
	if h.Restoring != "" { // and is, by the steps so far
		d.steps = append(d.steps, due...)
		return
	}
	d.steps = append(due, d.steps...)
}
