package overlay_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// TestRestartServices restarts what may be restarted unasked, by a systemctl that
// keeps what it was asked for; the real one is for a machine that runs systemd.
func TestRestartServices(t *testing.T) {
	m := newMachine(t)
	n := m.boot(t, "")
	n.run(`mkdir -p /usr/local/bin && cat >/usr/local/bin/systemctl <<'END'
#!/bin/sh
echo "$@" >>/run/asked
case $3 in broken.service) echo "Job for broken.service failed."; exit 1;; esac
END
chmod 755 /usr/local/bin/systemctl`)
	report := overlay.RestoreReport{Restart: []overlay.Holder{
		{Unit: "dbus-broker.service"},
		{Unit: "user@0.service"},
		{Unit: "serial-getty@ttyS0.service"},
		{Unit: "session-3.scope"},
		{Command: "vi"},
		{Unit: "broken.service"},
		{Unit: "conman.service"},
		{Unit: `odd\x2d$(reboot).service`},
	}}
	overlay.RestartServices(t.Context(), n.conn, &report)
	var restarted []string
	for _, h := range report.Restart {
		if h.Restarted {
			restarted = append(restarted, h.Unit)
		}
	}
	if want := []string{"conman.service", `odd\x2d$(reboot).service`}; !slices.Equal(restarted, want) {
		t.Errorf("restarted %q, want %q", restarted, want)
	}
	if len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "broken.service was not restarted: systemctl ended with 1: Job for broken.service failed.") {
		t.Errorf("warnings %q", report.Warnings)
	}
	want := "daemon-reload\ntry-restart -- broken.service\ntry-restart -- conman.service\ntry-restart -- odd\\x2d$(reboot).service\n"
	if got := n.run("cat /run/asked"); got != want {
		t.Errorf("systemctl was asked %q, want %q", got, want)
	}
}

func TestRestartServicesWithoutSystemd(t *testing.T) {
	m := newMachine(t)
	n := m.boot(t, "")
	n.run("if command -v systemctl; then rm -f $(command -v systemctl); fi")
	report := overlay.RestoreReport{Restart: []overlay.Holder{{Unit: "conman.service"}}}
	overlay.RestartServices(t.Context(), n.conn, &report)
	if report.Restart[0].Restarted || len(report.Warnings) != 1 {
		t.Errorf("report: %+v", report)
	}
}
