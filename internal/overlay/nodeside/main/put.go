package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/livecd-sync/livecd-sync/internal/overlay/uppertar"
)

// put makes what it reads a file: NAME SUM MODE OWNER:GROUP MTIME.
func put(in io.Reader, dir *os.File, args []string) error {
	f := uppertar.File{Name: args[0], MTime: args[4]}
	sum, err := hex.DecodeString(args[1])
	owner, group, _ := strings.Cut(args[3], ":")
	mode, err1 := strconv.ParseUint(args[2], 8, 12)
	uid, err2 := strconv.ParseUint(owner, 10, 32)
	gid, err3 := strconv.ParseUint(group, 10, 32)
	if err := errors.Join(err, err1, err2, err3); err != nil || len(sum) != len(f.Sum) {
		return failure{statusUsage, fmt.Sprintf("not a file: %q", args)}
	}
	f.Sum, f.Mode, f.UID, f.GID = [32]byte(sum), uint32(mode), uint32(uid), uint32(gid)
	err = uppertar.Put(in, dir, f)
	switch {
	case errors.Is(err, uppertar.ErrOtherFile):
		return failure{statusOtherFile, ""}
	case err != nil:
		return failure{statusNoFile, err.Error()}
	}
	return nil
}

// medium has what is done in the merged view read a file of the live medium
// instead of stdin: BOOT PATH BODY and more.
func medium(c *call) (outcome uppertar.Outcome, err error) {
	if err := sameBoot(c.args[0]); err != nil {
		return outcome, err
	}
	file, err := onMedium("/proc/self/mountinfo", c.args[1])
	if err != nil {
		return outcome, failure{statusNoDir, ""}
	}
	defer file.Close() //nolint:errcheck // it was only read
	if c.dir, err = bindRoot(); err != nil {
		return outcome, failure{statusNoBind, err.Error()}
	}
	defer c.close()
	return within(c, file, c.args[2], c.args[3:])
}

// onMedium opens a regular file on the first file system that is a CD's and has
// it.
func onMedium(mountinfo, name string) (*os.File, error) {
	mounts, err := os.Open(mountinfo)
	if err != nil {
		return nil, err
	}
	defer mounts.Close() //nolint:errcheck // it was only read
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || !strings.Contains(lines.Text(), " - iso9660 ") {
			continue
		}
		root, err := os.OpenRoot(unescape(fields[4]))
		if err != nil {
			continue
		}
		file, err := root.Open(filepath.Clean(name))
		_ = root.Close() // the file stays open
		if err != nil {
			continue
		}
		if st, err := file.Stat(); err == nil && st.Mode().IsRegular() {
			return file, nil
		}
		_ = file.Close() // it was not read
	}
	return nil, os.ErrNotExist
}

// unescape decodes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
