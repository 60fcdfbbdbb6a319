package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/bmc/redfish"
	"github.com/livecd-sync/livecd-sync/internal/site"
	"github.com/livecd-sync/livecd-sync/internal/site/pinfile"
)

// certificates says which certificates BMCs must show. It reads each file that
// the site file names once. It is safe for concurrent use.
type certificates struct {
	mu    sync.Mutex
	pools map[string]*x509.CertPool
	pins  map[string]map[string]string // of each file, by BMC
}

// of is what a BMC must show. A BMC that is to be in a file of fingerprints and
// is not there is an error of its own: nothing is accepted of it.
func (c *certificates) of(b site.BMC) (redfish.TLS, error) {
	out := redfish.TLS{Fingerprint: b.TLS.Fingerprint, Insecure: b.TLS.Insecure, OldCiphers: b.OldCiphers}
	var err error
	switch {
	case b.TLS.CA != "":
		out.CA, err = c.authorities(b.TLS.CA)
	case b.TLS.Pins != "":
		out.Fingerprint, err = c.pin(b)
		if err == nil && out.Fingerprint == "" {
			err = &bmc.Error{
				Op: "connect", Kind: bmc.KindTLS, Err: fmt.Errorf("%s has no fingerprint of %s", b.TLS.Pins, pinfile.Name(b.URL)),
				Hint: "livecd-sync trust shows its certificate and, after a yes, writes its fingerprint there",
			}
		}
	}
	return out, err
}

// check finds what is wrong with the files that a node's BMC needs.
func (c *certificates) check(b site.BMC) error {
	var err error
	switch {
	case b.TLS.CA != "":
		_, err = c.authorities(b.TLS.CA)
	case b.TLS.Pins != "":
		_, err = c.pin(b)
	}
	return err
}

func (c *certificates) authorities(file string) (*x509.CertPool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.pools[file]; ok {
		return p, nil
	}
	p := x509.NewCertPool()
	pem, err := os.ReadFile(file)
	if err == nil && !p.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s holds no certificate", file)
	}
	if err != nil {
		return nil, &bmc.Error{Op: "read bmc.tls.ca", Kind: bmc.KindTLS, Err: err, Hint: "name a PEM file with the certificate of the BMCs' authority"}
	}
	if c.pools == nil {
		c.pools = map[string]*x509.CertPool{}
	}
	c.pools[file] = p
	return p, nil
}

// pin is the BMC's fingerprint, "" if its file has none.
func (c *certificates) pin(b site.BMC) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pins, ok := c.pins[b.TLS.Pins]
	if !ok {
		f, _, err := readPins(b.TLS.Pins)
		if err != nil {
			return "", err
		}
		pins = f.Pins()
		if c.pins == nil {
			c.pins = map[string]map[string]string{}
		}
		c.pins[b.TLS.Pins] = pins
	}
	return pins[pinfile.Name(b.URL)], nil
}

// readPins reads a file of fingerprints. One that is not there yet is empty, and
// its text nil.
func readPins(file string) (*pinfile.File, []byte, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return pinfile.New(), nil, nil
	}
	var f *pinfile.File
	if err == nil {
		if text == nil {
			text = []byte{}
		}
		if f, err = pinfile.Parse(text); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
	}
	if err != nil {
		return nil, nil, &bmc.Error{Op: "read bmc.tls.pins", Kind: bmc.KindTLS, Err: err, Hint: "mend the line by hand, or remove it and run livecd-sync trust"}
	}
	return f, text, nil
}
