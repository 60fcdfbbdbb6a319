package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Names of QEMU's devices.
const (
	diskDevice = "disk"
	cdDevice   = "cd"
)

// arguments are QEMU's. The machine is an old PC with an IDE drive for CDs,
// because Debian's kernel for clouds has neither AHCI nor USB, and a processor
// without those of today's features that are slow to emulate.
func (m *Machine) arguments(b Boot) ([]string, error) {
	disk, err := json.Marshal(map[string]any{
		"driver": "qcow2", "node-name": "disk-image",
		"file": map[string]any{"driver": "file", "filename": m.file("disk.qcow2")},
	})
	if err != nil {
		return nil, fmt.Errorf("vm: the disk of %s: %w", m.cfg.Name, err)
	}
	cd := "ide-cd,id=" + cdDevice
	if b.FromCD {
		cd += ",bootindex=1"
	}
	return []string{
		"-name", m.cfg.Name, "-no-user-config", "-nodefaults", "-display", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
		"-S", "-no-reboot", // a reset is the BMC's to do: it decides what is booted
		"-accel", "tcg,thread=multi", "-machine", "pc", "-cpu", "Nehalem",
		"-smp", fmt.Sprint(m.cfg.CPUs), "-m", fmt.Sprintf("%dM", m.cfg.MemoryMiB),
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control",
		"-chardev", "socket,id=serial,fd=4", "-serial", "chardev:serial",
		"-blockdev", string(disk), "-device", "virtio-blk-pci,drive=disk-image,bootindex=2,id=" + diskDevice,
		"-device", cd,
		"-netdev", fmt.Sprintf("user,id=net,restrict=on,hostfwd=tcp:%s:%d-:22", m.cfg.SSH.Addr(), m.cfg.SSH.Port()),
		"-device", "virtio-net-pci,netdev=net,romfile=", // no boot from the network
		"-fw_cfg", "name=opt/livecd-sync/authorized_keys,file=" + strings.ReplaceAll(m.file(keysFile), ",", ",,"),
	}, nil
}

// SetCD changes what is in the drive; "" empties it. The guest cannot object, as
// with a BMC's virtual CD. What cannot be read leaves the drive as it was.
func (r *Run) SetCD(ctx context.Context, url string) error {
	r.media.Lock()
	defer r.media.Unlock()
	if url == r.cd {
		return nil
	}
	command, arguments := "eject", map[string]any{"id": cdDevice, "force": true}
	if url != "" {
		// QEMU asks the server for the image's size here, and reads nothing yet.
		image, err := json.Marshal(map[string]any{
			"driver": "raw",
			"file":   map[string]any{"driver": scheme(url), "url": url, "readahead": 256 << 10, "timeout": 10},
		})
		if err != nil {
			return fmt.Errorf("vm: the CD %s: %w", url, err)
		}
		command = "blockdev-change-medium"
		arguments["filename"], arguments["read-only-mode"] = "json:"+string(image), "read-only"
	}
	if err := r.monitor.call(ctx, command, arguments, nil); err != nil {
		return err
	}
	r.cd = url
	return nil
}

// scheme is the URL's, which is what QEMU calls the driver for it.
func scheme(url string) string {
	s, _, _ := strings.Cut(url, "://")
	return s
}

// Reads counts what the guest has read, in bytes.
type Reads struct{ CD, Disk int64 }

// Reads tells what the guest has read so far from its drives. The firmware looks
// into both; a system reads most from the one that it was booted from.
func (r *Run) Reads(ctx context.Context) (Reads, error) {
	var all []struct {
		QDev  string `json:"qdev"`
		Stats struct {
			Read int64 `json:"rd_bytes"`
		} `json:"stats"`
	}
	if err := r.monitor.call(ctx, "query-blockstats", nil, &all); err != nil {
		return Reads{}, err
	}
	var n Reads
	for _, d := range all {
		switch {
		case d.QDev == cdDevice || strings.Contains(d.QDev, "/"+cdDevice):
			n.CD = d.Stats.Read
		case strings.Contains(d.QDev, "/"+diskDevice) || d.QDev == diskDevice:
			n.Disk = d.Stats.Read
		}
	}
	return n, nil
}
