package uppertar

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestClear does what the letters say, and follows no link.
func TestClear(t *testing.T) {
	c := newCage(t)
	for _, name := range []string{"gone/a/b", "stays/a", "dir-to-file/a"} {
		must(t, os.MkdirAll(filepath.Join(c.root(), name), 0o755))
	}
	for _, name := range []string{"gone/a/b/f", "file-to-dir", "gone-file", "file"} {
		must(t, os.WriteFile(filepath.Join(c.root(), name), nil, 0o600))
	}
	must(t, os.Symlink("../../outside", c.root()+"/gone/out"))
	records := "x./gone//\x00x./gone-file//\x00d./stays//\x00d./file-to-dir//\x00f./dir-to-file//\x00f./file//\x00d./out//\x00f./outfile//\x00" +
		"x./abs/file//\x00x./abs/dir//\x00x./d/up/x//\x00x./not/there//\x00d./not-there//"
	var said bytes.Buffer
	outcome, err := Clear(strings.NewReader(records), open(t, c.root()), &said)
	must(t, err)
	if outcome.Failed > 0 || said.Len() > 0 {
		t.Errorf("%+v %s", outcome, said.String())
	}
	c.check("clear")
	list, err := os.ReadDir(c.root())
	must(t, err)
	var left []string
	for _, e := range list {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "abs d f file outfile slash stays" {
		t.Errorf("left: %s", got)
	}
	for _, bad := range []string{"x..//", "x/etc//", "x.//", "y./f//", "x./f", "x", "x../outside/file//", "x//"} {
		if _, err := Clear(strings.NewReader(bad), open(t, c.root()), nil); err == nil {
			t.Errorf("%q passed", bad)
		}
		c.check(bad)
	}
	if _, err := os.Stat(c.root() + "/f"); err != nil {
		t.Error(err)
	}
}

// TestClearCutShort ends the records in the middle.
func TestClearCutShort(t *testing.T) {
	const list = "x./var/lib/gone//\x00f./var/lib/file//\x00"
	for end := range len(list) {
		dir := t.TempDir()
		for _, name := range []string{"var/lib/gone", "var/lib/g", "var/lib/file/sub"} {
			must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
		}
		_, err := Clear(strings.NewReader(list[:end]), open(t, dir), nil)
		if _, statErr := os.Stat(filepath.Join(dir, "var/lib/g")); statErr != nil {
			t.Fatalf("%q: %v", list[:end], statErr)
		}
		if _, statErr := os.Stat(filepath.Join(dir, "var/lib/file")); statErr != nil && end < len(list)-1 {
			t.Errorf("%q: %v", list[:end], statErr)
		}
		if whole := strings.HasSuffix(list[:end], "//") || strings.HasSuffix(list[:end], "\x00") || end == 0; whole != (err == nil) {
			t.Errorf("%q: %v", list[:end], err)
		}
	}
}

// TestList lists as stat does.
func TestList(t *testing.T) {
	needRoot(t, "stat")
	dir := upper(t)
	var list strings.Builder
	for name := range view(t, dir) {
		list.WriteString(name + "\x00")
	}
	cmd := exec.CommandContext(t.Context(), "xargs", "-0", "-n", "1000", "stat", `--printf=%f %u %g %s %t %T %.9Y %h %d:%i %n\0%N\0`, "--")
	cmd.Env = append(os.Environ(), "LC_ALL=C", "QUOTING_STYLE=literal")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(list.String())
	want, err := cmd.Output()
	must(t, err)
	var got, said bytes.Buffer
	outcome, err := List(strings.NewReader(list.String()+"./gone\x00./lab/absolute/x"), &got, open(t, dir), &said)
	must(t, err)
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got\n%q\nstat:\n%q", got.String(), want)
	}
	if outcome.Failed != 2 || strings.Count(said.String(), "\n") != 2 {
		t.Errorf("%+v %s", outcome, said.String())
	}
	if _, err := List(strings.NewReader("../x"), &got, open(t, dir), nil); err == nil {
		t.Error("a name that leads out passed")
	}
}

// TestXattrs dumps what getfattr does.
func TestXattrs(t *testing.T) {
	needRoot(t, "getfattr")
	dir := upper(t)
	must(t, os.WriteFile(dir+"/lab/back\\slash\r\n", nil, 0o600))
	must(t, unix.Setxattr(dir+"/lab/back\\slash\r\n", "trusted.a=b\\c\n", []byte("x"), 0))
	var list strings.Builder
	for name := range view(t, dir) {
		list.WriteString(name + "\x00")
	}
	cmd := exec.CommandContext(t.Context(), "xargs", "-0", "getfattr", "--absolute-names", "-h", "-d", "-m", "-", "-e", "hex", "--")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(list.String())
	want, err := cmd.Output()
	must(t, err)
	var got bytes.Buffer
	outcome, err := Xattrs(strings.NewReader(list.String()+"./gone"), &got, open(t, dir), nil)
	must(t, err)
	if !sameLines(got.String(), string(want)) || outcome.Failed != 1 {
		t.Errorf("%+v got\n%s\ngetfattr:\n%s", outcome, got.String(), want)
	}
}
