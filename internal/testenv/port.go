package testenv

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreePort is a TCP port of 127.0.0.1 that nobody listens on, for a server that
// is told which. It is none of those that Linux gives to clients (from 32768 on,
// ip(7)): one of theirs may be taken again before the server has it.
func FreePort(t testing.TB) int {
	t.Helper()
	const first, last, tries = 10000, 32000, 100
	var err error
	for range tries {
		port := first + rand.IntN(last-first) //nolint:gosec // it need not be a secret
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatalf("no port is free: %v", err)
	return 0
}
