package main

import "testing"

// Where state and caches are: as systemd says, else as XDG does; the service's
// user has the service's.
func TestDirs(t *testing.T) {
	for name, c := range map[string]struct {
		env          map[string]string
		state, cache string
	}{
		"home":            {map[string]string{"HOME": "/h"}, "/h/.local/state/livecd-sync/x", "/h/.cache/livecd-sync/x"},
		"xdg":             {map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_CACHE_HOME": "/c"}, "/s/livecd-sync/x", "/c/livecd-sync/x"},
		"unit":            {map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/s", "STATE_DIRECTORY": "/var/lib/a:/b", "CACHE_DIRECTORY": "/var/cache/a"}, "/var/lib/a/x", "/var/cache/a/x"},
		"relative":        {map[string]string{"HOME": "h", "STATE_DIRECTORY": "a"}, "", ""},
		"service's user":  {map[string]string{"HOME": "/var/lib/livecd-sync"}, "/var/lib/livecd-sync/x", "/var/lib/livecd-sync/.cache/livecd-sync/x"},
		"his choice":      {map[string]string{"HOME": "/var/lib/livecd-sync", "XDG_STATE_HOME": "/s"}, "/s/livecd-sync/x", "/var/lib/livecd-sync/.cache/livecd-sync/x"},
		"nothing is said": {nil, "", ""},
	} {
		a := &app{stdio: stdio{getenv: func(k string) string { return c.env[k] }}}
		if got := a.stateDir("x"); got != c.state {
			t.Errorf("%s: state in %q, want %q", name, got, c.state)
		}
		if got := a.cacheDir("x"); got != c.cache {
			t.Errorf("%s: caches in %q, want %q", name, got, c.cache)
		}
	}
}
