package overlay

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseHeld(t *testing.T) {
	got := parseHeld("/proc/7/fd/3 /var/log/a b (deleted)\x00/proc/7/cwd /old (deleted)\x00/proc/8/fd/1 /var/log/a b (deleted)\x00" +
		"/proc/8/fd/2 pipe:[5] (deleted)\x00/proc/x/fd/2 /f (deleted)\x00/proc/9/fd/1 /not\x00\x00" +
		"/proc/7/maps:7f0-7f1 r-xp 00000000 00:25 12   /usr/lib/x\\012y.so (deleted)\n" +
		"/proc/7/maps:7f1-7f2 rw-p 00000000 00:25 12   /usr/lib/x\\012y.so (deleted)\n" +
		"/proc/9/maps:7f1-7f2 rw-s 00000000 00:01 12   /memfd:doublemapper (deleted)\n")
	want := map[string][]int{"/var/log/a b": {7, 8}, "/old": {7}, "/usr/lib/x\ny.so": {7}, "/memfd:doublemapper": {9}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if got := parseHeld("\x00/proc/7/maps:7f0-7f1 r-xp 00000000 00:25 12   /x (deleted)\n"); fmt.Sprint(got) != "map[/x:[7]]" {
		t.Errorf("maps alone: %v", got)
	}
	if got := parseHeld("\x00"); len(got) != 0 {
		t.Errorf("nothing: %v", got)
	}
}

func TestUnitOf(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/sshd.service":                                       "sshd.service",
		"12:cpu:/x.service\n1:name=systemd:/system.slice/cron.service":        "cron.service",
		"0::/user.slice/user-0.slice/session-3.scope":                         "",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/thing.service":  "thing.service",
		"0::/system.slice/system-getty.slice/getty@tty1.service/init\n1:cpu:": "getty@tty1.service",
		"0::/init.scope": "",
		"":               "",
		"nonsense":       "",
	} {
		if got := unitOf(strings.Split(groups, "\n")); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
	list := parseProcesses("self\nsh\n0:25\n0::/\n\n71\nsshd\n0:25\n0::/system.slice/sshd.service\n\n72\nx\n0:99\n\n")
	if len(list) != 3 || list[0].pid != 0 || list[1].unit != "sshd.service" || list[2].device != "0:99" {
		t.Errorf("got %+v", list)
	}
}

func TestHoldersAreBounded(t *testing.T) {
	holders := map[string]*Holder{"b": {Command: "b", PIDs: []int{1, 2}, Files: []string{"/f", "/f"}}}
	for i := range 300 {
		unit := fmt.Sprintf("u%03d.service", i)
		h := &Holder{Unit: unit, PIDs: []int{i}}
		for j := range 30 {
			h.Files = append(h.Files, fmt.Sprintf("/%02d", j))
		}
		holders[unit] = h
	}
	list := sortHolders(holders)
	if len(list) != MaxHolders || list[0].Unit != "u000.service" || len(list[0].Files) != MaxHeld || list[0].More != 20 {
		t.Errorf("%d holders, the first %+v", len(list), list[0])
	}
	if got := list[1].String(); got != "u001.service (process 1): /00, /01, /02, /03, /04, /05, /06, /07, /08, /09 and 20 more" {
		t.Error(got)
	}
	if got := sortHolders(map[string]*Holder{"b": holders["b"]})[0].String(); got != "b (2 processes): /f" {
		t.Error(got)
	}
}
