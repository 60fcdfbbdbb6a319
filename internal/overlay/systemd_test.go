package overlay

import "testing"

func TestSystemdVersion(t *testing.T) {
	for text, want := range map[string]int{
		"systemd 254 (254.5-1)\n+PAM +AUDIT\n": 254, "systemd 252.39-1": 252, "systemd 257~rc2 (257~rc2-3)": 257,
		"": 0, "sh: systemctl: not found": 0, "systemd": 0, "systemd v254": 0, "OpenRC 254": 0,
	} {
		if got := systemdVersion(text); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
}
