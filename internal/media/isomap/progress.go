package isomap

// Phase is how far a boot has come, as far as what was read of its image tells.
type Phase string

// The phases, in their order.
const (
	NotConnected Phase = "not connected"    // nothing was asked for
	Mounted      Phase = "mounted only"     // what a BMC reads to see that it is an image
	Loading      Phase = "boot loader"      // firmware has found what to start
	Starting     Phase = "kernel"           // the boot loader reads the kernel and its initrd
	Running      Phase = "root file system" // the kernel runs, and reads what it is to run
)

// Progress is how far a boot has come.
type Progress struct {
	Phase Phase
	// Read of Of bytes were read of what the phase is about: the kernel and its
	// initrd, or the root file system. Both are 0 in the other phases. A boot may
	// read a part of the root file system only, and come up nevertheless.
	Read, Of int64
}

// glance is how much of a part may be read by who only looks what is there.
const glance = 32 << 10

// Progress tells how far a boot has come that has read this much of the image.
func (m Map) Progress(read Spans) Progress {
	within := func(kinds ...Kind) (n, of int64, seen bool) {
		for _, s := range m.Of(kinds...) {
			n += read.Within(s)
			of += s.To - s.From
		}
		return n, of, n > min(glance, of/2)
	}
	switch {
	case len(read) == 0:
		return Progress{Phase: NotConnected}
	default:
		if n, of, seen := within(Root); seen {
			return Progress{Running, n, of}
		}
		if n, of, seen := within(Kernel, Initrd); seen {
			return Progress{Starting, n, of}
		}
		if n, _, _ := within(BootLoader); n > 0 {
			return Progress{Phase: Loading}
		}
	}
	return Progress{Phase: Mounted}
}
