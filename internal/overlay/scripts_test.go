package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestClearCutShort ends the list of what is to go in the middle of every
// record, as a connection that is lost does: nothing goes but what a whole
// record names.
func TestClearCutShort(t *testing.T) {
	if _, err := exec.LookPath("xargs"); err != nil {
		t.Fatal(err) // part of every system that the tests are for
	}
	const list = "x./var/lib/gone//\x00f./var/lib/file//\x00"
	for end := range len(list) {
		dir := t.TempDir()
		for _, name := range []string{"var/lib/gone", "var/lib/g", "var/lib/file/sub"} {
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", clearScript)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(list[:end])
		out, err := cmd.CombinedOutput()
		if _, statErr := os.Stat(filepath.Join(dir, "var/lib/g")); statErr != nil {
			t.Fatalf("%q: %v", list[:end], statErr)
		}
		if _, statErr := os.Stat(filepath.Join(dir, "var/lib/file")); statErr != nil && end < len(list)-1 {
			t.Errorf("%q: %v", list[:end], statErr)
		}
		if whole := strings.HasSuffix(list[:end], "//") || strings.HasSuffix(list[:end], "\x00") || end == 0; whole != (err == nil) {
			t.Errorf("%q: %v %s", list[:end], err, out)
		}
	}
}

// TestMediumOddPath finds a file of a medium that is mounted where mountinfo has
// to escape the path.
func TestMediumOddPath(t *testing.T) {
	dir := t.TempDir()
	mountinfo := filepath.Join(dir, "mountinfo")
	script := strings.Replace(mediumScript, "/proc/self/mountinfo", mountinfo, 1)
	for _, name := range []string{"plain", "the live medium", "tab\there", "a line\nmore", `back\slash \040 %s`} {
		if err := os.MkdirAll(filepath.Join(dir, name, "LiveOS"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "LiveOS/img"), []byte("of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(filepath.Join(dir, name))
		line := "30 26 11:0 / " + escaped + " ro,relatime - iso9660 /dev/sr0 ro\n"
		if err := os.WriteFile(mountinfo, []byte("21 1 0:19 / /proc rw - proc proc rw\n"+line), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, shell := range [][]string{{"sh"}, {"bash"}, {"busybox", "sh"}} {
			if _, err := exec.LookPath(shell[0]); err != nil {
				continue // sh is part of every system
			}
			args := append(slices.Clone(shell[1:]), "-c", script, "livecd-sync", "boot", `[ "$1 $2" = "boot more" ] && cat`, "LiveOS/img", "more")
			out, err := exec.CommandContext(t.Context(), shell[0], args...).CombinedOutput()
			if err != nil || string(out) != "of "+name {
				t.Errorf("%s: %q: %v %q", shell[0], name, err, out)
			}
		}
	}
}
