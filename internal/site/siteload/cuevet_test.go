package siteload_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/site/siteload"
)

const (
	cueVersion = "v0.17.1"
	siteSchema = "../../../schema/site.cue"
)

// cueCommand finds the CUE project's command. Where tests are meant to be
// complete, with CI set, it has to be there.
func cueCommand(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("cue")
	if err != nil {
		path = filepath.Join(goPath(), "bin", "cue")
		_, err = os.Stat(path)
	}
	how := "install it with: go install cuelang.org/go/cmd/cue@" + cueVersion
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("the cue command is missing; " + how)
		}
		t.Skip("the cue command is missing; " + how)
	}
	if out, err := exec.Command(path, "version").Output(); err != nil || !strings.Contains(string(out), cueVersion) {
		t.Fatalf("%s is not %s; %s", path, cueVersion, how)
	}
	return path
}

func goPath() string {
	out, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// TestCueVet wants the verdict of the cue command and of this package to be the
// same on the shape of each fixture.
func TestCueVet(t *testing.T) {
	t.Setenv("HOME", "/home/admin")
	cue := cueCommand(t)
	files := []string{"../../../examples/site.yaml"}
	for _, dir := range []string{"valid", "shape-faults", "semantic-faults"} {
		files = append(files, fixtures(t, dir)...)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			out, err := exec.Command(cue, "vet", "-d", "#Site", siteSchema, file).CombinedOutput()
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				t.Fatal(err)
			}
			_, loadErr := siteload.Load(file)
			wantShape := !strings.Contains(file, "shape-faults")
			if shapeOK := err == nil; shapeOK != wantShape {
				t.Errorf("cue vet accepts it: %t, want %t\n%s", shapeOK, wantShape, out)
			}
			if wantLoad := !strings.Contains(file, "faults"); (loadErr == nil) != wantLoad {
				t.Errorf("Load: %v", loadErr)
			}
		})
	}
}

// TestCueFormat wants the schema formatted as cue fmt does it.
func TestCueFormat(t *testing.T) {
	out, err := exec.Command(cueCommand(t), "fmt", "--check", siteSchema).CombinedOutput()
	if err != nil {
		t.Errorf("run: cue fmt schema/site.cue\n%s", out)
	}
}
