package report_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/doctor"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// smallDoctor has a BMC that lacks nothing, one that does not mount what is
// wanted, one that answered in part, and one that did not answer.
func smallDoctor() report.Doctor {
	cert := &bmc.Certificate{
		Subject: "CN=ILOMXQ12345.example.org,O=Hewlett Packard Enterprise", Issuer: "CN=Default Issuer (Do not trust),O=Hewlett Packard Enterprise",
		Key: "RSA 2048", NotBefore: observedAt.AddDate(-1, 0, 0), NotAfter: observedAt.AddDate(5, 0, 0), Fingerprint: pinOf("a"),
	}
	ilo := bmc.Card{
		ID:    bmc.Identity{Vendor: "HPE", Product: "iLO 5", Model: "ProLiant DL325 Gen10 Plus", Firmware: "2.46", Profile: "hpe-ilo5", System: "/redfish/v1/Systems/1"},
		Row:   bmc.Profile{Name: "hpe-ilo5", Family: "HPE iLO 5", Verified: "2025-12-15", Match: bmc.Match{OemKey: "^Hpe$"}, Console: bmc.ConsoleVSP},
		Power: bmc.PowerOn, Licence: "iLO Advanced",
		Media: &bmc.MediaCard{Slots: []bmc.SlotCard{
			{URI: "/redfish/v1/Managers/1/VirtualMedia/1", ID: "1", Types: []string{"Floppy", "USBStick"}, Why: "Floppy/USBStick"},
			{URI: "/redfish/v1/Managers/1/VirtualMedia/2", ID: "2", Types: []string{"CD", "DVD"}, Used: true, Image: pit16, Inserted: true},
		}},
		Boot: &bmc.BootCard{
			Method: "override", Target: "Cd", Targets: []string{"None", "Cd", "Hdd", "Usb", "SDCard", "Utilities", "Diags", "BiosSetup", "Pxe", "UefiShell"},
			Now: bmc.BootOverride{Target: "None", Enabled: "Disabled"},
		},
		ResetTypes: []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart", "Nmi", "PushPowerButton", "GracefulRestart"},
		Resets:     []bmc.ResetKind{bmc.PowerUp, bmc.ForceOff},
		Consoles: []bmc.ConsoleCard{
			{Kind: bmc.ConsoleSerial, Enabled: true, Types: []string{"SSH", "IPMI", "Oem"}, Sessions: 13},
			{Kind: bmc.ConsoleShell, Enabled: false, Types: []string{"SSH"}},
			{Kind: bmc.ConsoleGraphic, Enabled: true, Types: []string{"KVMIP"}, Sessions: 10},
		},
		Clock: &bmc.ClockCard{Ahead: 2 * time.Second, From: "Date"}, Certificate: cert,
	}
	ami := ilo
	ami.ID = bmc.Identity{Vendor: "GIGABYTE", Product: "AMI Redfish Server", Model: "H262-Z63-00", Firmware: "12.84.13", Profile: "ami-megarac-12"}
	ami.Row = bmc.Profile{Name: "ami-megarac-12", Family: "AMI MegaRAC 12", Verified: "2025-03-11", Match: bmc.Match{OemKey: "^Ami$"}, URL: bmc.URLRules{
		Schemes: []string{"http"}, DefaultPort: true, Path: "A-Za-z0-9._-", MinDirectories: 1, MaxURL: 100, Endings: []string{".iso"},
	}}
	ami.Licence, ami.Media, ami.Power = "", &bmc.MediaCard{Access: bmc.AccessDisabled}, bmc.PowerOff
	ami.Clock = &bmc.ClockCard{Ahead: -25 * time.Hour, From: "DateTime"}
	half := ilo
	half.Media = nil
	half.Unread = []bmc.Unread{{What: "the virtual media", Needed: true, Err: &bmc.Error{Op: "read Managers/1/VirtualMedia", Kind: bmc.KindProtocol, Err: errors.New("500"), Hint: "run again with -v"}}}
	dead := bmc.Card{Err: &bmc.Error{Op: "read the service root", Kind: bmc.KindUnreachable, Err: errors.New("nothing answers at n4-mgmt"), Hint: "check bmc.address"}}
	var patients []doctor.Patient
	for i, c := range []bmc.Card{ilo, ami, half, dead} {
		name := string(rune('1' + i))
		patients = append(patients, doctor.Patient{
			Node: site.Node{Name: "n" + name, Image: "pit-1.7", BMC: site.BMC{URL: "https://n" + name + "-mgmt"}},
			Card: c, Image: "http://10.1.1.1:8080/iso/pit17.iso", Now: observedAt,
		})
	}
	var findings [][]doctor.Finding
	for _, p := range patients {
		findings = append(findings, doctor.Judge(p))
	}
	return report.FromDoctor("redbird", observedAt, patients, findings)
}

func TestDoctorText(t *testing.T) {
	for name, o := range map[string]report.Options{"doctor.txt": {Width: 80}, "doctor-color.txt": {Width: 80, Color: true}} {
		golden(t, name, render(t, func(b *bytes.Buffer) error { return report.DoctorText(b, smallDoctor(), o) }))
	}
}

func TestDoctorJSON(t *testing.T) {
	golden(t, "doctor.json", render(t, func(b *bytes.Buffer) error { return report.DoctorJSON(b, smallDoctor()) }))
}

// Whatever a BMC calls itself, a terminal shows it and does not obey.
func TestDoctorOfAHostileBMC(t *testing.T) {
	d := smallDoctor()
	const evil = "x\x1b[2J\u202e\x9b1m"
	c := &d.Nodes[0]
	c.Vendor, c.Product, c.Model, c.Firmware, c.Licence, c.Resets, c.Images = evil, evil, evil, evil, evil, []string{evil}, []string{evil}
	c.Media.Slots[1].ID, c.Media.Slots[1].Types, c.Media.Slots[1].Image, c.Media.Slots[0].Why = evil, []string{evil}, evil, evil
	c.Boot.Target, c.Boot.Targets, c.Boot.Method, c.Consoles[0].Types = evil, []string{evil}, evil, []string{evil}
	c.Certificate.Subject, c.Certificate.Issuer, c.BMC, c.Row.Family = evil, evil, evil, evil
	c.Findings = []report.Finding{{Severity: doctor.Stops, Message: evil, Hint: evil, Kind: bmc.Kind(evil)}}
	for _, out := range [][]byte{
		render(t, func(b *bytes.Buffer) error { return report.DoctorText(b, d, report.Options{Width: 80}) }),
		render(t, func(b *bytes.Buffer) error { return report.DoctorJSON(b, d) }),
	} {
		if bytes.ContainsAny(out, "\x1b\u202e") || bytes.Contains(out, []byte("\x9b")) {
			t.Errorf("it is shown as it came: %q", out)
		}
	}
}
