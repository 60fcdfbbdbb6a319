package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/sim"
)

func (a *app) simCommand() *cobra.Command {
	var dir string
	var ilo, gigabyte int
	var reported bool
	var behave []string
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a simulated site: BMCs and nodes on loopback, for a first try and for tests",
		Long: `sim runs a simulated site until it is interrupted: BMCs of kinds iLO 5 and
Gigabyte, each with an address in 127/8 and a certificate of its own, nodes with
an ssh server and an overlay that a reset forgets, and a web server with two
live images. It needs no root, and listens on loopback only.

It writes a site file for itself into --dir. In another terminal:

  livecd-sync plan  -f livecd-sync-sim/site.yaml
  livecd-sync apply -f livecd-sync-sim/site.yaml

What a BMC does can be changed, at the start with --behave and later over the
control API whose address is in control.url (see the page on it in docs/sim.md).

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if ilo < 0 || gigabyte < 0 || ilo+gigabyte == 0 {
				return fmt.Errorf("--ilo %d --gigabyte %d is no site; write at least one node in all, and no negative number", ilo, gigabyte)
			}
			cfg := sim.Default(dir)
			if c.Flags().Changed("ilo") || c.Flags().Changed("gigabyte") {
				cfg.Nodes = simNodes(ilo, gigabyte)
			}
			if reported {
				for i := range cfg.Nodes {
					cfg.Nodes[i].Behaviour = bmcsim.Reported(cfg.Nodes[i].Kind)
				}
			}
			if err := applyBehaviours(&cfg, behave); err != nil {
				return err
			}
			return a.sim(c.Context(), cfg)
		},
	}
	c.Flags().StringVar(&dir, "dir", "livecd-sync-sim", "where the site file, the images and the backups are kept")
	c.Flags().IntVar(&ilo, "ilo", 4, "how many iLO 5")
	c.Flags().IntVar(&gigabyte, "gigabyte", 2, "how many Gigabyte (AMI MegaRAC)")
	c.Flags().BoolVar(&reported, "reported", false, "let every BMC behave as its family is reported to in the field")
	c.Flags().StringArrayVar(&behave, "behave", nil, `how one BMC behaves: NODE={"Busy": true}; the fields are those of bmcsim.Behaviour`)
	return c
}

// simNodes are nodes in turn on their disk, off, and running the older image.
func simNodes(ilo, gigabyte int) []sim.NodeSpec {
	states := []sim.InitialState{
		{Image: "pit-1.6", Overlay: map[string]string{"root/notes.txt": "written by hand, and nowhere else\n"}},
		{},
		{Off: true},
	}
	var all []sim.NodeSpec
	for i := range ilo + gigabyte {
		kind := bmcsim.ILO5
		if i >= ilo {
			kind = bmcsim.Gigabyte
		}
		all = append(all, sim.NodeSpec{Name: fmt.Sprintf("n%03d", i+1), Kind: kind, Initial: states[i%len(states)]})
	}
	return all
}

func applyBehaviours(cfg *sim.Config, behave []string) error {
	for _, b := range behave {
		name, fields, _ := strings.Cut(b, "=")
		found := false
		for i := range cfg.Nodes {
			if cfg.Nodes[i].Name != name {
				continue
			}
			found = true
			dec := json.NewDecoder(strings.NewReader(fields))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&cfg.Nodes[i].Behaviour); err != nil {
				return fmt.Errorf("--behave %s: %w; write NODE={\"FIELD\": VALUE}", b, err)
			}
		}
		if !found {
			return fmt.Errorf("--behave %s: there is no simulated node %q", b, name)
		}
	}
	return nil
}

func (a *app) sim(ctx context.Context, cfg sim.Config) error {
	s, err := sim.Start(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "simulated site of %d nodes, on loopback only\n", len(cfg.Nodes))
	for _, n := range s.Notes() {
		fmt.Fprintln(a.out, "note: "+n)
	}
	fmt.Fprintf(a.out, "\nin another terminal:\n  livecd-sync plan  -f %[1]s\n  livecd-sync apply -f %[1]s\n\nCtrl-C ends it\n", s.SiteFile())
	select {
	case <-a.stop:
		a.stopped = false // being interrupted is how it ends
	case <-ctx.Done():
	}
	return s.Close()
}
