package recording

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Recording is what was written down of one BMC.
type Recording struct {
	Info
	Exchanges []Exchange
}

// mockupRoot is where the tree of a mockup has the service root.
const mockupRoot = "redfish/v1/index.json"

// Load reads a directory of recordings, or that of one, or the trees of mockups
// in their places. An error names the file.
func Load(dir string) ([]Recording, error) {
	if r, err := loadOne(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return []Recording{r}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Recording
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		r, err := loadOne(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds neither a recording, which has a file %s for each BMC, nor the tree of a mockup, which has %s", dir, infoFile, mockupRoot)
	}
	return all, nil
}

// loadOne reads what is of one BMC; fs.ErrNotExist if there is nothing.
func loadOne(dir string) (Recording, error) {
	r, err := loadRecording(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return loadMockup(dir)
	}
	return r, err
}

func loadRecording(dir string) (r Recording, err error) {
	if err := readJSON(filepath.Join(dir, infoFile), &r.Info); err != nil {
		return r, err
	}
	if r.Version != Version {
		return r, fmt.Errorf("%s: version %d is not known here; this program reads version %d", filepath.Join(dir, infoFile), r.Version, Version)
	}
	names, err := filepath.Glob(filepath.Join(dir, "[0-9]*.json"))
	if err != nil {
		return r, err
	}
	for _, name := range names {
		var e Exchange
		if err := readJSON(name, &e); err != nil {
			return r, err
		}
		r.Exchanges = append(r.Exchanges, e)
	}
	slices.SortStableFunc(r.Exchanges, func(a, b Exchange) int { return a.Seq - b.Seq })
	return r, nil
}

// loadMockup reads a tree in which the file index.json of a directory is the
// body of a GET of the directory's path.
func loadMockup(dir string) (Recording, error) {
	r := Recording{Info: Info{Version: Version, Nodes: []Node{}}}
	if _, err := os.Stat(filepath.Join(dir, mockupRoot)); err != nil {
		return r, err
	}
	name, err := filepath.Abs(dir)
	if err != nil {
		return r, err
	}
	r.BMC = filepath.Base(name)
	root := os.DirFS(dir)
	err = fs.WalkDir(root, "redfish", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "index.json" {
			return err
		}
		body, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		e := Exchange{
			Seq: len(r.Exchanges) + 1, Method: "GET", URI: "/" + strings.TrimSuffix(path, "/index.json"), Status: 200,
			Header: map[string]string{"Content-Type": "application/json"},
		}
		e.Body, e.Text = asJSON(body)
		r.Exchanges = append(r.Exchanges, e)
		return nil
	})
	return r, err
}

func readJSON(name string, into any) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
