package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.out, versionLine())
			return nil
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("livecd-sync %s (%s %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
