package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// recordFlags are for the commands that speak with BMCs.
func (a *app) recordFlags(c *cobra.Command) {
	c.Flags().StringVar(&a.record, "record", "", "write what is said with the BMCs into this directory, without passwords; sim --replay answers from it")
	c.Flags().BoolVar(&a.redact, "redact", false, "with --record, replace serial numbers, UUIDs, addresses and names as well; files are written at the end")
}

// recorder makes what writes down what is said with the BMCs of a site, or nil.
func (a *app) recorder(s *site.Site) (*recording.Recorder, error) {
	if a.record == "" {
		if a.redact {
			return nil, errors.New("--redact is about a recording; give --record DIR as well")
		}
		return nil, nil
	}
	r, err := recording.New(a.record, recording.Options{Redact: a.redact, By: "livecd-sync " + version, Now: a.clock.Now})
	if err != nil {
		return nil, fmt.Errorf("--record: %w; name a directory that is empty or not there yet", err)
	}
	for _, n := range s.Nodes {
		r.Node(n.BMC.URL, recordedNode(s, n))
	}
	a.atEnd = append(a.atEnd, func() { a.closeRecorder(r) })
	return r, nil
}

func recordedNode(s *site.Site, n site.Node) recording.Node {
	out := recording.Node{
		Name: n.Name, System: n.BMC.System, Profile: n.BMC.Profile, Image: n.Image, URL: s.Images[n.Image].URL,
		Within: fmt.Sprintf("%ds", int(n.Boot.Within.Seconds())),
	}
	if n.BMC.Auth != bmc.AuthAuto {
		out.Auth = string(n.BMC.Auth)
	}
	if n.Reset == site.ResetNever {
		out.Reset = string(n.Reset)
	}
	return out
}

// closeRecorder ends the recording, and says what is in it.
func (a *app) closeRecorder(r *recording.Recorder) {
	if err := r.Close(); err != nil {
		a.complain(fmt.Errorf("the recording in %s is not complete: %w", a.record, err))
	}
	bmcs, exchanges := r.Counts()
	if a.quiet || exchanges == 0 {
		return
	}
	fmt.Fprintf(a.err, "recorded %s with %s in %s, without passwords, licence keys and sessions\n", count(exchanges, "exchange"), count(bmcs, "BMC"), a.record)
	if a.redact {
		fmt.Fprintln(a.err, "  serial numbers, UUIDs, MAC and IP addresses, user and host names are replaced; models, versions, slots,\n"+
			"  paths of images and whatever people wrote into descriptions are not: look through it before you send it to anybody")
	} else {
		fmt.Fprintln(a.err, "  it has serial numbers, UUIDs, addresses and host names: for others, record with --redact, and look through it first")
	}
}
