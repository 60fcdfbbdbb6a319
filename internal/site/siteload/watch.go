package siteload

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a host without time zones reads a site file as any other does

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// startsOrEnds are the steps that end what a node runs, or start it.
var startsOrEnds = []string{"power-off", "power-on", "reset"}

// watch reads what a watch does by itself.
func (r *resolver) watch() {
	w := site.Watch{Every: site.DefaultWatchEvery, Apply: slices.Clone(site.DefaultWatchApply)}
	v := r.root.get("watch")
	if every := v.get("every").str(); every != "" {
		w.Every = duration(every)
	}
	if list := v.get("apply"); list != nil && !list.bad {
		w.Apply = []string{}
		for _, step := range list.items() {
			w.Apply = append(w.Apply, step.str())
		}
		resets := slices.IndexFunc(list.items(), func(s *value) bool { return slices.Contains(startsOrEnds, s.str()) })
		if resets >= 0 && v.get("maxDown") == nil {
			step := list.items()[resets]
			r.fail(step, "a watch that may do this by itself may do it to every node at once, and maxDown is missing",
				"write how many nodes may be down at once, for example maxDown: 2")
		}
	}
	if most := v.get("maxDown"); most != nil && !most.bad {
		w.MaxDown, _ = strconv.Atoi(most.text) // the schema has checked it
	}
	w.Within = r.window(v.get("within"))
	r.site.Watch = w
}

// window reads a part of the day, "02:00-05:00 Europe/Zurich".
func (r *resolver) window(v *value) *site.Window {
	text := v.str()
	if text == "" {
		return nil
	}
	times, zone, _ := strings.Cut(text, " ")
	from, to, _ := strings.Cut(times, "-")
	w := &site.Window{From: timeOfDay(from), To: timeOfDay(to), Text: text}
	if w.From == w.To {
		r.fail(v, "nothing lies between "+from+" and "+to, "write two times that differ, or leave it out for any time")
		return nil
	}
	if zone == "" {
		return w
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		r.fail(v, "there is no time zone "+quote(zone), "write one as Europe/Zurich or UTC, or leave it out for this machine's")
		return nil
	}
	w.Zone = loc
	return w
}

// timeOfDay reads "02:00", which the schema has checked.
func timeOfDay(s string) time.Duration {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0
	}
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
}

// lock reads where several admin hosts keep their locks.
func (r *resolver) lock() {
	v := r.root.get("lock")
	if v == nil || v.bad {
		return
	}
	ca, cert, key := v.get("ca"), v.get("cert"), v.get("key")
	l := &site.Lock{Lease: site.DefaultLease, CA: r.path(ca, ca.str()), Cert: r.path(cert, cert.str()), Key: r.path(key, key.str())}
	for _, server := range v.get("etcd").items() {
		l.Etcd = append(l.Etcd, server.str())
	}
	if lease := v.get("lease"); lease.str() != "" {
		if l.Lease = duration(lease.str()); l.Lease < 2*time.Second || l.Lease > time.Hour {
			r.fail(lease, quote(lease.str())+" is no time for a lease", "write from 2s to 1h, for example 30s")
		}
	}
	if one := cmp.Or(cert, key); one != nil && (cert == nil || key == nil) {
		r.failKey(one, "a certificate and its key go together", "write both cert and key, or neither")
	}
	r.site.Lock = l
}
