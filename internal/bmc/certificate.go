package bmc

import "time"

// A Certificate is what a person compares, and a site file names, of the
// certificate that a BMC shows.
type Certificate struct {
	Subject     string   // as a distinguished name: "CN=ILOMXQ1,O=HPE"
	Issuer      string   // likewise
	SelfSigned  bool     // nobody but itself stands for it
	Names       []string // the host names and addresses that it is for
	Key         string   // "RSA 2048", "ECDSA P-256"
	NotBefore   time.Time
	NotAfter    time.Time
	Fingerprint string // "sha256:" and the hex digest of its DER
}

// ExpirySoon is how long before its end a certificate is spoken of.
const ExpirySoon = 30 * 24 * time.Hour
