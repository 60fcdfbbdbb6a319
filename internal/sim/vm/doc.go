// Package vm runs machines in QEMU, so that a simulated BMC has a real computer
// to govern: one that runs its firmware, boots from a disk or a CD, and has a
// serial console and an ssh port.
//
// A Machine stands for the hardware: its disk and its console stay when the power
// goes. A Run is what happens from power on to power off, and is one QEMU
// process. QEMU's own HTTP block driver reads the CD, by range requests, as a BMC
// does; QEMU 7.1 or later is needed. Processors are emulated (TCG) and never the host's: machines on which
// tests run offer a /dev/kvm that cannot run an ordinary kernel.
//
// Nothing outlives the program. QEMU is told to die with it, however it ends, and
// is spoken to over inherited sockets, not over names in a file system. The
// guest's network leads nowhere but to the forwarded ssh port.
//
// # For the system on the disk
//
// The firmware's configuration has Config.AuthorizedKeys as
// opt/livecd-sync/authorized_keys (on Linux below /sys/firmware/qemu_fw_cfg), for
// a system that wants to let its owner in. Live images take no notice of it.
//
// # Why QMP by hand
//
// The part of QMP that is needed is a handshake, a call and an event, which take
// fewer lines than to adapt one of the libraries (digitalocean/go-qemu never made
// a release, and brings libvirt along).
package vm
