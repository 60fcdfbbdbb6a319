package library

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// askAgain is how often it is looked whether another process has come to its end.
const askAgain = 200 * time.Millisecond

// lock keeps others from the same image until free is called. The kernel frees it
// when the process ends, however it ends.
func (j *job) lock(ctx context.Context) (free func(), err error) {
	none := func() {}
	if j.Dir == "" {
		if j.img.Release == "" {
			return none, nil
		}
		return none, j.fail(errors.New("there is no place to put its ISO"), "set HOME or XDG_CACHE_HOME; it is put below that")
	}
	f, err := j.lockFile()
	switch {
	case err != nil && j.img.Release == "": // it can be read all the same, each time
		return none, nil
	case err != nil:
		return none, j.fail(err, "make "+j.Dir+" writable, or set XDG_CACHE_HOME to another place")
	}
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { _ = f.Close() }, nil // which frees it
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
			return none, j.fail(os.NewSyscallError("flock "+f.Name(), err), "set XDG_CACHE_HOME to a file system of this machine")
		}
		j.progress(Progress{Doing: Waiting})
		if err := j.Clock.Sleep(ctx, askAgain); err != nil {
			_ = f.Close()
			return none, j.cancelled(err)
		}
	}
}

func (j *job) lockFile() (*os.File, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(j.Dir, j.key+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
}
