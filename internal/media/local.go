package media

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// Local is an image that lies whole on this machine, and so can be served from
// here and read anywhere in it.
type Local struct {
	Name   string // of the image in the site file
	Path   string // of the ISO: the site's own file, or one that was taken out of a release
	Size   int64  // in bytes
	SHA256 string // of all its bytes, in lower case hex
	Volume site.Volume
	// ModTime is when the file was last written, as it was when its digest was taken:
	// a file of another time or size now is another image.
	ModTime time.Time
}
