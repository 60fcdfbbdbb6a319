// Package sshremote runs scripts on nodes over ssh. It is the one place, beside
// the simulator, that knows golang.org/x/crypto/ssh: its calls take no context,
// so a connection is closed when a context ends, and every wait is bounded.
package sshremote
