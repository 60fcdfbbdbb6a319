// Package login does a live system's first login over a byte stream: from
// whatever is on the screen to a changed password, a public key for ssh, and the
// host keys that ssh has to expect.
//
// It has its own small matching of prompts. The Go libraries for this (the expect
// packages of Google, Netflix and others) are no longer kept, want a program or a
// terminal of their own rather than a stream, and match regular expressions
// against what has come so far. A serial console wants other things: kernel
// messages taken out of the middle of prompts, a prompt believed only once
// nothing follows it, a screen that is silent woken with care, and what was typed
// in secret kept out of every error.
package login
