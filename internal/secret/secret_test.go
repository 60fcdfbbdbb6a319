package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

func TestGet(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("from-file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET_TEST", "from-env")
	t.Setenv("SECRET_EMPTY", "")
	for _, c := range []struct {
		name string
		ref  site.SecretRef
		want string
		err  string
	}{
		{"none", site.SecretRef{}, "", ""},
		{"env", site.SecretRef{Env: "SECRET_TEST"}, "from-env", ""},
		{"file", site.SecretRef{File: file}, "from-file", ""},
		{"command", site.SecretRef{Command: []string{"echo", "from-command"}}, "from-command", ""},
		{"no env", site.SecretRef{Env: "SECRET_NOT_THERE"}, "", "the environment has no SECRET_NOT_THERE"},
		{"empty", site.SecretRef{Env: "SECRET_EMPTY"}, "", "the secret in $SECRET_EMPTY is empty"},
		{"no file", site.SecretRef{File: filepath.Join(dir, "none")}, "", "no such file"},
		{"bad command", site.SecretRef{Command: []string{"sh", "-c", "echo half-a-secret; exit 3"}}, "", "exit status 3"},
		{"no command", site.SecretRef{Command: []string{filepath.Join(dir, "none")}}, "", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := new(Keeper).Get(t.Context(), c.ref)
			if got.Reveal() != c.want {
				t.Errorf("got %q", got.Reveal())
			}
			switch {
			case c.err == "" && err != nil:
				t.Errorf("error: %v", err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || bmc.HintOf(err) == ""):
				t.Errorf("error %v, hint %q; want %s", err, bmc.HintOf(err), c.err)
			case err != nil && strings.Contains(err.Error(), "half-a-secret"):
				t.Errorf("the error shows what the command printed: %v", err)
			}
		})
	}
}

// Two commands that differ in an argument have two secrets.
func TestGetTellsCommandsApart(t *testing.T) {
	var k Keeper
	for _, want := range []string{"one", "two"} {
		got, err := k.Get(t.Context(), site.SecretRef{Command: []string{"echo", want}})
		if err != nil || got.Reveal() != want {
			t.Errorf("got %q, %v; want %s", got.Reveal(), err, want)
		}
	}
}

// A command is run once, however many nodes share it.
func TestGetRunsACommandOnce(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	ref := site.SecretRef{Command: []string{"sh", "-c", "echo x >>" + count + "; echo secret"}}
	var k Keeper
	for range 3 {
		if _, err := k.Get(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := os.ReadFile(count); string(b) != "x\n" {
		t.Errorf("it ran %d times", len(b)/2)
	}
}
