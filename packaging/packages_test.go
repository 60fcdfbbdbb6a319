package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPackageVersion(t *testing.T) {
	for described, want := range map[string]string{
		"v1.2.0":              "1.2.0",
		"v1.2.0-3-gabcdef1":   "1.2.0+3+gabcdef1",
		"abcdef1-dirty":       "0.0.0~abcdef1+dirty",
		"7abcdef":             "0.0.0~7abcdef",
		"":                    "0.0.0~",
		"v1.3.0-rc.1":         "1.3.0+rc.1",
		"v10.0.1-1-g12-dirty": "10.0.1+1+g12+dirty",
	} {
		if got := packageVersion(described); got != want {
			t.Errorf("%q: %s, want %s", described, got, want)
		}
	}
}

// unable skips a test, except in CI, where everything has to run.
func unable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// built is the package of that kind which make packages has built.
func built(t *testing.T, kind string) string {
	t.Helper()
	dir := os.Getenv("LIVECD_SYNC_PACKAGES")
	if dir == "" {
		t.Skip("make packages runs this")
	}
	found, err := filepath.Glob(filepath.Join(dir, "*."+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v; want one package", found, err)
	}
	return found[0]
}

// The deb is installed into a root directory of its own, run there, upgraded,
// removed and purged. testdata/install.sh has the steps; it ends at the first
// that goes wrong.
func TestDebInstalls(t *testing.T) {
	deb := built(t, "deb")
	if os.Getuid() != 0 {
		unable(t, "only root can mount a root directory to install into")
	}
	if err := exec.Command("dpkg", "--version").Run(); err != nil {
		unable(t, "there is no dpkg here")
	}
	if arch, err := exec.Command("dpkg", "--print-architecture").Output(); err != nil || !strings.HasSuffix(deb, "_"+strings.TrimSpace(string(arch))+".deb") {
		t.Skip("the package is for another architecture")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "bash", "testdata/install.sh", deb, t.TempDir())
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.HasSuffix(out.String(), "all steps done\n") {
		t.Errorf("it did not come to its end:\n%s", out.String())
	}
}

func query(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("rpm", append([]string{"-qp"}, args...)...).Output()
	if err != nil {
		t.Fatalf("rpm -qp %q: %v", args, err)
	}
	return string(out)
}

// Both packages hold the same files, with the same owners and modes.
func TestRPMHoldsWhatTheDebHolds(t *testing.T) {
	rpm, deb := built(t, "rpm"), built(t, "deb")
	if _, err := exec.LookPath("rpm"); err != nil {
		unable(t, "there is no rpm here")
	}
	inRPM := strings.Fields(query(t, "--queryformat", "[%{FILENAMES}\n]", rpm))
	listing, err := exec.Command("dpkg-deb", "-c", deb).Output()
	if err != nil {
		t.Fatal(err)
	}
	var inDeb []string
	for line := range strings.Lines(string(listing)) {
		name := strings.TrimPrefix(strings.Fields(line)[5], ".")
		name = strings.Replace(name, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
		if !strings.HasSuffix(name, "/") || strings.HasSuffix(name, "livecd-sync/credentials/") || name == "/var/lib/livecd-sync/" {
			inDeb = append(inDeb, strings.TrimSuffix(name, "/"))
		}
	}
	slices.Sort(inDeb)
	slices.Sort(inRPM)
	if !slices.Equal(inRPM, inDeb) {
		t.Errorf("rpm %q\ndeb %q", inRPM, inDeb)
	}
	modes := query(t, "--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME} %{FILEFLAGS:fflags}\n]", rpm)
	for _, want := range []string{
		"/etc/livecd-sync/site.yaml -rw------- livecd-sync cn",
		"/etc/livecd-sync/credentials drwx------ root",
		"/var/lib/livecd-sync drwx------ livecd-sync",
		"/usr/bin/livecd-sync -rwxr-xr-x root",
		"/usr/lib/systemd/system/livecd-sync.service -rw-r--r-- root",
	} {
		if !strings.Contains(modes, want) {
			t.Errorf("there is no %q in\n%s", want, modes)
		}
	}
	if scripts := query(t, "--scripts", rpm); strings.Count(scripts, "scriptlet") != 4 || !strings.Contains(scripts, "useradd") {
		t.Errorf("scripts:\n%s", scripts)
	}
	if out, err := exec.Command("rpm", "--checksig", "--nosignature", rpm).CombinedOutput(); err != nil {
		t.Errorf("digests: %v\n%s", err, out)
	}
}
