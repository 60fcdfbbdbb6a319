package bmcsim

import (
	"slices"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// Override is the boot override as the BMC holds it.
func (m *Machine) Override() bmc.BootOverride {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.override
}

// SetOverride puts the override in place, as another client would.
func (m *Machine) SetOverride(o bmc.BootOverride) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.override = o
}

// bootPatch is the part of a ComputerSystem's Boot that a PATCH names; nil
// stands for a property that it leaves alone.
type bootPatch struct {
	Target  *string `json:"BootSourceOverrideTarget"`
	Enabled *string `json:"BootSourceOverrideEnabled"`
	Mode    *string `json:"BootSourceOverrideMode"`
	Next    *string `json:"BootNext"`
}

// patchBoot changes the override. The lock is held by the caller.
func (m *Machine) patchBoot(p bootPatch) error {
	q := m.behaviour
	if m.kind.bootTargets == nil {
		return m.kind.refuse("PropertyUnknown", "BootSourceOverrideTarget")
	}
	if q.BootRefusedInPost && m.power.phase == bmc.PhasePost {
		return m.kind.refuse("UnableToModifyDuringSystemPOST", "BootSourceOverrideTarget")
	}
	if q.FullBoot && (p.Target == nil || p.Enabled == nil || p.Mode == nil) {
		return m.kind.refuse("PropertyMissing", p.missing())
	}
	if q.RefuseBootMode && p.Mode != nil {
		return m.kind.refuse("PropertyNotWritable", "BootSourceOverrideMode")
	}
	next := m.override
	for _, f := range []struct {
		to    *string
		from  *string
		name  string
		among []string
	}{
		{&next.Target, p.Target, "BootSourceOverrideTarget", m.bootTargets()},
		{&next.Enabled, p.Enabled, "BootSourceOverrideEnabled", m.enables()},
		{&next.Mode, p.Mode, "BootSourceOverrideMode", []string{"UEFI", "Legacy"}},
	} {
		if f.from == nil {
			continue
		}
		if !slices.Contains(f.among, *f.from) {
			return m.kind.refuse("PropertyValueNotInList", *f.from, f.name)
		}
		*f.to = *f.from
	}
	if p.Next != nil {
		m.bootNext = *p.Next
	}
	m.override = next
	return nil
}

func (m *Machine) enables() []string {
	if m.kind.boots != nil {
		return m.kind.boots
	}
	return []string{"Disabled", "Once", "Continuous"}
}

// armOwn arms the virtual CD, or disarms it, by the vendor's own settings.
func (m *Machine) armOwn(arm bool) error {
	if m.kind.bootTargets == nil {
		return m.kind.refuse("PropertyUnknown", "BootSourceOverrideTarget")
	}
	m.override.Target, m.override.Enabled = "None", "Disabled"
	if arm {
		m.override.Target, m.override.Enabled = m.kind.cdTarget, "Once"
	}
	return nil
}

// cdTarget is the target that means the virtual CD.
func (m *Machine) cdTarget() string {
	if m.behaviour.UsbCd {
		return "UsbCd"
	}
	return or(m.kind.cdTarget, "Cd")
}

func (p bootPatch) missing() string {
	switch {
	case p.Target == nil:
		return "BootSourceOverrideTarget"
	case p.Enabled == nil:
		return "BootSourceOverrideEnabled"
	}
	return "BootSourceOverrideMode"
}

// bootTargets lists what the override may name.
func (m *Machine) bootTargets() []string {
	if m.behaviour.UsbCd && m.kind.bootTargets != nil && !slices.Contains(m.kind.bootTargets, "UsbCd") {
		return append(slices.Clone(m.kind.bootTargets), "UsbCd")
	}
	return m.kind.bootTargets
}

// takeOverride tells whether this boot is to use the virtual CD, and spends what
// says so. The lock is held by the caller.
func (m *Machine) takeOverride() bool {
	take := m.override.Armed([]string{m.cdTarget()})
	if m.kind.cdOption != "" && m.bootNext == "Boot"+m.kind.cdOption && m.override.Armed([]string{"UefiBootNext"}) {
		take = true
	}
	if m.override.Enabled == "Once" && !m.behaviour.OverrideStays {
		m.override.Target, m.override.Enabled = "None", "Disabled"
	}
	if m.nextCD {
		m.nextCD, m.ejectDue, take = false, true, true
	}
	return take && !m.behaviour.IgnoreCd
}

// shownOverride is what the BMC says of the override.
func (m *Machine) shownOverride() bmc.BootOverride {
	o := m.override
	if m.kind.bootTargets == nil {
		return bmc.BootOverride{}
	}
	if !slices.Contains(m.bootTargets(), o.Target) {
		o.Target, o.Enabled = "None", "Disabled" // the vendor's own settings show it
	}
	if m.behaviour.OverrideReadsContinuous && o.Enabled == "Once" {
		o.Enabled = "Continuous"
	}
	return o
}

// patchNextCD sets iLO's BootOnNextServerReset.
func (m *Machine) patchNextCD(on bool) error {
	if on && !m.media.now.inserted {
		return m.kind.refuse("NoVirtualMediaConnectionAvailable")
	}
	m.nextCD = on
	return nil
}

// ejectAfterSecondReset takes the image out at the reset after the one that
// BootOnNextServerReset was for (vendors.md 2.4).
func (m *Machine) ejectAfterSecondReset() {
	if m.ejectDue {
		m.ejectDue = false
		m.media = mediaState{}
	}
}
