package sshremote

import (
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"
)

// Algorithms says which of ssh's algorithms a connection may use.
type Algorithms int

// The choices of Algorithms.
const (
	// AlgorithmsUsual: what x/crypto uses by itself, SHA-1 in some places.
	AlgorithmsUsual Algorithms = iota
	// AlgorithmsSafe: nothing that is known to be broken.
	AlgorithmsSafe
	// AlgorithmsAll: what is broken too, for old servers; the safe ones first.
	AlgorithmsAll
)

// config is what a client offers. AES-128-GCM comes first: with the instructions
// that processors have for it, it costs half of what ChaCha20 does.
func (a Algorithms) config() ssh.Config {
	safe, old := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	c := ssh.Config{Ciphers: []string{ssh.CipherAES128GCM}}
	for _, name := range safe.Ciphers {
		if name != ssh.CipherAES128GCM {
			c.Ciphers = append(c.Ciphers, name)
		}
	}
	switch a {
	case AlgorithmsUsual:
	case AlgorithmsSafe:
		c.KeyExchanges, c.MACs = safe.KeyExchanges, safe.MACs
	case AlgorithmsAll:
		c.KeyExchanges = slices.Concat(safe.KeyExchanges, old.KeyExchanges)
		c.Ciphers = slices.Concat(c.Ciphers, old.Ciphers)
		c.MACs = slices.Concat(safe.MACs, old.MACs)
	}
	return c
}

// hostKeys lists the signatures of host keys that a client asks for; nil leaves
// it to x/crypto.
func (a Algorithms) hostKeys() []string {
	switch a {
	case AlgorithmsUsual:
	case AlgorithmsSafe:
		return ssh.SupportedAlgorithms().HostKeys
	case AlgorithmsAll:
		return slices.Concat(ssh.SupportedAlgorithms().HostKeys, ssh.InsecureAlgorithms().HostKeys)
	}
	return nil
}

// A keyKind is a type of host key, with the signatures to ask for, best first.
type keyKind struct {
	kind       string
	algorithms []string
}

// keys lists the types of host keys, best first.
func (a Algorithms) keys() []keyKind {
	kinds := []keyKind{
		{ssh.KeyAlgoED25519, []string{ssh.KeyAlgoED25519}},
		{ssh.KeyAlgoECDSA256, []string{ssh.KeyAlgoECDSA256}},
		{ssh.KeyAlgoECDSA384, []string{ssh.KeyAlgoECDSA384}},
		{ssh.KeyAlgoECDSA521, []string{ssh.KeyAlgoECDSA521}},
		{ssh.KeyAlgoRSA, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
	}
	if a == AlgorithmsAll {
		kinds[len(kinds)-1].algorithms = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
		const dsa = ssh.InsecureKeyAlgoDSA //nolint:staticcheck // iLO 3 has nothing else, and this is what AlgorithmsAll is for
		kinds = append(kinds, keyKind{dsa, []string{dsa}})
	}
	return kinds
}

// onlyOld reports whether a server would do with what AlgorithmsAll has besides.
func onlyOld(err error) bool {
	e, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err)
	if !ok {
		return false
	}
	old := ssh.InsecureAlgorithms()
	return slices.ContainsFunc(slices.Concat(old.KeyExchanges, old.Ciphers, old.MACs, old.HostKeys), func(name string) bool {
		return slices.Contains(e.RequestedAlgorithms, name)
	})
}
