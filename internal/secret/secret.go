// Package secret fetches the secrets that a site file points to. A secret lives
// in memory only, as a bmc.Secret, which shows itself to nobody.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// commandTimeout bounds a secret's command: a password manager may ask a person.
const commandTimeout = time.Minute

// A Keeper fetches secrets, each once. It is safe for concurrent use.
type Keeper struct {
	mu   sync.Mutex
	have map[string]bmc.Secret
}

// Get fetches the secret that ref points to; the zero SecretRef gives "". The
// error says where it was looked for and never holds what a command printed.
func (k *Keeper) Get(ctx context.Context, ref site.SecretRef) (bmc.Secret, error) {
	if ref.IsZero() {
		return "", nil
	}
	k.mu.Lock() // held while fetching, so that a command that asks is run once
	defer k.mu.Unlock()
	id := Key(ref)
	if s, ok := k.have[id]; ok {
		return s, nil
	}
	value, err := fetch(ctx, ref)
	if err != nil {
		return "", err
	}
	value = strings.TrimRight(value, "\r\n")
	if value == "" {
		return "", &bmc.Error{Kind: bmc.KindAuth, Err: fmt.Errorf("the secret in %s is empty", ref), Hint: hint(ref)}
	}
	if k.have == nil {
		k.have = make(map[string]bmc.Secret)
	}
	k.have[id] = bmc.Secret(value)
	return bmc.Secret(value), nil
}

// Key tells secrets apart: two references with one key point to one secret.
func Key(ref site.SecretRef) string {
	return fmt.Sprintf("%q %q %q", ref.Env, ref.File, ref.Command)
}

func fetch(ctx context.Context, ref site.SecretRef) (string, error) {
	switch {
	case ref.Env != "":
		v, ok := os.LookupEnv(ref.Env)
		if !ok {
			return "", &bmc.Error{Kind: bmc.KindAuth, Err: fmt.Errorf("the environment has no %s", ref.Env), Hint: hint(ref)}
		}
		return v, nil
	case ref.File != "":
		b, err := os.ReadFile(ref.File)
		if err != nil {
			return "", &bmc.Error{Kind: bmc.KindAuth, Err: err, Hint: hint(ref)}
		}
		return string(b), nil
	}
	return run(ctx, ref)
}

func run(ctx context.Context, ref site.SecretRef) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, ref.Command[0], ref.Command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Stdin = &out, os.Stderr, os.Stdin
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.New("it did not end within " + commandTimeout.String())
	}
	if err != nil {
		return "", &bmc.Error{Kind: bmc.KindAuth, Err: fmt.Errorf("the secret's command %q: %w", ref.Command[0], err), Hint: hint(ref)}
	}
	return out.String(), nil
}

func hint(ref site.SecretRef) string {
	switch {
	case ref.Env != "":
		return "export " + ref.Env + " with the secret in it"
	case ref.File != "":
		return "put the secret into " + ref.File + ", readable by you alone"
	}
	return "run the command by hand: it has to print the secret"
}
