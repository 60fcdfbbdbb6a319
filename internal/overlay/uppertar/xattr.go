package uppertar

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An xattr is one extended attribute; both may hold any bytes.
type xattr struct{ name, value string }

// A holder is what extended attributes are read from: an open file, or a name in
// the thread's working directory.
type holder struct {
	list func(buf []byte) (int, error)
	get  func(name string, buf []byte) (int, error)
}

func openHolder(fd int) holder {
	return holder{
		list: func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) },
		get:  func(name string, buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) },
	}
}

func namedHolder(name string) holder {
	return holder{
		list: func(buf []byte) (int, error) { return unix.Llistxattr(name, buf) },
		get:  func(key string, buf []byte) (int, error) { return unix.Lgetxattr(name, key, buf) },
	}
}

// read returns all extended attributes, by name. A file system without any has
// none. What it could read is returned along with an error.
func (h holder) read() ([]xattr, error) {
	buf, err := grow(h.list)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil || len(buf) == 0 {
		return nil, err
	}
	var all []xattr
	var errs []error
	for name := range strings.SplitSeq(strings.TrimSuffix(string(buf), "\x00"), "\x00") {
		value, err := grow(func(buf []byte) (int, error) { return h.get(name, buf) })
		switch {
		case errors.Is(err, unix.ENODATA): // removed meanwhile
		case err != nil:
			errs = append(errs, err)
		default:
			all = append(all, xattr{name, string(value)})
		}
	}
	slices.SortFunc(all, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	return all, errors.Join(errs...)
}

// grow calls get with a buffer that is large enough.
func grow(get func(buf []byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	for {
		n, err := get(buf)
		if err == nil {
			return buf[:n], nil
		}
		// XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB.
		if !errors.Is(err, unix.ERANGE) || len(buf) >= 1<<20 {
			return nil, err
		}
		buf = make([]byte, 4*len(buf))
	}
}

// appendXattrs appends the records for extended attributes; for ACLs also the
// text that star reads, and GNU tar before anything else. GNU tar writes both.
func appendXattrs(b []byte, all []xattr) []byte {
	for _, x := range all {
		key := map[string]string{accessACL: keyACL, defaultACL: keyDefaultACL}[x.name]
		if text, err := aclText([]byte(x.value)); err == nil && key != "" {
			b = appendRecord(b, key, text)
		}
		b = appendXattr(b, x.name, x.value)
	}
	return b
}
