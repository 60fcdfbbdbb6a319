package sshremote_test

import (
	"context"
	"testing"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay/sshremote"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// TestSubsystem asks for one that this sshd does not offer; the sftp store's tests
// use one that theirs does.
func TestSubsystem(t *testing.T) {
	s := start(t, "")
	conn := s.dial(t, s.config)
	_, _, err := conn.Subsystem(t.Context(), "sftp")
	failure(t, err, bmc.KindSSH, "sftp is not offered", "sshd_config")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = conn.Subsystem(ctx, "sftp")
	failure(t, err, bmc.KindCancelled)
}

// TestPeer wants errors to call what is reached by its name.
func TestPeer(t *testing.T) {
	s := start(t, "")
	c := s.config
	c.Peer = "store's server"
	c.HostKey = site.HostKey{Fingerprint: "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	_, err := sshremote.Dial(t.Context(), c)
	failure(t, err, bmc.KindSSH, "the store's server's host key has changed")
}
