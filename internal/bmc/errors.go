package bmc

import (
	"errors"
	"time"
)

// Kind classes an error by what can be done about it. The values are those of
// error.kind in the JSON documents and stable within a version.
type Kind string

// The kinds of error.
const (
	KindUnreachable Kind = "unreachable"
	KindAuth        Kind = "auth"
	KindTLS         Kind = "tls"
	KindLicence     Kind = "licence"
	KindUnsupported Kind = "unsupported"
	KindBusy        Kind = "busy"
	KindTimeout     Kind = "timeout"
	KindProtocol    Kind = "protocol"
	KindURL         Kind = "url"
	KindMedia       Kind = "media"
	KindOverlay     Kind = "overlay"
	KindSSH         Kind = "ssh"
	KindDataLoss    Kind = "data-loss"
	KindCancelled   Kind = "cancelled"
)

// An Error is one failure, told to a person: what was being done, what
// happened, and what to do next.
type Error struct {
	Op   string // what was being done: "insert media", "read Systems/1"
	Kind Kind
	Hint string // what to do next; every error that reaches a person has one
	Err  error  // what happened
	// Uncertain marks a request that may have acted although its answer was
	// lost: read back, do not repeat.
	Uncertain bool
	// RetryAfter is how long the BMC asked to be left alone; 0 if it did not.
	RetryAfter time.Duration
}

// Error gives the operation and the cause, without the hint.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Op
	case e.Op == "":
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, and KindProtocol
// when there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindProtocol
}

// HintOf returns the hint of the first *Error in err's chain that has one.
func HintOf(err error) string {
	for err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// A CertificateChange is a BMC that shows another certificate than the accepted
// one, as the cause inside an *Error of kind tls. Both are named as site files
// name them: "sha256:" and the hex digest of the certificate's DER.
type CertificateChange struct{ Accepted, Shown string }

// Error names both.
func (c *CertificateChange) Error() string {
	return "the BMC shows the certificate " + c.Shown + ", and the accepted one is " + c.Accepted
}
