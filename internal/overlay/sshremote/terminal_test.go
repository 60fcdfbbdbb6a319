package sshremote_test

import (
	"io"
	"strings"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
)

// A real sshd's shell, in a terminal; with each choice of algorithms.
func TestTerminal(t *testing.T) {
	s := start(t, "")
	for _, trust := range []sshremote.Algorithms{sshremote.AlgorithmsUsual, sshremote.AlgorithmsSafe, sshremote.AlgorithmsAll} {
		c := s.config
		c.Algorithms, c.KeepAlive = trust, -1
		conn, err := sshremote.Dial(t.Context(), c)
		must(t, err)
		term, err := conn.Terminal(t.Context())
		must(t, err)
		_, err = io.WriteString(term, "test -t 0 && echo $((40+2)); exit 3\n")
		must(t, err)
		said, err := io.ReadAll(term)
		if err != nil || !strings.Contains(string(said), "42\r\n") {
			t.Errorf("%d: %q, %v", trust, said, err)
		}
		must(t, term.Close())
		must(t, conn.Close())
	}
}
