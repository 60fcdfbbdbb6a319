package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// certificate is what a BMC shows: self-signed, as BMCs come from the factory.
type certificate struct {
	tls tls.Certificate
	pem []byte
}

func newCertificate(name string, a netip.Addr) (certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, fmt.Errorf("sim: make a key for the BMC of %s: %w", name, err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name + "-bmc", Organization: []string{"livecd-sync sim"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{name + "-bmc"},
		IPAddresses:  []net.IP{a.AsSlice()},
		// Its own authority, so that tls.ca can name it.
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return certificate{}, fmt.Errorf("sim: make a certificate for the BMC of %s: %w", name, err)
	}
	return certificate{
		tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}, nil
}

// fingerprint is the certificate's as a site file has it.
func (c certificate) fingerprint() string {
	sum := sha256.Sum256(c.tls.Certificate[0])
	return "sha256:" + hex.EncodeToString(sum[:])
}
