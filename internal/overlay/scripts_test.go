package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
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
