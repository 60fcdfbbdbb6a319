package overlay

// A RestoreRequest says which backup to put back.
type RestoreRequest struct {
	Node string
	ID   string
	// BootID is the boot that is to receive it; "": whatever the node runs.
	BootID string
	// Progress is told how many bytes of the tar archive have been sent so far;
	// nil: nobody is. It is called from another goroutine, one call at a time.
	Progress func(rawBytes int64)
}

// A RestoreReport tells what a restore did.
type RestoreReport struct {
	ID       string
	BootID   string // the boot that received it
	Restored int64  // members extracted
	Removed  int64  // whiteouts and opaque dirs that were cleared
	// Differences lists what differs from the archive in the merged view after
	// the restore, at most MaxDifferences. Files that the running system writes
	// to may be among them.
	Differences []string
	// Warnings are what tar and rm said, at most MaxWarnings.
	Warnings []string
}

// MaxDifferences is how many differences a report keeps; the last then says how
// many more there were.
const MaxDifferences = 200
