// Package e2e boots live images in real machines: QEMU processes behind simulated
// BMCs, which are told over Redfish what to do. It holds tests and nothing else;
// build-iso makes what they boot.
//
// They take minutes, so they are not part of `make test`: `make e2e` runs them,
// with LIVECD_SYNC_E2E naming the directory that build-iso filled.
package e2e
