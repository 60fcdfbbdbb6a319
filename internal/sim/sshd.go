package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// login is who may log in to a node.
type login struct {
	key      ssh.PublicKey
	password string
	letsIn   func(ssh.PublicKey) bool // in place of key; nil: key decides
}

// sshd is the ssh server of a running system. Its host key is new, as that of a
// live system is at each boot.
type sshd struct {
	listener net.Listener
	config   *ssh.ServerConfig
	shell    shell
	hostKey  ssh.PublicKey
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

var errLogin = errors.New("wrong user, key or password")

// startSSH serves a system. It takes the listener over.
func startSSH(l net.Listener, s *system, who login) (*sshd, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("sim: make a host key for %s: %w", s.node, err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("sim: make a host key for %s: %w", s.node, err)
	}
	hostKey, err := ssh.NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("sim: make a host key for %s: %w", s.node, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &sshd{
		listener: l, config: who.config(), shell: shell{system: s, view: s.view}, hostKey: hostKey,
		cancel: cancel, conns: map[net.Conn]struct{}{},
	}
	d.config.AddHostKey(signer)
	d.wg.Go(func() { d.accept(ctx) })
	return d, nil
}

func (who login) config() *ssh.ServerConfig {
	return &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-livecd-sync-sim",
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if who.letsIn != nil {
				if c.User() == "root" && who.letsIn(key) {
					return nil, nil
				}
				return nil, errLogin
			}
			if c.User() == "root" && subtle.ConstantTimeCompare(key.Marshal(), who.key.Marshal()) == 1 {
				return nil, nil
			}
			return nil, errLogin
		},
		PasswordCallback: func(c ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			if c.User() == "root" && who.password != "" && subtle.ConstantTimeCompare(password, []byte(who.password)) == 1 {
				return nil, nil
			}
			return nil, errLogin
		},
	}
}

// stop ends the server as a power cut does: every connection breaks, and with it
// every process. It returns when all are gone.
func (d *sshd) stop() {
	d.cancel()
	_ = d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *sshd) accept(ctx context.Context) {
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[c] = struct{}{}
		d.mu.Unlock()
		if ctx.Err() != nil { // stop may have missed it
			_ = c.Close()
		}
		d.wg.Go(func() { d.serve(ctx, c) })
	}
}

func (d *sshd) serve(ctx context.Context, c net.Conn) {
	defer func() {
		_ = c.Close()
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
	}()
	conn, channels, requests, err := ssh.NewServerConn(c, d.config)
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for offer := range channels {
		if offer.ChannelType() != "session" {
			_ = offer.Reject(ssh.UnknownChannelType, "a simulated node has sessions only")
			continue
		}
		channel, reqs, err := offer.Accept()
		if err != nil {
			continue
		}
		wg.Go(func() { d.session(ctx, channel, reqs) })
	}
	cancel()
	wg.Wait()
}

// session serves one session channel: one command, and what is said about it
// meanwhile.
func (d *sshd) session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	started := false
	for r := range requests {
		command, isCommand := commandOf(r)
		ok := r.Type == "env" || r.Type == "signal" || (isCommand && !started)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		switch {
		case r.Type == "signal":
			cancel()
		case isCommand && !started:
			started = true
			running.Go(func() { d.execute(ctx, channel, command) })
		}
	}
	// The client is gone, or execute has closed the channel.
	cancel()
	running.Wait()
	_ = channel.Close()
}

// commandOf tells what an exec request asks for; nil for a shell request.
func commandOf(r *ssh.Request) (command *string, ok bool) {
	switch r.Type {
	case "shell":
		return nil, true
	case "exec":
		var msg struct{ Command string }
		if ssh.Unmarshal(r.Payload, &msg) != nil {
			return nil, false
		}
		return &msg.Command, true
	}
	return nil, false
}

// execute runs a command and tells the client how it ended.
func (d *sshd) execute(ctx context.Context, channel ssh.Channel, command *string) {
	defer channel.Close()
	// A command that was killed may sit in a read of its standard input.
	stop := context.AfterFunc(ctx, func() { _ = channel.Close() })
	defer stop()
	in, feed, err := os.Pipe()
	if err != nil {
		fmt.Fprintf(channel.Stderr(), "sh: %v\n", err)
		return
	}
	var feeding sync.WaitGroup
	feeding.Go(func() {
		_, _ = io.Copy(feed, channel)
		_ = feed.Close()
	})
	p := process{dir: "/", env: environment(d.shell.system.node), streams: streams{in: in, out: channel, err: channel.Stderr()}}
	status := d.run(ctx, command, p)
	_ = in.Close()
	if ctx.Err() == nil {
		_ = channel.CloseWrite()
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	}
	_ = channel.Close()
	feeding.Wait()
}

func (d *sshd) run(ctx context.Context, command *string, p process) int {
	if command == nil {
		return d.shell.follow(ctx, p.in, p)
	}
	return d.shell.script(ctx, strings.NewReader(*command), "sh", nil, p)
}
