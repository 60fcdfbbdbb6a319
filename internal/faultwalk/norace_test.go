//go:build !race

package faultwalk

const stride = 1
