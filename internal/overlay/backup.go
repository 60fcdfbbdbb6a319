package overlay

import (
	"time"

	"github.com/livecd-sync/livecd-sync/internal/site"
)

// A BackupRequest says what to back up and what to note about it.
type BackupRequest struct {
	Node    string
	Site    string
	Image   string      // the name of the image that runs, as far as it is known
	Volume  site.Volume // of the live medium, as far as it is known
	Purpose Purpose
	// Running is what Probe returned; its zero value makes Backup probe.
	Running Running
	// Path is the upper dir, when the site file names one; "": Running's.
	Path    string
	Exclude []string // patterns for tar --exclude
	// AllowPartial returns no error for a backup that a reset may not rely on:
	// one that is partial or not portable.
	AllowPartial bool
	ToolVersion  string
	// Now tells the time; nil: time.Now.
	Now func() time.Time
	// Progress is told how many bytes of the tar archive have arrived so far;
	// nil: nobody is. It is called from another goroutine, one call at a time.
	Progress func(rawBytes int64)
}
