package sim

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openFlags are for names that view resolved. A symbolic link at their end was
// put there since; a FIFO must not block this process for ever.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

// writing is every way to change a file system that Landlock knows, by the
// version of its ABI that brought it (landlock(7)).
var writing = []uint64{
	1: unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM,
	2: unix.LANDLOCK_ACCESS_FS_REFER,
	3: unix.LANDLOCK_ACCESS_FS_TRUNCATE,
}

// startConfined starts cmd so that it can change files below dir only. Names
// among its arguments were translated already; this is for what comes to it by
// other ways, an archive's symbolic links, tar's -T. On a kernel without
// Landlock cmd starts all the same.
func startConfined(cmd *exec.Cmd, dir string) error {
	started := make(chan error)
	go func() {
		// A thread cannot get rid of its restrictions. It stays locked, so that the
		// runtime ends it with this goroutine and never uses it for another.
		runtime.LockOSThread()
		if err := confineThread(dir); err != nil {
			started <- err
			return
		}
		started <- cmd.Start()
	}()
	return <-started
}

func confineThread(dir string) error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return nil // not in this kernel, or not switched on
	}
	var rights uint64
	for v, r := range writing {
		if v <= int(version) {
			rights |= r
		}
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), 8, 0)
	if errno != 0 {
		return fmt.Errorf("confine to the node's directory: %w", errno)
	}
	rules := int(fd)
	defer func() { _ = unix.Close(rules) }()
	if err := allow(rules, dir, rights); err != nil {
		return err
	}
	if err := allow(rules, os.DevNull, rights&(unix.LANDLOCK_ACCESS_FS_WRITE_FILE|unix.LANDLOCK_ACCESS_FS_TRUNCATE)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("confine to the node's directory: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(rules), 0, 0); errno != 0 {
		return fmt.Errorf("confine to the node's directory: %w", errno)
	}
	return nil
}

// allow lets what is below name be changed.
func allow(rules int, name string, rights uint64) error {
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("confine to %s: %w", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	attr := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&attr)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("confine to %s: %w", name, errno)
	}
	return nil
}
