package store

import (
	"context"
	"path/filepath"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"github.com/livecd-sync/livecd-sync/internal/overlay"
)

// Every store is an overlay.Sizer, whether or not it can tell.
var _ overlay.Sizer = (*sealed)(nil)

// Free asks the store within.
func (s *sealed) Free(ctx context.Context, node string) (bytes int64, known bool, err error) {
	return freeOf(ctx, s.Store, node)
}

// Free asks the store within.
func (o *ours) Free(ctx context.Context, node string) (bytes int64, known bool, err error) {
	return freeOf(ctx, o.Store, node)
}

func freeOf(ctx context.Context, s overlay.Store, node string) (bytes int64, known bool, err error) {
	if sizer, ok := s.(overlay.Sizer); ok {
		return sizer.Free(ctx, node)
	}
	return 0, false, nil
}

// Free asks the file system of the deepest directory of the path that is there.
func (d *directory) Free(_ context.Context, node string) (bytes int64, known bool, err error) {
	for dir := filepath.Join(d.path, node); ; dir = filepath.Dir(dir) {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil {
			return int64(fs.Bavail) * fs.Bsize, fs.Blocks > 0, nil // some network file systems tell nothing
		}
		if dir == filepath.Dir(dir) {
			return 0, false, nil // the first write will say what is wrong
		}
	}
}

// Free asks the server, if it is one that can be asked.
func (o *objects) Free(ctx context.Context, _ string) (bytes int64, known bool, err error) {
	m, ok := o.medium.(*sftpMedium)
	if !ok {
		return 0, false, nil
	}
	err = m.run(ctx, func(c *sftp.Client) error {
		// Without the extension, or before the first backup has made the
		// directory, nothing is known.
		if vfs, err := c.StatVFS(m.root); err == nil && vfs.Blocks > 0 {
			bytes, known = int64(vfs.Bavail*vfs.Frsize), true
		}
		return nil
	})
	return bytes, known, o.explain(err)
}
