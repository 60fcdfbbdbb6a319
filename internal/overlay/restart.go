package overlay

import (
	"context"
	_ "embed"
	"path"
	"slices"
	"strings"
)

//go:embed scripts/restart.sh
var restartScript string

// spared are services that a restart of would end people's sessions, or the
// system; they are left to a person.
var spared = []string{"dbus*.service", "user@*.service", "systemd-logind.service", "*getty@*.service", "display-manager.service"}

// RestartServices restarts those holders of a report that are services, after a
// restore that has ended, and notes in the report what became of each. What
// cannot be restarted is a warning: the files are restored nevertheless.
func RestartServices(ctx context.Context, remote Remote, report *RestoreReport) {
	var units []string
	for _, h := range report.Restart {
		if h.service() {
			units = append(units, h.Unit)
		}
	}
	if len(units) == 0 {
		return
	}
	out := capture{limit: 1 << 20}
	err := remote.Run(ctx, Command{Script: restartScript, Args: units, Stdout: &out})
	failed := map[string]string{}
	for line := range strings.Lines(out.String()) {
		unit, why, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		failed[unit] = why
	}
	for i := range report.Restart {
		h := &report.Restart[i]
		why, answered := failed[h.Unit]
		switch {
		case !slices.Contains(units, h.Unit):
		case answered && why == "":
			h.Restarted = true
		case answered:
			report.Warnings = append(report.Warnings, "the service "+Printable(h.Unit)+" was not restarted: "+Printable(why))
		case err != nil:
			report.Warnings = append(report.Warnings, "the service "+Printable(h.Unit)+" was not restarted: "+err.Error())
		}
	}
}

// service reports whether a holder is one that may be restarted unasked.
func (h Holder) service() bool {
	return strings.HasSuffix(h.Unit, ".service") && !slices.ContainsFunc(spared, func(pattern string) bool {
		ok, err := path.Match(pattern, h.Unit)
		return ok && err == nil
	})
}
