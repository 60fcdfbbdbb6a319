package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/report"
	"github.com/livecd-sync/livecd-sync/internal/site/siteedit"
)

// newPinFile is where fingerprints of ranges of nodes are kept when the site
// file does not say, from the site file's directory.
const newPinFile = "certs/bmc.pins"

// besides is a path from the directory of the site file.
func besides(siteFile, path string) string {
	dir, err := filepath.Abs(filepath.Dir(siteFile))
	if err != nil {
		return path
	}
	return filepath.Join(dir, path)
}

// relativeTo is how the site file names an absolute path: from its directory, if
// the file is below it.
func relativeTo(siteFile, path string) string {
	rel, err := filepath.Rel(besides(siteFile, "."), path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return filepath.ToSlash(rel)
}

// changes are the files that would be written, those that others name first.
func (x *acceptance) changes() ([]change, error) {
	var all []change
	for _, path := range slices.Sorted(maps.Keys(x.pins)) {
		if d := x.pins[path]; d.changed && !bytes.Equal(d.text, d.Bytes()) {
			all = append(all, change{path, d.text, d.Bytes()})
		}
	}
	if !x.draft.Changed() {
		return all, nil
	}
	text, err := x.draft.Bytes()
	if err != nil {
		return nil, &bmc.Error{Op: x.site.File, Kind: bmc.KindTLS, Err: err, Hint: "name fewer nodes to see which one it is, and write its bmc.tls by hand"}
	}
	return append(all, change{x.site.File, x.text, text}), nil
}

// write replaces the files.
func write(changes []change) error {
	for i, c := range changes {
		if err := siteedit.Replace(c.path, c.old, c.now); err != nil {
			hint := "nothing was written; run trust again"
			if i > 0 {
				hint = "only " + names(changes[:i]) + " was written; run trust again"
			}
			if !errors.Is(err, siteedit.ErrChanged) {
				hint += " as a user who may write there"
			}
			return &bmc.Error{Op: "write " + c.path, Kind: bmc.KindTLS, Err: err, Hint: hint}
		}
	}
	return nil
}

func names(changes []change) string {
	var paths []string
	for _, c := range changes {
		paths = append(paths, c.path)
	}
	return strings.Join(paths, " and ")
}

// document is what was seen. What is only to be written was not yet.
func (x *acceptance) document(a *app) report.Trust {
	doc := report.Trust{Version: report.Version, Site: x.site.Name, SeenAt: a.clock.Now().UTC().Truncate(time.Second), Files: []string{}}
	for _, n := range x.nodes {
		t := *x.seen[n.Name]
		t.Written = false
		doc.Nodes = append(doc.Nodes, t)
	}
	doc.Sum()
	return doc
}

// written is the same after the fact.
func (x *acceptance) written(a *app, changes []change) report.Trust {
	doc := x.document(a)
	for i, n := range x.nodes {
		doc.Nodes[i].Written = x.seen[n.Name].Written
	}
	for _, c := range changes {
		doc.Files = append(doc.Files, c.path)
	}
	doc.Sum()
	return doc
}

func (x *acceptance) question(changes []change) string {
	n := 0
	for _, t := range x.seen {
		if t.Written {
			n++
		}
	}
	return fmt.Sprintf("Write %s into %s?", count(n, "fingerprint"), names(changes))
}

// shownLines is how much of a difference is shown unless -v asks for all.
const shownLines = 60

// showChanges shows what would change in the files.
func (a *app) showChanges(changes []change) {
	for _, c := range changes {
		old := c.path
		if c.old == nil {
			old = "/dev/null"
		}
		text := string(diff.Diff(old, c.old, c.path, c.now))
		if _, body, found := strings.Cut(text, "\n"); found && strings.HasPrefix(text, "diff ") {
			text = body
		}
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		more := len(lines) - shownLines
		if more > 0 && !a.verbose {
			lines = lines[:shownLines]
		}
		fmt.Fprintln(a.out)
		for _, l := range lines {
			fmt.Fprintln(a.out, a.textOptions().DiffLine(printable(l)))
		}
		if more > 0 && !a.verbose {
			fmt.Fprintf(a.out, "… and %s more; -v shows them\n", count(more, "line"))
		}
	}
}
