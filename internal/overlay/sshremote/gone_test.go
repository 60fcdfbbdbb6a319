package sshremote

import (
	"errors"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// A silentConn is a connection that takes requests for channels and answers none,
// which is what x/crypto/ssh's own is for a moment while it ends.
type silentConn struct {
	ssh.Conn
	asked, ended chan struct{}
}

func (c silentConn) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	close(c.asked)
	<-c.ended // of the test: an answer never comes
	return nil, nil, errors.New("the test is over")
}

func (c silentConn) Wait() error  { <-c.asked; return errors.New("EOF") }
func (c silentConn) Close() error { return nil }

// TestConnectionEndsAsASessionOpens has a connection end just when a command asks
// for a session on it.
func TestConnectionEndsAsASessionOpens(t *testing.T) {
	silent := silentConn{asked: make(chan struct{}), ended: make(chan struct{})}
	defer close(silent.ended)
	requests := make(chan *ssh.Request)
	channels := make(chan ssh.NewChannel)
	close(requests)
	close(channels)
	conn := newConn(ssh.NewClient(silent, channels, requests), Config{KeepAlive: -1})
	defer conn.Close()
	err := conn.Run(t.Context(), overlay.Command{Script: "true"})
	if bmc.KindOf(err) != bmc.KindSSH {
		t.Errorf("%v", err)
	}
}
