package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/doctor"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor [NODES]",
		Short: "What each BMC can and cannot do, and why",
		Long: `doctor reads each BMC and shows a card for it: who it is, the row of profiles.cue
that it is treated by, its licence, its virtual media, what the URL of an image
may look like, how the virtual CD is booted, resets, consoles, how far its clock
is off, and its certificate; and what is lacking, with what to do about it. It
changes nothing. Without NODES it takes every node of the site.

A BMC that cannot be used for what the site file wants, or not be read, makes it
end with 3; anything else that is lacking does not.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error { return a.doctor(c.Context(), args) },
	}
	a.recordFlags(c)
	return c
}

func (a *app) doctor(ctx context.Context, args []string) error {
	ctx, done := a.untilStop(ctx)
	defer done()
	if err := a.name(args); err != nil {
		return err
	}
	t, err := a.open(ctx, nil)
	if err != nil {
		return err
	}
	patients := t.examine(ctx)
	if ctx.Err() != nil {
		return errInterrupted
	}
	findings := make([][]doctor.Finding, len(patients))
	for i, p := range patients {
		findings[i] = doctor.Judge(p)
	}
	doctor.Twins(patients, findings)
	doc := report.FromDoctor(t.site.Name, a.clock.Now(), patients, findings)
	if a.json() {
		err = report.DoctorJSON(a.out, doc)
	} else {
		err = report.DoctorText(a.out, doc, a.textOptions())
	}
	if err == nil && doc.Summary.Failed > 0 {
		err = status(exitNodesFailed)
	}
	return err
}

// examine writes the card of every selected node's BMC, -j at a time.
func (t *target) examine(ctx context.Context) []doctor.Patient {
	patients := make([]doctor.Patient, len(t.site.Nodes))
	var g errgroup.Group
	g.SetLimit(t.app.jobs)
	for i, n := range t.site.Nodes {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, t.app.timeout)
			defer cancel()
			patients[i] = doctor.Patient{Node: n, Card: t.card(ctx, n), Image: t.site.Images[n.Image].URL, Now: t.app.clock.Now()}
			return nil
		})
	}
	_ = g.Wait() // the funcs return nil: a failed node is a card
	return patients
}

func (t *target) card(ctx context.Context, n site.Node) bmc.Card {
	conf, err := t.config(ctx, n)
	if err != nil {
		card := bmc.Card{Err: err}
		// What is shown may be what is to be accepted.
		look := redfish.Config{Node: n.Name, URL: n.BMC.URL, TLS: redfish.TLS{Insecure: true, OldCiphers: n.BMC.OldCiphers}}
		if shown, err := redfish.ShownBy(ctx, look); err == nil {
			card.Certificate = &shown.Certificate
		}
		return card
	}
	conf.Profiles, conf.Clock, conf.Log = t.profiles, t.app.clock, t.logExchange
	i, err := redfish.OpenInspector(ctx, conf)
	if err != nil {
		return bmc.Card{Err: err}
	}
	card := i.Inspect(ctx)
	if err := i.Close(ctx); err != nil {
		t.log.Warn().Str("node", n.Name).Err(err).Msg("the connection to the BMC did not end well")
	}
	return card
}
