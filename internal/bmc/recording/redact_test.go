package recording

import (
	"encoding/json"
	"strings"
	"testing"
)

// exchangeOf is a read of a document.
func exchangeOf(uri, body string) Exchange {
	return Exchange{Method: "GET", URI: uri, Status: 200, Header: map[string]string{}, Body: json.RawMessage(body)}
}

// redacted replaces in exchanges of one BMC, and gives them as they would be
// written.
func redacted(t *testing.T, info Info, all ...Exchange) (Info, []Exchange) {
	t.Helper()
	x := newRedactor()
	x.learnSite(info)
	for i := range all {
		x.learn(&all[i])
	}
	x.info(&info)
	for i := range all {
		x.exchange(&all[i])
	}
	return info, all
}

func TestRedact(t *testing.T) {
	info := Info{BMC: "x3000c0s3b0.example.org:8443", Nodes: []Node{{Name: "storage", URL: "http://repo.example.org/iso/pit.iso"}, {Name: "n7", System: "/redfish/v1/Systems/QSBP74100021"}}}
	got, all := redacted(t, info,
		exchangeOf("/redfish/v1/Systems", `{"Members": [{"@odata.id": "/redfish/v1/Systems/QSBP74100021"}]}`),
		exchangeOf("/redfish/v1/Systems/QSBP74100021", `{
			"@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem", "SerialNumber": "QSBP74100021", "AssetTag": "unknown", "SKU": "P38409-B21",
			"UUID": "30303938-3632-5351-4250-373431303032", "HostName": "storage", "Name": "n7 of x3000c0s3b0.example.org", "BiosVersion": "1.2.3.4",
			"FirmwareVersion": "7.10.30.5", "Manufacturer": "storage", "Storage": {"@odata.id": "/redfish/v1/Systems/QSBP74100021/Storage"},
			"Image": "http://REPO.example.org:8080/iso/storage.iso", "Other": "https://x3000c0s3b0.example.org:8443/redfish/v1/Systems/QSBP74100021"}`),
		exchangeOf("/redfish/v1/Managers/1/EthernetInterfaces/0017A4770001", `{
			"MACAddress": "00:17:A4:77:00:01", "PermanentMACAddress": "00-17-a4-77-00-01", "Id": "0017A4770001", "FQDN": "x3000c0s3b0.example.org",
			"IPv4Addresses": [{"Address": "10.254.1.7", "SubnetMask": "255.255.255.0", "Gateway": "10.254.0.1"}], "IPv6": "fe80::217:a4ff:fe77:1/64",
			"NameServers": ["10.254.0.1", "0.0.0.0"], "Text": "Base::Foo at 10.254.1.7: 05:00:00, file_10.254.1.7.iso, v10.254.1.7.2", "UserName": "operator", "Contact": "Jo Doe", "iLOName": "ILOQSBP74100021.x"}`),
	)
	if got.BMC != "bmc-1:8443" || got.Nodes[0].Name != "node-1" || got.Nodes[1].Name != "node-2" || got.Nodes[1].System != "/redfish/v1/Systems/SERIAL0001" ||
		got.Nodes[0].URL != "http://host-1/iso/pit.iso" {
		t.Errorf("%+v", got)
	}
	if all[1].URI != "/redfish/v1/Systems/SERIAL0001" || string(all[0].Body) != `{"Members":[{"@odata.id":"/redfish/v1/Systems/SERIAL0001"}]}` {
		t.Errorf("links do not fit: %s %s", all[1].URI, all[0].Body)
	}
	want := `{"@odata.type":"#ComputerSystem.v1_10_0.ComputerSystem","SerialNumber":"SERIAL0001","AssetTag":"unknown","SKU":"SERIAL0002",` +
		`"UUID":"00000000-0000-4000-8000-000000000001","HostName":"node-1","Name":"node-2 of bmc-1","BiosVersion":"1.2.3.4",` +
		`"FirmwareVersion":"7.10.30.5","Manufacturer":"storage","Storage":{"@odata.id":"/redfish/v1/Systems/SERIAL0001/Storage"},` +
		`"Image":"http://host-1:8080/iso/storage.iso","Other":"https://bmc-1:8443/redfish/v1/Systems/SERIAL0001"}`
	if string(all[1].Body) != want {
		t.Errorf("got\n%s\nwant\n%s", all[1].Body, want)
	}
	want = `{"MACAddress":"02:00:00:00:00:01","PermanentMACAddress":"02-00-00-00-00-01","Id":"020000000001","FQDN":"bmc-1",` +
		`"IPv4Addresses":[{"Address":"192.0.2.1","SubnetMask":"255.255.255.0","Gateway":"192.0.2.2"}],"IPv6":"2001:db8::1/64",` +
		`"NameServers":["192.0.2.2","0.0.0.0"],"Text":"Base::Foo at 192.0.2.1: 05:00:00, file_192.0.2.1.iso, v10.254.1.7.2","UserName":"operator","Contact":"user-1","iLOName":"ILOSERIAL0001.x"}`
	if string(all[2].Body) != want || all[2].URI != "/redfish/v1/Managers/1/EthernetInterfaces/020000000001" {
		t.Errorf("%s got\n%s\nwant\n%s", all[2].URI, all[2].Body, want)
	}
}

// Names that are stand-ins themselves are replaced once, and so stay apart.
func TestRedactNamesLikeStandIns(t *testing.T) {
	_, all := redacted(t, Info{BMC: "bmc-2", Nodes: []Node{{Name: "node-2"}, {Name: "node-1"}}},
		exchangeOf("/redfish/v1", `{"A": "node-1", "B": "node-2", "C": "https://bmc-2/node-1", "D": "192.0.2.7 192.0.2.1"}`))
	if got, want := string(all[0].Body), `{"A":"node-2","B":"node-1","C":"https://bmc-1/node-2","D":"192.0.2.1 192.0.2.2"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecrets(t *testing.T) {
	var s scrubber
	s.know("root", "hunter2&co")
	e := Exchange{
		Method: "POST", URI: "/redfish/v1/SessionService/Sessions", Status: 201, Asked: json.RawMessage(`{"UserName": "root", "Password": "hunter2&co"}`),
		Header: map[string]string{"X-Auth-Token": "tok-3af5e21c", "Location": "https://b/redfish/v1/SessionService/Sessions/root00000001"},
		Body:   json.RawMessage(`{"Id": "root00000001", "@odata.id": "/redfish/v1/SessionService/Sessions/root00000001", "Oem": {"X": {"Note": "tok-3af5e21c"}}}`),
	}
	s.exchange(&e)
	body := exchangeOf("/redfish/v1/x", `{
		"LicenseKey": "34T6L-4C9PX", "Oem": {"Hpe": {"License": {"LicenseKey": "A", "LicenseString": "iLO Advanced"}}}, "MinPasswordLength": 8,
		"Passwords": ["a", {"Value": "b"}], "SNMP": {"CommunityString": "public"}, "PasswordPolicy": {"@odata.id": "/redfish/v1/p"},
		"#X.ResetPassword": {"target": "/redfish/v1/x/Actions/X.ResetPassword"}, "Password@Redfish.AllowableValues": ["x"], "PasswordChangeRequired": false,
		"Image": "http://admin:pw@10.1.1.1/iso/a.iso?X-Amz-Signature=beef&v=1", "Text": "he said hunter2&co, aGVsbG8= cm9vdDpodW50ZXIyJmNv",
		"PEM": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "@odata.nextLink": "/redfish/v1/x?$skip=50",
		"Members": [{"@odata.id": "/redfish/v1/SessionService/Sessions/root00000001"}, {"@odata.id": "/redfish/v1/SessionService/Sessions/root00000002"}],
		"Number": 1.50, "Big": 12345678901234567890, "Null": null, "Same": "a", "Same": "b"}`)
	s.exchange(&body)
	page := Exchange{Method: "GET", URI: "/redfish/v1/y", Status: 500, Text: "<p>hunter2&amp;co tok-3af5e21c</p>", Error: "hunter2%26co"}
	s.exchange(&page)
	out := string(e.Asked) + string(e.Body) + e.Header["Location"] + e.Header["X-Auth-Token"] + string(body.Body) + page.Text + page.Error
	for _, secret := range []string{"hunter2", "tok-3af5", "root0000", "34T6L", "admin:pw", "beef", "cm9vdDpod", "MIIE", `"public"`, `"A"`} {
		if strings.Contains(out, secret) {
			t.Errorf("%s is in %s", secret, out)
		}
	}
	want := `{"LicenseKey":"(secret)","Oem":{"Hpe":{"License":{"LicenseKey":"(secret)","LicenseString":"iLO Advanced"}}},"MinPasswordLength":8,` +
		`"Passwords":["(secret)",{"Value":"(secret)"}],"SNMP":{"CommunityString":"(secret)"},"PasswordPolicy":{"@odata.id":"/redfish/v1/p"},` +
		`"#X.ResetPassword":{"target":"/redfish/v1/x/Actions/X.ResetPassword"},"Password@Redfish.AllowableValues":["x"],"PasswordChangeRequired":false,` +
		`"Image":"http://(secret)@10.1.1.1/iso/a.iso?X-Amz-Signature=(secret)&v=1","Text":"he said (secret), aGVsbG8= (secret)",` +
		`"PEM":"(secret)","@odata.nextLink":"/redfish/v1/x?$skip=50",` +
		`"Members":[{"@odata.id":"/redfish/v1/SessionService/Sessions/session-1"},{"@odata.id":"/redfish/v1/SessionService/Sessions/session-2"}],` +
		`"Number":1.50,"Big":12345678901234567890,"Null":null,"Same":"a","Same":"b"}`
	if string(body.Body) != want {
		t.Errorf("got\n%s\nwant\n%s", body.Body, want)
	}
	if string(e.Body) != `{"Id":"session-1","@odata.id":"/redfish/v1/SessionService/Sessions/session-1","Oem":{"X":{"Note":"(secret)"}}}` ||
		e.Header["Location"] != "https://b/redfish/v1/SessionService/Sessions/session-1" {
		t.Errorf("%s %s", e.Body, e.Header["Location"])
	}
}

// Whatever a BMC sends, what is written is JSON of the same shape.
func FuzzRewrite(f *testing.F) {
	f.Add(`{"a":[1,2.0,{"b":null,"c":"x"}],"d":true,"":"\u0000\ud800"}`, "QSBP74100021")
	f.Add(`[]`, "::1")
	f.Fuzz(func(t *testing.T, doc, word string) {
		if !json.Valid([]byte(doc)) {
			return
		}
		same := rewrite(json.RawMessage(doc), func(_ []string, s string) string { return s })
		var a, b any
		if json.Unmarshal([]byte(doc), &a) != nil || json.Unmarshal(same, &b) != nil {
			t.Fatalf("%q became %q", doc, same)
		}
		x := newRedactor()
		x.know(serials, word)
		e := exchangeOf("/"+word, doc)
		x.learn(&e)
		x.exchange(&e)
		if !json.Valid(e.Body) {
			t.Errorf("%q became %q", doc, e.Body)
		}
	})
}
