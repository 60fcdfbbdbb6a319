package siteload_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

var update = flag.Bool("update", false, "rewrite the .want files of the faulty fixtures; read the difference before committing it")

// fixtures lists testdata/DIR/*.yaml.
func fixtures(tb testing.TB, dir string) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no fixtures in %s: %v", dir, err)
	}
	return files
}

func read(tb testing.TB, file string) []byte {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func TestValid(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	for _, file := range append(fixtures(t, "valid"), "../../../examples/site.yaml") {
		if _, err := siteload.Load(file); err != nil {
			t.Errorf("%s:\n%v", file, err)
		}
	}
}

// TestFaults compares what is said of each faulty file with the text beside it.
func TestFaults(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	for _, file := range append(fixtures(t, "shape-faults"), fixtures(t, "semantic-faults")...) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := siteload.Parse(filepath.Base(file), read(t, file))
			if err == nil {
				t.Fatal("no error")
			}
			checkErrors(t, err)
			checkWords(t, err)
			got, wantFile := err.Error()+"\n", strings.TrimSuffix(file, ".yaml")+".want"
			if *update {
				if err := os.WriteFile(wantFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(read(t, wantFile)), got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// jargon is what CUE and the YAML parser say among themselves.
var jargon = regexp.MustCompile(`incomplete value|empty disjunction|conflicting values|mismatched types|field not allowed|required but not present|matchN|invalid value|_\|_|out of bound|yaml: line|#[A-Z][A-Za-z]+`)

// checkWords wants plain words, and no secret of the fixtures.
func checkWords(tb testing.TB, err error) {
	tb.Helper()
	if w := jargon.FindString(err.Error()); w != "" {
		tb.Errorf("jargon: %s in\n%v", w, err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		tb.Errorf("a secret is shown:\n%v", err)
	}
}

// checkErrors wants of every error that it has a place, in order, and says what
// to do.
func checkErrors(tb testing.TB, err error) {
	tb.Helper()
	es, ok := errors.AsType[siteload.Errors](err)
	if !ok || len(es) == 0 {
		tb.Fatalf("not Errors: %#v", err)
	}
	last := siteload.Pos{}
	for _, e := range es {
		switch {
		case e.Pos.Line < 1 || e.Pos.Column < 1 || e.Pos.File == "":
			tb.Errorf("an error without a place: %v", e)
		case e.Message == "" || e.Hint == "":
			tb.Errorf("an error without a message or a hint: %v", e)
		case e.Pos.Line < last.Line || e.Pos.Line == last.Line && e.Pos.Column < last.Column:
			tb.Errorf("out of order: %v", e)
		case len(e.Error()) > 2000:
			tb.Errorf("an error of %d bytes: %.200s", len(e.Error()), e.Error())
		}
		last = e.Pos
	}
}
