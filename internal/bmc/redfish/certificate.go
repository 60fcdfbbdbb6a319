package redfish

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
)

// A Shown certificate is one that a BMC has shown.
type Shown struct {
	Certificate bmc.Certificate
	Refused     error // why it is not accepted, a *bmc.Error; nil if it is
}

// ShownBy shakes hands with a BMC, and gives the certificate that it shows and
// whether conf accepts it. It says nothing to the BMC beyond the handshake:
// nothing of conf but its URL and TLS is used. An error means that no
// certificate was seen, and is of type *bmc.Error.
func ShownBy(ctx context.Context, conf Config) (Shown, error) {
	c, err := newClient(ctx, conf)
	if err != nil {
		return Shown{}, err
	}
	tlsConf, err := conf.TLS.config()
	if err != nil {
		return Shown{}, err
	}
	var leaf *x509.Certificate
	pinned := tlsConf.VerifyConnection
	tlsConf.VerifyConnection = func(s tls.ConnectionState) error {
		leaf = s.PeerCertificates[0]
		if pinned == nil {
			return nil
		}
		return pinned(s)
	}
	base := newTransport(c.timeouts, tlsConf)
	ctx, cancel := context.WithTimeout(ctx, c.timeouts.Read)
	defer cancel()
	tcp, err := base.DialContext(ctx, "tcp", c.endpoint.address())
	if err != nil {
		return Shown{}, c.lost(ctx, "look at the certificate", request{method: http.MethodGet}, false, err)
	}
	tlsConf.ServerName = c.endpoint.name()
	conn := tls.Client(tcp, tlsConf)
	err = conn.HandshakeContext(ctx)
	_ = tcp.Close() // without a farewell that the BMC might wait for
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(bad.UnverifiedCertificates) > 0 {
		leaf = bad.UnverifiedCertificates[0]
	}
	if err == nil {
		return Shown{Certificate: describe(leaf)}, nil
	}
	refused := c.lost(ctx, "look at the certificate", request{method: http.MethodGet}, false, err)
	if leaf == nil {
		return Shown{}, refused
	}
	return Shown{describe(leaf), refused}, nil
}

func describe(c *x509.Certificate) bmc.Certificate {
	out := bmc.Certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), SelfSigned: bytes.Equal(c.RawSubject, c.RawIssuer),
		Names: slices.Clone(c.DNSNames), Key: c.PublicKeyAlgorithm.String(),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), Fingerprint: Fingerprint(c),
	}
	for _, ip := range c.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		out.Key = fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		out.Key = "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		out.Key = "Ed25519"
	}
	return out
}
