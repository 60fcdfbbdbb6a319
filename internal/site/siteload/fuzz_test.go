package siteload_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

// FuzzLoadSite wants of any bytes a site or errors with places, soon. Run it
// with -fuzzminimizetime=10x: an input can expand to many nodes, and take long to
// minimise.
func FuzzLoadSite(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no fixtures", err)
	}
	for _, file := range files {
		if filepath.Base(file) == "too-many.yaml" {
			continue // 65,536 nodes are too slow to be varied
		}
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, s := range []string{"", "\ufeff", "a: *b", "? [a]\n: b", "{<<: {a: b}}", "- - - - -", "a: !!int 0x", "\"\\x00\"", "nodes: {'x[1-300]': {}}", laughs()} {
		f.Add([]byte(s))
		f.Add([]byte(head + "nodes:\n  n1: {bmc: {address: " + s + "}}\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		s, err := siteload.Parse("site.yaml", data)
		if spent := time.Since(start); spent > 20*time.Second {
			t.Errorf("%d bytes took %v", len(data), spent)
		}
		if err == nil {
			if s == nil || s.Digest == "" || len(s.Nodes) > siteload.MaxNodes {
				t.Errorf("%+v", s)
			}
			return
		}
		if s != nil {
			t.Error("a site and an error")
		}
		checkErrors(t, err)
	})
}
