package sim

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A system is one boot of a node: the operating system that runs on it.
type system struct {
	node   string
	dir    string // the node's directory on this machine
	bootID string
	booted time.Time
	live   bool
	volume site.Volume // of the live image; zero otherwise
	view   *view
	sshd   *sshd
}

// kernelRelease is that of SUSE's live images of the time.
const kernelRelease = "5.14.21-150500.55-default"

// Places of a live system that kiwi made, since its version 9.21.18
// (overlay.md 0).
const (
	upperAt = "/run/overlay/overlayfs/rw"
	liveAt  = "/run/initramfs/live"
)

// newBootID makes what the kernel shows as random/boot_id.
func newBootID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newSystem makes the file systems of a boot. medium is what is in the virtual
// drive, nil when nothing is; a live system was booted from it.
func newSystem(node, dir string, m *medium, live bool) (*system, error) {
	s := &system{node: node, dir: dir, bootID: newBootID(), booted: time.Now(), live: live}
	if live {
		s.volume = m.volume
	}
	if err := s.makeDirectories(); err != nil {
		return nil, err
	}
	for name, content := range s.kernelFiles() {
		if err := writeFile(filepath.Join(dir, name), content); err != nil {
			return nil, err
		}
	}
	if m != nil {
		if err := s.insertMedium(m); err != nil {
			return nil, err
		}
	}
	s.view = s.mounts()
	return s, nil
}

// fresh are the directories of a node that are file systems of their own, and
// new at each boot.
var fresh = []string{"run", "proc", "sys", "dev", "tmp"}

func (s *system) makeDirectories() error {
	dirs := append([]string{"upper"}, fresh...) // a reset forgets the overlay
	for _, d := range dirs {
		if err := wipe(filepath.Join(s.dir, d)); err != nil {
			return err
		}
	}
	dirs = append(dirs, "disk/etc", "run"+upperAt[len("/run"):], "run"+liveAt[len("/run"):], "run/overlay/rootfsbase")
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o755); err != nil {
			return fmt.Errorf("sim: make the file systems of %s: %w", s.node, err)
		}
	}
	return nil
}

// wipe removes a directory with all in it, also what its owner may not write to.
func wipe(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	})
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("sim: forget what was in %s: %w", dir, err)
	}
	return nil
}

func writeFile(name, content string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("sim: make %s: %w", name, err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		return fmt.Errorf("sim: make %s: %w", name, err)
	}
	return nil
}

// kernelFiles are the files that the kernel, and the system itself, make.
func (s *system) kernelFiles() map[string]string {
	files := map[string]string{
		"proc/cmdline":                               s.cmdline() + "\n",
		"proc/self/mountinfo":                        s.mountinfo(),
		"proc/sys/kernel/osrelease":                  kernelRelease + "\n",
		"proc/sys/kernel/hostname":                   s.node + "\n",
		"proc/sys/kernel/random/boot_id":             s.bootID + "\n",
		"sys/module/overlay/parameters/metacopy":     "N\n",
		"sys/module/overlay/parameters/redirect_dir": "N\n",
		"sys/module/overlay/parameters/index":        "N\n",
	}
	root := "disk"
	if s.live {
		root = "upper"
	}
	// Both kinds of system give themselves a name; a live one does so anew.
	files[root+"/etc/hostname"] = s.node + "\n"
	files[root+"/etc/machine-id"] = strings.ReplaceAll(newBootID(), "-", "") + "\n"
	return files
}

func (s *system) cmdline() string {
	if !s.live {
		return "BOOT_IMAGE=/boot/vmlinuz root=UUID=0e8f4d2c-6a5b-4c3d-9e8f-7a6b5c4d3e2f ro console=ttyS0,115200"
	}
	return "BOOT_IMAGE=(loop)/boot/x86_64/loader/linux root=live:CDLABEL=" + s.volume.ID +
		" rd.live.image rd.live.overlay.size=50% console=ttyS0,115200"
}

func (s *system) mountinfo() string {
	lines := []string{
		"22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw",
		"23 28 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:2 - sysfs sysfs rw",
		"24 28 0:5 / /dev rw,nosuid shared:8 - devtmpfs devtmpfs rw,size=4096k,mode=755",
		"26 28 0:24 / /run rw,nosuid,nodev shared:11 - tmpfs tmpfs rw,mode=755",
	}
	if s.live {
		lines = append(lines,
			"28 1 0:31 / / rw,relatime shared:1 - overlay rootfs rw,lowerdir=/run/overlay/rootfsbase,upperdir="+upperAt+",workdir=/run/overlay/overlayfs/work",
			"30 26 11:0 / "+liveAt+" ro,relatime shared:13 - iso9660 /dev/sr0 ro,nojoliet,check=s,map=n,blocksize=2048",
			"31 26 7:0 / /run/overlay/squashfs_container ro,relatime shared:14 - squashfs /dev/loop0 ro",
			"32 26 7:1 / /run/overlay/rootfsbase ro,relatime shared:15 - ext4 /dev/loop1 ro",
			"33 26 0:30 / /run/overlay/overlayfs rw,relatime shared:16 - tmpfs tmpfs rw,size=8192000k")
	} else {
		lines = append(lines, "28 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw")
	}
	return strings.Join(append(lines, "40 28 0:40 / /tmp rw,nosuid,nodev shared:17 - tmpfs tmpfs rw"), "\n") + "\n"
}

// insertMedium shows what is in the virtual drive, with the names that udev
// gives it.
func (s *system) insertMedium(m *medium) error {
	dev := filepath.Join(s.dir, "dev")
	if err := writeFile(filepath.Join(dev, "sr0"), string(m.begin)); err != nil {
		return err
	}
	links := map[string]string{"block/11:0": "../sr0", "cdrom": "sr0"}
	if id := m.volume.ID; id != "" && !strings.ContainsAny(id, "/\x00") && id != "." && id != ".." {
		links["disk/by-label/"+id] = "../../sr0"
	}
	for name, target := range links {
		name = filepath.Join(dev, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return fmt.Errorf("sim: make %s: %w", name, err)
		}
		if err := os.Symlink(target, name); err != nil {
			return fmt.Errorf("sim: make %s: %w", name, err)
		}
	}
	return nil
}

// mounts is the file system that the system's processes see.
func (s *system) mounts() *view {
	at := func(name, dir string) bound { return bound{name, filepath.Join(s.dir, dir)} }
	root := at("/", "disk")
	if s.live {
		root = at("/", "upper")
	}
	mounts := []bound{root}
	for _, d := range fresh {
		mounts = append(mounts, at("/"+d, d))
	}
	if s.live {
		// The merged view is the overlay itself: there is nothing below it.
		mounts = append(mounts, at(upperAt, "upper"))
	}
	return newView(mounts...)
}
