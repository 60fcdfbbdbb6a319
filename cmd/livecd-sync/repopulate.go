package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/media"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// repopulate puts back what the backup left out, and adds to the report what
// came of it.
func (c *nodes) repopulate(ctx context.Context, n site.Node, remote overlay.Remote, rep *overlay.RestoreReport) error {
	st, err := c.store(n)
	if err != nil {
		return err
	}
	m, err := st.Get(ctx, n.Name, rep.ID)
	if err != nil {
		return err
	}
	if len(m.LeftOut) == 0 {
		return nil
	}
	running, err := overlay.Probe(ctx, remote)
	if err != nil {
		return err
	}
	done, err := overlay.Repopulate(ctx, remote, running, m, func(name string) (overlay.Supply, bool) {
		return supplyOf(n.Overlay.Repopulate, name)
	})
	if err != nil {
		return err
	}
	note := fmt.Sprintf("of %s that the backup left out, %d were put back and verified, %d were there already",
		count(len(m.LeftOut), "file"), done.Put, done.There)
	if done.Lost > 0 {
		note += fmt.Sprintf(", %d are missing", done.Lost)
	}
	if m.Omitted > 0 {
		note += "; it left out more than its manifest names"
	}
	rep.Notes = append(rep.Notes, note)
	for _, line := range done.Missing {
		rep.Notes = append(rep.Notes, "missing: "+line)
	}
	return nil
}

// listLeftOut says what a restore did not bring that is not mounted yet, or goes
// down with the node: nothing is put back there.
func listLeftOut(ctx context.Context, st overlay.Store, node string, rep *overlay.RestoreReport) error {
	m, err := st.Get(ctx, node, rep.ID)
	if err != nil || len(m.LeftOut) == 0 {
		return err
	}
	rep.Notes = append(rep.Notes, "the backup left out "+count(len(m.LeftOut), "file")+", which this kind of restore does not put back; one through the merged view does")
	for _, f := range m.LeftOut {
		if len(rep.Notes) > overlay.MaxDifferences {
			rep.Notes = append(rep.Notes, "missing: and more; the backup's manifest names them")
			break
		}
		rep.Notes = append(rep.Notes, "missing: "+f.Path+", "+size(f.Bytes))
	}
	return nil
}

// supplyOf finds the source whose key says most of a path: the path itself, a
// directory that it lies in, or a pattern.
func supplyOf(sources map[string]site.Source, name string) (overlay.Supply, bool) {
	best, rest := "", ""
	for key := range sources {
		if tail, ok := covers(key, name); ok && (best == "" || len(key) > len(best) || len(key) == len(best) && key < best) {
			best, rest = key, tail
		}
	}
	if best == "" {
		return overlay.Supply{}, false
	}
	return supply(sources[best], rest), true
}

// covers reports whether a key of overlay.repopulate is about a path, and what
// is to be added to a source that is a directory.
func covers(key, name string) (tail string, ok bool) {
	key = strings.TrimPrefix(path.Clean("/"+key), "/")
	name = strings.TrimPrefix(name, "/")
	if key == name {
		return path.Base(name), true
	}
	if tail, ok := strings.CutPrefix(name, key+"/"); ok {
		return tail, true
	}
	for _, against := range []string{name, path.Base(name)} {
		if ok, err := path.Match(key, against); ok && err == nil {
			return path.Base(name), true
		}
	}
	return "", false
}

// supply is a source, or what is at tail in it where it ends in a slash or is a
// directory.
func supply(s site.Source, tail string) overlay.Supply {
	switch {
	case s.URL != "":
		from := s.URL
		if strings.HasSuffix(from, "/") {
			from += escapePath(tail)
		}
		return overlay.Supply{From: from, Open: func(ctx context.Context) (io.ReadCloser, error) { return download(ctx, from) }}
	case s.File != "":
		name := s.File
		if st, err := os.Stat(name); err == nil && st.IsDir() {
			name = path.Join(name, tail)
		}
		return overlay.Supply{From: name, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(name) }}
	}
	name := s.Image
	if strings.HasSuffix(name, "/") {
		name += tail
	}
	return overlay.Supply{From: name + " of the image", Medium: name}
}

// escapePath makes a path part of a URL.
func escapePath(p string) string { return (&url.URL{Path: p}).EscapedPath() }

func download(ctx context.Context, from string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := media.NewClient().Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // it is not read
		return nil, fmt.Errorf("the web server answers %s", resp.Status)
	}
	return resp.Body, nil
}
