package imageserver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Peer is the server of another livecd-sync on this machine, which listens
// where this one would. Its methods are safe for concurrent use.
type Peer struct {
	key    Key
	base   string
	client *http.Client
}

// peerTimeout bounds a question to a server on this machine.
const peerTimeout = 5 * time.Second

// NewPeer asks nobody yet. listen is the site file's serve.listen, and secure
// says that it is spoken to over TLS; whose certificate it shows does not matter,
// for what is asked is asked on this machine and by a secret name.
func NewPeer(key Key, listen string, secure bool) *Peer {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return &Peer{
		key: key, base: scheme + local(listen),
		client: &http.Client{
			Timeout: peerTimeout,
			Transport: &http.Transport{
				MaxIdleConns: 2, IdleConnTimeout: peerTimeout,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // it is this machine
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// local is an address by which a listener can be reached on its own machine.
func local(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}

// Close ends the connections.
func (p *Peer) Close() { p.client.CloseIdleConnections() }

// Serves asks whether the server has the image with that SHA-256 for the node,
// and returns nil if it does. The error says what it answered.
func (p *Peer) Serves(ctx context.Context, node, digest string) error {
	resp, err := p.ask(ctx, http.MethodHead, p.key.Path(node, digest))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") == ETag(digest):
		return nil
	case resp.StatusCode == http.StatusOK:
		return p.fail(errors.New("what listens there serves another image under the same name"))
	}
	return p.fail(fmt.Errorf("what listens there does not serve the image to %s: %s", node, resp.Status))
}

// Reads returns what was read from the server.
func (p *Peer) Reads(ctx context.Context) ([]Reads, error) {
	resp, err := p.control(ctx, http.MethodGet, askReads)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var list []Reads
	if err := json.NewDecoder(io.LimitReader(resp.Body, 256<<20)).Decode(&list); err != nil {
		return nil, p.fail(fmt.Errorf("its answer is not understood: %w", err))
	}
	return list, nil
}

// Begin is Server.Begin.
func (p *Peer) Begin(ctx context.Context, node string) error {
	resp, err := p.control(ctx, http.MethodPost, askBegin+"/"+node)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// HandOver asks the server to give its place up: it closes its listener, sends
// what it is sending, and ends.
func (p *Peer) HandOver(ctx context.Context) error {
	resp, err := p.control(ctx, http.MethodPost, askHandOver)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (p *Peer) control(ctx context.Context, method, what string) (*http.Response, error) {
	resp, err := p.ask(ctx, method, "/"+p.key.controlDirectory()+"/"+what)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		_ = resp.Body.Close()
		return nil, p.fail(fmt.Errorf("what listens there is no livecd-sync with the same key: %s", resp.Status))
	}
	return resp, nil
}

func (p *Peer) ask(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, nil)
	if err != nil {
		return nil, p.fail(errors.New("no such address"))
	}
	resp, err := p.client.Do(req)
	if err != nil {
		// Without the path, which only this machine is to know.
		return nil, p.fail(errors.New("what listens there does not answer over HTTP"))
	}
	return resp, nil
}

func (p *Peer) fail(err error) error {
	return &bmc.Error{
		Op: "ask the server on " + p.base, Kind: bmc.KindBusy, Err: err,
		Hint: "end what listens there, or run `livecd-sync serve` with the same site file and as the same user; serve.listen says where",
	}
}
