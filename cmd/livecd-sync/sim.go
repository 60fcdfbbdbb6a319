package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/bmc/bmcsim"
	"github.com/livecd-sync/livecd-sync/internal/bmc/recording"
	"github.com/livecd-sync/livecd-sync/internal/sim"
)

// simOptions is what the flags of sim say.
type simOptions struct {
	dir           string
	ilo, gigabyte int
	kinds         []string // KIND or KIND=N
	reported      bool
	behave        []string
	replay        string
	firstLogin    bool

	qemu   bool
	images []string // NAME=ISO
	disk   string
	memory int // MiB
}

const simHelp = `sim runs a simulated site until it is interrupted: BMCs of kinds iLO 5 and
Gigabyte, each with an address in 127/8 and a certificate of its own, nodes with
an ssh server and an overlay that a reset forgets, and a web server with two
live images. It needs no root, and listens on loopback only.

It writes a site file for itself into --dir. In another terminal:

  livecd-sync plan  -f livecd-sync-sim/site.yaml
  livecd-sync apply -f livecd-sync-sim/site.yaml

What a BMC does can be changed, at the start with --behave and later over the
control API whose address is in control.url (see the page on it in docs/sim.md).

With --qemu the nodes are real machines, one QEMU process each, that are off at
first and boot the images named with --image when their BMCs say so:

  livecd-sync sim --qemu --image pit=pit.iso --disk disk.img

With --replay the BMCs answer from recordings, which plan, apply, status and
doctor make with --record, or from trees of published mockups. There are no nodes
behind them.

`

func (a *app) simCommand() *cobra.Command {
	var o simOptions
	c := &cobra.Command{
		Use:   "sim",
		Short: "Run a simulated site: BMCs and nodes on loopback, for a first try and for tests",
		Long:  simHelp + exitHelp,
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.replay != "" {
				return a.replay(c, o)
			}
			counted := c.Flags().Changed("ilo") || c.Flags().Changed("gigabyte")
			switch {
			case len(o.kinds) > 0 && !counted:
				o.ilo, o.gigabyte, counted = 0, 0, true
			case o.qemu && !counted:
				o.ilo, o.gigabyte = 1, 0
			}
			cfg, err := o.config(counted)
			if err != nil {
				return err
			}
			return a.sim(c.Context(), cfg)
		},
	}
	c.Flags().StringVar(&o.dir, "dir", "livecd-sync-sim", "where the site file, the images and the backups are kept")
	c.Flags().IntVar(&o.ilo, "ilo", 4, "how many iLO 5 (with --qemu 1, unless given)")
	c.Flags().IntVar(&o.gigabyte, "gigabyte", 2, "how many Gigabyte (AMI MegaRAC) (with --qemu none, unless given)")
	c.Flags().StringArrayVar(&o.kinds, "kind", nil, "more nodes, with BMCs of another family: KIND or KIND=N (livecd-sync sim --kind help names them)")
	c.Flags().BoolVar(&o.reported, "reported", false, "let every BMC behave as its family is reported to in the field")
	c.Flags().StringArrayVar(&o.behave, "behave", nil, `how one BMC behaves: NODE={"Busy": true}; the fields are those of bmcsim.Behaviour`)
	c.Flags().BoolVar(&o.firstLogin, "first-login", false, "let live images want a first login on the serial console before ssh lets in")
	c.Flags().StringVar(&o.replay, "replay", "", "answer from the recordings in this directory, and from nothing else")
	c.Flags().BoolVar(&o.qemu, "qemu", false, "run the nodes in QEMU, without KVM")
	c.Flags().StringArrayVar(&o.images, "image", nil, "with --qemu, an image that the site has: NAME=ISO; the first is wanted on all nodes")
	c.Flags().StringVar(&o.disk, "disk", "", "with --qemu, the image that the nodes' disks begin as (raw); without, they are empty")
	c.Flags().IntVar(&o.memory, "memory", 1024, "with --qemu, a node's memory in MiB")
	return c
}

// config is the site to simulate. counted tells whether the numbers of nodes were
// given.
func (o simOptions) config(counted bool) (sim.Config, error) {
	kinds, err := simKinds(o)
	if err != nil {
		return sim.Config{}, err
	}
	if o.ilo < 0 || o.gigabyte < 0 || len(kinds) == 0 {
		return sim.Config{}, fmt.Errorf("--ilo %d --gigabyte %d is no site; write at least one node in all, and no negative number", o.ilo, o.gigabyte)
	}
	cfg := sim.Default(o.dir)
	if o.qemu || counted {
		cfg.Nodes = simNodes(kinds)
	}
	if o.firstLogin && o.qemu {
		return sim.Config{}, errors.New("--first-login is for nodes that are not in QEMU: there the image decides; leave one of them out")
	}
	for i := range cfg.Nodes {
		cfg.Nodes[i].FirstLogin = o.firstLogin
		if o.firstLogin && cfg.Nodes[i].Initial.Image == "" {
			cfg.Nodes[i].Initial.Off = true // the disk has no login to show its host key by
		}
	}
	if err := o.inQEMU(&cfg); err != nil {
		return sim.Config{}, err
	}
	if o.reported {
		for i := range cfg.Nodes {
			cfg.Nodes[i].Behaviour = bmcsim.Reported(cfg.Nodes[i].Kind)
		}
	}
	return cfg, applyBehaviours(&cfg, o.behave)
}

// inQEMU makes the nodes real machines, if that is asked for.
func (o simOptions) inQEMU(cfg *sim.Config) error {
	switch {
	case !o.qemu && (len(o.images) > 0 || o.disk != ""):
		return errors.New("--image and --disk are for nodes that boot in truth; add --qemu")
	case !o.qemu:
		return nil
	case len(o.images) == 0:
		return errors.New("--qemu needs something to boot; write --image NAME=ISO (test/e2e/build-iso makes some)")
	case o.memory <= 0:
		return fmt.Errorf("--memory %d is no memory; write how many MiB", o.memory)
	}
	cfg.QEMU = sim.QEMU{Disk: o.disk, MemoryMiB: o.memory}
	cfg.Images = nil
	for _, i := range o.images {
		name, file, ok := strings.Cut(i, "=")
		if !ok || name == "" || file == "" {
			return fmt.Errorf("--image %s names no image; write NAME=ISO", i)
		}
		cfg.Images = append(cfg.Images, sim.ImageSpec{Name: name, File: file})
	}
	cfg.Want = cfg.Images[0].Name
	for i := range cfg.Nodes {
		cfg.Nodes[i].QEMU, cfg.Nodes[i].Initial = true, sim.InitialState{Off: true}
	}
	return nil
}

// simKinds lists the kind of each node.
func simKinds(o simOptions) ([]bmcsim.Kind, error) {
	all := append(slices.Repeat([]bmcsim.Kind{bmcsim.ILO5}, max(o.ilo, 0)), slices.Repeat([]bmcsim.Kind{bmcsim.Gigabyte}, max(o.gigabyte, 0))...)
	for _, k := range o.kinds {
		name, count, counted := strings.Cut(k, "=")
		n := 1
		var err error
		if counted {
			n, err = strconv.Atoi(count)
		}
		if kind := bmcsim.Kind(name); err == nil && n > 0 && slices.Contains(bmcsim.Kinds(), kind) {
			all = append(all, slices.Repeat([]bmcsim.Kind{kind}, n)...)
			continue
		}
		return nil, fmt.Errorf("--kind %s names no BMCs; write KIND or KIND=N, where KIND is one of %s", k, kindNames())
	}
	return all, nil
}

func kindNames() string {
	names := make([]string, 0, len(bmcsim.Kinds()))
	for _, k := range bmcsim.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// simNodes are nodes in turn on their disk, off, and running the older image.
func simNodes(kinds []bmcsim.Kind) []sim.NodeSpec {
	states := []sim.InitialState{
		{Image: "pit-1.6", Overlay: map[string]string{"root/notes.txt": "written by hand, and nowhere else\n"}},
		{},
		{Off: true},
	}
	var all []sim.NodeSpec
	for i, kind := range kinds {
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
	nodes := "nodes"
	if len(cfg.Nodes) == 1 {
		nodes = "node"
	}
	fmt.Fprintf(a.out, "simulated site of %d %s, on loopback only\n", len(cfg.Nodes), nodes)
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

// replay runs a site of recorded BMCs until it is interrupted.
func (a *app) replay(c *cobra.Command, o simOptions) error {
	for _, other := range []string{"ilo", "gigabyte", "reported", "behave", "qemu", "image", "disk", "memory"} {
		if c.Flags().Changed(other) {
			return fmt.Errorf("--%s is of a simulated site, and --replay has recorded BMCs only; leave one out", other)
		}
	}
	all, err := recording.Load(o.replay)
	if err != nil {
		return fmt.Errorf("--replay: %w", err)
	}
	r, err := sim.StartReplay(c.Context(), o.dir, all)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "replaying %s, on loopback only\n\nin another terminal:\n  livecd-sync plan   -f %[2]s\n  livecd-sync doctor -f %[2]s\n\nCtrl-C ends it\n",
		count(r.Count(), "BMC"), r.SiteFile())
	select {
	case <-a.stop:
		a.stopped = false // being interrupted is how it ends
	case <-c.Context().Done():
	}
	return r.Close()
}
