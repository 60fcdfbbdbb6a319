package vm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Config describes a machine.
type Config struct {
	Name string
	// Dir is the machine's own: its disk, its console and logs are there.
	Dir string
	// Disk is the image (raw) that the machine's disk begins as; it is never
	// written to. "" stands for an empty disk.
	Disk string
	// SSH is the address on this machine that leads to the guest's port 22 while
	// the power is on.
	SSH netip.AddrPort
	// AuthorizedKeys is handed to the system on the disk; see the package.
	AuthorizedKeys []byte

	MemoryMiB int // 0 stands for 1024
	CPUs      int // 0 stands for as many as this machine has, at most 2
}

// A Machine is a computer in QEMU. Its methods are safe for concurrent use.
type Machine struct {
	cfg     Config
	qemu    string // the program
	console *Console

	mu      sync.Mutex
	running *Run
}

const (
	program  = "qemu-system-x86_64"
	keysFile = "authorized_keys"
)

// New makes a machine, which is off. Its disk is as Config.Disk says, also where
// an earlier machine used the directory. Close ends it. The error tells which
// package is missing.
func New(ctx context.Context, cfg Config) (*Machine, error) {
	cfg = cfg.filled()
	m := &Machine{cfg: cfg}
	var err error
	if m.qemu, err = find(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("vm: make the directory of %s: %w", cfg.Name, err)
	}
	if err := os.WriteFile(m.file(keysFile), cfg.AuthorizedKeys, 0o600); err != nil {
		return nil, fmt.Errorf("vm: write the keys of %s: %w", cfg.Name, err)
	}
	if err := m.makeDisk(ctx); err != nil {
		return nil, err
	}
	m.console, err = newConsole(m.file("console.sock"), m.file("console.log"))
	return m, err
}

func (c Config) filled() Config {
	if c.MemoryMiB == 0 {
		c.MemoryMiB = 1024
	}
	if c.CPUs == 0 {
		c.CPUs = min(2, runtime.NumCPU())
	}
	return c
}

// Installed tells which program or package is missing here, nil if none is.
func Installed() error {
	_, err := find()
	return err
}

func find() (qemu string, err error) {
	if qemu, err = exec.LookPath(program); err != nil {
		return "", fmt.Errorf("vm: there is no %s here: install QEMU (Debian: qemu-system-x86 qemu-block-extra qemu-utils)", program)
	}
	if _, err := exec.LookPath("qemu-img"); err != nil {
		return "", errors.New("vm: there is no qemu-img here: install it (Debian: qemu-utils)")
	}
	return qemu, nil
}

func (m *Machine) file(name string) string { return filepath.Join(m.cfg.Dir, name) }

// makeDisk makes the disk anew, on top of Config.Disk.
func (m *Machine) makeDisk(ctx context.Context) error {
	const empty = "1G"
	args := []string{"create", "-q", "-f", "qcow2"}
	if m.cfg.Disk == "" {
		args = append(args, m.file("disk.qcow2"), empty)
	} else {
		base, err := filepath.Abs(m.cfg.Disk)
		if err != nil {
			return fmt.Errorf("vm: the disk of %s: %w", m.cfg.Name, err)
		}
		if _, err := os.Stat(base); err != nil {
			return fmt.Errorf("vm: the disk of %s: %w", m.cfg.Name, err)
		}
		args = append(args, "-F", "raw", "-b", base, m.file("disk.qcow2"))
	}
	if out, err := exec.CommandContext(ctx, "qemu-img", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("vm: make the disk of %s: %w: %s", m.cfg.Name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Console is the machine's serial port.
func (m *Machine) Console() *Console { return m.console }

// Close cuts the power and ends the console. The machine's files stay, without
// the socket. It may be called twice.
func (m *Machine) Close() error {
	m.mu.Lock()
	r := m.running
	m.mu.Unlock()
	if r != nil {
		r.Kill()
	}
	return m.console.close()
}
