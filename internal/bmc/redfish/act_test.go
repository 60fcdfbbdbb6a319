package redfish_test

import (
	"strings"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

const (
	insertPath = slotPath + "/Insert"
	ejectPath  = slotPath + "/Eject"
	resetPath  = sysPath + "/Reset"
	taskPath   = "/redfish/v1/TaskService/Tasks/7"
)

func TestInsertClimbs(t *testing.T) {
	const plain = `{"Image":"` + image + `"}`
	const protocol = `{"Image":"` + image + `","TransferProtocolType":"HTTP"}`
	const method = `{"Image":"` + image + `","TransferMethod":"Stream"}`
	const both = `{"Image":"` + image + `","TransferMethod":"Stream","TransferProtocolType":"HTTP"}`
	const credentials = `{"Image":"` + image + `","Password":"none","UserName":"none"}`
	ok := reply{status: 204}
	for _, c := range []struct {
		name    string
		replies []reply
		bodies  []string
		kind    bmc.Kind
	}{
		{"first form", []reply{ok}, []string{plain}, ""},
		{"asks by argument", []reply{says(400, "Base.1.0.ActionParameterMissing", "", "InsertMedia", "TransferProtocolType"), ok}, []string{plain, protocol}, ""},
		{"asks by text", []reply{says(400, "Base.1.0.GeneralError", "The property TransferMethod is required."), ok}, []string{plain, method}, ""},
		{"asks twice", []reply{
			says(400, "Base.1.0.PropertyMissing", "", "TransferProtocolType"),
			says(400, "Base.1.0.PropertyMissing", "", "TransferMethod"), ok,
		}, []string{plain, protocol, both}, ""},
		{"asks for what was sent", []reply{says(400, "Base.1.0.PropertyMissing", "", "Image")}, []string{plain}, bmc.KindProtocol},
		{"asks for credentials", []reply{{status: 400, body: `{"error":{"@Message.ExtendedInfo":[{"MessageId":"Base.1.0.PropertyMissing","MessageArgs":["UserName"]},{"MessageId":"Base.1.0.PropertyMissing","MessageArgs":["Password"]}]}}`}, ok}, []string{plain, credentials}, ""},
		{"asks for what nobody has", []reply{says(400, "Base.1.0.PropertyMissing", "", "Domain")}, []string{plain}, bmc.KindProtocol},
		{"asks, then refuses it", []reply{says(400, "Base.1.0.PropertyMissing", "", "TransferMethod"), says(400, "Base.1.0.PropertyUnknown", "", "TransferMethod")}, []string{plain, method}, bmc.KindProtocol},
		{"refuses the protocol", []reply{says(400, "Base.1.0.ActionParameterValueNotInList", "", "HTTP", "TransferProtocolType")}, []string{plain}, bmc.KindURL},
		{"finds no image", []reply{says(404, "Base.1.0.ResourceMissingAtURI", "", image)}, []string{plain}, bmc.KindMedia},
		{"does not know the action", []reply{{status: 405}}, []string{plain}, bmc.KindUnsupported},
		{"refuses the URL", []reply{says(400, "Base.1.12.ActionParameterValueFormatError", "The value for TransferProtocolType.", "x")}, []string{plain}, bmc.KindURL},
		{"wants a licence", []reply{says(403, "SMC.1.0.OemLicenseNotPassed", "")}, []string{plain}, bmc.KindLicence},
		{"cannot read it", []reply{says(500, "IDRAC.2.5.RAC0904", "not reachable")}, []string{plain}, bmc.KindMedia},
		{"says critical with 200", []reply{{status: 200, body: `{"error":{"@Message.ExtendedInfo":[{"MessageId":"X.1.0.Y","Severity":"Critical"}]}}`}}, []string{plain}, bmc.KindProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript()
			s.writes["POST "+insertPath] = c.replies
			cl, _ := s.client(t, nil)
			err := cl.InsertMedia(t.Context(), image)
			if c.kind == "" {
				must(t, err)
			} else {
				wantError(t, err, c.kind)
			}
			var want []string
			for _, b := range c.bodies {
				want = append(want, post(insertPath, b))
			}
			wantWritten(t, s, want...)
		})
	}
}

// TestInsertWaitsAfterEject is for BMCs that refuse an insert for a while after an
// eject (vendors.md 2.4, 3.9).
func TestInsertWaitsAfterEject(t *testing.T) {
	for _, settle := range []float64{0, 9} {
		s := newScript()
		s.writes["POST "+slotPath+"/Eject"] = []reply{{status: 204}}
		s.writes["POST "+insertPath] = []reply{{status: 204}}
		cl, conf := s.client(t, func(p *bmc.Profile) { p.EjectSettleSeconds = settle })
		clock := conf.Clock.(*idleClock)
		must(t, cl.InsertMedia(t.Context(), image))
		if got := clock.slept(); got != 0 {
			t.Errorf("the first insert was %s late", got)
		}
		must(t, cl.EjectMedia(t.Context()))
		must(t, cl.InsertMedia(t.Context(), image))
		must(t, cl.InsertMedia(t.Context(), image))
		if got := clock.slept().Seconds(); got != settle {
			t.Errorf("the inserts after an eject were %g s late, not %g", got, settle)
		}
	}
}

func TestInsertByPatch(t *testing.T) {
	s := newScript()
	s.docs[slotPath] = `{"Id":"EXT1","MediaTypes":["CD"],"@odata.etag":"\"strong\"","Image":null,"Inserted":false}`
	s.writes["PATCH "+slotPath] = []reply{says(400, "Base.1.0.PropertyUnknown", "", "Inserted"), {status: 200}, {status: 200}}
	cl, _ := s.client(t, func(p *bmc.Profile) { p.Insert = "patch" })
	must(t, cl.InsertMedia(t.Context(), image))
	must(t, cl.EjectMedia(t.Context()))
	wantWritten(t, s,
		`PATCH `+slotPath+` if "strong" {"Image":"`+image+`","Inserted":true}`,
		`PATCH `+slotPath+` if "strong" {"Image":"`+image+`"}`,
		`PATCH `+slotPath+` if "strong" {"Image":null,"Inserted":false}`)
}

// A URL that the family is known to refuse is not sent.
func TestInsertChecksTheURL(t *testing.T) {
	s := newScript()
	cl, _ := s.client(t, func(p *bmc.Profile) { p.URL.Schemes = []string{"https"} })
	wantError(t, cl.InsertMedia(t.Context(), image), bmc.KindURL)
	wantWritten(t, s)
}

func TestAnswersThatAreLost(t *testing.T) {
	for _, c := range []struct {
		path string
		do   func(*testing.T, bmc.Client) error
	}{
		{insertPath, func(t *testing.T, c bmc.Client) error { return c.InsertMedia(t.Context(), image) }},
		{ejectPath, func(t *testing.T, c bmc.Client) error { return c.EjectMedia(t.Context()) }},
		{resetPath, func(t *testing.T, c bmc.Client) error { return c.Reset(t.Context(), bmc.PowerUp) }},
	} {
		for name, r := range map[string]reply{
			"dropped": {drop: true}, "500": {status: 500}, "502": {status: 502}, "504": {status: 504},
			"half": {status: 200, body: "{", header: map[string]string{"Content-Length": "100"}},
		} {
			t.Run(c.path+" "+name, func(t *testing.T) {
				s := newScript()
				s.docs[slotPath] = slot(`"Image":"` + image + `","Inserted":true`)
				s.writes["POST "+c.path] = []reply{r}
				cl, _ := s.client(t, nil)
				err := c.do(t, cl)
				if e := wantError(t, err, bmc.KindOf(err)); !e.Uncertain {
					t.Errorf("not uncertain: %v", e)
				}
				if n := len(s.written()); n != 1 {
					t.Errorf("sent %d times: %q", n, s.written())
				}
			})
		}
	}
}

func TestResetTypes(t *testing.T) {
	for _, c := range []struct {
		allowed string
		power   string
		kind    bmc.ResetKind
		want    string // "" for nothing sent
		err     bmc.Kind
	}{
		{`["ForceOn","On"]`, "Off", bmc.PowerUp, "On", ""},
		{`["ForceOn","PushPowerButton"]`, "Off", bmc.PowerUp, "ForceOn", ""},
		{`["PushPowerButton"]`, "Off", bmc.PowerUp, "PushPowerButton", ""},
		{`["PushPowerButton"]`, "On", bmc.PowerUp, "", ""},
		{`["PushPowerButton"]`, "PoweringOff", bmc.PowerUp, "", bmc.KindBusy},
		{`["PushPowerButton","ForceOff"]`, "On", bmc.GracefulShutdown, "PushPowerButton", ""},
		{`["PushPowerButton","ForceOff"]`, "Off", bmc.GracefulShutdown, "", ""},
		{`["PushPowerButton","ForceOff"]`, "PoweringOff", bmc.GracefulShutdown, "", bmc.KindBusy},
		{`["PushPowerButton","GracefulShutdown"]`, "On", bmc.GracefulShutdown, "GracefulShutdown", ""},
		{`["GracefulRestart","ForceRestart"]`, "On", bmc.Restart, "ForceRestart", ""},
		{`["PowerCycle","GracefulRestart"]`, "On", bmc.Restart, "GracefulRestart", ""},
		{`["ForcePowerCycle"]`, "On", bmc.Restart, "ForcePowerCycle", ""},
		{`["On","Off"]`, "On", bmc.ForceOff, "Off", ""},
		{`["On","Off"]`, "On", bmc.Restart, "", bmc.KindUnsupported},
		{`["On"]`, "On", bmc.GracefulShutdown, "", bmc.KindUnsupported},
		{`null`, "On", bmc.Restart, "ForceRestart", ""},
		{`"On"`, "On", bmc.ForceOff, "ForceOff", ""},
	} {
		s := newScript()
		s.docs[sysPath] = strings.Replace(system(`"PowerState":"`+c.power+`"`), `/Reset"}`, `/Reset","ResetType@Redfish.AllowableValues":`+c.allowed+`}`, 1)
		s.writes["POST "+resetPath] = []reply{{status: 204}}
		cl, _ := s.client(t, nil)
		err := cl.Reset(t.Context(), c.kind)
		if c.err == "" {
			must(t, err)
		} else {
			wantError(t, err, c.err)
		}
		if c.want == "" {
			wantWritten(t, s)
		} else {
			wantWritten(t, s, post(resetPath, `{"ResetType":"`+c.want+`"}`))
		}
	}
}

// A reset refused as busy is sent again only while the machine is not as wanted.
func TestResetBusy(t *testing.T) {
	busy := says(400, "iLO.2.14.InvalidOperationForSystemState", "")
	s := newScript()
	s.writes["POST "+resetPath] = []reply{busy, busy, {status: 200}}
	cl, _ := s.client(t, nil)
	must(t, cl.Reset(t.Context(), bmc.PowerUp))
	if n := len(s.written()); n != 3 {
		t.Errorf("sent %d times, want 3", n)
	}

	s = newScript()
	s.docs[sysPath] = system(`"PowerState":"On"`)
	s.writes["POST "+resetPath] = []reply{busy}
	cl, _ = s.client(t, nil)
	must(t, cl.Reset(t.Context(), bmc.PowerUp)) // it is on
	if n := len(s.written()); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}

	s = newScript()
	s.writes["POST "+resetPath] = []reply{busy}
	cl, _ = s.client(t, nil)
	wantError(t, cl.Reset(t.Context(), bmc.Restart), bmc.KindBusy) // it is off
	if n := len(s.written()); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}

	s = newScript()
	s.writes["POST "+resetPath] = []reply{busy, {drop: true}}
	cl, _ = s.client(t, nil)
	if e := wantError(t, cl.Reset(t.Context(), bmc.PowerUp), bmc.KindUnreachable); !e.Uncertain {
		t.Errorf("%+v, want it uncertain", e)
	}
	if n := len(s.written()); n != 2 {
		t.Errorf("sent %d times, want 2", n)
	}
}

func TestTasks(t *testing.T) {
	running := reply{status: 200, body: `{"TaskState":"Running"}`}
	done := reply{status: 200, body: `{"TaskState":"Completed","TaskStatus":"OK"}`}
	for _, c := range []struct {
		name  string
		start reply
		polls map[string][]reply
		kind  bmc.Kind
		words string
	}{
		{"location", located(taskPath, ""), map[string][]reply{taskPath: {running, running, done}}, "", ""},
		{"absolute location", located("https://bmc.example"+taskPath, ""), map[string][]reply{taskPath: {running, done}}, "", ""},
		{"location of the monitor", located(taskPath+"/Monitor", ""), map[string][]reply{taskPath: {running, done}}, "", ""},
		{"monitor only", located(taskPath+"/Monitor", ""), map[string][]reply{taskPath + "/Monitor": {{status: 202}, {status: 202, body: `{"TaskState":"Running"}`}, {status: 204}}}, "", ""},
		{"monitor that fails", located("/redfish/v1/TaskMonitors/7", ""), map[string][]reply{"/redfish/v1/TaskMonitors/7": {{status: 202}, says(400, "Base.1.0.LicenseKeyRequired", "")}}, bmc.KindLicence, "LicenseKeyRequired"},
		{"body only", located("", `{"@odata.id":"`+taskPath+`","TaskState":"New"}`), map[string][]reply{taskPath: {running, done}}, "", ""},
		{"ended at once", located("", `{"@odata.id":"`+taskPath+`","TaskState":"Completed"}`), nil, "", ""},
		{"nothing to follow", located("", ""), nil, "", ""},
		{"cleared away", located(taskPath, ""), map[string][]reply{taskPath: {running, {status: 404}}}, "", ""},
		{"busy meanwhile", located(taskPath, ""), map[string][]reply{taskPath: {running, {status: 503}, done}}, "", ""},
		{"unknown state", located(taskPath, ""), map[string][]reply{taskPath: {{status: 200, body: `{"TaskState":"Mounting"}`}, {status: 200, body: `{"TaskState":"Mounted"}`}}}, "", ""},
		{"messages as object", located(taskPath, ""), map[string][]reply{taskPath: {{status: 200, body: `{"TaskState":"Exception","Messages":{"MessageId":"iBMC.1.0.ConnectionFailed","Message":"no route"}}`}}}, bmc.KindMedia, "no route"},
		{"failed", located(taskPath, ""), map[string][]reply{taskPath: {{status: 200, body: `{"TaskState":"Killed","Messages":[{"Message":"by hand"}]}`}}}, bmc.KindProtocol, "Killed: by hand"},
		{"never ends", located(taskPath, ""), map[string][]reply{taskPath: {running}}, bmc.KindTimeout, "5m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript()
			s.writes["POST "+insertPath] = []reply{c.start}
			for path, list := range c.polls {
				s.writes["GET "+path] = list
			}
			cl, conf := s.client(t, nil)
			err := cl.InsertMedia(t.Context(), image)
			if c.kind == "" {
				must(t, err)
			} else {
				e := wantError(t, err, c.kind, c.words)
				if e.Uncertain != (c.name == "never ends" || c.name == "monitor that fails") {
					t.Errorf("uncertain %v: %v", e.Uncertain, e)
				}
			}
			if n := len(s.written()); n != 1 {
				t.Errorf("sent %d times, want once", n)
			}
			if got := conf.Clock.(*idleClock).slept(); got > 6*time.Minute {
				t.Errorf("waited %v", got)
			}
		})
	}
}

func located(to, body string) reply {
	r := reply{status: 202, body: body}
	if to != "" {
		r.header = map[string]string{"Location": to}
	}
	return r
}

const pair = `{"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Cd"}}`

func TestPreconditions(t *testing.T) {
	for _, c := range []struct {
		name    string
		replies []reply
		matches []string
		kind    bmc.Kind
	}{
		{"as it was read", []reply{{status: 200}}, []string{`W/"1"`}, ""},
		{"once more", []reply{{status: 412}, {status: 200}}, []string{`W/"1"`, `W/"1"`}, ""},
		{"without", []reply{{status: 412}, {status: 428}, {status: 200}}, []string{`W/"1"`, `W/"1"`, ""}, ""},
		{"any", []reply{{status: 412}, {status: 412}, {status: 428}, {status: 200}}, []string{`W/"1"`, `W/"1"`, "", "*"}, ""},
		{"never", []reply{{status: 412}}, []string{`W/"1"`, `W/"1"`, "", "*"}, bmc.KindProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScript()
			s.docs[sysPath] = system(`"@odata.etag":"W/\"1\"","PowerState":"Off"`)
			s.writes["PATCH "+sysPath] = c.replies
			cl, _ := s.client(t, nil)
			err := cl.SetBootOnce(t.Context())
			if c.kind == "" {
				must(t, err)
			} else {
				wantError(t, err, c.kind)
			}
			var want []string
			for _, m := range c.matches {
				if m != "" {
					m = "if " + m + " "
				}
				want = append(want, "PATCH "+sysPath+" "+m+pair)
			}
			wantWritten(t, s, want...)
		})
	}
}

func TestSettingsObject(t *testing.T) {
	const sd = sysPath + "/SD"
	s := newScript()
	s.docs[sysPath] = strings.Replace(system(`"PowerState":"Off","@Redfish.Settings":{"SettingsObject":{"@odata.id":"`+sd+`"}}`),
		`,"BootSourceOverrideTarget@Redfish.AllowableValues":["None","Cd"]`, "", 1)
	s.docs[sd] = `{"@odata.etag":"\"sd\"","Boot":{"BootSourceOverrideTarget":"Cd","BootSourceOverrideEnabled":"Once",` +
		`"BootSourceOverrideMode@Redfish.AllowableValues":["UEFI"],"BootSourceOverrideTarget@Redfish.AllowableValues":["Cd"]}}`
	s.writes["PATCH "+sd] = []reply{{status: 204}}
	cl, _ := s.client(t, func(p *bmc.Profile) { p.FullBoot = true })
	if st := observe(t, cl); !st.Boot.Armed([]string{"Cd"}) {
		t.Errorf("boot %+v, want the settings object's", st.Boot)
	}
	must(t, cl.SetBootOnce(t.Context()))
	wantWritten(t, s, "PATCH "+sd+` if "sd" {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Cd"}}`)

	// The same, but the BMC says so only when asked (Ami.1.0).
	s = newScript()
	s.docs[sysPath] = system(`"PowerState":"Off","@Redfish.Settings":{"SettingsObject":{"@odata.id":"` + sd + `"}}`)
	s.docs[sd] = `{"Boot":{}}`
	s.writes["PATCH "+sysPath] = []reply{says(400, "Ami.1.0.OperationSupportedInFutureStateURI", "")}
	s.writes["PATCH "+sd] = []reply{{status: 204}}
	cl, _ = s.client(t, nil)
	must(t, cl.SetBootOnce(t.Context()))
	wantWritten(t, s, "PATCH "+sysPath+" "+pair, "PATCH "+sd+" "+pair)
}

func TestBootNext(t *testing.T) {
	options := sysPath + "/BootOptions"
	with := func(option string) *script {
		s := newScript()
		s.docs[sysPath] = strings.Replace(strings.Replace(system(`"PowerState":"Off"`), `["None","Cd"]`, `["None","Cd","UefiBootNext"]`, 1),
			`"Boot":{`, `"Boot":{"BootOptions":{"@odata.id":"`+options+`"},`, 1)
		s.docs[options] = members(options+"/1", options+"/2")
		s.docs[options+"/1"] = `{"BootOptionReference":"Boot0001","UefiDevicePath":"HD(1,GPT)"}`
		s.docs[options+"/2"] = option
		s.writes["PATCH "+sysPath] = []reply{{status: 204}}
		return s
	}
	for _, c := range []struct{ option, want string }{
		{
			`{"BootOptionReference":"Boot0007","UefiDevicePath":"PciRoot(0x0)/USB(0x1,0x0)/CDROM(0x1)"}`,
			`{"Boot":{"BootNext":"Boot0007","BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"UefiBootNext"}}`,
		},
		{
			`{"BootOptionReference":"Boot0008","DisplayName":"UEFI: AMI Virtual CDROM0 1.00"}`,
			`{"Boot":{"BootNext":"Boot0008","BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"UefiBootNext"}}`,
		},
		{`{"BootOptionReference":"Boot0009","DisplayName":"disk"}`, pair},
	} {
		s := with(c.option)
		cl, _ := s.client(t, func(p *bmc.Profile) { p.BootTargets = []string{"UefiBootNext", "Cd"} })
		must(t, cl.SetBootOnce(t.Context()))
		wantWritten(t, s, "PATCH "+sysPath+" "+c.want)
	}
	s := with(`{}`)
	cl, _ := s.client(t, func(p *bmc.Profile) { p.BootTargets = []string{"UsbCd"} })
	wantError(t, cl.SetBootOnce(t.Context()), bmc.KindUnsupported, "UsbCd", "None, Cd, UefiBootNext")
}

// While no override is set, the mode that is shown means nothing.
func TestBootMode(t *testing.T) {
	for _, c := range []struct{ boot, want string }{
		{`"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideMode":"Legacy","BootSourceOverrideMode@Redfish.AllowableValues":["Legacy","UEFI"]`, "UEFI"},
		{`"BootSourceOverrideEnabled":"Disabled","BootSourceOverrideMode":"Legacy","BootSourceOverrideMode@Redfish.AllowableValues":["Legacy"]`, "Legacy"},
		{`"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"Legacy"`, "Legacy"},
		{`"BootSourceOverrideEnabled":"Disabled"`, "UEFI"},
	} {
		s := newScript()
		s.docs[sysPath] = strings.Replace(system(`"PowerState":"Off"`), `"BootSourceOverrideEnabled":"Disabled"`, c.boot, 1)
		s.writes["PATCH "+sysPath] = []reply{{status: 204}}
		cl, _ := s.client(t, func(p *bmc.Profile) { p.FullBoot = true })
		must(t, cl.SetBootOnce(t.Context()))
		if got := s.written(); len(got) != 1 || !strings.Contains(got[0], `"BootSourceOverrideMode":"`+c.want+`"`) {
			t.Errorf("wrote %q, want the mode %s", got, c.want)
		}
	}
}
