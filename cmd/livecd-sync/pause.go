package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/site/noderange"
	"github.com/livecd-sync/livecd-sync/internal/writers"
)

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	var length time.Duration
	c := &cobra.Command{
		Use:   "pause NODES",
		Short: "Leave nodes alone, for maintenance",
		Long: `pause keeps watch and apply from changing nodes, until resume, or for as long as
--for says. plan, status and watch show it. What is being done to a node when it is
paused is brought to its end. apply --even-paused passes over it; backup and restore
do what they are told.

` + exitHelp,
		RunE: func(c *cobra.Command, args []string) error {
			if length < 0 {
				return fmt.Errorf("--for %s is less than nothing; write for example 2h", length)
			}
			return a.pause(c.Context(), args, reason, length)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for whoever looks at the plan")
	c.Flags().DurationVar(&length, "for", 0, "for how long (0: until it is resumed)")
	return c
}

func (a *app) resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume NODES",
		Short: "End a pause",
		Long:  "resume lets watch and apply change nodes again that pause has kept them from.\n\n" + exitHelp,
		RunE:  func(c *cobra.Command, args []string) error { return a.resume(c.Context(), args) },
	}
}

// chosenSharing is what the writers of the site share, and the nodes that were
// named.
func (a *app) chosenSharing(args []string, command string) (*sharing, []string, error) {
	if err := a.nameSome(args); err != nil {
		return nil, nil, err
	}
	s, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	names, err := universe(s).Select(a.nodes, a.exclude)
	if err != nil {
		return nil, nil, err
	}
	shared, err := a.share(s, command)
	return shared, names, err
}

func (a *app) pause(ctx context.Context, args []string, reason string, length time.Duration) error {
	shared, names, err := a.chosenSharing(args, "pause")
	if err != nil {
		return err
	}
	me := writers.Me("pause")
	p := writers.Pause{By: me.User, Host: me.Host, Since: a.clock.Now().UTC().Truncate(time.Second), Reason: reason}
	if length > 0 {
		p.Until = p.Since.Add(length)
	}
	for _, n := range names {
		if err := writers.SetPause(ctx, shared, n, p); err != nil {
			return err
		}
	}
	fmt.Fprintln(a.out, printable(fmt.Sprintf("%s: %s", noderange.Fold(names), p)))
	return a.saySeized(ctx, shared, names)
}

// saySeized says which of the nodes are being worked on in spite of the pause.
func (a *app) saySeized(ctx context.Context, shared *sharing, names []string) error {
	seen, err := shared.Look(ctx, names)
	if err != nil {
		return err
	}
	for _, n := range names {
		if h := seen[n].Holder; h != nil {
			fmt.Fprintln(a.out, printable(fmt.Sprintf("%s: what is being done to it is brought to its end by %s", n, h)))
		}
	}
	return nil
}

func (a *app) resume(ctx context.Context, args []string) error {
	shared, names, err := a.chosenSharing(args, "resume")
	if err != nil {
		return err
	}
	paused, err := shared.All(ctx, writers.Paused)
	if err != nil {
		return err
	}
	var resumed []string
	var failed error
	for _, n := range names {
		if _, was := paused[n]; was {
			failed = errors.Join(failed, shared.Remove(ctx, writers.Paused, n))
			resumed = append(resumed, n)
		}
	}
	if failed != nil {
		return failed
	}
	if len(resumed) == 0 {
		fmt.Fprintln(a.out, noderange.Fold(names)+": not paused")
		return nil
	}
	fmt.Fprintln(a.out, noderange.Fold(resumed)+": resumed")
	return nil
}
