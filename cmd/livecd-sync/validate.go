package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// defaultFile is where a site file is looked for last.
const defaultFile = "/etc/livecd-sync/site.yaml"

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the site file against the schema; no network",
		Long: `validate checks the site file and shows every error it has, each with file, line
and column, what was wanted, and what to write instead. It reads no secret and
uses no network.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.validate() },
	}
}

func (a *app) validate() error {
	s, err := a.load()
	if a.json() {
		if jsonErr := a.validateJSON(s, err); jsonErr != nil {
			return jsonErr
		}
		if err != nil {
			return status(exitNothingDone)
		}
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s is valid: site %s, %s, %s, %s\n", s.File, s.Name,
		count(len(s.Nodes), "node"), count(len(s.Images), "image"), count(len(s.Stores), "store"))
	return nil
}

// count writes "1 node", "2 nodes".
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func (a *app) validateJSON(s *site.Site, err error) error {
	doc := struct {
		Version int              `json:"version"`
		File    string           `json:"file"`
		Valid   bool             `json:"valid"`
		Nodes   int              `json:"nodes"`
		Errors  []map[string]any `json:"errors"`
	}{Version: 1, File: a.siteFile(), Valid: err == nil, Errors: []map[string]any{}}
	if s != nil {
		doc.Nodes = len(s.Nodes)
	}
	var list siteload.Errors
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			doc.Errors = append(doc.Errors, map[string]any{
				"line": e.Pos.Line, "column": e.Pos.Column, "path": e.Path, "message": e.Message, "hint": e.Hint,
			})
		}
	case err != nil:
		doc.Errors = append(doc.Errors, map[string]any{"message": err.Error()})
	}
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// siteFile is the site file's name: the flag's, or the first place that has one.
func (a *app) siteFile() string {
	if a.file != "" {
		return a.file
	}
	if _, err := os.Stat("site.yaml"); err == nil {
		return "site.yaml"
	}
	if f := a.getenv("LIVECD_SYNC_FILE"); f != "" {
		return f
	}
	return defaultFile
}

func (a *app) load() (*site.Site, error) { return siteload.Load(a.siteFile()) }
