package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// A Supply is where a file can be had that a backup left out.
type Supply struct {
	// From says it in words.
	From string
	// Open opens it here; nil when it is on the node's live medium, as Medium.
	Open   func(ctx context.Context) (io.ReadCloser, error)
	Medium string
}

// Repopulated tells what Repopulate did.
type Repopulated struct {
	There   int64    // files that were right already
	Put     int64    // files that were fetched and verified
	Lost    int64    // files that are still not there
	Missing []string // which, and why, a sentence each; at most MaxDifferences
}

// Repopulate puts the files back that a backup left out (Manifest.LeftOut), each
// from what supply names for it, and only if it has the digest that it had. What
// nobody supplies, or is not what it was, is in the report and is no error; with
// an error the report is not complete.
func Repopulate(ctx context.Context, remote Remote, r Running, m Manifest, supply func(path string) (Supply, bool)) (Repopulated, error) {
	p := &populating{remote: r.withTools(remote), running: r}
	if err := p.look(ctx, m); err != nil {
		return p.report, err
	}
	for _, f := range m.LeftOut {
		name := unescapeName(f.Path)
		switch {
		case f.SHA256 == "":
			p.missing(f, "it was no regular file, and nothing of it was kept")
			continue
		case p.has[name] == f.SHA256:
			p.report.There++
			continue
		}
		from, ok := supply(strings.TrimPrefix(name, "."))
		if !ok {
			p.missing(f, "overlay.repopulate names no source for it")
			continue
		}
		if err := p.put(ctx, f, from); err != nil {
			return p.report, err
		}
	}
	return p.report, nil
}

type populating struct {
	remote  Remote
	running Running
	has     map[string]string // digests of what is there
	report  Repopulated
}

func (p *populating) missing(f LeftOut, why string) {
	p.report.Lost++
	if len(p.report.Missing) < MaxDifferences {
		p.report.Missing = append(p.report.Missing, f.Path+": "+why)
	}
}

// look asks what is there already: the image may have brought it.
func (p *populating) look(ctx context.Context, m Manifest) error {
	var names []string
	for _, f := range m.LeftOut {
		if name := unescapeName(f.Path); f.SHA256 != "" {
			if clean, err := cleanName(name); err != nil || clean != name {
				return damaged(m, fmt.Errorf("it left out %q", f.Path))
			}
			names = append(names, name)
		}
	}
	p.has = make(map[string]string, len(names))
	if len(names) == 0 {
		return nil
	}
	c := Command{Script: mergedScript, Args: []string{p.running.BootID, digestScript}, Stdin: terminated(names)}
	err := stream(ctx, p.remote, c, xargsFailed, func(r io.Reader) error {
		return readDigests(bufio.NewReader(r), func(name, sum string) { p.has[name] = sum })
	})
	if err != nil {
		return explainStream(ctx, repopulateOp, repopulateHint, err)
	}
	return nil
}

// readDigests reads what sha256sum -z writes.
func readDigests(in *bufio.Reader, each func(name, sum string)) error {
	for {
		line, err := in.ReadString(0)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		sum, name, _ := strings.Cut(strings.TrimSuffix(line, "\x00"), "  ")
		each(name, sum)
	}
}

const (
	repopulateOp   = "put back what the backup left out"
	repopulateHint = "run the command again"
)

// put sends one file. That it cannot be had is no error.
func (p *populating) put(ctx context.Context, f LeftOut, from Supply) error {
	name := unescapeName(f.Path)
	body := []string{putScript, name, f.SHA256, f.Mode, f.Owner, f.MTime}
	c := Command{Script: mergedScript, Args: append([]string{p.running.BootID}, body...)}
	if from.Open == nil {
		where := strings.TrimPrefix(path.Clean("/"+from.Medium), "/")
		c = Command{Script: mediumScript, Args: append([]string{p.running.BootID, mergedScript, where}, body...)}
	} else {
		in, err := from.Open(ctx)
		if err != nil {
			p.missing(f, from.From+" cannot be had: "+err.Error())
			return nil
		}
		defer in.Close()
		c.Stdin = &source{r: io.LimitReader(in, f.Bytes+1)}
	}
	err := p.remote.Run(ctx, c)
	switch {
	case err == nil:
		p.report.Put++
		return nil
	case exitStatus(err) == statusOtherFile:
		p.missing(f, from.From+" is not what it was: its digest is another")
	case exitStatus(err) == statusNotOnMedium:
		p.missing(f, "the live medium has no "+Printable(from.Medium))
	case sourceFailed(c.Stdin):
		p.missing(f, from.From+" cannot be had: "+err.Error())
	default:
		return explainStream(ctx, repopulateOp, repopulateHint, err)
	}
	return nil
}

// A source remembers whether it was the one that failed.
type source struct {
	r      io.Reader
	failed bool
}

// Read reads the source.
func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.failed = err != nil && !errors.Is(err, io.EOF)
	return n, err
}

func sourceFailed(r io.Reader) bool {
	s, ok := r.(*source)
	return ok && s.failed
}

// The exit statuses of put.sh and medium.sh.
const (
	statusOtherFile   = 72
	statusNotOnMedium = 73
)
