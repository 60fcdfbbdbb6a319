//go:build race

package faultwalk

// stride: under the race detector, which makes it take ten times as long, one
// flow of so many is walked; it has no divisor with the misfortunes' number.
const stride = 29
